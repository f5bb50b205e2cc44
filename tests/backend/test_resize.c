/* vd_resize_nearest and vd_resize_bilinear against the oracle, on the cases of cases/resize.txt. */
#include <stdlib.h>

#include "tests/backend/op_case.h"
#include "tests/backend/op_trial.h"
#include "tests/check.h"
#include "tests/golden.h"
#include "tests/ref_ops.h"

static vd_status call_nearest(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                              vd_weight *const *vector, const void *user) {
    (void)vector;
    (void)user;
    return vd_resize_nearest(x, dst, &src[0]);
}

static vd_status call_bilinear(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                               vd_weight *const *vector, const void *user) {
    (void)vector;
    (void)user;
    return vd_resize_bilinear(x, dst, &src[0]);
}

static void resize_line(void *user, const char *line) {
    const op_devices *devices = user;
    const ref_resize_shape s = {.n = op_number(line, "n", 0, 1),
                                .h = op_number(line, "from", 0, 1),
                                .w = op_number(line, "from", 1, 1),
                                .c = op_number(line, "c", 0, 1),
                                .oh = op_number(line, "to", 0, 1),
                                .ow = op_number(line, "to", 1, 1)};
    const size_t results = (size_t)(s.n * s.oh * s.ow * s.c);
    for (int i = 0; i < devices->dtypes; i++) {
        const vd_dtype dtype = op_is(line, "dtype", "f32") ? VD_F32 : devices->dtype[i];
        float *src = op_values((size_t)(s.n * s.h * s.w * s.c), 1.0F, dtype, 1);
        double *expected = malloc(results * sizeof *expected);
        op_trial trial = {.line = line,
                          .dtype = devices->dtype[i],
                          .shape = VD_VIEW(NULL, dtype, s.n, s.oh, s.ow, s.c),
                          .sources = 1,
                          .src_shape = {VD_VIEW(NULL, dtype, s.n, s.h, s.w, s.c)},
                          .src = {src},
                          .expected = expected,
                          .terms = 4,
                          .call = call_nearest};
        ref_resize_nearest(expected, src, &s);
        CHECK(op_trial_run(devices, &trial) == 0);
        ref_resize_bilinear(expected, src, &s);
        trial.call = call_bilinear;
        CHECK(op_trial_run(devices, &trial) == 0);
        free(src);
        free(expected);
    }
}

/* PyTorch's own interpolation: each output is named y_HxW, planes [n, c, h, w]. */
static void test_golden(vd_backend *be) {
    golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    golden_case *c = golden_find(g, "bilinear");
    vd_tensor from = {0}, to;
    float *planes = golden_input(c, "x", VD_F32, NULL, &from);
    const char *name;
    for (size_t i = 0; planes != NULL && (name = golden_output_name(c, i)) != NULL; i++) {
        if (!golden_output_shape(c, name, &to))
            continue;
        const int64_t n = from.dim[0], ch = from.dim[1], p = from.dim[2] * from.dim[3];
        const int64_t op = to.dim[2] * to.dim[3];
        const size_t count = (size_t)(n * ch * op);
        float *result = malloc(count * sizeof *result);
        op_buffer in_planes, out_planes;
        vd_exec *x;
        CHECK_OK(op_buffer_create(be, VD_F32, 3, (int64_t[]){n, ch, p}, planes, &in_planes));
        CHECK_OK(op_buffer_create(be, VD_F32, 3, (int64_t[]){n, ch, op}, NULL, &out_planes));
        CHECK_OK(vd_exec_create(be, VD_F32, &x));
        for (int pass = 0; pass < 2; pass++) {
            vd_tensor last = {0}, resized = {0};
            CHECK_OK(VD_ALLOC(x, VD_F32, &last, n, p, ch));
            CHECK_OK(VD_ALLOC(x, VD_F32, &resized, n, op, ch));
            CHECK_OK(vd_transpose(x, &last, &in_planes.t));
            const vd_tensor in = VD_VIEW(last.data, VD_F32, n, from.dim[2], from.dim[3], ch);
            vd_tensor out = VD_VIEW(resized.data, VD_F32, n, to.dim[2], to.dim[3], ch);
            CHECK_OK(vd_resize_bilinear(x, &out, &in));
            CHECK_OK(vd_transpose(x, &out_planes.t, &resized));
            vd_exec_free(x, &last);
            vd_exec_free(x, &resized);
            if (pass == 0)
                CHECK_OK(vd_exec_commit(x));
        }
        CHECK_OK(op_buffer_read(&out_planes, result));
        CHECK(golden_compare(c, name, VD_F32, result, count, GOLDEN_F32));
        op_buffer_destroy(&in_planes);
        op_buffer_destroy(&out_planes);
        vd_exec_destroy(x);
        free(result);
    }
    free(planes);
    CHECK(golden_close(g) == 0);
}

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    CHECK(op_cases("resize.txt", resize_line, &devices) > 0);
    test_golden(devices.be[devices.count > 1]);
    op_devices_close(&devices);
    return CHECK_DONE();
}

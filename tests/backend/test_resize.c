/* vd_resize_nearest and vd_resize_bilinear against the oracle, on the cases of cases/resize.txt. */
#include <stdlib.h>

#include "tests/backend/op_case.h"
#include "tests/backend/op_trial.h"
#include "tests/check.h"
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

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    CHECK(op_cases("resize.txt", resize_line, &devices) > 0);
    op_devices_close(&devices);
    return CHECK_DONE();
}

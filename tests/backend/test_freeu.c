/* vd_scale_channels and vd_scale_low_frequencies against the oracle, on the cases of
 * cases/freeu.txt. */
#include <stdlib.h>

#include "tests/backend/op_case.h"
#include "tests/backend/op_trial.h"
#include "tests/check.h"
#include "tests/ref_ops.h"

typedef struct scaling {
    int64_t channels;
    double factor;
} scaling;

static vd_status call_channels(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                               vd_weight *const *vector, const void *user) {
    const scaling *s = user;
    (void)src;
    (void)vector;
    return vd_scale_channels(x, dst, s->channels, s->factor);
}

static vd_status call_frequencies(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                                  vd_weight *const *vector, const void *user) {
    const scaling *s = user;
    (void)src;
    (void)vector;
    return vd_scale_low_frequencies(x, dst, s->factor);
}

static void freeu_line(void *user, const char *line) {
    const op_devices *devices = user;
    const int64_t n = op_number(line, "n", 0, 1), h = op_number(line, "h", 0, 1);
    const int64_t w = op_number(line, "w", 0, 1), c = op_number(line, "c", 0, 1);
    const size_t count = (size_t)(n * h * w * c);
    const scaling s = {.channels = op_number(line, "scaled", 0, 0),
                       .factor = (double)op_number(line, "factor", 0, 100) / 100};
    for (int i = 0; i < devices->dtypes; i++) {
        const vd_dtype dtype = op_is(line, "dtype", "f32") ? VD_F32 : devices->dtype[i];
        float *values = op_values(count, 1, dtype, 1);
        double *expected = malloc(count * sizeof *expected);
        /* The parts of the spectrum are sums over rows and columns, divided by the pixels again. */
        op_trial trial = {.line = line,
                          .dtype = devices->dtype[i],
                          .shape = VD_VIEW(NULL, dtype, n, h, w, c),
                          .sources = 1,
                          .src_shape = {VD_VIEW(NULL, dtype, n, h, w, c)},
                          .src = {values},
                          .in_place = true,
                          .expected = expected,
                          .terms = 4,
                          .user = &s};
        ref_scale_channels(expected, values, n * h * w, c, s.channels, s.factor);
        trial.call = call_channels;
        CHECK(op_trial_run(devices, &trial) == 0);
        ref_scale_low_frequencies(expected, values, n, h, w, c, s.factor);
        trial.call = call_frequencies;
        CHECK(op_trial_run(devices, &trial) == 0);
        free(values);
        free(expected);
    }
}

static void test_refusals(vd_backend *be) {
    vd_exec *x = NULL;
    vd_tensor t = {0};
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    CHECK_OK(VD_ALLOC(x, VD_F32, &t, 2, 3, 4));
    CHECK_FAILS(vd_scale_channels(x, &t, 5, 1), VD_ERR_BACKEND, "scale_channels");
    CHECK_FAILS(vd_scale_low_frequencies(x, &t, 1), VD_ERR_BACKEND, "[n, h, w, c]");
    vd_exec_free(x, &t);
    vd_exec_destroy(x);
}

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    CHECK(op_cases("freeu.txt", freeu_line, &devices) > 0);
    test_refusals(devices.be[0]);
    op_devices_close(&devices);
    return CHECK_DONE();
}

/* vd_activate, vd_transpose and vd_combine against the oracle, on the cases of cases/activate.txt,
 * transpose.txt and combine.txt. */
#include <stdlib.h>

#include "tests/backend/op_case.h"
#include "tests/backend/op_trial.h"
#include "tests/check.h"
#include "tests/ref_ops.h"

static vd_status call_activate(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                               vd_weight *const *vector, const void *user) {
    (void)vector;
    return vd_activate(x, dst, &src[0], *(const vd_activation *)user);
}

static vd_status call_transpose(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                                vd_weight *const *vector, const void *user) {
    (void)vector;
    (void)user;
    return vd_transpose(x, dst, &src[0]);
}

typedef struct combine_user {
    int terms;
    double coefficient[OP_SOURCES];
} combine_user;

static vd_status call_combine(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                              vd_weight *const *vector, const void *user) {
    const combine_user *u = user;
    const vd_tensor *from[OP_SOURCES];
    (void)vector;
    for (int i = 0; i < u->terms; i++)
        from[i] = &src[i];
    return vd_combine(x, dst, u->terms, u->coefficient, from);
}

static void activate_line(void *user, const char *line) {
    const op_devices *devices = user;
    const int64_t count = op_number(line, "count", 0, 1);
    const vd_activation act = op_activation(line);
    for (int i = 0; i < devices->dtypes; i++) {
        const vd_dtype dtype = devices->dtype[i];
        const vd_dtype from = op_is(line, "src", "f32") ? VD_F32 : dtype;
        const vd_dtype to = op_is(line, "dst", "f32") ? VD_F32 : dtype;
        float *src = op_values((size_t)count, (float)op_number(line, "range", 0, 4), from, 1);
        double *expected = malloc((size_t)count * sizeof *expected);
        ref_activate(expected, src, count, act);
        const op_trial trial = {.line = line,
                                .dtype = dtype,
                                .shape = VD_VIEW(NULL, to, count),
                                .sources = 1,
                                .src_shape = {VD_VIEW(NULL, from, count)},
                                .src = {src},
                                .in_place = op_is(line, "place", "in"),
                                .expected = expected,
                                .terms = 1,
                                .call = call_activate,
                                .user = &act};
        CHECK(op_trial_run(devices, &trial) == 0);
        free(src);
        free(expected);
    }
}

static void transpose_line(void *user, const char *line) {
    const op_devices *devices = user;
    const int64_t b = op_number(line, "b", 0, 1), c = op_number(line, "c", 0, 1);
    const int64_t p = op_number(line, "p", 0, 1);
    for (int i = 0; i < devices->dtypes; i++) {
        const vd_dtype dtype = devices->dtype[i];
        const vd_dtype from = op_is(line, "src", "f32") ? VD_F32 : dtype;
        const vd_dtype to = op_is(line, "dst", "f32") ? VD_F32 : dtype;
        float *src = op_values((size_t)(b * c * p), 1.0F, from, 1);
        double *expected = malloc((size_t)(b * c * p) * sizeof *expected);
        ref_transpose(expected, src, b, c, p);
        const op_trial trial = {.line = line,
                                .dtype = dtype,
                                .shape = VD_VIEW(NULL, to, b, p, c),
                                .sources = 1,
                                .src_shape = {VD_VIEW(NULL, from, b, c, p)},
                                .src = {src},
                                .expected = expected,
                                .terms = 1,
                                .call = call_transpose};
        CHECK(op_trial_run(devices, &trial) == 0);
        free(src);
        free(expected);
    }
}

static void combine_line(void *user, const char *line) {
    const op_devices *devices = user;
    const int64_t count = op_number(line, "count", 0, 1);
    combine_user u = {.terms = (int)op_number(line, "terms", 0, 1)};
    float *src[OP_SOURCES] = {0};
    double *expected = malloc((size_t)count * sizeof *expected);
    op_trial trial = {.line = line,
                      .dtype = VD_F32,
                      .shape = VD_VIEW(NULL, VD_F32, count),
                      .sources = u.terms,
                      .in_place = op_is(line, "place", "in"),
                      .expected = expected,
                      .terms = 1,
                      .call = call_combine,
                      .user = &u};
    const bool cancels = op_is(line, "data", "cancel");
    for (int k = 0; k < u.terms; k++) {
        /* cancel: the first two are large and alike, so only a sum in double has digits left. */
        u.coefficient[k] = cancels && k < 2 ? (k == 0 ? 1e6 : -1e6) : 1.0 / (3 + k);
        src[k] = op_values((size_t)count, 1.0F, VD_F32, cancels && k < 2 ? 1 : (uint32_t)k + 2);
        trial.src[k] = src[k];
        trial.src_shape[k] = trial.shape;
    }
    ref_combine(expected, u.terms, u.coefficient, (const float *const *)src, count);
    CHECK(op_trial_run(devices, &trial) == 0);
    for (int k = 0; k < u.terms; k++)
        free(src[k]);
    free(expected);
}

static vd_status call_paste(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            vd_weight *const *vector, const void *user) {
    (void)vector;
    return vd_paste(x, dst, &src[0], user);
}

/* A rectangle of src [2, 7, 9, 3] onto dst [2, 6, 8, 3] that holds other values. */
static void test_paste(const op_devices *devices) {
    enum { N = 2, H = 6, W = 8, SH = 7, SW = 9, C = 3 };
    const vd_paste_desc each[] = {
        {.rows = SH - 1, .columns = W, .src_y = 1},
        {.rows = 3, .columns = 5, .dst_y = 2, .dst_x = 1, .src_y = 4, .src_x = 4},
        {.rows = 3, .columns = 5, .dst_x = 3, .src_y = 1, .fade = VD_FADE_DOWN},
        {.rows = 6, .columns = 4, .dst_x = 4, .src_x = 5, .fade = VD_FADE_ACROSS},
    };
    float *start = op_values((size_t)N * H * W * C, 1.0F, VD_F32, 1);
    float *src = op_values((size_t)N * SH * SW * C, 1.0F, VD_F32, 2);
    double expected[N * H * W * C];
    for (size_t k = 0; k < sizeof each / sizeof each[0]; k++) {
        const vd_paste_desc *d = &each[k];
        for (int64_t i = 0; i < (int64_t)N * H * W * C; i++) {
            const int64_t c = i % C, x = i / C % W - d->dst_x, y = i / C / W % H - d->dst_y;
            const int64_t from = ((i / C / W / H * SH + d->src_y + y) * SW + d->src_x + x) * C + c;
            expected[i] = (double)start[i];
            if (x < 0 || x >= d->columns || y < 0 || y >= d->rows)
                continue;
            const double part = d->fade == VD_FADE_DOWN     ? (double)y / (double)d->rows
                                : d->fade == VD_FADE_ACROSS ? (double)x / (double)d->columns
                                                            : 0;
            expected[i] = (double)src[from] * (1 - part) + (double)start[i] * part;
        }
        const op_trial trial = {.line = "paste",
                                .dtype = VD_F32,
                                .shape = VD_VIEW(NULL, VD_F32, N, H, W, C),
                                .sources = 1,
                                .src_shape = {VD_VIEW(NULL, VD_F32, N, SH, SW, C)},
                                .src = {src},
                                .start = start,
                                .expected = expected,
                                .terms = 2,
                                .call = call_paste,
                                .user = d};
        CHECK(op_trial_run(devices, &trial) == 0);
    }
    free(start);
    free(src);
}

/* NaN and infinity through every activation, into both dtypes. */
static void test_nan(vd_backend *be, vd_dtype dtype) {
    enum { COUNT = 37 };
    static const vd_activation acts[] = {VD_ACT_NONE, VD_ACT_SILU, VD_ACT_GELU, VD_ACT_QUICK_GELU};
    float values[COUNT];
    for (int i = 0; i < COUNT; i++)
        values[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : 1.0F;
    for (size_t a = 0; a < sizeof acts / sizeof acts[0]; a++) {
        float got[COUNT];
        op_buffer src, dst;
        vd_exec *x;
        CHECK_OK(op_buffer_create(be, VD_F32, 1, (int64_t[]){COUNT}, values, &src));
        CHECK_OK(op_buffer_create(be, dtype, 1, (int64_t[]){COUNT}, NULL, &dst));
        CHECK_OK(vd_exec_create(be, dtype, &x));
        CHECK_OK(vd_activate(x, &dst.t, &src.t, acts[a]));
        CHECK_OK(vd_exec_commit(x));
        CHECK_OK(vd_activate(x, &dst.t, &src.t, acts[a]));
        CHECK_OK(op_buffer_read(&dst, got));
        vd_exec_destroy(x);
        op_buffer_destroy(&src);
        op_buffer_destroy(&dst);
        int wrong = 0;
        for (int i = 0; i < COUNT; i++)
            wrong += i % 3 == 0 ? !isnan(got[i]) : i % 3 == 1 ? got[i] != INFINITY : !(got[i] > 0);
        CHECK(wrong == 0);
    }
}

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    CHECK(op_cases("activate.txt", activate_line, &devices) > 0);
    CHECK(op_cases("transpose.txt", transpose_line, &devices) > 0);
    CHECK(op_cases("combine.txt", combine_line, &devices) > 0);
    test_paste(&devices);
    for (int i = 0; i < devices.dtypes; i++)
        test_nan(devices.be[0], devices.dtype[i]);
    op_devices_close(&devices);
    return CHECK_DONE();
}

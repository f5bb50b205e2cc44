/* vd_group_norm and vd_layer_norm against the oracle, on the cases of cases/group_norm.txt and
 * cases/layer_norm.txt. */
#include <stdlib.h>

#include "tests/backend/op_case.h"
#include "tests/backend/op_trial.h"
#include "tests/check.h"
#include "tests/ref_ops.h"

static const float eps = 1e-5F;

/* data=far: mean 1000, deviation 0.006; constant: 3.7; outlier: one large value, which is also the
 * first that sums are shifted by; large: deviation 1e6. */
static float *values_of(const char *line, size_t count, vd_dtype dtype, uint32_t seed) {
    const bool far = op_is(line, "data", "far"), constant = op_is(line, "data", "constant");
    const float amplitude = op_is(line, "data", "large") ? 1e6F : far ? 0.01F : 1.0F;
    float *v = op_values(count, amplitude, VD_F32, seed);
    for (size_t i = 0; i < count; i++)
        v[i] = op_round(constant ? 3.7F : far ? v[i] + 1000.0F : v[i], dtype);
    if (count > 0 && op_is(line, "data", "outlier"))
        v[0] = 1000.0F;
    return v;
}

typedef struct norm_user {
    bool two;
    int groups;
    vd_activation act;
} norm_user;

static vd_status call_group(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            vd_weight *const *vector, const void *user) {
    const norm_user *u = user;
    return vd_group_norm(x, dst, &src[0], u->two ? &src[1] : NULL, vector[0], vector[1], u->groups,
                         eps, u->act);
}

enum { MOST_STATS = 4096 };

/* In two ops, as for an image that is at hand only in pieces. */
static vd_status call_given(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            vd_weight *const *vector, const void *user) {
    static vd_group_stats stats[MOST_STATS];
    const norm_user *u = user;
    CHECK(src[0].dim[0] * u->groups <= MOST_STATS);
    vd_status st = vd_group_measure(x, stats, &src[0], u->groups);
    return st == VD_OK ? vd_group_normalize(x, dst, &src[0], stats, vector[0], vector[1], u->groups,
                                            eps, u->act)
                       : st;
}

static vd_status call_layer(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            vd_weight *const *vector, const void *user) {
    (void)user;
    return vd_layer_norm(x, dst, &src[0], vector[0], vector[1], eps);
}

static void group_line(void *user, const char *line) {
    const op_devices *devices = user;
    const int64_t n = op_number(line, "n", 0, 1), h = op_number(line, "m", 0, 1);
    const int64_t w = op_number(line, "m", 1, 1), c1 = op_number(line, "c", 0, 1);
    const int64_t c2 = op_number(line, "c", 1, 0), c = c1 + c2;
    const norm_user u = {
        .two = c2 > 0, .groups = (int)op_number(line, "g", 0, 1), .act = op_activation(line)};
    for (int i = 0; i < devices->dtypes; i++) {
        const vd_dtype dtype = devices->dtype[i];
        if (dtype == VD_F16 && op_is(line, "data", "large"))
            continue; /* larger than it can hold */
        const vd_dtype src = op_is(line, "src", "f32") ? VD_F32 : dtype;
        const vd_dtype dst = op_is(line, "dst", "f32") ? VD_F32 : dtype;
        float *a = values_of(line, (size_t)(n * h * w * c1), src, 1);
        float *b = values_of(line, (size_t)(n * h * w * c2), src, 2);
        float *scale = op_values((size_t)c, 2.0F, VD_F32, 3);
        float *shift = op_values((size_t)c, 1.0F, VD_F32, 4);
        double *expected = malloc((size_t)(n * h * w * c) * sizeof *expected);
        const ref_group_norm_shape shape = {
            .n = n, .middle = h * w, .c1 = c1, .c2 = c2, .groups = u.groups};
        ref_group_norm(expected, a, u.two ? b : NULL, scale, shift, &shape, (double)eps, u.act);
        op_trial trial = {
            .line = line,
            .dtype = dtype,
            .shape = VD_VIEW(NULL, dst, n, h, w, c),
            .sources = u.two ? 2 : 1,
            .src_shape = {VD_VIEW(NULL, src, n, h, w, c1), VD_VIEW(NULL, src, n, h, w, c2)},
            .src = {a, b},
            .vectors = 2,
            .vector = {scale, shift},
            .vector_length = c,
            .in_place = op_is(line, "place", "in"),
            .expected = expected,
            /* Sums of eight in float32, the rest in double: a few roundings, but an outlier of
             * 1000 among values of 1 makes those of squares a thousand times as large. */
            .terms = op_is(line, "data", "outlier") ? 1e4 : 8,
            .call = call_group,
            .user = &u};
        CHECK(op_trial_run(devices, &trial) == 0);
        trial.call = call_given;
        CHECK(u.two || op_trial_run(devices, &trial) == 0);
        float *const each[] = {a, b, scale, shift};
        for (size_t j = 0; j < sizeof each / sizeof each[0]; j++)
            free(each[j]);
        free(expected);
    }
}

static void layer_line(void *user, const char *line) {
    const op_devices *devices = user;
    const int64_t rows = op_number(line, "rows", 0, 1), c = op_number(line, "c", 0, 1);
    for (int i = 0; i < devices->dtypes; i++) {
        const vd_dtype dtype = devices->dtype[i];
        if (dtype == VD_F16 && op_is(line, "data", "large"))
            continue; /* larger than it can hold */
        const vd_dtype src = op_is(line, "src", "f32") ? VD_F32 : dtype;
        const vd_dtype dst = op_is(line, "dst", "f32") ? VD_F32 : dtype;
        float *a = values_of(line, (size_t)(rows * c), src, 1);
        float *scale = op_values((size_t)c, 2.0F, VD_F32, 3);
        float *shift = op_values((size_t)c, 1.0F, VD_F32, 4);
        double *expected = malloc((size_t)(rows * c) * sizeof *expected);
        ref_layer_norm(expected, a, scale, shift, rows, c, (double)eps);
        const op_trial trial = {.line = line,
                                .dtype = dtype,
                                .shape = VD_VIEW(NULL, dst, rows, c),
                                .sources = 1,
                                .src_shape = {VD_VIEW(NULL, src, rows, c)},
                                .src = {a},
                                .vectors = 2,
                                .vector = {scale, shift},
                                .vector_length = c,
                                .in_place = op_is(line, "place", "in"),
                                .expected = expected,
                                .terms = (double)c,
                                .call = call_layer};
        CHECK(op_trial_run(devices, &trial) == 0);
        free(a);
        free(scale);
        free(shift);
        free(expected);
    }
}

/* A NaN makes its own group of its own item NaN, and nothing else. */
static void test_nan(vd_backend *be) {
    enum { N = 2, PIXELS = 300, C = 32, GROUPS = 4 };
    static float values[N * PIXELS * C], result[N * PIXELS * C], ones[C];
    for (int i = 0; i < N * PIXELS * C; i++)
        values[i] = (float)(i % 7);
    for (int i = 0; i < C; i++)
        ones[i] = 1;
    values[PIXELS * C + 5 * C + 17] = NAN;
    const vd_tensor one = VD_VIEW(ones, VD_F32, C);
    const int64_t shape[3] = {N, PIXELS, C};
    op_buffer src, dst;
    vd_weight *w;
    vd_exec *x;
    CHECK_OK(vd_weight_create_vector(be, &one, 1, &w));
    CHECK_OK(op_buffer_create(be, VD_F32, 3, shape, values, &src));
    CHECK_OK(op_buffer_create(be, VD_F32, 3, shape, NULL, &dst));
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    CHECK_OK(vd_group_norm(x, &dst.t, &src.t, NULL, w, w, GROUPS, eps, VD_ACT_SILU));
    CHECK_OK(vd_exec_commit(x));
    CHECK_OK(vd_group_norm(x, &dst.t, &src.t, NULL, w, w, GROUPS, eps, VD_ACT_SILU));
    CHECK_OK(op_buffer_read(&dst, result));
    op_buffer_destroy(&src);
    op_buffer_destroy(&dst);
    int wrong = 0;
    for (int i = 0; i < N * PIXELS * C; i++)
        wrong += (isnan(result[i]) != 0) != (i >= PIXELS * C && i % C / (C / GROUPS) == 2);
    CHECK(wrong == 0);
    vd_exec_destroy(x);
    vd_weight_destroy(be, w);
}

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    CHECK(op_cases("group_norm.txt", group_line, &devices) > 0);
    CHECK(op_cases("layer_norm.txt", layer_line, &devices) > 0);
    test_nan(devices.be[devices.count > 1]);
    op_devices_close(&devices);
    return CHECK_DONE();
}

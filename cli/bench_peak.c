/* What the machine can do: matrix products large enough to be bound by arithmetic, and shaped as
 * large networks have them. */
#include <stdlib.h>

#include "backend/ops.h"
#include "cli/bench.h"
#include "core/clock.h"

static const struct shape {
    int64_t rows, in, out;
} shapes[] = {{4096, 1024, 1024}, {4096, 2048, 2048}, {2048, 4096, 640}, {8192, 1280, 1280}};

enum { LEAST_RUNS = 3 };
static const double each_s = 0.1;

/* Small whole numbers: their products are exact, and no value becomes denormal. */
static void fill_host(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(i * 7 % 13 - 6) * 0.125F;
}

static vd_status time_shape(vd_exec *x, const struct shape *s, const vd_weight *w, double *best) {
    vd_status st = VD_OK;
    const double flop = 2.0 * (double)s->rows * (double)s->in * (double)s->out;
    vd_tensor src = {0}, dst = {0};
    VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &src, s->rows, s->in));
    VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &dst, s->rows, s->out));
    const double begin = vd_now_s();
    for (int i = 0; i < LEAST_RUNS || vd_now_s() - begin < each_s; i++) {
        const double start = vd_now_s();
        VD_TRY(vd_linear(x, &dst, &src, w, NULL, NULL, VD_ACT_NONE));
        const double rate = flop / (vd_now_s() - start) * 1e-12;
        if (vd_exec_dry(x))
            break;
        *best = rate > *best ? rate : *best;
    }
done:
    vd_exec_free(x, &dst);
    vd_exec_free(x, &src);
    return st;
}

static vd_status run_shape(vd_backend *be, vd_dtype dtype, const struct shape *s, double *best) {
    vd_status st;
    vd_exec *x = NULL;
    vd_weight *w = NULL;
    float *values = malloc((size_t)(s->in * s->out) * sizeof *values);
    if (!values)
        return vd_fail(VD_ERR_MEMORY, "no memory for a matrix product");
    fill_host(values, s->in * s->out);
    const vd_weight_part part = {.tensor = VD_VIEW(values, VD_F32, s->out, s->in),
                                 .columns = s->in};
    VD_TRY(vd_exec_create(be, dtype, &x));
    VD_TRY(vd_weight_create_linear(be, &part, 1, dtype, &w));
    VD_TRY(time_shape(x, s, w, best));
    VD_TRY(vd_exec_commit(x));
    VD_TRY(time_shape(x, s, w, best));
done:
    vd_exec_destroy(x);
    vd_weight_destroy(be, w);
    free(values);
    return st;
}

vd_status bench_matmul_peak(vd_backend *be, vd_dtype dtype, double *out) {
    *out = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const vd_status st = run_shape(be, dtype, &shapes[i], out);
        if (st != VD_OK)
            return st;
    }
    return VD_OK;
}

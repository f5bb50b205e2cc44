/* activate, transpose, combine. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl_util.h"
#include "backend/cpu/gemm.h"

enum { PIECE = 512, TASK_VALUES = 16384, TILE = 32, MAX_TERMS = 8 };

typedef struct eltwise_job {
    const vd_cpu_kernels *kernels;
    vd_tensor *dst;
    const vd_tensor *src; /* activate */
    vd_activation act;
    const vd_tensor *const *terms; /* combine */
    const double *coefficient;
    int term_count;
    int64_t count;
} eltwise_job;

static int64_t task_end(const eltwise_job *j, int64_t task) {
    const int64_t end = (task + 1) * TASK_VALUES;
    return end < j->count ? end : j->count;
}

static int activate_values(void *user, int64_t task, int thread) {
    const eltwise_job *j = user;
    float value[PIECE];
    const int64_t end = task_end(j, task);
    (void)thread;
    for (int64_t i = task * TASK_VALUES; i < end; i += PIECE) {
        const size_t n = (size_t)(end - i < PIECE ? end - i : PIECE);
        j->kernels->load(value, vd_cpu_at(j->src, i), j->src->dtype, n);
        j->kernels->activate(value, j->act, n);
        j->kernels->store(vd_cpu_at(j->dst, i), j->dst->dtype, value, n);
    }
    return 0;
}

static int combine_values(void *user, int64_t task, int thread) {
    const eltwise_job *j = user;
    const float *src[MAX_TERMS];
    float *dst = j->dst->data;
    const int64_t end = task_end(j, task);
    (void)thread;
    for (int t = 0; t < j->term_count; t++)
        src[t] = j->terms[t]->data;
    for (int64_t i = task * TASK_VALUES; i < end; i++) {
        double sum = 0;
        for (int t = 0; t < j->term_count; t++)
            sum += j->coefficient[t] * (double)src[t][i];
        dst[i] = (float)sum;
    }
    return 0;
}

static vd_status run(const vd_exec *x, eltwise_job *j, vd_cpu_task task, const char *doing) {
    if (x->dry)
        return VD_OK;
    const int64_t tasks = (j->count + TASK_VALUES - 1) / TASK_VALUES;
    return vd_dnnl_status(vd_cpu_parallel(x->be->threads, tasks, task, j), doing);
}

vd_status vd_cpu_activate(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_activation act) {
    eltwise_job j = {.kernels = vd_cpu(x)->kernels,
                     .dst = dst,
                     .src = src,
                     .act = act,
                     .count = vd_tensor_elements(dst)};
    return run(x, &j, activate_values, "computing activate");
}

vd_status vd_cpu_combine(vd_exec *x, vd_tensor *dst, int terms, const double *coefficient,
                         const vd_tensor *const *src) {
    eltwise_job j = {.dst = dst,
                     .terms = src,
                     .coefficient = coefficient,
                     .term_count = terms,
                     .count = vd_tensor_elements(dst)};
    return run(x, &j, combine_values, "computing combine");
}

/* ---- transpose ------------------------------------------------------------------------------ */

typedef struct transpose_job {
    const vd_cpu_kernels *kernels;
    vd_tensor *dst;
    const vd_tensor *src;
    int64_t rows, columns; /* of src: c and p */
    int64_t row_tiles;
} transpose_job;

/* TILE rows of one matrix, in square tiles that stay in cache both ways. */
static int transpose_rows(void *user, int64_t task, int thread) {
    const transpose_job *j = user;
    float in[TILE][TILE];
    float out[TILE];
    const int64_t base = task / j->row_tiles * j->rows * j->columns;
    const int64_t first = task % j->row_tiles * TILE;
    const int64_t height = j->rows - first < TILE ? j->rows - first : TILE;
    (void)thread;
    for (int64_t column = 0; column < j->columns; column += TILE) {
        const int64_t width = j->columns - column < TILE ? j->columns - column : TILE;
        for (int64_t r = 0; r < height; r++)
            j->kernels->load(in[r], vd_cpu_at(j->src, base + (first + r) * j->columns + column),
                             j->src->dtype, (size_t)width);
        for (int64_t c = 0; c < width; c++) {
            for (int64_t r = 0; r < height; r++)
                out[r] = in[r][c];
            j->kernels->store(vd_cpu_at(j->dst, base + (column + c) * j->rows + first),
                              j->dst->dtype, out, (size_t)height);
        }
    }
    return 0;
}

vd_status vd_cpu_transpose(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    transpose_job j = {.kernels = vd_cpu(x)->kernels,
                       .dst = dst,
                       .src = src,
                       .rows = src->dim[1],
                       .columns = src->dim[2]};
    if (x->dry)
        return VD_OK;
    j.row_tiles = (j.rows + TILE - 1) / TILE;
    return vd_dnnl_status(
        vd_cpu_parallel(x->be->threads, src->dim[0] * j.row_tiles, transpose_rows, &j),
        "computing transpose");
}

/* Group norm (with SiLU, over one or two sources) and layer norm. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl_util.h"
#include "backend/cpu/gemm.h"

enum { CHUNK_VALUES = 32768, LEAST_CHUNK_ROWS = 16 };

/* Statistics and results are made in chunks of rows whose size depends on the shape alone; each
 * chunk leaves its own sums, and these are added in order. */
typedef struct group_norm_job {
    const vd_cpu_kernels *kernels;
    vd_tensor *dst;
    const vd_tensor *src[2];
    int64_t channels[2], total; /* of each source, of dst */
    int64_t items, rows, chunk_rows, chunks;
    const float *scale, *shift;
    int groups;
    float eps;
    vd_activation act;
    double *sums;   /* [items, chunks, 2, total] */
    float *pivot;   /* [items, total]: the first row, taken off before summing */
    float *factors; /* [items, 2, total]: what each channel is multiplied by, what is added */
} group_norm_job;

static int64_t chunk_rows(const group_norm_job *j, int64_t chunk) {
    const int64_t left = j->rows - chunk * j->chunk_rows;
    return left < j->chunk_rows ? left : j->chunk_rows;
}

static const void *source_row(const group_norm_job *j, int s, int64_t item, int64_t row) {
    return vd_cpu_at(j->src[s], (item * j->rows + row) * j->channels[s]);
}

static int sum_chunk(void *user, int64_t task, int thread) {
    const group_norm_job *j = user;
    const int64_t item = task / j->chunks;
    const int64_t chunk = task % j->chunks;
    double *sum = j->sums + task * 2 * j->total;
    double *square = sum + j->total;
    (void)thread;
    memset(sum, 0, (size_t)(2 * j->total) * sizeof *sum);
    for (int s = 0, first = 0; s < 2 && j->src[s] != NULL; first += (int)j->channels[s++])
        j->kernels->moments(sum + first, square + first,
                            source_row(j, s, item, chunk * j->chunk_rows), j->src[s]->dtype,
                            (size_t)chunk_rows(j, chunk), (size_t)j->channels[s],
                            j->pivot + item * j->total + first);
    return 0;
}

/* Mean and variance of a channel around its pivot are exact enough to be joined with those of the
 * other channels in float64. */
static int join_item(void *user, int64_t item, int thread) {
    const group_norm_job *j = user;
    const int64_t width = j->total / j->groups;
    double *sum = j->sums + item * j->chunks * 2 * j->total;
    double *square = sum + j->total;
    const float *pivot = j->pivot + item * j->total;
    float *scale = j->factors + item * 2 * j->total;
    float *shift = scale + j->total;
    (void)thread;
    for (int64_t k = 1; k < j->chunks; k++)
        for (int64_t c = 0; c < 2 * j->total; c++)
            sum[c] += sum[k * 2 * j->total + c];
    for (int g = 0; g < j->groups; g++) {
        const int64_t first = g * width;
        double mean = 0;
        double spread = 0;
        for (int64_t c = first; c < first + width; c++)
            mean += (double)pivot[c] + sum[c] / (double)j->rows;
        mean /= (double)width;
        for (int64_t c = first; c < first + width; c++) {
            const double own = sum[c] / (double)j->rows;
            const double off = (double)pivot[c] + own - mean;
            spread += square[c] / (double)j->rows - own * own + off * off;
        }
        const double variance = spread / (double)width;
        const double inverse = 1.0 / sqrt((variance < 0 ? 0 : variance) + (double)j->eps);
        for (int64_t c = first; c < first + width; c++) {
            scale[c] = (float)(inverse * (double)j->scale[c]);
            shift[c] = (float)((double)j->shift[c] - mean * inverse * (double)j->scale[c]);
        }
    }
    return 0;
}

static int write_chunk(void *user, int64_t task, int thread) {
    const group_norm_job *j = user;
    const int64_t item = task / j->chunks;
    const int64_t row = task % j->chunks * j->chunk_rows;
    const float *scale = j->factors + item * 2 * j->total;
    (void)thread;
    for (int s = 0, first = 0; s < 2 && j->src[s] != NULL; first += (int)j->channels[s++])
        j->kernels->affine(vd_cpu_at(j->dst, (item * j->rows + row) * j->total + first),
                           j->dst->dtype, (size_t)j->total, source_row(j, s, item, row),
                           j->src[s]->dtype, (size_t)chunk_rows(j, task % j->chunks),
                           (size_t)j->channels[s], scale + first, scale + j->total + first, j->act);
    return 0;
}

static void load_pivots(const group_norm_job *j) {
    for (int64_t item = 0; item < j->items; item++)
        for (int s = 0, first = 0; s < 2 && j->src[s] != NULL; first += (int)j->channels[s++])
            j->kernels->load(j->pivot + item * j->total + first, source_row(j, s, item, 0),
                             j->src[s]->dtype, (size_t)j->channels[s]);
}

static vd_status run_group_norm(const vd_exec *x, group_norm_job *j) {
    const int threads = x->be->threads;
    load_pivots(j);
    int rc = vd_cpu_parallel(threads, j->items * j->chunks, sum_chunk, j);
    if (rc == 0)
        rc = vd_cpu_parallel(threads, j->items, join_item, j);
    if (rc == 0)
        rc = vd_cpu_parallel(threads, j->items * j->chunks, write_chunk, j);
    return vd_dnnl_status(rc, "computing group_norm");
}

vd_status vd_cpu_group_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src1,
                            const vd_tensor *src2, const vd_weight *scale, const vd_weight *shift,
                            int groups, float eps, vd_activation act) {
    group_norm_job j = {
        .kernels = vd_cpu(x)->kernels,
        .dst = dst,
        .src = {src1, src2},
        .channels = {src1->dim[src1->rank - 1], src2 != NULL ? src2->dim[src2->rank - 1] : 0},
        .total = dst->dim[dst->rank - 1],
        .items = dst->dim[0],
        .scale = vd_cpu_vector(scale),
        .shift = vd_cpu_vector(shift),
        .groups = groups,
        .eps = eps,
        .act = act};
    j.rows = vd_tensor_elements(dst) / j.items / j.total;
    j.chunk_rows = CHUNK_VALUES / j.total;
    if (j.chunk_rows < LEAST_CHUNK_ROWS)
        j.chunk_rows = LEAST_CHUNK_ROWS;
    j.chunks = (j.rows + j.chunk_rows - 1) / j.chunk_rows;
    const size_t channels = (size_t)j.total;
    const size_t sum_bytes = (size_t)(j.items * j.chunks) * 2 * channels * sizeof(double);
    void *scratch = NULL;
    vd_status st =
        vd_exec_scratch(x, sum_bytes + (size_t)j.items * 3 * channels * sizeof(float), &scratch);
    if (st != VD_OK)
        return st;
    j.sums = scratch;
    j.pivot = (float *)(void *)((unsigned char *)scratch + sum_bytes);
    j.factors = j.pivot + j.items * j.total;
    if (!x->dry)
        st = run_group_norm(x, &j);
    vd_exec_scratch_free(x, scratch);
    return st;
}

/* ---- layer norm ----------------------------------------------------------------------------- */

enum { LAYER_NORM_ROWS = 64 };

typedef struct layer_norm_job {
    const vd_cpu_kernels *kernels;
    vd_tensor *dst;
    const vd_tensor *src;
    int64_t rows, channels;
    const float *scale, *shift;
    float eps;
} layer_norm_job;

static int layer_norm_rows(void *user, int64_t task, int thread) {
    const layer_norm_job *j = user;
    const int64_t first = task * LAYER_NORM_ROWS;
    const int64_t end = first + LAYER_NORM_ROWS < j->rows ? first + LAYER_NORM_ROWS : j->rows;
    (void)thread;
    for (int64_t r = first; r < end; r++)
        j->kernels->layer_norm(vd_cpu_at(j->dst, r * j->channels), j->dst->dtype,
                               vd_cpu_at(j->src, r * j->channels), j->src->dtype,
                               (size_t)j->channels, j->scale, j->shift, j->eps);
    return 0;
}

vd_status vd_cpu_layer_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            const vd_weight *scale, const vd_weight *shift, float eps) {
    layer_norm_job j = {.kernels = vd_cpu(x)->kernels,
                        .dst = dst,
                        .src = src,
                        .channels = dst->dim[dst->rank - 1],
                        .scale = vd_cpu_vector(scale),
                        .shift = vd_cpu_vector(shift),
                        .eps = eps};
    if (x->dry)
        return VD_OK;
    j.rows = vd_tensor_elements(dst) / j.channels;
    const int64_t tasks = (j.rows + LAYER_NORM_ROWS - 1) / LAYER_NORM_ROWS;
    return vd_dnnl_status(vd_cpu_parallel(x->be->threads, tasks, layer_norm_rows, &j),
                          "computing layer_norm");
}

/* Group norm and layer norm. Statistics of a group are taken chunk by chunk of rows, and the chunks
 * are joined in their order in double: the result does not depend on who computed which. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl_util.h"

enum { CHUNK_ELEMENTS = 1 << 16, MOST_CHUNK_ROWS = 256, ALIGN_BYTES = VD_ARENA_ALIGN_BYTES };

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static void *at(const vd_tensor *t, int64_t element) {
    return (unsigned char *)t->data + (size_t)element * vd_dtype_bytes(t->dtype);
}

static int64_t rows_of_chunk(int64_t rows, int64_t channels) {
    int64_t chunk = CHUNK_ELEMENTS / channels;
    chunk = chunk < 1 ? 1 : chunk > MOST_CHUNK_ROWS ? MOST_CHUNK_ROWS : chunk;
    return chunk < rows ? chunk : rows;
}

/* ---- group norm ----------------------------------------------------------------------------- */

typedef struct moments {
    double mean, squares; /* sum of squares of differences from the mean */
} moments;

typedef struct group_job {
    const vd_cpu_kernels *kernels;
    const vd_tensor *src[2];
    vd_tensor *dst;
    const float *scale, *shift;
    int64_t items, rows, channels, part_channels[2]; /* rows of one item */
    int64_t chunk_rows, chunks;                      /* of one item */
    int64_t groups;
    double eps;
    vd_activation act;
    const vd_group_stats *given; /* [items, groups], or NULL: measure */
    moments *part;               /* [items, chunks, groups] */
    float *table;                /* [items, 3, channels]: mean, scale, shift */
    double *channel;             /* [threads, 2, channels]: moments of one chunk */
} group_job;

static int64_t chunk_rows(const group_job *job, int64_t chunk) {
    const int64_t left = job->rows - chunk * job->chunk_rows;
    return left < job->chunk_rows ? left : job->chunk_rows;
}

static int measure_chunk(void *user, int64_t task, int thread) {
    const group_job *job = user;
    const int64_t item = task / job->chunks, chunk = task % job->chunks;
    const int64_t row = item * job->rows + chunk * job->chunk_rows;
    const int64_t rows = chunk_rows(job, chunk), run = job->channels / job->groups;
    double *mean = job->channel + (int64_t)2 * thread * job->channels,
           *squares = mean + job->channels;
    for (int64_t s = 0, first = 0; s < 2 && job->src[s] != NULL; s++) {
        const int64_t c = job->part_channels[s];
        job->kernels->moments(mean + first, squares + first, at(job->src[s], row * c),
                              job->src[s]->dtype, (size_t)rows, (size_t)c, (size_t)c);
        first += c;
    }
    for (int64_t g = 0; g < job->groups; g++) {
        moments m = {0};
        for (int64_t c = g * run; c < (g + 1) * run; c++)
            m.mean += mean[c];
        m.mean /= (double)run;
        for (int64_t c = g * run; c < (g + 1) * run; c++) {
            const double d = mean[c] - m.mean;
            m.squares += squares[c] + (double)rows * d * d;
        }
        job->part[task * job->groups + g] = m;
    }
    return 0;
}

static vd_group_stats join_chunks(const group_job *job, int64_t item, int64_t group) {
    const moments *part = job->part + item * job->chunks * job->groups + group;
    const int64_t channels = job->channels / job->groups;
    const double run = (double)channels;
    moments all = {0};
    for (int64_t k = 0; k < job->chunks; k++)
        all.mean += part[k * job->groups].mean * (double)chunk_rows(job, k);
    all.mean /= (double)job->rows;
    for (int64_t k = 0; k < job->chunks; k++) {
        const double d = part[k * job->groups].mean - all.mean;
        all.squares += part[k * job->groups].squares + (double)chunk_rows(job, k) * run * d * d;
    }
    return (vd_group_stats){all.mean, all.squares / ((double)job->rows * run)};
}

/* What is subtracted is float32, so that values near a mean far from zero lose nothing in it; what
 * it lacks of the mean goes into the shift. */
static int make_table(void *user, int64_t item, int thread) {
    const group_job *job = user;
    (void)thread;
    const int64_t run = job->channels / job->groups;
    float *mean = job->table + item * 3 * job->channels;
    float *scale = mean + job->channels, *shift = scale + job->channels;
    for (int64_t g = 0; g < job->groups; g++) {
        const vd_group_stats m =
            job->given ? job->given[item * job->groups + g] : join_chunks(job, item, g);
        const double factor = 1.0 / sqrt(m.variance + job->eps);
        for (int64_t c = g * run; c < (g + 1) * run; c++) {
            mean[c] = (float)m.mean;
            scale[c] = (float)((double)job->scale[c] * factor);
            shift[c] = (float)((double)job->shift[c] +
                               ((double)mean[c] - m.mean) * factor * (double)job->scale[c]);
        }
    }
    return 0;
}

static int normalize_chunk(void *user, int64_t task, int thread) {
    const group_job *job = user;
    (void)thread;
    const int64_t item = task / job->chunks, chunk = task % job->chunks;
    const int64_t row = item * job->rows + chunk * job->chunk_rows;
    const int64_t rows = chunk_rows(job, chunk);
    const float *table = job->table + item * 3 * job->channels;
    for (int64_t r = row; r < row + rows; r++)
        for (int64_t s = 0, first = 0; s < 2 && job->src[s] != NULL; s++) {
            const int64_t c = job->part_channels[s];
            const vd_cpu_norm norm = {.mean = table + first,
                                      .scale = table + job->channels + first,
                                      .shift = table + 2 * job->channels + first,
                                      .act = job->act};
            job->kernels->normalize(at(job->dst, r * job->channels + first), job->dst->dtype,
                                    at(job->src[s], r * c), job->src[s]->dtype, &norm, (size_t)c);
            first += c;
        }
    return 0;
}

static group_job group_job_of(const vd_exec *x, const vd_tensor *src1, const vd_tensor *src2,
                              int groups) {
    const int last = src1->rank - 1;
    group_job job = {.kernels = vd_cpu(x)->kernels,
                     .src = {src1, src2},
                     .items = src1->dim[0],
                     .part_channels = {src1->dim[last], src2 == NULL ? 0 : src2->dim[last]},
                     .groups = groups};
    job.channels = job.part_channels[0] + job.part_channels[1];
    job.rows = vd_tensor_elements(src1) / job.items / job.part_channels[0];
    job.chunk_rows = rows_of_chunk(job.rows, job.channels);
    job.chunks = (job.rows + job.chunk_rows - 1) / job.chunk_rows;
    return job;
}

/* Scratch for the statistics (measures) and for the table (applies). */
static vd_status take_scratch(vd_exec *x, group_job *job, bool measures, bool applies, void **out) {
    const int64_t channels = job->channels;
    size_t part = 0, table = 0, channel = 0;
    if (measures) {
        part = aligned((size_t)(job->items * job->chunks * job->groups) * sizeof(moments));
        channel = 2 * (size_t)(x->be->threads * channels) * sizeof(double);
    }
    if (applies)
        table = aligned((size_t)(job->items * 3 * channels) * sizeof(float));
    vd_status st = vd_exec_scratch(x, part + table + channel, out);
    if (st != VD_OK || x->dry)
        return st;
    job->part = *out;
    job->table = (float *)(void *)((unsigned char *)*out + part);
    job->channel = (double *)(void *)((unsigned char *)*out + part + table);
    return VD_OK;
}

vd_status vd_cpu_group_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src1,
                            const vd_tensor *src2, const vd_weight *scale, const vd_weight *shift,
                            int groups, float eps, vd_activation act) {
    group_job job = group_job_of(x, src1, src2, groups);
    job.dst = dst;
    job.scale = vd_cpu_vector(scale);
    job.shift = vd_cpu_vector(shift);
    job.eps = (double)eps;
    job.act = act;
    void *scratch;
    vd_status st = take_scratch(x, &job, true, true, &scratch);
    if (st != VD_OK)
        return st;
    if (!x->dry) {
        vd_cpu_pool *pool = vd_cpu(x)->pool;
        vd_cpu_parallel(pool, job.items * job.chunks, measure_chunk, &job);
        vd_cpu_parallel(pool, job.items, make_table, &job);
        vd_cpu_parallel(pool, job.items * job.chunks, normalize_chunk, &job);
    }
    vd_exec_scratch_free(x, scratch);
    return VD_OK;
}

vd_status vd_cpu_group_measure(vd_exec *x, vd_group_stats *stats, const vd_tensor *src,
                               int groups) {
    group_job job = group_job_of(x, src, NULL, groups);
    void *scratch;
    vd_status st = take_scratch(x, &job, true, false, &scratch);
    if (st != VD_OK)
        return st;
    if (!x->dry) {
        vd_cpu_parallel(vd_cpu(x)->pool, job.items * job.chunks, measure_chunk, &job);
        for (int64_t i = 0; i < job.items * job.groups; i++)
            stats[i] = join_chunks(&job, i / job.groups, i % job.groups);
    }
    vd_exec_scratch_free(x, scratch);
    return VD_OK;
}

vd_status vd_cpu_group_normalize(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                                 const vd_group_stats *stats, const vd_weight *scale,
                                 const vd_weight *shift, int groups, float eps, vd_activation act) {
    group_job job = group_job_of(x, src, NULL, groups);
    job.dst = dst;
    job.scale = vd_cpu_vector(scale);
    job.shift = vd_cpu_vector(shift);
    job.eps = (double)eps;
    job.act = act;
    job.given = stats;
    void *scratch;
    vd_status st = take_scratch(x, &job, false, true, &scratch);
    if (st != VD_OK)
        return st;
    if (!x->dry) {
        vd_cpu_parallel(vd_cpu(x)->pool, job.items, make_table, &job);
        vd_cpu_parallel(vd_cpu(x)->pool, job.items * job.chunks, normalize_chunk, &job);
    }
    vd_exec_scratch_free(x, scratch);
    return VD_OK;
}

/* ---- layer norm ----------------------------------------------------------------------------- */

typedef struct layer_job {
    const vd_cpu_kernels *kernels;
    const vd_tensor *src;
    vd_tensor *dst;
    const float *scale, *shift;
    float eps;
    int64_t rows, channels, chunk_rows;
    float *row; /* [threads, channels] */
} layer_job;

static int layer_chunk(void *user, int64_t task, int thread) {
    const layer_job *job = user;
    const int64_t end = (task + 1) * job->chunk_rows;
    for (int64_t r = task * job->chunk_rows; r < end && r < job->rows; r++)
        job->kernels->layer_norm(at(job->dst, r * job->channels), job->dst->dtype,
                                 at(job->src, r * job->channels), job->src->dtype, job->scale,
                                 job->shift, job->eps, (size_t)job->channels,
                                 job->row + thread * job->channels);
    return 0;
}

vd_status vd_cpu_layer_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            const vd_weight *scale, const vd_weight *shift, float eps) {
    layer_job job = {.kernels = vd_cpu(x)->kernels,
                     .src = src,
                     .dst = dst,
                     .scale = vd_cpu_vector(scale),
                     .shift = vd_cpu_vector(shift),
                     .eps = eps,
                     .channels = dst->dim[dst->rank - 1]};
    job.rows = vd_tensor_elements(dst) / job.channels;
    job.chunk_rows = rows_of_chunk(job.rows, job.channels);
    void *scratch;
    vd_status st =
        vd_exec_scratch(x, (size_t)(x->be->threads * job.channels) * sizeof(float), &scratch);
    if (st != VD_OK)
        return st;
    job.row = scratch;
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, (job.rows + job.chunk_rows - 1) / job.chunk_rows,
                        layer_chunk, &job);
    vd_exec_scratch_free(x, scratch);
    return VD_OK;
}

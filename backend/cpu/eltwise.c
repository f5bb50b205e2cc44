/* Activations and conversions, scaled channels, transposition, pasting, linear combinations. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl_util.h"

enum {
    CHUNK = 1 << 14, /* elements of a task */
    BLOCK = 1024,    /* elements on the stack */
    TILE_ROWS = 64,
    TILE_COLUMNS = 256,
};

static void *at(const vd_tensor *t, int64_t element) {
    return (unsigned char *)t->data + (size_t)element * vd_dtype_bytes(t->dtype);
}

static int64_t pieces(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}

static int64_t piece(int64_t count, int64_t size, int64_t index) {
    const int64_t left = count - index * size;
    return left < size ? left : size;
}

/* ---- activate ------------------------------------------------------------------------------- */

typedef struct activate_job {
    const vd_cpu_kernels *kernels;
    vd_tensor *dst;
    const vd_tensor *src;
    vd_activation act;
    int64_t count;
} activate_job;

static int activate_chunk(void *user, int64_t task, int thread) {
    const activate_job *job = user;
    (void)thread;
    float values[BLOCK];
    const int64_t end = task * CHUNK + piece(job->count, CHUNK, task);
    for (int64_t i = task * CHUNK; i < end; i += BLOCK) {
        const size_t run = (size_t)(end - i < BLOCK ? end - i : BLOCK);
        job->kernels->load(values, at(job->src, i), job->src->dtype, run);
        job->kernels->activate(values, job->act, run);
        job->kernels->store(at(job->dst, i), job->dst->dtype, values, run);
    }
    return 0;
}

vd_status vd_cpu_activate(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_activation act) {
    activate_job job = {.kernels = vd_cpu(x)->kernels,
                        .dst = dst,
                        .src = src,
                        .act = act,
                        .count = vd_tensor_elements(dst)};
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, pieces(job.count, CHUNK), activate_chunk, &job);
    return VD_OK;
}

/* ---- scale_channels ------------------------------------------------------------------------- */

typedef struct scale_job {
    const vd_cpu_kernels *kernels;
    vd_tensor *t;
    int64_t rows, width, channels;
    float factor;
} scale_job;

/* CHUNK elements or a row, whichever is more. */
static int64_t scale_rows(const scale_job *job) {
    return job->width < CHUNK ? CHUNK / job->width : 1;
}

static int scale_chunk(void *user, int64_t task, int thread) {
    const scale_job *job = user;
    (void)thread;
    float values[BLOCK];
    const int64_t each = scale_rows(job), end = task * each + piece(job->rows, each, task);
    for (int64_t r = task * each; r < end; r++)
        for (int64_t c = 0; c < job->channels; c += BLOCK) {
            void *to = at(job->t, r * job->width + c);
            const size_t run = (size_t)(job->channels - c < BLOCK ? job->channels - c : BLOCK);
            job->kernels->load(values, to, job->t->dtype, run);
            for (size_t i = 0; i < run; i++)
                values[i] *= job->factor;
            job->kernels->store(to, job->t->dtype, values, run);
        }
    return 0;
}

vd_status vd_cpu_scale_channels(vd_exec *x, vd_tensor *t, int64_t channels, double factor) {
    const int64_t width = t->dim[t->rank - 1];
    scale_job job = {.kernels = vd_cpu(x)->kernels,
                     .t = t,
                     .rows = vd_tensor_elements(t) / width,
                     .width = width,
                     .channels = channels,
                     .factor = (float)factor};
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, pieces(job.rows, scale_rows(&job)), scale_chunk, &job);
    return VD_OK;
}

/* ---- transpose ------------------------------------------------------------------------------ */

typedef struct transpose_job {
    const vd_cpu_kernels *kernels;
    vd_tensor *dst;
    const vd_tensor *src;
    int64_t rows, columns; /* of one matrix of src */
} transpose_job;

static int transpose_tile(void *user, int64_t task, int thread) {
    const transpose_job *job = user;
    (void)thread;
    const int64_t down = pieces(job->rows, TILE_ROWS), across = pieces(job->columns, TILE_COLUMNS);
    const int64_t first = task / (down * across) * job->rows * job->columns;
    const int64_t row = task / across % down, column = task % across;
    const int64_t r = row * TILE_ROWS, c = column * TILE_COLUMNS;
    job->kernels->transpose(at(job->dst, first + c * job->rows + r), job->dst->dtype,
                            (size_t)job->rows, at(job->src, first + r * job->columns + c),
                            job->src->dtype, (size_t)job->columns,
                            (size_t)piece(job->rows, TILE_ROWS, row),
                            (size_t)piece(job->columns, TILE_COLUMNS, column));
    return 0;
}

vd_status vd_cpu_transpose(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    transpose_job job = {.kernels = vd_cpu(x)->kernels,
                         .dst = dst,
                         .src = src,
                         .rows = src->dim[1],
                         .columns = src->dim[2]};
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool,
                        src->dim[0] * pieces(job.rows, TILE_ROWS) *
                            pieces(job.columns, TILE_COLUMNS),
                        transpose_tile, &job);
    return VD_OK;
}

/* ---- paste ---------------------------------------------------------------------------------- */

typedef struct paste_job {
    const vd_paste_desc *d;
    const vd_tensor *dst, *src;
} paste_job;

static int paste_row(void *user, int64_t task, int thread) {
    const paste_job *job = user;
    const vd_paste_desc *d = job->d;
    (void)thread;
    const int64_t item = task / d->rows, y = task % d->rows, channels = job->dst->dim[3];
    const int64_t to = (item * job->dst->dim[1] + d->dst_y + y) * job->dst->dim[2] + d->dst_x;
    const int64_t from = (item * job->src->dim[1] + d->src_y + y) * job->src->dim[2] + d->src_x;
    float *dst = at(job->dst, to * channels);
    const float *src = at(job->src, from * channels);
    if (d->fade == VD_FADE_NONE) {
        memcpy(dst, src, (size_t)(d->columns * channels) * sizeof *dst);
        return 0;
    }
    const bool down = d->fade == VD_FADE_DOWN;
    const float extent = (float)(down ? d->rows : d->columns);
    for (int64_t i = 0; i < d->columns * channels; i++) {
        const float part = (float)(down ? y : i / channels) / extent;
        dst[i] = src[i] * (1 - part) + dst[i] * part;
    }
    return 0;
}

vd_status vd_cpu_paste(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                       const vd_paste_desc *desc) {
    paste_job job = {desc, dst, src};
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, dst->dim[0] * desc->rows, paste_row, &job);
    return VD_OK;
}

/* ---- combine -------------------------------------------------------------------------------- */

enum { MOST_TERMS = 8 };

typedef struct combine_job {
    const vd_cpu_kernels *kernels;
    float *dst;
    int terms;
    const double *coefficient;
    const float *src[MOST_TERMS];
    int64_t count;
} combine_job;

static int combine_chunk(void *user, int64_t task, int thread) {
    const combine_job *job = user;
    (void)thread;
    job->kernels->combine(job->dst, job->terms, job->coefficient, job->src, (size_t)(task * CHUNK),
                          (size_t)piece(job->count, CHUNK, task));
    return 0;
}

vd_status vd_cpu_combine(vd_exec *x, vd_tensor *dst, int terms, const double *coefficient,
                         const vd_tensor *const *src) {
    combine_job job = {.kernels = vd_cpu(x)->kernels,
                       .dst = dst->data,
                       .terms = terms,
                       .coefficient = coefficient,
                       .count = vd_tensor_elements(dst)};
    for (int i = 0; i < terms; i++)
        job.src[i] = src[i]->data;
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, pieces(job.count, CHUNK), combine_chunk, &job);
    return VD_OK;
}

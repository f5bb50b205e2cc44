/* Attention in blocks: some queries of one head against some keys at a time, with the running
 * maximum and sum of an online softmax, so that scores never leave the cache.
 *
 * Everything is transposed: a column belongs to a query. So the softmax has no sums across a
 * vector, and neither short heads nor short sequences leave vectors half empty. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"

enum {
    QUERIES = 128, /* of a block */
    KEYS = 256,
    WIDE_HEAD = 256, /* from here on, fewer keys */
    WIDE_HEAD_KEYS = 128,
    SHORT = 64,               /* tokens of sequences that are gathered first */
    GATHERED_BYTES = 1 << 18, /* of a task */
    ALIGN_BYTES = VD_ARENA_ALIGN_BYTES,
};

/* The tokens of one head. */
typedef struct head {
    const unsigned char *q, *k, *v;
    unsigned char *out;
    int64_t q_token, k_token, v_token, out_token; /* strides, elements */
    vd_dtype dtype;
} head;

typedef struct attention_job {
    const vd_cpu_kernels *kernels;
    const vd_attention_desc *d;
    vd_dtype dtype;
    head first;
    int64_t blocks; /* of queries in a head */
    int64_t run;    /* of gathered pixels in a task; 0: nothing is gathered */
    int64_t runs;   /* of an outer item */
    size_t dim, columns, q_block, k_block;
    size_t thread_bytes;
    unsigned char *scratch;
} attention_job;

/* One thread's scratch. Rows of `columns` are for the queries of a block. */
typedef struct workspace {
    float *q;                  /* [dim, columns] */
    float *k, *v;              /* [k_block, dim] */
    float *scores;             /* [k_block, columns] */
    float *out;                /* [dim, columns] */
    float *top, *sum, *factor; /* [columns] */
    float *gathered[4];        /* q, k, v, out: [run, tokens, heads * dim] */
} workspace;

static size_t padded(size_t count) {
    return (count + VD_CPU_PAD - 1) / VD_CPU_PAD * VD_CPU_PAD;
}

/* Returns the bytes; with base NULL that is all it does. */
static size_t lay_out(const attention_job *job, unsigned char *base, workspace *ws) {
    const vd_attention_desc *d = job->d;
    const size_t pixels = (size_t)(job->run * d->heads) * job->dim;
    const size_t queries = pixels * (size_t)d->q_tokens, keys = pixels * (size_t)d->kv_tokens;
    const size_t packed = job->run > 0 ? 0 : job->k_block * job->dim;
    const struct {
        float **part;
        size_t floats;
    } all[] = {{&ws->q, job->dim * job->columns},
               {&ws->k, packed},
               {&ws->v, packed},
               {&ws->scores, job->k_block * job->columns},
               {&ws->out, job->dim * job->columns},
               {&ws->top, job->columns},
               {&ws->sum, job->columns},
               {&ws->factor, job->columns},
               {&ws->gathered[0], queries},
               {&ws->gathered[1], keys},
               {&ws->gathered[2], keys},
               {&ws->gathered[3], queries}};
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        *all[i].part = base == NULL ? NULL : (float *)(void *)(base + bytes);
        bytes += padded(all[i].floats) * sizeof(float);
    }
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* ---- one block of queries ------------------------------------------------------------------- */

/* Keys or values in float32, `*stride` apart. */
static const float *rows_of(const attention_job *job, const head *h, const unsigned char *first,
                            int64_t token, size_t at, size_t count, float *packed, size_t *stride) {
    const int64_t bytes = (int64_t)vd_dtype_bytes(h->dtype);
    const unsigned char *from = first + (int64_t)at * token * bytes;
    if (job->run > 0) {
        *stride = (size_t)token;
        return (const float *)(const void *)from;
    }
    *stride = job->dim;
    for (size_t i = 0; i < count; i++)
        job->kernels->load(packed + i * job->dim, from + (int64_t)i * token * bytes, h->dtype,
                           job->dim);
    return packed;
}

/* Query `first_query` + c sees keys up to its own number. */
static void mask(const workspace *ws, size_t columns, size_t first_query, size_t queries,
                 size_t first_key, size_t keys) {
    for (size_t r = 0; r < keys; r++)
        for (size_t c = 0; c < queries && first_query + c < first_key + r; c++)
            ws->scores[r * columns + c] = -INFINITY;
}

static void attend_keys(const attention_job *job, const workspace *ws, const head *h,
                        size_t first_query, size_t queries, size_t first_key, size_t keys) {
    const vd_cpu_kernels *kernels = job->kernels;
    size_t stride;
    const float *k = rows_of(job, h, h->k, h->k_token, first_key, keys, ws->k, &stride);
    kernels->product(ws->scores, job->columns, k, stride, 1, ws->q, job->columns, keys, queries,
                     job->dim, false);
    if (job->d->causal && first_key + keys > first_query + 1)
        mask(ws, job->columns, first_query, queries, first_key, keys);
    kernels->softmax(ws->scores, job->columns, keys, queries, job->d->scale, ws->top, ws->sum,
                     ws->factor);
    if (first_key > 0)
        kernels->scale_columns(ws->out, job->columns, job->dim, queries, ws->factor);
    const float *v = rows_of(job, h, h->v, h->v_token, first_key, keys, ws->v, &stride);
    kernels->product(ws->out, job->columns, v, 1, stride, ws->scores, job->columns, job->dim,
                     queries, keys, first_key > 0);
}

static void attend(const attention_job *job, const workspace *ws, const head *h, size_t block) {
    const vd_attention_desc *d = job->d;
    const size_t first_query = block * job->q_block, all_keys = (size_t)d->kv_tokens;
    const size_t left = (size_t)d->q_tokens - first_query;
    const size_t queries = left < job->q_block ? left : job->q_block;
    const int64_t bytes = (int64_t)vd_dtype_bytes(h->dtype);
    if (queries < job->columns) /* what is behind is computed with: let it be numbers */
        memset(ws->q, 0, job->dim * job->columns * sizeof(float));
    job->kernels->transpose(ws->q, VD_F32, job->columns,
                            h->q + (int64_t)first_query * h->q_token * bytes, h->dtype,
                            (size_t)h->q_token, queries, job->dim);
    for (size_t c = 0; c < job->columns; c++) {
        ws->top[c] = -INFINITY;
        ws->sum[c] = 0;
    }
    for (size_t key = 0; key < all_keys; key += job->k_block) {
        if (d->causal && key >= first_query + queries)
            break;
        const size_t keys = all_keys - key < job->k_block ? all_keys - key : job->k_block;
        attend_keys(job, ws, h, first_query, queries, key, keys);
    }
    for (size_t c = 0; c < job->columns; c++)
        ws->factor[c] = 1.0F / ws->sum[c];
    job->kernels->scale_columns(ws->out, job->columns, job->dim, queries, ws->factor);
    job->kernels->transpose(h->out + (int64_t)first_query * h->out_token * bytes, h->dtype,
                            (size_t)h->out_token, ws->out, VD_F32, job->columns, job->dim, queries);
}

static head head_at(const attention_job *job, int64_t outer, int64_t inner, int64_t index) {
    const vd_attention_desc *d = job->d;
    const int64_t bytes = (int64_t)vd_dtype_bytes(job->dtype), e = index * d->head_dim;
    head h = job->first;
    h.q += (outer * d->q.outer + inner * d->q.inner + e) * bytes;
    h.k += (outer * d->k.outer + inner * d->k.inner + e) * bytes;
    h.v += (outer * d->v.outer + inner * d->v.inner + e) * bytes;
    h.out += (outer * d->out.outer + inner * d->out.inner + e) * bytes;
    return h;
}

/* A task is a block of queries; blocks of one head follow each other. */
static int attend_block(void *user, int64_t task, int thread) {
    const attention_job *job = user;
    const vd_attention_desc *d = job->d;
    workspace ws;
    lay_out(job, job->scratch + (size_t)thread * job->thread_bytes, &ws);
    const int64_t unit = task / job->blocks, batch = unit / d->heads;
    const head h = head_at(job, batch / d->inner, batch % d->inner, unit % d->heads);
    attend(job, &ws, &h, (size_t)(task % job->blocks));
    return 0;
}

/* ---- short sequences ------------------------------------------------------------------------ */

/* The tokens of one pixel may lie megabytes apart, at addresses that share cache sets. So a run of
 * pixels is gathered frame by frame, in stretches that are long enough for the memory's prefetch;
 * then all heads of them are computed in the cache. */
static void gather(const attention_job *job, const workspace *ws, int64_t outer, int64_t first,
                   int64_t pixels) {
    const vd_attention_desc *d = job->d;
    const size_t width = (size_t)d->heads * job->dim, bytes = vd_dtype_bytes(job->dtype);
    const int64_t tokens = d->q_tokens > d->kv_tokens ? d->q_tokens : d->kv_tokens;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < pixels; i++) {
            const head h = head_at(job, outer, first + i, 0);
            const int64_t keys = i * d->kv_tokens + t;
            if (t < d->q_tokens)
                job->kernels->load(ws->gathered[0] + (size_t)(i * d->q_tokens + t) * width,
                                   h.q + t * h.q_token * (int64_t)bytes, job->dtype, width);
            if (t >= d->kv_tokens)
                continue;
            job->kernels->load(ws->gathered[1] + (size_t)keys * width,
                               h.k + t * h.k_token * (int64_t)bytes, job->dtype, width);
            job->kernels->load(ws->gathered[2] + (size_t)keys * width,
                               h.v + t * h.v_token * (int64_t)bytes, job->dtype, width);
        }
}

static void scatter(const attention_job *job, const workspace *ws, int64_t outer, int64_t first,
                    int64_t pixels) {
    const vd_attention_desc *d = job->d;
    const size_t width = (size_t)d->heads * job->dim;
    for (int64_t t = 0; t < d->q_tokens; t++)
        for (int64_t i = 0; i < pixels; i++) {
            const head h = head_at(job, outer, first + i, 0);
            job->kernels->store(h.out + t * h.out_token * (int64_t)vd_dtype_bytes(job->dtype),
                                job->dtype, ws->gathered[3] + (size_t)(i * d->q_tokens + t) * width,
                                width);
        }
}

static int attend_pixels(void *user, int64_t task, int thread) {
    const attention_job *job = user;
    const vd_attention_desc *d = job->d;
    const int64_t outer = task / job->runs, first = task % job->runs * job->run;
    const int64_t pixels = d->inner - first < job->run ? d->inner - first : job->run;
    const int64_t width = (int64_t)d->heads * d->head_dim;
    workspace ws;
    lay_out(job, job->scratch + (size_t)thread * job->thread_bytes, &ws);
    gather(job, &ws, outer, first, pixels);
    for (int64_t i = 0; i < pixels * d->heads; i++) {
        const int64_t pixel = i / d->heads, e = i % d->heads * d->head_dim;
        const int64_t q = pixel * d->q_tokens * width + e, k = pixel * d->kv_tokens * width + e;
        const head h = {.q = (const unsigned char *)(ws.gathered[0] + q),
                        .k = (const unsigned char *)(ws.gathered[1] + k),
                        .v = (const unsigned char *)(ws.gathered[2] + k),
                        .out = (unsigned char *)(ws.gathered[3] + q),
                        .q_token = width,
                        .k_token = width,
                        .v_token = width,
                        .out_token = width,
                        .dtype = VD_F32};
        attend(job, &ws, &h, 0);
    }
    scatter(job, &ws, outer, first, pixels);
    return 0;
}

/* ---- all of them ---------------------------------------------------------------------------- */

static void choose_blocks(attention_job *job) {
    const vd_attention_desc *d = job->d;
    const int64_t most_keys = d->head_dim >= WIDE_HEAD ? WIDE_HEAD_KEYS : KEYS;
    job->dim = (size_t)d->head_dim;
    job->q_block = (size_t)(d->q_tokens < QUERIES ? d->q_tokens : QUERIES);
    job->k_block = (size_t)(d->kv_tokens < most_keys ? d->kv_tokens : most_keys);
    job->columns = padded(job->q_block);
    job->blocks = (d->q_tokens + (int64_t)job->q_block - 1) / (int64_t)job->q_block;
    if (d->q_tokens > SHORT || d->kv_tokens > SHORT || d->inner == 1)
        return;
    const int64_t pixel_bytes =
        2 * (d->q_tokens + d->kv_tokens) * d->heads * d->head_dim * (int64_t)sizeof(float);
    const int64_t run = GATHERED_BYTES / pixel_bytes;
    job->run = run < 1 ? 1 : run > d->inner ? d->inner : run;
    job->runs = (d->inner + job->run - 1) / job->run;
}

vd_status vd_cpu_attention(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                           const vd_attention_desc *d) {
    attention_job job = {.kernels = vd_cpu(x)->kernels,
                         .d = d,
                         .dtype = x->dtype,
                         .first = {.q = q,
                                   .k = k,
                                   .v = v,
                                   .out = out,
                                   .q_token = d->q.token,
                                   .k_token = d->k.token,
                                   .v_token = d->v.token,
                                   .out_token = d->out.token,
                                   .dtype = x->dtype}};
    choose_blocks(&job);
    workspace none;
    job.thread_bytes = lay_out(&job, NULL, &none);
    void *scratch;
    vd_status st = vd_exec_scratch(x, job.thread_bytes * (size_t)x->be->threads, &scratch);
    if (st != VD_OK)
        return st;
    job.scratch = scratch;
    if (!x->dry && job.run > 0)
        vd_cpu_parallel(vd_cpu(x)->pool, d->outer * job.runs, attend_pixels, &job);
    else if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, d->outer * d->inner * d->heads * job.blocks, attend_block,
                        &job);
    vd_exec_scratch_free(x, scratch);
    return VD_OK;
}

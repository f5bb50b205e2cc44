/* Attention in blocks: some queries of one head against some keys at a time, with the running
 * maximum and sum of an online softmax, so that scores never leave the cache.
 *
 * A unit is one block of queries of one head. Units are numbered query block fastest, then head,
 * then inner, so that a task of many short units (attention over frames) walks through memory
 * pixel by pixel. Products are our own in float32; where the machine multiplies bf16, long
 * sequences in bf16 go to oneDNN, with probabilities rounded to bf16. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl_util.h"

enum {
    KEYS = 256,           /* of a block */
    QUERIES = 128,        /* of a block */
    SPREAD = VD_CPU_PAD,  /* behind rows of a power of two, which would share cache sets */
    TASK_PAIRS = 1 << 15, /* pairs of tokens in a task, at least, if there are so many */
    ALIGN_BYTES = VD_ARENA_ALIGN_BYTES,
};

typedef struct pointers {
    const unsigned char *q, *k, *v;
    unsigned char *out;
} pointers;

typedef struct attention_job {
    const vd_cpu_kernels *kernels;
    const vd_attention_desc *d;
    vd_dtype dtype;
    pointers first;
    int64_t blocks, units, run; /* of queries in a head; in all; in a task */
    size_t q_block, k_block;    /* tokens */
    size_t k_stride, v_stride;  /* of the packed rows below */
    size_t thread_bytes;
    unsigned char *scratch;
} attention_job;

/* One thread's scratch. */
typedef struct workspace {
    float *q;         /* [q_block, head_dim] */
    float *k;         /* [head_dim, k_stride], a column for each key */
    float *v;         /* [k_block, v_stride] */
    float *scores;    /* [q_block, k_stride] */
    float *out;       /* [q_block, v_stride] */
    float *top, *sum; /* [q_block] */
} workspace;

static size_t padded(size_t count) {
    return (count + VD_CPU_PAD - 1) / VD_CPU_PAD * VD_CPU_PAD;
}

/* Returns the bytes; with base NULL that is all it does. */
static size_t lay_out(const attention_job *job, unsigned char *base, workspace *ws) {
    const size_t dim = (size_t)job->d->head_dim;
    const size_t floats[] = {job->q_block * dim,
                             dim * job->k_stride,
                             job->k_block * job->v_stride,
                             job->q_block * job->k_stride,
                             job->q_block * job->v_stride,
                             job->q_block,
                             job->q_block};
    float **const part[] = {&ws->q, &ws->k, &ws->v, &ws->scores, &ws->out, &ws->top, &ws->sum};
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        *part[i] = base == NULL ? NULL : (float *)(void *)(base + bytes);
        bytes += padded(floats[i]) * sizeof(float);
    }
    return bytes;
}

static const void *token(const attention_job *job, const unsigned char *first, int64_t stride,
                         size_t index) {
    return first + (int64_t)index * stride * (int64_t)vd_dtype_bytes(job->dtype);
}

/* ---- one block of queries ------------------------------------------------------------------- */

static void pack_keys(const attention_job *job, const workspace *ws, const pointers *p,
                      size_t first, size_t keys) {
    const vd_attention_desc *d = job->d;
    const size_t dim = (size_t)d->head_dim;
    job->kernels->transpose(ws->k, VD_F32, job->k_stride, token(job, p->k, d->k.token, first),
                            job->dtype, (size_t)d->k.token, keys, dim);
    for (size_t i = 0; i < keys; i++)
        job->kernels->load(ws->v + i * job->v_stride, token(job, p->v, d->v.token, first + i),
                           job->dtype, dim);
}

/* How many of the block's keys a query sees. */
static size_t seen(const vd_attention_desc *d, size_t query, size_t first_key, size_t keys) {
    if (!d->causal || query >= first_key + keys)
        return keys;
    return query < first_key ? 0 : query - first_key + 1;
}

static void attend_keys(const attention_job *job, const workspace *ws, const float *q, size_t ldq,
                        size_t first_query, size_t queries, size_t first_key, size_t keys) {
    const vd_attention_desc *d = job->d;
    const size_t dim = (size_t)d->head_dim;
    const bool more = first_key > 0;
    job->kernels->product(ws->scores, job->k_stride, q, ldq, ws->k, job->k_stride, queries, keys,
                          dim, false);
    for (size_t r = 0; r < queries; r++) {
        float *row = ws->scores + r * job->k_stride;
        const size_t visible = seen(d, first_query + r, first_key, keys);
        memset(row + visible, 0, (keys - visible) * sizeof *row);
        if (visible == 0)
            continue;
        const float factor =
            job->kernels->softmax(row, visible, d->scale, &ws->top[r], &ws->sum[r]);
        if (more && factor != 1.0F)
            job->kernels->scale(ws->out + r * job->v_stride, factor, dim);
    }
    job->kernels->product(ws->out, job->v_stride, ws->scores, job->k_stride, ws->v, job->v_stride,
                          queries, dim, keys, more);
}

static void attend(const attention_job *job, const workspace *ws, const pointers *p,
                   size_t first_query) {
    const vd_attention_desc *d = job->d;
    const size_t dim = (size_t)d->head_dim, all_keys = (size_t)d->kv_tokens;
    const size_t left = (size_t)d->q_tokens - first_query;
    const size_t queries = left < job->q_block ? left : job->q_block;
    const float *q = token(job, p->q, d->q.token, first_query);
    size_t ldq = (size_t)d->q.token;
    if (job->dtype != VD_F32) {
        for (size_t r = 0; r < queries; r++)
            job->kernels->load(ws->q + r * dim, token(job, p->q, d->q.token, first_query + r),
                               job->dtype, dim);
        q = ws->q;
        ldq = dim;
    }
    for (size_t r = 0; r < queries; r++) {
        ws->top[r] = -INFINITY;
        ws->sum[r] = 0;
    }
    for (size_t key = 0; key < all_keys; key += job->k_block) {
        if (d->causal && key >= first_query + queries)
            break;
        const size_t keys = all_keys - key < job->k_block ? all_keys - key : job->k_block;
        pack_keys(job, ws, p, key, keys);
        attend_keys(job, ws, q, ldq, first_query, queries, key, keys);
    }
    for (size_t r = 0; r < queries; r++) {
        float *row = ws->out + r * job->v_stride;
        job->kernels->scale(row, 1.0F / ws->sum[r], dim);
        job->kernels->store((void *)token(job, p->out, d->out.token, first_query + r), job->dtype,
                            row, dim);
    }
}

/* ---- all of them ---------------------------------------------------------------------------- */

static int attend_units(void *user, int64_t task, int thread) {
    const attention_job *job = user;
    const vd_attention_desc *d = job->d;
    const int64_t bytes = (int64_t)vd_dtype_bytes(job->dtype);
    const int64_t end = (task + 1) * job->run < job->units ? (task + 1) * job->run : job->units;
    workspace ws;
    lay_out(job, job->scratch + (size_t)thread * job->thread_bytes, &ws);
    for (int64_t unit = task * job->run; unit < end; unit++) {
        const int64_t block = unit % job->blocks, head = unit / job->blocks % d->heads;
        const int64_t i = unit / job->blocks / d->heads % d->inner;
        const int64_t o = unit / job->blocks / d->heads / d->inner;
        const int64_t e = head * d->head_dim;
        const pointers p = {.q = job->first.q + (o * d->q.outer + i * d->q.inner + e) * bytes,
                            .k = job->first.k + (o * d->k.outer + i * d->k.inner + e) * bytes,
                            .v = job->first.v + (o * d->v.outer + i * d->v.inner + e) * bytes,
                            .out =
                                job->first.out + (o * d->out.outer + i * d->out.inner + e) * bytes};
        attend(job, &ws, &p, (size_t)block * job->q_block);
    }
    return 0;
}

vd_status vd_cpu_attention(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                           const vd_attention_desc *d) {
    attention_job job = {.kernels = vd_cpu(x)->kernels,
                         .d = d,
                         .dtype = x->dtype,
                         .first = {.q = q, .k = k, .v = v, .out = out},
                         .q_block = d->q_tokens < QUERIES ? (size_t)d->q_tokens : QUERIES,
                         .k_block = d->kv_tokens < KEYS ? (size_t)d->kv_tokens : KEYS,
                         .v_stride = padded((size_t)d->head_dim)};
    job.k_stride = padded(job.k_block) + SPREAD;
    job.blocks = (d->q_tokens + (int64_t)job.q_block - 1) / (int64_t)job.q_block;
    job.units = d->outer * d->inner * d->heads * job.blocks;
    job.run = 1 + TASK_PAIRS / ((int64_t)job.q_block * d->kv_tokens);
    workspace none;
    job.thread_bytes = (lay_out(&job, NULL, &none) + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    void *scratch;
    vd_status st = vd_exec_scratch(x, job.thread_bytes * (size_t)x->be->threads, &scratch);
    if (st != VD_OK)
        return st;
    job.scratch = scratch;
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, (job.units + job.run - 1) / job.run, attend_units, &job);
    vd_exec_scratch_free(x, scratch);
    return VD_OK;
}

/* Attention in blocks: some queries of one head against some keys at a time, with the running
 * maximum and sum of an online softmax, so that scores never leave the cache.
 *
 * Everything is transposed: a column belongs to a query. So the softmax has no sums across a
 * vector, and neither short heads nor short sequences leave vectors half empty.
 *
 * Products are our own in float32. Where the machine multiplies bf16, long sequences in bf16 go to
 * oneDNN, with weights rounded to bf16 after they were summed. */
#include <math.h>
#include <string.h>

#include "backend/cpu/attention_tiled.h"
#include "backend/cpu/dnnl_util.h"

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

/* For a full block of keys and for the last one. */
typedef struct products {
    vd_dnnl_plan *scores[2], *out[2];
} products;

typedef struct attention_job {
    const vd_cpu_kernels *kernels;
    const vd_attention_desc *d;
    vd_dtype dtype;
    head first;
    int64_t blocks; /* of queries in a head */
    int64_t run;    /* of gathered pixels in a task; 0: nothing is gathered */
    int64_t runs;   /* of an outer item */
    size_t dim, columns, q_block, k_block;
    bool native;         /* products of bf16 by oneDNN */
    products full, last; /* for blocks of queries that are full, and for the last one */
    size_t product_bytes;
    size_t thread_bytes;
    unsigned char *scratch;
} attention_job;

/* One thread's scratch. Rows of `columns` are for the queries of a block. */
typedef struct workspace {
    void *q;                   /* F32 [dim, columns]; native: BF16 [q_block, dim] */
    void *k;                   /* [k_block, dim]; native: BF16 */
    void *v;                   /* F32 [k_block, dim]; native: BF16 [dim, keys] */
    float *scores;             /* [k_block, columns] */
    void *weights;             /* the scores; native: BF16 [k_block, columns] */
    float *out;                /* [dim, columns] */
    float *top, *sum, *factor; /* [columns] */
    float *gathered[4];        /* q, k, v, out: [run, tokens, heads * dim] */
    void *product;             /* oneDNN's scratch */
} workspace;

static size_t padded(size_t count) {
    return (count + VD_CPU_PAD - 1) / VD_CPU_PAD * VD_CPU_PAD;
}

static void *take(unsigned char *base, size_t *used, size_t bytes) {
    void *part = base == NULL || bytes == 0 ? NULL : base + *used;
    *used += (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    return part;
}

/* Returns the bytes; with base NULL that is all it does. */
static size_t lay_out(const attention_job *job, unsigned char *base, workspace *ws) {
    const vd_attention_desc *d = job->d;
    const size_t size = job->native ? sizeof(uint16_t) : sizeof(float);
    const size_t pixels = (size_t)(job->run * d->heads) * job->dim * sizeof(float);
    const size_t queries = pixels * (size_t)d->q_tokens, keys = pixels * (size_t)d->kv_tokens;
    const size_t packed = job->run > 0 ? 0 : job->k_block * job->dim * size;
    const size_t row = job->columns * sizeof(float);
    size_t used = 0;
    ws->q = take(base, &used, job->dim * job->columns * size);
    ws->k = take(base, &used, packed);
    ws->v = take(base, &used, packed);
    ws->scores = take(base, &used, job->k_block * row);
    ws->weights = ws->scores;
    if (job->native)
        ws->weights = take(base, &used, job->k_block * job->columns * size);
    ws->out = take(base, &used, job->dim * row);
    ws->top = take(base, &used, row);
    ws->sum = take(base, &used, row);
    ws->factor = take(base, &used, row);
    ws->gathered[0] = take(base, &used, queries);
    ws->gathered[1] = take(base, &used, keys);
    ws->gathered[2] = take(base, &used, keys);
    ws->gathered[3] = take(base, &used, queries);
    ws->product = take(base, &used, job->product_bytes);
    return used;
}

/* ---- one block of queries ------------------------------------------------------------------- */

static const unsigned char *token_at(const head *h, const unsigned char *first, int64_t token,
                                     size_t index) {
    return first + (int64_t)index * token * (int64_t)vd_dtype_bytes(h->dtype);
}

/* Keys or values in float32, `*stride` apart. */
static const float *rows_of(const attention_job *job, const head *h, const unsigned char *first,
                            int64_t token, size_t at, size_t count, float *packed, size_t *stride) {
    if (job->run > 0) {
        *stride = (size_t)token;
        return (const float *)(const void *)token_at(h, first, token, at);
    }
    *stride = job->dim;
    for (size_t i = 0; i < count; i++)
        job->kernels->load(packed + i * job->dim, token_at(h, first, token, at + i), h->dtype,
                           job->dim);
    return packed;
}

static void copy_rows(const attention_job *job, const head *h, const unsigned char *first,
                      int64_t token, size_t at, size_t count, void *packed) {
    const size_t bytes = job->dim * vd_dtype_bytes(h->dtype);
    for (size_t i = 0; i < count; i++)
        memcpy((unsigned char *)packed + i * bytes, token_at(h, first, token, at + i), bytes);
}

/* The block's keys as seen by its queries: weights in ws->weights, the sum's corrections done. */
typedef struct block {
    const head *h;
    size_t first_query, queries, first_key, keys;
    const products *products;
    int thread;
} block;

static int score(const attention_job *job, const workspace *ws, const block *b) {
    const head *h = b->h;
    if (job->native) {
        copy_rows(job, h, h->k, h->k_token, b->first_key, b->keys, ws->k);
        const vd_dnnl_args args = {.a = ws->k, .b = ws->q, .c = ws->scores, .scratch = ws->product};
        return vd_dnnl_run(b->products->scores[b->keys != job->k_block], b->thread, &args);
    }
    size_t stride;
    const float *k = rows_of(job, h, h->k, h->k_token, b->first_key, b->keys, ws->k, &stride);
    job->kernels->product(ws->scores, job->columns, k, stride, 1, ws->q, job->columns, b->keys,
                          b->queries, job->dim, false);
    return 0;
}

static int add_values(const attention_job *job, const workspace *ws, const block *b) {
    const head *h = b->h;
    if (job->native) {
        job->kernels->transpose(ws->v, VD_BF16, b->keys,
                                token_at(h, h->v, h->v_token, b->first_key), VD_BF16,
                                (size_t)h->v_token, b->keys, job->dim);
        const vd_dnnl_args args = {
            .a = ws->v, .b = ws->weights, .c = ws->out, .scratch = ws->product};
        return vd_dnnl_run(b->products->out[b->keys != job->k_block], b->thread, &args);
    }
    size_t stride;
    const float *v = rows_of(job, h, h->v, h->v_token, b->first_key, b->keys, ws->v, &stride);
    job->kernels->product(ws->out, job->columns, v, 1, stride, ws->weights, job->columns, job->dim,
                          b->queries, b->keys, b->first_key > 0);
    return 0;
}

/* Query `first_query` + c sees keys up to its own number. */
static void mask(const workspace *ws, size_t columns, const block *b) {
    for (size_t r = 0; r < b->keys; r++)
        for (size_t c = 0; c < b->queries && b->first_query + c < b->first_key + r; c++)
            ws->scores[r * columns + c] = -INFINITY;
}

static int attend_keys(const attention_job *job, const workspace *ws, const block *b) {
    int rc = score(job, ws, b);
    if (rc != 0)
        return rc;
    if (job->d->causal && b->first_key + b->keys > b->first_query + 1)
        mask(ws, job->columns, b);
    job->kernels->softmax(ws->weights, job->native ? VD_BF16 : VD_F32, ws->scores, job->columns,
                          b->keys, b->queries, job->d->scale, ws->top, ws->sum, ws->factor);
    if (b->first_key > 0)
        job->kernels->scale_columns(ws->out, job->columns, job->dim, b->queries, ws->factor);
    return add_values(job, ws, b);
}

static void begin(const attention_job *job, const workspace *ws, const block *b) {
    const head *h = b->h;
    if (job->native) {
        copy_rows(job, h, h->q, h->q_token, b->first_query, b->queries, ws->q);
        memset(ws->out, 0, job->dim * job->columns * sizeof(float)); /* its plans add */
    } else {
        if (b->queries < job->columns) /* what is behind is computed with: let it be numbers */
            memset(ws->q, 0, job->dim * job->columns * sizeof(float));
        job->kernels->transpose(ws->q, VD_F32, job->columns,
                                token_at(h, h->q, h->q_token, b->first_query), h->dtype,
                                (size_t)h->q_token, b->queries, job->dim);
    }
    for (size_t c = 0; c < job->columns; c++) {
        ws->top[c] = -INFINITY;
        ws->sum[c] = 0;
    }
}

static void finish(const attention_job *job, const workspace *ws, const block *b) {
    const head *h = b->h;
    for (size_t c = 0; c < b->queries; c++)
        ws->factor[c] = 1.0F / ws->sum[c];
    job->kernels->scale_columns(ws->out, job->columns, job->dim, b->queries, ws->factor);
    const int64_t first = (int64_t)b->first_query * h->out_token;
    job->kernels->transpose(h->out + first * (int64_t)vd_dtype_bytes(h->dtype), h->dtype,
                            (size_t)h->out_token, ws->out, VD_F32, job->columns, job->dim,
                            b->queries);
}

static int attend(const attention_job *job, const workspace *ws, const head *h, size_t index,
                  int thread) {
    const vd_attention_desc *d = job->d;
    const size_t all_keys = (size_t)d->kv_tokens;
    block b = {.h = h, .first_query = index * job->q_block, .thread = thread};
    const size_t left = (size_t)d->q_tokens - b.first_query;
    b.queries = left < job->q_block ? left : job->q_block;
    b.products = b.queries == job->q_block ? &job->full : &job->last;
    int rc = 0;
    begin(job, ws, &b);
    for (; rc == 0 && b.first_key < all_keys; b.first_key += job->k_block) {
        if (d->causal && b.first_key >= b.first_query + b.queries)
            break;
        const size_t rest = all_keys - b.first_key;
        b.keys = rest < job->k_block ? rest : job->k_block;
        rc = attend_keys(job, ws, &b);
    }
    if (rc == 0)
        finish(job, ws, &b);
    return rc;
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
    return attend(job, &ws, &h, (size_t)(task % job->blocks), thread);
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
        attend(job, &ws, &h, 0, thread);
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

static vd_status plan_product(const vd_exec *x, attention_job *job, const vd_dnnl_matmul *key,
                              vd_dnnl_plan **plan) {
    vd_status st = vd_dnnl_plan_matmul(vd_cpu(x)->dnnl, key, plan);
    if (st != VD_OK)
        return st;
    const size_t bytes = vd_dnnl_plan_scratch_bytes(*plan);
    if (bytes > job->product_bytes)
        job->product_bytes = bytes;
    job->native = job->native && vd_dnnl_plan_is_fast(*plan);
    return VD_OK;
}

static vd_status plan_products(const vd_exec *x, attention_job *job, int64_t queries,
                               products *out) {
    const int64_t all = (int64_t)job->k_block, columns = (int64_t)job->columns;
    const int64_t keys[2] = {all, job->d->kv_tokens % all}, dim = job->d->head_dim;
    vd_status st = VD_OK;
    for (int i = 0; i < 2 && queries > 0; i++) {
        if (keys[i] == 0)
            continue;
        VD_TRY(plan_product(x, job,
                            &(vd_dnnl_matmul){.m = keys[i],
                                              .n = queries,
                                              .k = dim,
                                              .lda = dim,
                                              .ldb = dim,
                                              .ldc = columns,
                                              .dtype = VD_BF16,
                                              .c_dtype = VD_F32,
                                              .b_transposed = true},
                            &out->scores[i]));
        VD_TRY(plan_product(x, job,
                            &(vd_dnnl_matmul){.m = dim,
                                              .n = queries,
                                              .k = keys[i],
                                              .lda = keys[i],
                                              .ldb = columns,
                                              .ldc = columns,
                                              .dtype = VD_BF16,
                                              .c_dtype = VD_F32,
                                              .accumulate = true},
                            &out->out[i]));
    }
done:
    return st;
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
    void *scratch = NULL;
    vd_status st;
    choose_blocks(&job);
    if (job.run == 0 && vd_cpu_attention_tiled_takes(x, d))
        return vd_cpu_attention_tiled(x, out, q, k, v, d);
    job.native = x->dtype == VD_BF16 && job.run == 0 && vd_dnnl_has_native_bf16();
    if (job.native) {
        VD_TRY(plan_products(x, &job, (int64_t)job.q_block, &job.full));
        VD_TRY(plan_products(x, &job, d->q_tokens % (int64_t)job.q_block, &job.last));
    }
    workspace none;
    job.thread_bytes = lay_out(&job, NULL, &none);
    VD_TRY(vd_exec_scratch(x, job.thread_bytes * (size_t)x->be->threads, &scratch));
    job.scratch = scratch;
    int rc = 0;
    if (!x->dry && job.run > 0)
        rc = vd_cpu_parallel(vd_cpu(x)->pool, d->outer * job.runs, attend_pixels, &job);
    else if (!x->dry)
        rc = vd_cpu_parallel(vd_cpu(x)->pool, d->outer * d->inner * d->heads * job.blocks,
                             attend_block, &job);
    vd_exec_scratch_free(x, scratch);
    st = vd_dnnl_status(rc, "in attention");
done:
    return st;
}

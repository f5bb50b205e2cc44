/* Attention in two ways: few keys (the frame axis) in float32 kernels of our own that read the
 * channels-last layout in place; many keys in blocks of queries, the products by oneDNN. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl_util.h"

enum {
    FEW_TOKENS = 64,
    BLOCK_QUERIES = 128,
    FEWEST_QUERIES = 16,
    SCORE_VALUES = 1 << 20, /* of a block: 4 MiB a thread */
    ALIGN_BYTES = 64,
};

typedef struct attention_job {
    const vd_cpu_kernels *kernels;
    const vd_attention_desc *d;
    vd_dtype dtype;
    void *out;
    const void *q, *k, *v;
    unsigned char *scratch;
    size_t thread_bytes;
    /* many keys */
    int64_t block, blocks;
    vd_dnnl_plan *score_plan[2], *value_plan[2]; /* [last block] */
    size_t plan_bytes, q_bytes, score_bytes, weight_bytes;
} attention_job;

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static const void *element(const void *base, vd_dtype dtype, int64_t at) {
    return (const unsigned char *)base + (size_t)at * vd_dtype_bytes(dtype);
}

static int64_t first_of(const vd_attention_strides *s, int64_t batch, int64_t inner) {
    return batch / inner * s->outer + batch % inner * s->inner;
}

/* ---- few keys: a task is one batch with all its heads --------------------------------------- */

static size_t few_values(const vd_attention_desc *d) {
    return (size_t)(d->head_dim * (2 * d->q_tokens + 2 * d->kv_tokens + 1) + d->kv_tokens);
}

static int attend_few(void *user, int64_t task, int thread) {
    const attention_job *j = user;
    const vd_attention_desc *d = j->d;
    const int64_t dim = d->head_dim;
    float *q = (float *)(void *)(j->scratch + (size_t)thread * j->thread_bytes);
    float *k = q + dim * d->q_tokens;
    float *v = k + dim * d->kv_tokens;
    float *out = v + dim * d->kv_tokens;
    float *row = out + dim * d->q_tokens;
    float *scores = row + dim;
    for (int64_t h = 0; h < d->heads; h++) {
        const int64_t q_at = first_of(&d->q, task, d->inner) + h * dim;
        const int64_t k_at = first_of(&d->k, task, d->inner) + h * dim;
        const int64_t v_at = first_of(&d->v, task, d->inner) + h * dim;
        const int64_t out_at = first_of(&d->out, task, d->inner) + h * dim;
        for (int64_t t = 0; t < d->q_tokens; t++)
            j->kernels->load(q + t * dim, element(j->q, j->dtype, q_at + t * d->q.token), j->dtype,
                             (size_t)dim);
        for (int64_t t = 0; t < d->kv_tokens; t++) {
            j->kernels->load(row, element(j->k, j->dtype, k_at + t * d->k.token), j->dtype,
                             (size_t)dim);
            for (int64_t e = 0; e < dim; e++)
                k[e * d->kv_tokens + t] = row[e];
            j->kernels->load(v + t * dim, element(j->v, j->dtype, v_at + t * d->v.token), j->dtype,
                             (size_t)dim);
        }
        j->kernels->attend(out, q, k, v, (size_t)d->q_tokens, (size_t)d->kv_tokens, (size_t)dim,
                           d->scale, d->causal, scores);
        for (int64_t t = 0; t < d->q_tokens; t++)
            j->kernels->store((void *)element(j->out, j->dtype, out_at + t * d->out.token),
                              j->dtype, out + t * dim, (size_t)dim);
    }
    return 0;
}

/* ---- many keys: a task is a block of queries of one head ------------------------------------- */

static int attend_block(void *user, int64_t task, int thread) {
    const attention_job *j = user;
    const vd_attention_desc *d = j->d;
    const int64_t dim = d->head_dim;
    const int64_t first = task % j->blocks * j->block;
    const int64_t head = task / j->blocks % d->heads * dim;
    const int64_t batch = task / j->blocks / d->heads;
    const int64_t rows = d->q_tokens - first < j->block ? d->q_tokens - first : j->block;
    const bool last = rows != j->block;
    const size_t row_bytes = (size_t)dim * vd_dtype_bytes(j->dtype);

    unsigned char *plan_scratch = j->scratch + (size_t)thread * j->thread_bytes;
    unsigned char *q = plan_scratch + j->plan_bytes;
    float *scores = (float *)(void *)(q + j->q_bytes);
    unsigned char *weights = (unsigned char *)scores + (j->weight_bytes ? j->score_bytes : 0);
    float *out = (float *)(void *)((unsigned char *)scores + j->score_bytes + j->weight_bytes);

    const int64_t q_at = first_of(&d->q, batch, d->inner) + head;
    const int64_t out_at = first_of(&d->out, batch, d->inner) + head;
    for (int64_t t = 0; t < rows; t++)
        memcpy(q + (size_t)t * row_bytes, element(j->q, j->dtype, q_at + (first + t) * d->q.token),
               row_bytes);
    vd_dnnl_args args = {.a = q,
                         .b = element(j->k, j->dtype, first_of(&d->k, batch, d->inner) + head),
                         .c = scores,
                         .scratch = plan_scratch};
    int rc = vd_dnnl_run(j->score_plan[last], thread, &args);
    if (rc != 0)
        return rc;
    for (int64_t t = 0; t < rows; t++) {
        float *row = scores + t * d->kv_tokens;
        const int64_t seen =
            d->causal && first + t + 1 < d->kv_tokens ? first + t + 1 : d->kv_tokens;
        j->kernels->softmax(row, (size_t)seen, (size_t)d->kv_tokens, d->scale);
        if (j->weight_bytes != 0)
            j->kernels->store(weights + (size_t)(t * d->kv_tokens) * vd_dtype_bytes(j->dtype),
                              j->dtype, row, (size_t)d->kv_tokens);
    }
    args.a = weights;
    args.b = element(j->v, j->dtype, first_of(&d->v, batch, d->inner) + head);
    args.c = out;
    rc = vd_dnnl_run(j->value_plan[last], thread, &args);
    for (int64_t t = 0; rc == 0 && t < rows; t++)
        j->kernels->store((void *)element(j->out, j->dtype, out_at + (first + t) * d->out.token),
                          j->dtype, out + t * dim, (size_t)dim);
    return rc;
}

static void larger_scratch(const vd_dnnl_plan *plan, size_t *bytes) {
    const size_t need = aligned(vd_dnnl_plan_scratch_bytes(plan));
    if (need > *bytes)
        *bytes = need;
}

static vd_status plan_many(vd_cpu_dnnl *dnnl, attention_job *j) {
    const vd_attention_desc *d = j->d;
    j->block = SCORE_VALUES / d->kv_tokens;
    if (j->block > BLOCK_QUERIES)
        j->block = BLOCK_QUERIES;
    if (j->block < FEWEST_QUERIES)
        j->block = FEWEST_QUERIES;
    if (j->block > d->q_tokens)
        j->block = d->q_tokens;
    j->blocks = (d->q_tokens + j->block - 1) / j->block;
    const int64_t rows[2] = {j->block, d->q_tokens % j->block};
    for (int i = 0; i < 2; i++) {
        if (rows[i] == 0)
            continue;
        const vd_dnnl_matmul score = {.m = rows[i],
                                      .n = d->kv_tokens,
                                      .k = d->head_dim,
                                      .lda = d->head_dim,
                                      .ldb = d->k.token,
                                      .ldc = d->kv_tokens,
                                      .dtype = j->dtype,
                                      .c_dtype = VD_F32,
                                      .b_transposed = true};
        const vd_dnnl_matmul value = {.m = rows[i],
                                      .n = d->head_dim,
                                      .k = d->kv_tokens,
                                      .lda = d->kv_tokens,
                                      .ldb = d->v.token,
                                      .ldc = d->head_dim,
                                      .dtype = j->dtype,
                                      .c_dtype = VD_F32};
        vd_status st = vd_dnnl_plan_matmul(dnnl, &score, &j->score_plan[i]);
        if (st == VD_OK)
            st = vd_dnnl_plan_matmul(dnnl, &value, &j->value_plan[i]);
        if (st != VD_OK)
            return st;
        larger_scratch(j->score_plan[i], &j->plan_bytes);
        larger_scratch(j->value_plan[i], &j->plan_bytes);
    }
    const size_t values = (size_t)(j->block * d->kv_tokens);
    j->q_bytes = aligned((size_t)(j->block * d->head_dim) * vd_dtype_bytes(j->dtype));
    j->score_bytes = aligned(values * sizeof(float));
    j->weight_bytes = j->dtype == VD_F32 ? 0 : aligned(values * vd_dtype_bytes(j->dtype));
    j->thread_bytes = j->plan_bytes + j->q_bytes + j->score_bytes + j->weight_bytes +
                      aligned((size_t)(j->block * d->head_dim) * sizeof(float));
    return VD_OK;
}

vd_status vd_cpu_attention(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                           const vd_attention_desc *d) {
    vd_status st = VD_OK;
    void *scratch = NULL;
    attention_job j = {.kernels = vd_cpu(x)->kernels,
                       .d = d,
                       .dtype = x->dtype,
                       .out = out,
                       .q = q,
                       .k = k,
                       .v = v};
    const bool few = d->q_tokens <= FEW_TOKENS && d->kv_tokens <= FEW_TOKENS;
    const int64_t batches = d->outer * d->inner;
    if (few)
        j.thread_bytes = aligned(few_values(d) * sizeof(float));
    else
        VD_TRY(plan_many(vd_cpu(x)->dnnl, &j));
    VD_TRY(vd_exec_scratch(x, j.thread_bytes * (size_t)x->be->threads, &scratch));
    j.scratch = scratch;
    if (!x->dry)
        st = vd_dnnl_status(
            few ? vd_cpu_parallel(x->be->threads, batches, attend_few, &j)
                : vd_cpu_parallel(x->be->threads, batches * d->heads * j.blocks, attend_block, &j),
            "computing attention");
done:
    vd_exec_scratch_free(x, scratch);
    return st;
}

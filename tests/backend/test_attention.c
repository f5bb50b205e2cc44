/* vd_attention against the oracle, on the cases of cases/attention.txt. */
#include <stdlib.h>

#include "tests/backend/op_case.h"
#include "tests/backend/op_trial.h"
#include "tests/check.h"
#include "tests/ref_ops.h"

enum { Q, K, V, OUT, TENSORS };

typedef struct attention_case {
    vd_attention_desc d;
    int64_t elements[TENSORS]; /* of the memory that holds the tensor */
    int64_t first[TENSORS];    /* element of it */
    bool fused;                /* k and v are in q's memory */
} attention_case;

/* Rows of `ld` elements, in the order outer, inner, token, or with frames: outer, token, inner. */
static vd_attention_strides strides(const vd_attention_desc *d, int64_t tokens, int64_t ld,
                                    bool frames, bool shared) {
    if (shared)
        return (vd_attention_strides){.outer = tokens * ld, .inner = 0, .token = ld};
    if (frames)
        return (vd_attention_strides){
            .outer = tokens * d->inner * ld, .inner = ld, .token = d->inner * ld};
    return (vd_attention_strides){
        .outer = d->inner * tokens * ld, .inner = tokens * ld, .token = ld};
}

static attention_case parse(const char *line) {
    attention_case c = {.fused = op_is(line, "layout", "fused") || op_is(line, "layout", "frames")};
    vd_attention_desc *d = &c.d;
    d->outer = op_number(line, "batch", 0, 1);
    d->inner = op_number(line, "batch", 1, 1);
    d->q_tokens = op_number(line, "tokens", 0, 1);
    d->kv_tokens = op_number(line, "tokens", 1, d->q_tokens);
    d->heads = (int)op_number(line, "heads", 0, 1);
    d->head_dim = (int)op_number(line, "heads", 1, 1);
    d->scale = (float)(1.0 / sqrt((double)d->head_dim));
    d->causal = op_number(line, "causal", 0, 0) != 0;
    const bool frames = op_is(line, "layout", "frames"), shared = op_is(line, "layout", "shared");
    const int64_t width = (int64_t)d->heads * d->head_dim, gap = op_number(line, "gap", 0, 0);
    const int64_t ld = c.fused ? 3 * width : width + gap;
    const int64_t batch = d->outer * d->inner;
    d->q = strides(d, d->q_tokens, ld, frames, false);
    d->k = d->v = strides(d, d->kv_tokens, ld, frames, shared);
    d->out = strides(d, d->q_tokens, width + gap, frames, false);
    c.elements[Q] = batch * d->q_tokens * ld;
    c.elements[K] = c.elements[V] = (shared ? d->outer : batch) * d->kv_tokens * ld;
    c.elements[OUT] = batch * d->q_tokens * (width + gap);
    if (c.fused) {
        c.elements[K] = c.elements[V] = 1;
        c.first[K] = width;
        c.first[V] = 2 * width;
    }
    return c;
}

static const float *of(const attention_case *c, const float *const *values, int which) {
    return values[c->fused ? Q : which] + c->first[which];
}

static const void *place(const attention_case *c, const vd_tensor *src, int which) {
    const vd_tensor *t = &src[c->fused ? Q : which];
    return (const unsigned char *)t->data + (size_t)c->first[which] * vd_dtype_bytes(t->dtype);
}

static vd_status call(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_weight *const *vector,
                      const void *user) {
    const attention_case *c = user;
    (void)vector;
    return vd_attention(x, dst->data, place(c, src, Q), place(c, src, K), place(c, src, V), &c->d);
}

/* An error e of a logit is a part e of its probability. Logits are sums of head_dim products, of a
 * size up to `logit`, so their roundings count that much more than those of a sum of size 1. */
static double terms_of(const attention_case *c, double logit, vd_dtype dtype) {
    const double terms = (double)c->d.kv_tokens + (double)c->d.head_dim * (1 + logit) * (1 + logit);
    /* In bf16 each probability may be off by 2^-8 of itself: one sigma of op_compare's, which is
     * 4 * sqrt(terms) * 2^-24, for 2^28 terms; in f16 by 2^-11, for 2^22. */
    return dtype == VD_BF16 ? terms + 0x1p28 : dtype == VD_F16 ? terms + 0x1p22 : terms;
}

static void attention_line(void *user, const char *line) {
    const op_devices *devices = user;
    const attention_case c = parse(line);
    const float logit = (float)op_number(line, "logit", 0, 1);
    for (int i = 0; i < devices->dtypes; i++) {
        const vd_dtype dtype = devices->dtype[i];
        float *values[TENSORS];
        for (int t = Q; t <= V; t++)
            values[t] =
                op_values((size_t)c.elements[t], t == Q ? logit : 1.0F, dtype, (uint32_t)t + 1);
        if (c.fused) /* q, k and v alternate in the memory */
            for (int64_t e = 0; e < c.elements[Q]; e++)
                if (e / c.d.heads / c.d.head_dim % 3 != 0)
                    values[Q][e] = op_round(values[Q][e] / logit, dtype);
        /* What no stride reaches must stay. */
        double *expected = malloc((size_t)c.elements[OUT] * sizeof *expected);
        values[OUT] = malloc((size_t)c.elements[OUT] * sizeof(float));
        for (int64_t e = 0; e < c.elements[OUT]; e++)
            expected[e] = values[OUT][e] = 0.5F;
        const float *const src[] = {values[Q], values[K], values[V]};
        ref_attention(expected, of(&c, src, Q), of(&c, src, K), of(&c, src, V), &c.d);
        op_trial trial = {.line = line,
                          .dtype = dtype,
                          .shape = VD_VIEW(NULL, dtype, c.elements[OUT]),
                          .sources = 3,
                          .start = values[OUT],
                          .expected = expected,
                          .terms = terms_of(&c, (double)logit, dtype),
                          .call = call,
                          .user = &c};
        for (int t = Q; t <= V; t++) {
            trial.src[t] = values[t];
            trial.src_shape[t] = VD_VIEW(NULL, dtype, c.elements[t]);
        }
        CHECK(op_trial_run(devices, &trial) == 0);
        for (int t = Q; t <= OUT; t++)
            free(values[t]);
        free(expected);
    }
}

/* A NaN in a query makes its own row of its own head NaN, and nothing else; one in a key makes
 * every query of the head NaN that sees the key. */
static void test_nan(vd_backend *be, vd_dtype dtype, bool in_key, bool causal, int64_t tokens) {
    enum { HEADS = 2, DIM = 8, WIDTH = HEADS * DIM, TOKENS = 300, AT = 3, HEAD = 1 };
    static float values[3][TOKENS * WIDTH], result[TOKENS * WIDTH];
    for (int t = 0; t < 3; t++)
        op_random(values[t], (size_t)TOKENS * WIDTH, 1.0F, dtype, (uint32_t)t);
    values[in_key ? K : Q][AT * WIDTH + HEAD * DIM + 2] = NAN;
    const vd_attention_strides rows = {.token = WIDTH};
    const vd_attention_desc d = {.outer = 1,
                                 .inner = 1,
                                 .q_tokens = tokens,
                                 .kv_tokens = tokens,
                                 .heads = HEADS,
                                 .head_dim = DIM,
                                 .scale = 0.3F,
                                 .causal = causal,
                                 .q = rows,
                                 .k = rows,
                                 .v = rows,
                                 .out = rows};
    op_buffer b[TENSORS] = {0};
    vd_exec *x;
    for (int t = Q; t <= OUT; t++)
        CHECK_OK(op_buffer_create(be, dtype, 1, (int64_t[]){(int64_t)TOKENS * WIDTH},
                                  t == OUT ? NULL : values[t], &b[t]));
    CHECK_OK(vd_exec_create(be, dtype, &x));
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(vd_attention(x, b[OUT].t.data, b[Q].t.data, b[K].t.data, b[V].t.data, &d));
        if (pass == 0)
            CHECK_OK(vd_exec_commit(x));
    }
    CHECK_OK(op_buffer_read(&b[OUT], result));
    for (int t = Q; t <= OUT; t++)
        op_buffer_destroy(&b[t]);
    int wrong = 0;
    for (int64_t i = 0; i < tokens * WIDTH; i++) {
        const int64_t t = i / WIDTH;
        const bool row = in_key ? !causal || t >= AT : t == AT;
        wrong += (isnan(result[i]) != 0) != (row && i % WIDTH / DIM == HEAD);
    }
    CHECK(wrong == 0);
    vd_exec_destroy(x);
}

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    CHECK(op_cases("attention.txt", attention_line, &devices) > 0);
    for (int i = 0; i < 4 * devices.dtypes; i++) {
        vd_backend *be = devices.be[devices.count > 1];
        test_nan(be, devices.dtype[i / 4], (i & 1) != 0, (i & 2) != 0, 16);
        test_nan(be, devices.dtype[i / 4], (i & 1) != 0, (i & 2) != 0, 300);
    }
    op_devices_close(&devices);
    return CHECK_DONE();
}

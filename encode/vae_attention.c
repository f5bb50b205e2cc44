/* The middle block's attention: keys and values of the whole picture, queries band by band. */
#include <math.h>
#include <stdlib.h>

#include "encode/vae_impl.h"

enum { BAND_TOKENS = 8192 };

typedef struct picture {
    vd_exec *x;
    const vd_vae_attention *a;
    vd_group_stats *stats; /* host [groups] */
    vd_tensor state, kv;   /* [1, tokens, c], [1, tokens, 2c] */
    int64_t tokens;
} picture;

static vd_tensor tokens_of(const vd_tensor *t, int64_t first, int64_t count) {
    const size_t bytes = (size_t)t->dim[2] * vd_dtype_bytes(t->dtype);
    return VD_VIEW((char *)t->data + (size_t)first * bytes, t->dtype, 1, count, t->dim[2]);
}

static vd_status normalize(const picture *p, int64_t first, int64_t count, vd_tensor *out) {
    const vd_norm_layer *n = &p->a->norm;
    const vd_tensor src = tokens_of(&p->state, first, count);
    vd_status st = VD_ALLOC(p->x, vd_exec_dtype(p->x), out, 1, count, p->a->channels);
    return st == VD_OK ? vd_group_normalize(p->x, out, &src, p->stats, n->scale, n->shift,
                                            n->groups, n->eps, VD_ACT_NONE)
                       : st;
}

static vd_status make_keys(const picture *p, int64_t first, int64_t count) {
    vd_status st = VD_OK;
    vd_tensor normed = {0}, kv = tokens_of(&p->kv, first, count);
    VD_TRY(normalize(p, first, count, &normed));
    VD_TRY(vd_linear(p->x, &kv, &normed, p->a->kv.w, p->a->kv.bias, NULL, VD_ACT_NONE));
done:
    vd_exec_free(p->x, &normed);
    return st;
}

static vd_status attend(const picture *p, int64_t first, int64_t count) {
    vd_status st = VD_OK;
    const int64_t c = p->a->channels;
    vd_tensor normed = {0}, q = {0}, band = tokens_of(&p->state, first, count);
    const vd_attention_desc desc = {.outer = 1,
                                    .inner = 1,
                                    .q_tokens = count,
                                    .kv_tokens = p->tokens,
                                    .heads = 1,
                                    .head_dim = (int)c,
                                    .scale = 1.0F / sqrtf((float)c),
                                    .q = {0, 0, c},
                                    .k = {0, 0, 2 * c},
                                    .v = {0, 0, 2 * c},
                                    .out = {0, 0, c}};
    const char *k = p->kv.data;
    VD_TRY(normalize(p, first, count, &normed));
    VD_TRY(VD_ALLOC(p->x, vd_exec_dtype(p->x), &q, 1, count, c));
    VD_TRY(vd_linear(p->x, &q, &normed, p->a->q.w, p->a->q.bias, NULL, VD_ACT_NONE));
    VD_TRY(vd_attention(p->x, normed.data, q.data, k, k + (size_t)c * vd_dtype_bytes(p->kv.dtype),
                        &desc));
    VD_TRY(vd_linear(p->x, &band, &normed, p->a->out.w, p->a->out.bias, &band, VD_ACT_NONE));
done:
    vd_exec_free(p->x, &q);
    vd_exec_free(p->x, &normed);
    return st;
}

static vd_status over_bands(const picture *p,
                            vd_status (*work)(const picture *p, int64_t first, int64_t count)) {
    vd_status st = VD_OK;
    for (int64_t i = 0; i < p->tokens && st == VD_OK; i += BAND_TOKENS)
        st = work(p, i, p->tokens - i < BAND_TOKENS ? p->tokens - i : BAND_TOKENS);
    return st;
}

vd_status vd_vae_attention_forward(vd_exec *x, const vd_vae_attention *a, vd_tensor *state,
                                   const vd_tensor *kv) {
    vd_status st = VD_OK;
    picture p = {.x = x, .a = a, .tokens = state->dim[1] * state->dim[2]};
    const vd_tensor all =
        VD_VIEW(state->data, state->dtype, 1, state->dim[0] * p.tokens, a->channels);
    p.stats = calloc((size_t)a->norm.groups, sizeof *p.stats);
    if (!p.stats)
        return vd_fail(VD_ERR_MEMORY, "no memory for %d groups' statistics", a->norm.groups);
    if (kv)
        p.kv = *kv;
    else
        VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &p.kv, 1, p.tokens, 2 * a->channels));
    for (int64_t i = 0; i < state->dim[0]; i++) {
        p.state = tokens_of(&all, i * p.tokens, p.tokens);
        VD_TRY(vd_group_measure(x, p.stats, &p.state, a->norm.groups));
        VD_TRY(over_bands(&p, make_keys));
        VD_TRY(over_bands(&p, attend));
    }
done:
    if (!kv)
        vd_exec_free(x, &p.kv);
    free(p.stats);
    return st;
}

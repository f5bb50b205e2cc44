#include "unet3d/attention.h"

#include <math.h>
#include <stdlib.h>

#include "temporal/path.h"

static const float group_norm_eps = 1e-6f; /* not the UNet's norm_eps */
static const float layer_norm_eps = 1e-5f;

static vd_status cross_attention_load(const vd_loader *l, const char *prefix,
                                      const vd_spatial_transformer_desc *desc,
                                      vd_cross_attention *cross) {
    vd_status st;
    const int64_t width = (int64_t)desc->heads * desc->head_dim;
    const vd_path k = vd_path_join(prefix, "attn2.to_k");
    const vd_path v = vd_path_join(prefix, "attn2.to_v");
    const char *const kv[] = {k.text, v.text};

    cross->heads = desc->heads;
    cross->head_dim = desc->head_dim;
    VD_TRY(vd_load_norm(l, vd_path_join(prefix, "norm2").text, width, 0, layer_norm_eps,
                        &cross->norm));
    VD_TRY(
        vd_load_linear(l, vd_path_join(prefix, "attn2.to_q").text, width, width, false, &cross->q));
    VD_TRY(vd_load_fused_linear(l, kv, 2, width, desc->text_width, false, &cross->kv));
    VD_TRY(vd_load_linear(l, vd_path_join(prefix, "attn2.to_out.0").text, width, width, true,
                          &cross->out));
done:
    return st;
}

vd_status vd_spatial_transformer_load(const vd_loader *l, const char *prefix,
                                      const vd_spatial_transformer_desc *desc,
                                      vd_spatial_transformer *layer) {
    vd_status st;
    layer->width = (int64_t)desc->heads * desc->head_dim;
    layer->blocks = calloc((size_t)desc->blocks, sizeof *layer->blocks);
    if (layer->blocks == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the blocks of %s", prefix);
    layer->block_count = desc->blocks;

    VD_TRY(vd_load_norm(l, vd_path_join(prefix, "norm").text, desc->channels, desc->groups,
                        group_norm_eps, &layer->norm));
    VD_TRY(vd_load_linear(l, vd_path_join(prefix, "proj_in").text, layer->width, desc->channels,
                          true, &layer->proj_in));
    for (int i = 0; i < desc->blocks; i++) {
        const vd_path path = vd_path_join(prefix, "transformer_blocks.%d", i);
        vd_transformer_block *block = &layer->blocks[i];
        VD_TRY(vd_self_attention_load(l, path.text, 1, desc->heads, desc->head_dim, &block->self));
        VD_TRY(cross_attention_load(l, path.text, desc, &block->cross));
        VD_TRY(vd_feed_forward_load(l, path.text, layer->width, &block->ff));
    }
    VD_TRY(vd_load_linear(l, vd_path_join(prefix, "proj_out").text, desc->channels, layer->width,
                          true, &layer->proj_out));
done:
    return st;
}

void vd_spatial_transformer_destroy(vd_backend *be, vd_spatial_transformer *layer) {
    vd_norm_layer_destroy(be, &layer->norm);
    vd_linear_layer_destroy(be, &layer->proj_in);
    vd_linear_layer_destroy(be, &layer->proj_out);
    for (int i = 0; i < layer->block_count; i++) {
        vd_cross_attention *cross = &layer->blocks[i].cross;
        vd_self_attention_destroy(be, &layer->blocks[i].self);
        vd_norm_layer_destroy(be, &cross->norm);
        vd_linear_layer_destroy(be, &cross->q);
        vd_linear_layer_destroy(be, &cross->kv);
        vd_linear_layer_destroy(be, &cross->out);
        vd_feed_forward_destroy(be, &layer->blocks[i].ff);
    }
    free(layer->blocks);
    *layer = (vd_spatial_transformer){0};
}

static vd_tensor text_view(const vd_cross_attention *cross, int64_t items, int64_t tokens,
                           vd_dtype dtype, void *memory) {
    return VD_VIEW(memory, dtype, items, tokens, 2 * (int64_t)cross->heads * cross->head_dim);
}

size_t vd_cross_attention_text_bytes(const vd_cross_attention *cross, int64_t items, int64_t tokens,
                                     vd_dtype dtype) {
    const vd_tensor view = text_view(cross, items, tokens, dtype, NULL);
    return vd_tensor_bytes(&view);
}

vd_status vd_cross_attention_set_text(vd_exec *x, vd_cross_attention *cross,
                                      const vd_tensor *states, void *memory) {
    cross->text = text_view(cross, states->dim[0], states->dim[1], vd_exec_dtype(x), memory);
    return vd_linear(x, &cross->text, states, cross->kv.w, NULL, NULL, VD_ACT_NONE);
}

static vd_status cross_attention_forward(const vd_unet_pass *pass, vd_tensor *tokens,
                                         int64_t pixels, const vd_cross_attention *cross) {
    vd_status st;
    vd_exec *x = pass->x;
    const vd_dtype dtype = vd_exec_dtype(x);
    const int64_t width = (int64_t)cross->heads * cross->head_dim;
    const int64_t text_tokens = cross->text.dim[1];
    const vd_attention_strides by_pixel = {pass->frames * pixels * width, pixels * width, width};
    const vd_attention_strides by_word = {text_tokens * 2 * width, 0, 2 * width};
    const vd_attention_desc desc = {
        .outer = pass->batch,
        .inner = pass->frames,
        .q_tokens = pixels,
        .kv_tokens = text_tokens,
        .heads = cross->heads,
        .head_dim = cross->head_dim,
        .scale = 1.0f / sqrtf((float)cross->head_dim),
        .q = by_pixel,
        .k = by_word,
        .v = by_word,
        .out = by_pixel,
    };
    const char *k = cross->text.data;
    vd_tensor normed = {0};
    vd_tensor q = {0};
    vd_tensor mixed = {0};

    VD_TRY(vd_exec_alloc(x, dtype, tokens->rank, tokens->dim, &normed));
    VD_TRY(
        vd_layer_norm(x, &normed, tokens, cross->norm.scale, cross->norm.shift, cross->norm.eps));
    VD_TRY(vd_exec_alloc(x, dtype, tokens->rank, tokens->dim, &q));
    VD_TRY(vd_linear(x, &q, &normed, cross->q.w, NULL, NULL, VD_ACT_NONE));
    vd_exec_free(x, &normed);
    VD_TRY(vd_exec_alloc(x, dtype, tokens->rank, tokens->dim, &mixed));
    VD_TRY(
        vd_attention(x, mixed.data, q.data, k, k + (size_t)width * vd_dtype_bytes(dtype), &desc));
    vd_exec_free(x, &q);
    VD_TRY(vd_linear(x, tokens, &mixed, cross->out.w, cross->out.bias, tokens, VD_ACT_NONE));
done:
    vd_exec_free(x, &normed);
    vd_exec_free(x, &q);
    vd_exec_free(x, &mixed);
    return st;
}

/* Attention spreads over more tokens than in training: logits grow with the square root of the
 * ratio of the entropies (Attn-SF; method.md, section 7). */
static vd_status attention_sharpness(const vd_unet_pass *pass, int64_t tokens, double *out) {
    const double ratio = vd_unet_method(pass)->attention_ratio;
    const double trained = (double)tokens / ratio;
    *out = 1;
    if (ratio == 0)
        return VD_OK;
    if (trained <= 1)
        return vd_fail(VD_ERR_INPUT,
                       "attention among %lld tokens cannot be scaled for %g times the pixels of "
                       "training: %g tokens would be left; lower the ratio or render larger",
                       (long long)tokens, ratio, trained);
    *out = sqrt(log((double)tokens) / log(trained));
    return VD_OK;
}

vd_status vd_spatial_transformer_forward(const vd_unet_pass *pass, vd_tensor *h,
                                         const vd_spatial_transformer *layer) {
    vd_status st;
    vd_exec *x = pass->x;
    const int64_t pixels = h->dim[1] * h->dim[2];
    const vd_sequences seq = {.outer = h->dim[0],
                              .inner = 1,
                              .tokens = pixels,
                              .outer_rows = pixels,
                              .inner_rows = 0,
                              .token_rows = 1};
    double sharpness = 1;
    vd_tensor normed = {0};
    vd_tensor tokens = {0};

    VD_TRY(attention_sharpness(pass, pixels, &sharpness));
    VD_TRY(vd_exec_alloc(x, h->dtype, h->rank, h->dim, &normed));
    VD_TRY(vd_group_norm(x, &normed, h, NULL, layer->norm.scale, layer->norm.shift,
                         layer->norm.groups, layer->norm.eps, VD_ACT_NONE));
    VD_TRY(VD_ALLOC(x, h->dtype, &tokens, h->dim[0], pixels, layer->width));
    VD_TRY(
        vd_linear(x, &tokens, &normed, layer->proj_in.w, layer->proj_in.bias, NULL, VD_ACT_NONE));
    vd_exec_free(x, &normed);
    for (int i = 0; i < layer->block_count; i++) {
        const vd_transformer_block *block = &layer->blocks[i];
        VD_TRY(vd_self_attention_forward(x, &tokens, &block->self, &seq, sharpness));
        VD_TRY(cross_attention_forward(pass, &tokens, pixels, &block->cross));
        VD_TRY(vd_feed_forward_forward(x, &tokens, &block->ff));
    }
    VD_TRY(vd_linear(x, h, &tokens, layer->proj_out.w, layer->proj_out.bias, h, VD_ACT_NONE));
done:
    vd_exec_free(x, &normed);
    vd_exec_free(x, &tokens);
    return st;
}

#include "temporal/attention.h"

#include "temporal/path.h"

static const float norm_eps = 1e-6f;

vd_status vd_temporal_transformer_load(const vd_loader *l, const char *prefix, int64_t channels,
                                       int heads, int head_dim, int groups,
                                       vd_temporal_transformer *layer) {
    vd_status st;
    const vd_path block = vd_path_join(prefix, "transformer_blocks.0");
    const int64_t width = (int64_t)heads * head_dim;

    layer->width = width;
    VD_TRY(vd_load_norm(l, vd_path_join(prefix, "norm").text, channels, groups, norm_eps,
                        &layer->norm));
    VD_TRY(vd_load_linear(l, vd_path_join(prefix, "proj_in").text, width, channels, true,
                          &layer->proj_in));
    for (int i = 0; i < 2; i++)
        VD_TRY(vd_self_attention_load(l, block.text, i + 1, heads, head_dim, &layer->attention[i]));
    VD_TRY(vd_feed_forward_load(l, block.text, width, &layer->ff));
    VD_TRY(vd_load_linear(l, vd_path_join(prefix, "proj_out").text, channels, width, true,
                          &layer->proj_out));
done:
    return st;
}

void vd_temporal_transformer_destroy(vd_backend *be, vd_temporal_transformer *layer) {
    vd_norm_layer_destroy(be, &layer->norm);
    vd_linear_layer_destroy(be, &layer->proj_in);
    for (int i = 0; i < 2; i++)
        vd_self_attention_destroy(be, &layer->attention[i]);
    vd_feed_forward_destroy(be, &layer->ff);
    vd_linear_layer_destroy(be, &layer->proj_out);
}

vd_status vd_temporal_transformer_forward(vd_exec *x, vd_tensor *h,
                                          const vd_temporal_transformer *layer, int64_t frames) {
    vd_status st;
    const int64_t batch = h->dim[0] / frames;
    const int64_t pixels = h->dim[1] * h->dim[2];
    const int64_t channels = h->dim[3];
    const vd_sequences seq = {.outer = batch,
                              .inner = pixels,
                              .tokens = frames,
                              .outer_rows = frames * pixels,
                              .inner_rows = 1,
                              .token_rows = pixels};
    /* One view per item for the statistics over all frames. */
    vd_tensor clip = VD_VIEW(h->data, h->dtype, batch, frames * pixels, channels);
    vd_tensor normed = {0};
    vd_tensor tokens = {0};

    VD_TRY(vd_exec_alloc(x, clip.dtype, clip.rank, clip.dim, &normed));
    VD_TRY(vd_group_norm(x, &normed, &clip, NULL, layer->norm.scale, layer->norm.shift,
                         layer->norm.groups, layer->norm.eps, VD_ACT_NONE));
    VD_TRY(VD_ALLOC(x, h->dtype, &tokens, batch, frames * pixels, layer->width));
    VD_TRY(
        vd_linear(x, &tokens, &normed, layer->proj_in.w, layer->proj_in.bias, NULL, VD_ACT_NONE));
    vd_exec_free(x, &normed);
    for (int i = 0; i < 2; i++)
        VD_TRY(vd_self_attention_forward(x, &tokens, &layer->attention[i], &seq, 1));
    VD_TRY(vd_feed_forward_forward(x, &tokens, &layer->ff));
    VD_TRY(
        vd_linear(x, &clip, &tokens, layer->proj_out.w, layer->proj_out.bias, &clip, VD_ACT_NONE));
done:
    vd_exec_free(x, &normed);
    vd_exec_free(x, &tokens);
    return st;
}

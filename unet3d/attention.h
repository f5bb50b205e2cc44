/* diffusers' Transformer2DModel: attention among the pixels of a frame and from them to the text.
 *
 * Keys and values of the text do not depend on the step: they are computed once for each prompt
 * (vd_cross_attention_set_text) and kept in device memory of the caller. */
#ifndef VD_UNET3D_ATTENTION_H
#define VD_UNET3D_ATTENTION_H

#include "temporal/transformer.h"
#include "unet3d/pass.h"

typedef struct vd_cross_attention {
    vd_norm_layer norm;
    vd_linear_layer q, kv, out;
    int heads, head_dim;
    vd_tensor text; /* keys and values [items, text tokens, 2 * width]; data NULL: none yet */
} vd_cross_attention;

typedef struct vd_transformer_block {
    vd_self_attention self;
    vd_cross_attention cross;
    vd_feed_forward ff;
} vd_transformer_block;

typedef struct vd_spatial_transformer {
    vd_norm_layer norm;
    vd_linear_layer proj_in, proj_out;
    vd_transformer_block *blocks;
    int block_count;
    int64_t width; /* heads * head_dim */
} vd_spatial_transformer;

typedef struct vd_spatial_transformer_desc {
    int64_t channels, text_width;
    int heads, head_dim, groups, blocks;
} vd_spatial_transformer_desc;

vd_status vd_spatial_transformer_load(const vd_loader *l, const char *prefix,
                                      const vd_spatial_transformer_desc *desc,
                                      vd_spatial_transformer *layer);
void vd_spatial_transformer_destroy(vd_backend *be, vd_spatial_transformer *layer);

/* Bytes that the keys and values of `tokens` tokens for each of `items` items take. */
size_t vd_cross_attention_text_bytes(const vd_cross_attention *cross, int64_t items, int64_t tokens,
                                     vd_dtype dtype);

/* Computes keys and values of states [items, tokens, text_width] (F32 or the exec's dtype) into
 * `memory`, which stays the caller's and is read by every later forward. */
vd_status vd_cross_attention_set_text(vd_exec *x, vd_cross_attention *cross,
                                      const vd_tensor *states, void *memory);

/* Updates h [batch * frames, height, width, channels] of the exec's dtype in place. The first
 * pass->batch items of the text are used. */
vd_status vd_spatial_transformer_forward(const vd_unet_pass *pass, vd_tensor *h,
                                         const vd_spatial_transformer *layer);

#endif

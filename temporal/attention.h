/* diffusers' TransformerTemporalModel: attention of each pixel over its frames, read in place from
 * the channels-last activation. Both attentions of its block are self-attention; there are no
 * positions, no mask and no text. */
#ifndef VD_TEMPORAL_ATTENTION_H
#define VD_TEMPORAL_ATTENTION_H

#include "temporal/transformer.h"

typedef struct vd_temporal_transformer {
    vd_norm_layer norm;
    vd_linear_layer proj_in, proj_out;
    vd_self_attention attention[2];
    vd_feed_forward ff;
    int64_t width; /* heads * head_dim; need not be the channels */
} vd_temporal_transformer;

vd_status vd_temporal_transformer_load(const vd_loader *l, const char *prefix, int64_t channels,
                                       int heads, int head_dim, int groups,
                                       vd_temporal_transformer *layer);
void vd_temporal_transformer_destroy(vd_backend *be, vd_temporal_transformer *layer);

/* Updates h [batch * frames, height, width, channels] of the exec's dtype in place. */
vd_status vd_temporal_transformer_forward(vd_exec *x, vd_tensor *h,
                                          const vd_temporal_transformer *layer, int64_t frames);

#endif

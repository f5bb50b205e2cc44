/* The parts of a transformer block that temporal and spatial attention share: diffusers'
 * BasicTransformerBlock without its cross-attention. Tokens are rows [..., width] of a
 * channels-last activation and are updated in place. */
#ifndef VD_TEMPORAL_TRANSFORMER_H
#define VD_TEMPORAL_TRANSFORMER_H

#include "backend/layers.h"

/* How rows form sequences: token t of sequence (o, i) is row o*outer_rows + i*inner_rows +
 * t*token_rows, for o < outer, i < inner, t < tokens. */
typedef struct vd_sequences {
    int64_t outer, inner, tokens;
    int64_t outer_rows, inner_rows, token_rows;
} vd_sequences;

typedef struct vd_self_attention {
    vd_norm_layer norm;
    vd_linear_layer qkv, out;
    int heads, head_dim; /* heads * head_dim is the width */
} vd_self_attention;

typedef struct vd_feed_forward {
    vd_norm_layer norm;
    vd_linear_layer in, out;
    int64_t width;
} vd_feed_forward;

/* PREFIX.norm{index} and PREFIX.attn{index}; PREFIX is the block ("....transformer_blocks.0"). */
vd_status vd_self_attention_load(const vd_loader *l, const char *prefix, int index, int heads,
                                 int head_dim, vd_self_attention *attention);
void vd_self_attention_destroy(vd_backend *be, vd_self_attention *attention);

/* tokens += attention(norm(tokens)), with the logits multiplied by `sharpness` (1: as trained). */
vd_status vd_self_attention_forward(vd_exec *x, vd_tensor *tokens,
                                    const vd_self_attention *attention, const vd_sequences *seq,
                                    double sharpness);

/* PREFIX.norm3 and PREFIX.ff: LN, GEGLU to 4 * width, linear back. */
vd_status vd_feed_forward_load(const vd_loader *l, const char *prefix, int64_t width,
                               vd_feed_forward *ff);
void vd_feed_forward_destroy(vd_backend *be, vd_feed_forward *ff);

/* tokens += ff(norm(tokens)) */
vd_status vd_feed_forward_forward(vd_exec *x, vd_tensor *tokens, const vd_feed_forward *ff);

#endif

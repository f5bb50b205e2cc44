/* The blocks of a UNet: residual layers, samplers, and the down, middle and up blocks made of them.
 *
 * One kind of layer serves all UNets of the family: resnet, then whatever of temporal convolution,
 * spatial transformer and temporal transformer the model has. The middle block is a block of two
 * layers (of one, or missing, in some 2D models), the second without transformers.
 */
#ifndef VD_UNET3D_BLOCKS_H
#define VD_UNET3D_BLOCKS_H

#include "temporal/attention.h"
#include "temporal/conv.h"
#include "temporal/path.h"
#include "unet3d/attention.h"
#include "unet3d/pass.h"

/* A 3x3 convolution that knows its name: all that method settings can re-dilate go through
 * vd_spatial_conv_forward. Plain, it keeps the size, or halves it, rounding up, with stride 2;
 * re-dilated it rounds down. */
typedef struct vd_spatial_conv {
    vd_path path;
    int index; /* in vd_spatial_paths */
    vd_conv_layer conv;
    int stride;
} vd_spatial_conv;

vd_status vd_spatial_conv_load(const vd_loader *l, const char *path, int64_t out, int64_t in,
                               int stride, vd_spatial_conv *layer);

/* Allocates the output for an input [n, h, w, in] in the exec's arena. VD_ERR_INPUT if the method
 * leaves nothing of the input. */
vd_status vd_spatial_conv_alloc(const vd_unet_pass *pass, vd_tensor *dst, const vd_tensor *src,
                                const vd_spatial_conv *layer);

/* dst = conv(src) + add + residual; add and residual (NULL: none) as in vd_conv2d. */
vd_status vd_spatial_conv_forward(const vd_unet_pass *pass, vd_tensor *dst, const vd_tensor *src,
                                  const vd_spatial_conv *layer, const vd_tensor *add,
                                  const vd_tensor *residual);

typedef struct vd_resnet {
    vd_path path;
    vd_norm_layer norm1, norm2;
    vd_spatial_conv conv1, conv2;
    vd_linear_layer time;
    bool has_shortcut;
    vd_linear_layer shortcut, skip_shortcut; /* the parts for the hidden state and the skip */
    int64_t in, skip, out;                   /* channels; skip 0 outside up blocks */
} vd_resnet;

typedef struct vd_resnet_desc {
    int64_t in, skip, out, time_width;
    int groups;
    float eps;
} vd_resnet_desc;

vd_status vd_resnet_load(const vd_loader *l, const char *path, const vd_resnet_desc *desc,
                         vd_resnet *resnet);
void vd_resnet_destroy(vd_backend *be, vd_resnet *resnet);

/* Allocates `out` [n, h, w, out channels]. h and skip are [n, h, w, in] and [n, h, w, skip] or
 * NULL, both of the exec's dtype; they stay the caller's. */
vd_status vd_resnet_forward(const vd_unet_pass *pass, vd_tensor *out, const vd_tensor *h,
                            const vd_tensor *skip, const vd_resnet *resnet);

typedef struct vd_unet_layer {
    vd_resnet resnet;
    bool has_attention;
    vd_spatial_transformer attention;
    bool has_temporal; /* the two below; the second only with has_attention */
    vd_temporal_conv temp_conv;
    vd_temporal_transformer temp_attention;
} vd_unet_layer;

typedef enum vd_block_kind { VD_BLOCK_DOWN, VD_BLOCK_MID, VD_BLOCK_UP } vd_block_kind;

typedef struct vd_unet_block {
    vd_block_kind kind;
    vd_path path; /* "up_blocks.2" */
    int index;    /* 2; of the middle block 0 */
    int layer_count;
    vd_unet_layer *layers;
    bool has_sampler;
    vd_spatial_conv sampler; /* of the down- or upsampler */
} vd_unet_block;

enum { VD_BLOCK_MAX_LAYERS = 32 };

typedef struct vd_block_desc {
    vd_block_kind kind;
    int layer_count;
    bool has_attention[VD_BLOCK_MAX_LAYERS];
    int64_t skip[VD_BLOCK_MAX_LAYERS]; /* channels of the skip that each layer pops; up only */
    int64_t in, out, time_width, text_width;
    int groups, heads, transformers; /* blocks in each spatial transformer */
    bool temporal;
    float eps;
    bool has_sampler;
} vd_block_desc;

vd_status vd_unet_block_load(const vd_loader *l, const char *path, const vd_block_desc *desc,
                             vd_unet_block *block);
void vd_unet_block_destroy(vd_backend *be, vd_unet_block *block);

/* Outputs that the up path takes back, newest last. It owns them. */
typedef struct vd_skip_stack {
    vd_tensor *items;
    int count, room;
} vd_skip_stack;

/* Pushes h. VD_ERR_BACKEND if there is no room. */
vd_status vd_skip_push(vd_skip_stack *skips, const vd_tensor *h);

/* Frees h unless it is also the newest skip, and sets its data to NULL. */
void vd_skip_release(vd_exec *x, const vd_skip_stack *skips, vd_tensor *h);

/* Replaces h by the block's output. h is owned by the caller, or by the stack if it is the newest
 * skip; so is the output (a down block pushes it). fit: the upsampler enlarges to the size of the
 * next skip instead of twice its own. After a failure h and the stack are still to be freed. */
vd_status vd_unet_block_forward(const vd_unet_pass *pass, vd_tensor *h, vd_skip_stack *skips,
                                const vd_unet_block *block, bool fit);

#endif

/* Parameters of the layers that every network is made of, taken from a checkpoint by name.
 *
 * The load functions record a missing or misshapen tensor in the checkpoint and leave the layer
 * empty; the caller asks vd_checkpoint_finish once at the end. `prefix` is the module's path
 * without a final dot ("down_blocks.0.resnets.1.conv1"). A loaded layer borrows the checkpoint's
 * memory until it is destroyed. Destroy functions accept a zeroed layer.
 */
#ifndef VD_BACKEND_LAYERS_H
#define VD_BACKEND_LAYERS_H

#include "backend/backend.h"
#include "backend/ops.h"
#include "core/safetensors.h"

/* Where weights come from and where they go. */
typedef struct vd_loader {
    vd_backend *be;
    vd_checkpoint *ck;
    vd_dtype dtype; /* of packed matrices and kernels */
} vd_loader;

/* VD_ERR_MEMORY if the packed weights of all that the checkpoint holds cannot fit. `what` names the
 * network. */
vd_status vd_load_check(const vd_loader *l, const char *what);

typedef struct vd_linear_layer {
    vd_weight *w, *bias; /* bias NULL if the layer has none */
} vd_linear_layer;

typedef struct vd_conv_layer {
    vd_weight *w, *bias;
    int64_t in, out;
    int kernel_h, kernel_w;
} vd_conv_layer;

typedef struct vd_norm_layer {
    vd_weight *scale, *shift;
    float eps;
    int groups; /* 0 for a layer norm */
} vd_norm_layer;

/* PREFIX.weight [out, in] (a 1x1 kernel [out, in, 1, 1] is taken too), PREFIX.bias [out]. */
vd_status vd_load_linear(const vd_loader *l, const char *prefix, int64_t out, int64_t in, bool bias,
                         vd_linear_layer *layer);

/* Several matrices with the same input as one: rows of prefixes[0] first. */
vd_status vd_load_fused_linear(const vd_loader *l, const char *const *prefixes, int count,
                               int64_t out_each, int64_t in, bool bias, vd_linear_layer *layer);

/* One matrix [out, in_a + in_b] as two that share the output: y = a x_a + b x_b + bias, the bias
 * on `a`. Lets a 1x1 shortcut read [hidden, skip] without a concatenation. */
vd_status vd_load_split_linear(const vd_loader *l, const char *prefix, int64_t out, int64_t in_a,
                               int64_t in_b, vd_linear_layer *a, vd_linear_layer *b);

/* PREFIX.weight [out, in, kh, kw], or [out, in, kh, 1, 1] for a temporal kernel (kw 1). */
vd_status vd_load_conv(const vd_loader *l, const char *prefix, int64_t out, int64_t in,
                       int kernel_h, int kernel_w, bool temporal, vd_conv_layer *layer);

vd_status vd_load_norm(const vd_loader *l, const char *prefix, int64_t channels, int groups,
                       float eps, vd_norm_layer *layer);

void vd_linear_layer_destroy(vd_backend *be, vd_linear_layer *layer);
void vd_conv_layer_destroy(vd_backend *be, vd_conv_layer *layer);
void vd_norm_layer_destroy(vd_backend *be, vd_norm_layer *layer);

#endif

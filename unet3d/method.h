/* What a method may change in one forward pass of a UNet: per layer, per skip connection, per
 * attention. A step of a run picks one of these (unet3d/method_plan.h); the network's code reads it
 * at the places named beside the members. HACKING.md, "Add a method", says how one more goes in.
 */
#ifndef VD_UNET3D_METHOD_H
#define VD_UNET3D_METHOD_H

#include "unet3d/redilate.h"

/* What one spatial convolution runs: all zero is the plain layer. */
typedef struct vd_layer_method {
    bool redilated;
    bool dispersed; /* its kernel is vd_step_method.dispersion of its weight; only if redilated */
    vd_redilation factor;
} vd_layer_method;

/* FreeU: in every resnet of an up block, the first half of the hidden state's channels is
 * multiplied by b, and the skip's lowest frequencies by s. Which pair (b, s) a block gets: */
typedef enum vd_freeu_rule {
    VD_FREEU_OFF,
    VD_FREEU_BY_BLOCK,    /* diffusers: up_blocks.0 the first, up_blocks.1 the second, else none */
    VD_FREEU_BY_CHANNELS, /* ScaleCrafter: a hidden state of c1 channels the first, of c2 the
                             second, else none */
} vd_freeu_rule;

typedef struct vd_freeu {
    vd_freeu_rule rule;
    double b1, b2, s1, s2;
    int64_t c1, c2;
} vd_freeu;

typedef struct vd_step_method {
    /* resnet.c: an entry for each of vd_unet_spatial_paths, in its order. NULL: all plain. */
    const vd_layer_method *layers;
    vd_kernel_map dispersion; /* of the dispersed ones */
    /* blocks.c: what enters the resnets of up blocks. */
    vd_freeu freeu;
    /* attention.c: pixels now by pixels in training. The logits of spatial self-attention among N
     * tokens are multiplied by sqrt(ln N / ln(N / ratio)). 0: off. */
    double attention_ratio;
} vd_step_method;

#endif

/* Inside of a loaded UNet. Included by unet3d/ and its tests only. */
#ifndef VD_UNET3D_IMPL_H
#define VD_UNET3D_IMPL_H

#include "unet3d/blocks.h"
#include "unet3d/unet3d.h"

struct vd_unet {
    vd_backend *be;
    vd_dtype dtype;
    vd_unet_config config;
    vd_checkpoint *ck;
    vd_linear_layer time1, time2;
    vd_linear_layer added1, added2; /* of SD XL's added embedding */
    vd_conv_layer conv_in, conv_out;
    vd_temporal_transformer transformer_in;
    vd_norm_layer norm_out;
    vd_unet_block *blocks; /* down blocks, middle block, up blocks, in the order of computation */
    int block_count;
    vd_spatial_paths spatial_paths;

    void *context; /* keys and values of the text, for all layers; device memory */
    size_t context_bytes;
    int64_t context_items;
    vd_tensor added;     /* input of the added embedding, F32 [items, added_width]; device memory */
    vd_skip_stack skips; /* empty between forwards */
    float *sinusoids;    /* one row of the time embedding's input; host */
};

#endif

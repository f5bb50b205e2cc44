/* The parts of the autoencoder, for vae*.c and the parity tests of single modules. */
#ifndef VD_ENCODE_VAE_IMPL_H
#define VD_ENCODE_VAE_IMPL_H

#include "backend/layers.h"
#include "encode/vae.h"

enum { VD_VAE_MAX_LAYERS = 8 };

typedef struct vd_vae_resnet {
    vd_norm_layer norm1, norm2;
    vd_conv_layer conv1, conv2;
    vd_linear_layer shortcut; /* w NULL when the channels stay */
    int64_t in, out;
} vd_vae_resnet;

typedef struct vd_vae_attention {
    vd_norm_layer norm;
    vd_linear_layer qkv, out;
    int64_t channels;
} vd_vae_attention;

typedef struct vd_vae_block {
    int resnets;
    vd_vae_resnet resnet[VD_VAE_MAX_LAYERS + 1];
    vd_conv_layer sampler; /* w NULL in the last block */
} vd_vae_block;

/* One direction: the decoder goes from latents to pixels, the encoder back. */
typedef struct vd_vae_half {
    vd_conv_layer conv_in, conv_out;
    vd_vae_block block[VD_VAE_MAX_LEVELS];
    vd_vae_resnet mid[2];
    vd_vae_attention mid_attention;
    vd_norm_layer norm_out;
    vd_linear_layer quant; /* quant_conv or post_quant_conv */
} vd_vae_half;

struct vd_vae {
    vd_backend *be;
    vd_vae_config config;
    vd_checkpoint *ck;
    vd_vae_half decoder, encoder;
};

/* vae_load.c */
vd_status vd_vae_load(vd_vae *vae, vd_vae_parts parts, vd_dtype dtype);
void vd_vae_half_destroy(vd_backend *be, vd_vae_half *half);

/* *state [n, h, w, in] is freed and replaced by [n, h, w, out]. */
vd_status vd_vae_resnet_forward(vd_exec *x, const vd_vae_resnet *r, vd_tensor *state);

/* In place on [n, h, w, channels]. */
vd_status vd_vae_attention_forward(vd_exec *x, const vd_vae_attention *a, vd_tensor *state);

#endif

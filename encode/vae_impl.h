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
    vd_linear_layer q, kv, out;
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

/* ---- vae.c ---------------------------------------------------------------------------------- */

/* A new tensor of src's pictures with another channel count. */
vd_status vd_vae_like(vd_exec *x, const vd_tensor *src, int64_t channels, vd_tensor *out);

/* 3x3 with one pixel of padding; dst is taken from the arena if its data is NULL. */
vd_status vd_vae_conv3x3(vd_exec *x, const vd_conv_layer *c, const vd_tensor *src, vd_tensor *dst,
                         const vd_tensor *residual);

/* post_quant_conv: src F32 [n, h, w, latent_channels] -> a new tensor like it. */
vd_status vd_vae_unquantize(const vd_vae *vae, vd_exec *x, const vd_tensor *src, vd_tensor *out);

/* *state [n, h, w, in] is freed and replaced by [n, h, w, out]. */
vd_status vd_vae_resnet_forward(vd_exec *x, const vd_vae_resnet *r, vd_tensor *state);

/* *state [n, h, w, in] -> [n, 2h, 2w, out]. */
vd_status vd_vae_upsample_forward(vd_exec *x, const vd_conv_layer *conv, vd_tensor *state);

/* ---- vae_attention.c ------------------------------------------------------------------------ */

/* In place on [n, h, w, channels]. kv: room for the keys and values of a picture's pixels,
 * [1, h * w, 2 * channels], or NULL: from the arena. Scores are never kept. */
vd_status vd_vae_attention_forward(vd_exec *x, const vd_vae_attention *a, vd_tensor *state,
                                   const vd_tensor *kv);

/* ---- vae_units.c ---------------------------------------------------------------------------- */

/* The decoder as a row of units, for those who do not run it whole. A unit maps one activation to
 * the next. The middle block's attention lies before unit 2. */
typedef enum vd_vae_unit_kind {
    VD_VAE_CONV,
    VD_VAE_RESNET,
    VD_VAE_UPSAMPLE, /* nearest, then conv */
    VD_VAE_OUTPUT,   /* norm, SiLU, conv */
} vd_vae_unit_kind;

typedef struct vd_vae_unit {
    vd_vae_unit_kind kind;
    int64_t in, out;             /* channels */
    const vd_vae_resnet *resnet; /* RESNET */
    const vd_conv_layer *conv;   /* the others */
    const vd_norm_layer *norm;   /* OUTPUT */
} vd_vae_unit;

enum {
    VD_VAE_ATTENTION_UNIT = 2,
    VD_VAE_MAX_UNITS = VD_VAE_MAX_LEVELS * (VD_VAE_MAX_LAYERS + 2) + 4,
};

/* Returns how many. */
int vd_vae_decoder_units(const vd_vae *vae, vd_vae_unit unit[VD_VAE_MAX_UNITS]);

/* What the unit normalizes first; NULL: nothing. */
const vd_norm_layer *vd_vae_unit_norm(const vd_vae_unit *unit);

/* ---- vae_bands.c, vae_tiles.c, vae_sync.c: vd_vae_decode_tiled's modes ------------------------
 */

vd_status vd_vae_decode_bands(vd_vae *vae, vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                              size_t memory_bytes);
vd_status vd_vae_decode_tiles(vd_vae *vae, vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                              const vd_vae_tiling *tiling);

/* Decodes all tiles in step, group norms over all of them: tile[i] [n, h_i, w_i, latent channels]
 * is freed and replaced by F32 [n, s*h_i, s*w_i, 3]. */
vd_status vd_vae_decode_in_step(vd_vae *vae, vd_exec *x, vd_tensor *tile, size_t count);

/* A group norm over all tiles [n, h_i, w_i, c] with the reference's variance: each tile's share of
 * it times n_i / (n_i - 1), n_i = elements of a group in the tile. dst[i] may be src[i]. */
vd_status vd_vae_sync_norm(vd_exec *x, const vd_norm_layer *norm, vd_tensor *dst,
                           const vd_tensor *src, size_t count, vd_activation act);

#endif

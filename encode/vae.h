/* AutoencoderKL: latents to pictures and back, any size, one picture or a few at a time.
 *
 *     vd_vae *vae;
 *     vd_vae_open(be, "model/vae", VD_VAE_DECODER, VD_F32, &vae);
 *     vd_vae_decode(vae, x, &picture, &latents);   // [1, h, w, 4] -> [1, 8h, 8w, 3]
 */
#ifndef VD_ENCODE_VAE_H
#define VD_ENCODE_VAE_H

#include "backend/backend.h"

typedef struct vd_vae vd_vae;

typedef enum vd_vae_parts { VD_VAE_DECODER = 1, VD_VAE_ENCODER = 2, VD_VAE_BOTH = 3 } vd_vae_parts;

enum { VD_VAE_MAX_LEVELS = 8 };

typedef struct vd_vae_config {
    int levels; /* a latent is 2^(levels - 1) pixels wide */
    int64_t channels[VD_VAE_MAX_LEVELS];
    int layers_per_block, groups;
    int64_t latent_channels, image_channels;
    int64_t sample_size_px; /* training size, the tile of tiled decoding */
    double scaling_factor;  /* latents = mean * scaling_factor */
    bool mid_attention, quant_conv, post_quant_conv;
} vd_vae_config;

/* Reads DIR/config.json alone. VD_ERR_INPUT: another class, or an option that is not supported. */
vd_status vd_vae_read_config(const char *dir, vd_vae_config *config);

/* Reads the config and the weights of the wanted parts. `dtype` must be the exec's. */
vd_status vd_vae_open(vd_backend *be, const char *dir, vd_vae_parts parts, vd_dtype dtype,
                      vd_vae **out);
void vd_vae_destroy(vd_vae *vae);

/* Lets go of pages of the weights' file that dry passes read to pack for their plans. */
void vd_vae_drop_pages(vd_vae *vae);
const vd_vae_config *vd_vae_get_config(const vd_vae *vae);

/* Pixels per latent along one side. */
int64_t vd_vae_scale(const vd_vae_config *config);

/* dst: F32 [n, s*h, s*w, 3], about [-1, 1], not clamped. src: F32 [n, h, w, latent_channels],
 * already divided by scaling_factor. */
vd_status vd_vae_decode(vd_vae *vae, vd_exec *x, vd_tensor *dst, const vd_tensor *src);

/* Decoding in pieces. */
typedef enum vd_vae_mode {
    VD_VAE_WHOLE, /* vd_vae_decode */
    /* Bands of rows, layer by layer, with the halo that each convolution reads and with the whole
     * picture's statistics: equal to WHOLE but for rounding. What does not fit in memory_bytes is
     * not kept but computed again. */
    VD_VAE_EXACT,
    VD_VAE_TILES,      /* diffusers' enable_tiling: each tile by itself, overlaps blended */
    VD_VAE_SYNC_TILES, /* the same with ScaleCrafter's group norms, whose statistics are shared by
                          all tiles; holds them all in memory at once */
} vd_vae_mode;

typedef struct vd_vae_tiling {
    vd_vae_mode mode;
    /* EXACT: what activations may take; where less is impossible, more is taken. */
    size_t memory_bytes;
    /* Tiles: their side, and what neighbours share of it, 0 to 1/2. */
    int64_t tile_latents, tile_px;
    double overlap;
} vd_vae_tiling;

/* Tiles of the autoencoder's training size that overlap by a quarter. */
vd_vae_tiling vd_vae_tiling_defaults(const vd_vae_config *config, vd_vae_mode mode);

/* vd_vae_decode in pieces. VD_ERR_INPUT: sizes of tiles that do not fit together. */
vd_status vd_vae_decode_tiled(vd_vae *vae, vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                              const vd_vae_tiling *tiling);

/* moments: F32 [n, h, w, 2 * latent_channels]: the mean, then the log variance, which the caller
 * clamps to [-30, 20]. src: F32 [n, H, W, 3]; h = H / s, rounded down level by level. */
vd_status vd_vae_encode(vd_vae *vae, vd_exec *x, vd_tensor *moments, const vd_tensor *src);

/* out[i] = the byte of a value in [-1, 1]: round half to even of 255 * clamp(v / 2 + 1/2). NaN: 0.
 */
void vd_vae_to_bytes(unsigned char *out, const float *value, size_t count);

#endif

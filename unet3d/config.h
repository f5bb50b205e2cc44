/* What a UNet's config.json says about its structure. */
#ifndef VD_UNET3D_CONFIG_H
#define VD_UNET3D_CONFIG_H

#include "core/json.h"
#include "temporal/path.h"

enum { VD_UNET_MAX_LEVELS = 16 };

typedef struct vd_unet_config {
    bool temporal; /* UNet3DConditionModel; false: UNet2DConditionModel, which has nothing that
                      looks along the frames */
    int levels;
    int64_t in_channels, out_channels;
    int64_t channels[VD_UNET_MAX_LEVELS]; /* per level, the finest first */
    bool down_attention[VD_UNET_MAX_LEVELS];
    bool up_attention[VD_UNET_MAX_LEVELS]; /* in the order of up_blocks: the coarsest first */
    int heads[VD_UNET_MAX_LEVELS];         /* per level, of each attention */
    int transformers[VD_UNET_MAX_LEVELS];  /* per level, blocks in each spatial transformer */
    int mid_layers;                        /* resnets of the middle block: 2, 1 or 0 (no block) */
    bool mid_attention;
    int layers_per_block; /* of the down path; the up path has one more */
    int norm_groups;
    float norm_eps;
    int64_t cross_attention_dim;
    int head_dim;                    /* of every attention of a 3D network; 0 in a 2D one */
    int64_t added_time_dim;          /* width of one time id's sinusoids; 0: no added embedding */
    int64_t added_width;             /* pooled text and the sinusoids of all time ids */
    int sample_height, sample_width; /* latents the model was trained at; 0 if not given */
} vd_unet_config;

/* Reads a parsed config.json of a UNet3DConditionModel or UNet2DConditionModel, missing keys as
 * diffusers defaults them. Keys that cannot matter are ignored. VD_ERR_INPUT, naming the JSON path:
 * another class, a value that would change the result and is not implemented, a size that is
 * impossible or absurd. */
vd_status vd_unet_config_parse(const vd_json *doc, vd_unet_config *out);

/* The same for a file. */
vd_status vd_unet_config_read(const char *path, vd_unet_config *out);

/* Part of it, in config_support.c: VD_ERR_INPUT for a key with which diffusers would compute
 * something else than this program does. */
vd_status vd_unet_config_supported(const vd_json *doc, bool temporal);

/* The convolutions that settings may name, in the order of computation: both 3x3 convolutions of
 * each resnet, and those of the downsamplers and upsamplers. */
typedef struct vd_spatial_paths {
    vd_path *text;
    const char **list; /* of the texts; NULL-terminated */
    size_t count;
} vd_spatial_paths;

/* VD_ERR_MEMORY. vd_spatial_paths_free accepts a zeroed one. */
vd_status vd_spatial_paths_of(const vd_unet_config *c, vd_spatial_paths *out);
void vd_spatial_paths_free(vd_spatial_paths *paths);

#endif

/* Loading: config and weights to layers. */
#include <stdlib.h>

#include "core/text.h"
#include "unet3d/unet3d_impl.h"

enum { TRANSFORMER_IN_HEADS = 8 };

static vd_block_desc common_desc(const vd_unet_config *c, int level) {
    return (vd_block_desc){
        .temporal = c->temporal,
        .out = c->channels[level],
        .heads = c->heads[level],
        .transformers = c->transformers[level],
        .time_width = 4 * c->channels[0],
        .text_width = c->cross_attention_dim,
        .groups = c->norm_groups,
        .eps = c->norm_eps,
    };
}

static void fill_attention(vd_block_desc *desc, bool attends) {
    for (int i = 0; i < desc->layer_count; i++)
        desc->has_attention[i] = attends;
}

/* Loads all blocks in order, keeping account of the skips' channels as the forward does. */
static vd_status load_blocks(const vd_loader *l, vd_unet *u) {
    vd_status st = VD_OK;
    const vd_unet_config *c = &u->config;
    const int levels = c->levels;
    vd_unet_block *next = u->blocks;
    int64_t skip[VD_UNET_MAX_LEVELS * VD_BLOCK_MAX_LAYERS + 1] = {0};
    int skips = 0;
    int64_t channels = c->channels[0];

    skip[skips++] = channels;
    for (int i = 0; i < levels; i++) {
        vd_block_desc desc = common_desc(c, i);
        desc.kind = VD_BLOCK_DOWN;
        desc.layer_count = c->layers_per_block;
        desc.in = channels;
        channels = desc.out;
        desc.has_sampler = i < levels - 1;
        fill_attention(&desc, c->down_attention[i]);
        for (int k = 0; k < desc.layer_count + desc.has_sampler; k++)
            skip[skips++] = channels;
        VD_TRY(vd_unet_block_load(l, vd_path_join("down_blocks", "%d", i).text, &desc, next++));
    }

    vd_block_desc mid = common_desc(c, levels - 1);
    mid.kind = VD_BLOCK_MID;
    mid.layer_count = c->mid_layers;
    mid.in = channels;
    mid.has_attention[0] = c->mid_attention;
    if (c->mid_layers > 0)
        VD_TRY(vd_unet_block_load(l, "mid_block", &mid, next++));

    for (int i = 0; i < levels; i++) {
        vd_block_desc desc = common_desc(c, levels - 1 - i);
        desc.kind = VD_BLOCK_UP;
        desc.layer_count = c->layers_per_block + 1;
        desc.in = channels;
        channels = desc.out;
        desc.has_sampler = i < levels - 1;
        fill_attention(&desc, c->up_attention[i]);
        for (int k = 0; k < desc.layer_count; k++)
            desc.skip[k] = skip[--skips];
        VD_TRY(vd_unet_block_load(l, vd_path_join("up_blocks", "%d", i).text, &desc, next++));
    }
done:
    return st;
}

static vd_status load_layers(const vd_loader *l, vd_unet *u) {
    vd_status st;
    const vd_unet_config *c = &u->config;
    const int64_t width = c->channels[0];
    VD_TRY(vd_load_linear(l, "time_embedding.linear_1", 4 * width, width, true, &u->time1));
    VD_TRY(vd_load_linear(l, "time_embedding.linear_2", 4 * width, 4 * width, true, &u->time2));
    VD_TRY(vd_load_conv(l, "conv_in", width, c->in_channels, 3, 3, false, &u->conv_in));
    if (c->temporal)
        VD_TRY(vd_temporal_transformer_load(l, "transformer_in", width, TRANSFORMER_IN_HEADS,
                                            c->head_dim, c->norm_groups, &u->transformer_in));
    if (c->added_width > 0) {
        VD_TRY(vd_load_linear(l, "add_embedding.linear_1", 4 * width, c->added_width, true,
                              &u->added1));
        VD_TRY(vd_load_linear(l, "add_embedding.linear_2", 4 * width, 4 * width, true, &u->added2));
    }
    VD_TRY(load_blocks(l, u));
    VD_TRY(vd_load_norm(l, "conv_norm_out", width, c->norm_groups, c->norm_eps, &u->norm_out));
    VD_TRY(vd_load_conv(l, "conv_out", c->out_channels, width, 3, 3, false, &u->conv_out));
    VD_TRY(
        vd_checkpoint_finish(l->ck, c->temporal ? "UNet3DConditionModel" : "UNet2DConditionModel"));
done:
    return st;
}

/* Numbers the convolutions that settings may name, in the order of vd_spatial_paths. */
static void number_spatials(vd_unet *u) {
    int next = 0;
    for (int b = 0; b < u->block_count; b++) {
        vd_unet_block *block = &u->blocks[b];
        for (int i = 0; i < block->layer_count; i++) {
            block->layers[i].resnet.conv1.index = next++;
            block->layers[i].resnet.conv2.index = next++;
        }
        if (block->has_sampler)
            block->sampler.index = next++;
    }
}

static vd_status allocate(vd_unet *u) {
    const vd_unet_config *c = &u->config;
    const size_t blocks = 2 * (size_t)c->levels + (c->mid_layers > 0);
    u->skips.room = c->levels * (c->layers_per_block + 1) + 1;
    u->blocks = calloc(blocks, sizeof *u->blocks);
    u->skips.items = calloc((size_t)u->skips.room, sizeof *u->skips.items);
    u->sinusoids = calloc((size_t)c->channels[0], sizeof *u->sinusoids);
    if (u->blocks == NULL || u->skips.items == NULL || u->sinusoids == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the structure of the UNet");
    u->block_count = (int)blocks;
    return VD_OK;
}

vd_status vd_unet_open(vd_backend *be, const char *dir, vd_dtype dtype, vd_unet **out) {
    vd_status st;
    vd_unet *u = calloc(1, sizeof *u);
    char *config = vd_format("%s/config.json", dir);
    *out = NULL;
    if (u == NULL || config == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a UNet");
        goto done;
    }
    u->be = be;
    u->dtype = dtype;
    if (!vd_backend_has_dtype(be, dtype)) {
        st = vd_fail(VD_ERR_BACKEND, "the %s backend does not compute in %s", vd_backend_name(be),
                     vd_dtype_name(dtype));
        goto done;
    }
    VD_TRY(vd_unet_config_read(config, &u->config));
    VD_TRY(allocate(u));
    VD_TRY(vd_checkpoint_open(dir, "diffusion_pytorch_model", &u->ck));
    const vd_loader loader = {.be = be, .ck = u->ck, .dtype = dtype};
    VD_TRY(vd_load_check(&loader, "UNet"));
    VD_TRY(load_layers(&loader, u));
    VD_TRY(vd_spatial_paths_of(&u->config, &u->spatial_paths));
    number_spatials(u);
    *out = u;
    u = NULL;
done:
    free(config);
    vd_unet_destroy(u);
    return st;
}

void vd_unet_drop_pages(vd_unet *u) {
    vd_checkpoint_drop_pages(u->ck);
}

void vd_unet_destroy(vd_unet *u) {
    if (u == NULL)
        return;
    vd_linear_layer_destroy(u->be, &u->time1);
    vd_linear_layer_destroy(u->be, &u->time2);
    vd_linear_layer_destroy(u->be, &u->added1);
    vd_linear_layer_destroy(u->be, &u->added2);
    vd_conv_layer_destroy(u->be, &u->conv_in);
    vd_conv_layer_destroy(u->be, &u->conv_out);
    vd_temporal_transformer_destroy(u->be, &u->transformer_in);
    vd_norm_layer_destroy(u->be, &u->norm_out);
    for (int i = 0; i < u->block_count; i++)
        vd_unet_block_destroy(u->be, &u->blocks[i]);
    vd_backend_free(u->be, u->context);
    vd_backend_free(u->be, u->added.data);
    vd_checkpoint_destroy(u->ck);
    free(u->blocks);
    vd_spatial_paths_free(&u->spatial_paths);
    free(u->skips.items);
    free(u->sinusoids);
    free(u);
}

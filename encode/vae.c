#include "encode/vae.h"

#include <math.h>
#include <stdlib.h>

#include "encode/vae_impl.h"

static const vd_conv2d_desc SAME_3X3 = {
    .stride_h = 1, .stride_w = 1, .pad_top = 1, .pad_left = 1, .dilation_h = 1, .dilation_w = 1};

vd_status vd_vae_open(vd_backend *be, const char *dir, vd_vae_parts parts, vd_dtype dtype,
                      vd_vae **out) {
    vd_status st = VD_OK;
    vd_vae *vae = calloc(1, sizeof *vae);
    *out = NULL;
    if (!vae)
        return vd_fail(VD_ERR_MEMORY, "no memory for the autoencoder");
    vae->be = be;
    VD_TRY(vd_vae_read_config(dir, &vae->config));
    VD_TRY(vd_checkpoint_open(dir, "diffusion_pytorch_model", &vae->ck));
    VD_TRY(vd_vae_load(vae, parts, dtype));
    *out = vae;
    vae = NULL;
done:
    vd_vae_destroy(vae);
    return st;
}

void vd_vae_drop_pages(vd_vae *vae) {
    vd_checkpoint_drop_pages(vae->ck);
}

void vd_vae_destroy(vd_vae *vae) {
    if (!vae)
        return;
    vd_vae_half_destroy(vae->be, &vae->decoder);
    vd_vae_half_destroy(vae->be, &vae->encoder);
    vd_checkpoint_destroy(vae->ck);
    free(vae);
}

const vd_vae_config *vd_vae_get_config(const vd_vae *vae) {
    return &vae->config;
}

int64_t vd_vae_scale(const vd_vae_config *config) {
    return (int64_t)1 << (config->levels - 1);
}

vd_status vd_vae_like(vd_exec *x, const vd_tensor *src, int64_t channels, vd_tensor *out) {
    return VD_ALLOC(x, vd_exec_dtype(x), out, src->dim[0], src->dim[1], src->dim[2], channels);
}

static void replace(vd_exec *x, vd_tensor *state, vd_tensor *next) {
    vd_exec_free(x, state);
    *state = *next;
    next->data = NULL;
}

static vd_status norm_silu(vd_exec *x, const vd_norm_layer *n, const vd_tensor *src,
                           vd_tensor *dst) {
    vd_status st = vd_vae_like(x, src, src->dim[3], dst);
    if (st != VD_OK)
        return st;
    return vd_group_norm(x, dst, src, NULL, n->scale, n->shift, n->groups, n->eps, VD_ACT_SILU);
}

vd_status vd_vae_conv3x3(vd_exec *x, const vd_conv_layer *c, const vd_tensor *src, vd_tensor *dst,
                         const vd_tensor *residual) {
    vd_status st = dst->data ? VD_OK : vd_vae_like(x, src, c->out, dst);
    if (st != VD_OK)
        return st;
    return vd_conv2d(x, dst, src, c->w, c->bias, NULL, residual, &SAME_3X3);
}

vd_status vd_vae_resnet_forward(vd_exec *x, const vd_vae_resnet *r, vd_tensor *state) {
    vd_status st = VD_OK;
    vd_tensor a = {0}, b = {0}, shortcut = {0};
    VD_TRY(norm_silu(x, &r->norm1, state, &a));
    VD_TRY(vd_vae_conv3x3(x, &r->conv1, &a, &b, NULL));
    vd_exec_free(x, &a);
    VD_TRY(norm_silu(x, &r->norm2, &b, &a));
    vd_exec_free(x, &b);
    if (r->shortcut.w) {
        VD_TRY(vd_vae_like(x, state, r->out, &shortcut));
        VD_TRY(vd_linear(x, &shortcut, state, r->shortcut.w, r->shortcut.bias, NULL, VD_ACT_NONE));
        replace(x, state, &shortcut);
    }
    VD_TRY(vd_vae_conv3x3(x, &r->conv2, &a, state, state));
done:
    vd_exec_free(x, &shortcut);
    vd_exec_free(x, &b);
    vd_exec_free(x, &a);
    return st;
}

static vd_status mid_block(const vd_vae *vae, vd_exec *x, const vd_vae_half *half,
                           vd_tensor *state) {
    vd_status st = VD_OK;
    VD_TRY(vd_vae_resnet_forward(x, &half->mid[0], state));
    if (vae->config.mid_attention)
        VD_TRY(vd_vae_attention_forward(x, &half->mid_attention, state, NULL));
    VD_TRY(vd_vae_resnet_forward(x, &half->mid[1], state));
done:
    return st;
}

vd_status vd_vae_upsample_forward(vd_exec *x, const vd_conv_layer *conv, vd_tensor *state) {
    vd_status st = VD_OK;
    vd_tensor large = {0}, next = {0};
    VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &large, state->dim[0], 2 * state->dim[1],
                    2 * state->dim[2], state->dim[3]));
    VD_TRY(vd_resize_nearest(x, &large, state));
    vd_exec_free(x, state);
    VD_TRY(vd_vae_conv3x3(x, conv, &large, &next, NULL));
    replace(x, state, &next);
done:
    vd_exec_free(x, &next);
    vd_exec_free(x, &large);
    return st;
}

/* The reference pads one zero row below and one column behind, then takes stride 2 without
 * padding. */
static vd_status downsample(vd_exec *x, const vd_conv_layer *conv, vd_tensor *state) {
    static const vd_conv2d_desc half = {
        .stride_h = 2, .stride_w = 2, .dilation_h = 1, .dilation_w = 1};
    vd_status st = VD_OK;
    vd_tensor next = {0};
    VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &next, state->dim[0], (state->dim[1] - 2) / 2 + 1,
                    (state->dim[2] - 2) / 2 + 1, conv->out));
    VD_TRY(vd_conv2d(x, &next, state, conv->w, conv->bias, NULL, NULL, &half));
    replace(x, state, &next);
done:
    vd_exec_free(x, &next);
    return st;
}

static vd_status blocks(const vd_vae *vae, vd_exec *x, const vd_vae_half *half, vd_tensor *state,
                        vd_status (*sample)(vd_exec *, const vd_conv_layer *, vd_tensor *)) {
    vd_status st = VD_OK;
    for (int i = 0; i < vae->config.levels; i++) {
        const vd_vae_block *block = &half->block[i];
        for (int j = 0; j < block->resnets; j++)
            VD_TRY(vd_vae_resnet_forward(x, &block->resnet[j], state));
        if (block->sampler.w)
            VD_TRY(sample(x, &block->sampler, state));
    }
done:
    return st;
}

static vd_status output(vd_exec *x, const vd_vae_half *half, vd_tensor *state, vd_tensor *dst) {
    vd_status st = VD_OK;
    vd_tensor normed = {0};
    VD_TRY(norm_silu(x, &half->norm_out, state, &normed));
    vd_exec_free(x, state);
    VD_TRY(vd_vae_conv3x3(x, &half->conv_out, &normed, dst, NULL));
done:
    vd_exec_free(x, &normed);
    return st;
}

vd_status vd_vae_unquantize(const vd_vae *vae, vd_exec *x, const vd_tensor *src, vd_tensor *out) {
    const vd_linear_layer *quant = &vae->decoder.quant;
    vd_status st = vd_vae_like(x, src, vae->config.latent_channels, out);
    if (st != VD_OK)
        return st;
    return quant->w ? vd_linear(x, out, src, quant->w, quant->bias, NULL, VD_ACT_NONE)
                    : vd_activate(x, out, src, VD_ACT_NONE);
}

vd_status vd_vae_decode(vd_vae *vae, vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    vd_status st = VD_OK;
    const vd_vae_half *half = &vae->decoder;
    vd_tensor latents = {0}, state = {0}, picture = {0};
    VD_TRY(vd_vae_unquantize(vae, x, src, &latents));
    VD_TRY(vd_vae_conv3x3(x, &half->conv_in, &latents, &state, NULL));
    vd_exec_free(x, &latents);
    VD_TRY(mid_block(vae, x, half, &state));
    VD_TRY(blocks(vae, x, half, &state, vd_vae_upsample_forward));
    VD_TRY(output(x, half, &state, &picture));
    VD_TRY(vd_activate(x, dst, &picture, VD_ACT_NONE));
done:
    vd_exec_free(x, &picture);
    vd_exec_free(x, &state);
    vd_exec_free(x, &latents);
    return st;
}

vd_status vd_vae_encode(vd_vae *vae, vd_exec *x, vd_tensor *moments, const vd_tensor *src) {
    vd_status st = VD_OK;
    const vd_vae_half *half = &vae->encoder;
    vd_tensor picture = {0}, state = {0}, latents = {0};
    VD_TRY(vd_vae_like(x, src, src->dim[3], &picture));
    VD_TRY(vd_activate(x, &picture, src, VD_ACT_NONE));
    VD_TRY(vd_vae_conv3x3(x, &half->conv_in, &picture, &state, NULL));
    vd_exec_free(x, &picture);
    VD_TRY(blocks(vae, x, half, &state, downsample));
    VD_TRY(mid_block(vae, x, half, &state));
    VD_TRY(output(x, half, &state, &latents));
    if (half->quant.w)
        VD_TRY(vd_linear(x, moments, &latents, half->quant.w, half->quant.bias, NULL, VD_ACT_NONE));
    else
        VD_TRY(vd_activate(x, moments, &latents, VD_ACT_NONE));
done:
    vd_exec_free(x, &latents);
    vd_exec_free(x, &state);
    vd_exec_free(x, &picture);
    return st;
}

vd_vae_tiling vd_vae_tiling_defaults(const vd_vae_config *config, vd_vae_mode mode) {
    /* Rounded up to fours, so that strides are whole latents. */
    const int64_t scale = vd_vae_scale(config), side = (config->sample_size_px / scale + 3) / 4 * 4;
    const int64_t latents = side > 4 ? side : 4;
    return (vd_vae_tiling){
        .mode = mode, .tile_latents = latents, .tile_px = latents * scale, .overlap = 0.25};
}

vd_status vd_vae_decode_tiled(vd_vae *vae, vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                              const vd_vae_tiling *tiling) {
    switch (tiling->mode) {
    case VD_VAE_EXACT:
        return vd_vae_decode_bands(vae, x, dst, src, tiling->memory_bytes);
    case VD_VAE_TILES:
    case VD_VAE_SYNC_TILES:
        return vd_vae_decode_tiles(vae, x, dst, src, tiling);
    default:
        return vd_vae_decode(vae, x, dst, src);
    }
}

void vd_vae_to_bytes(unsigned char *out, const float *value, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float unit = value[i] / 2 + 0.5F;
        unit = unit > 0 ? (unit < 1 ? unit : 1) : 0;
        out[i] = (unsigned char)lrintf(255 * unit);
    }
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/text.h"
#include "encode/vae_impl.h"

static const float NORM_EPS = 1e-6F;

static vd_status expect_value(const vd_json *doc, const char *key, bool null_only,
                              const char *wanted) {
    const vd_json_value *v = vd_json_get(vd_json_root(doc), key);
    if (!v || vd_json_type_of(v) == VD_JSON_NULL)
        return VD_OK;
    if (null_only || vd_json_type_of(v) != VD_JSON_STRING || strcmp(vd_json_string(v), wanted) != 0)
        return vd_json_fail(doc, v, "not supported: only %s", wanted);
    return VD_OK;
}

static vd_status check_block_types(const vd_json *doc, const char *key, const char *wanted,
                                   int levels) {
    const vd_json_value *types = vd_json_get(vd_json_root(doc), key);
    if (!types)
        return VD_OK;
    if (vd_json_type_of(types) != VD_JSON_ARRAY || vd_json_size(types) != (size_t)levels)
        return vd_json_fail(doc, types, "expected one block type for each of %d levels", levels);
    for (const vd_json_value *v = vd_json_first(types); v; v = vd_json_next(v))
        if (vd_json_type_of(v) != VD_JSON_STRING || strcmp(vd_json_string(v), wanted) != 0)
            return vd_json_fail(doc, v, "block type is not supported: only %s", wanted);
    return VD_OK;
}

static vd_status read_channels(const vd_json *doc, vd_vae_config *c) {
    const vd_json_value *list = vd_json_get(vd_json_root(doc), "block_out_channels");
    size_t levels = list && vd_json_type_of(list) == VD_JSON_ARRAY ? vd_json_size(list) : 0;
    if (levels < 1 || levels > VD_VAE_MAX_LEVELS)
        return vd_json_fail(doc, list ? list : vd_json_root(doc),
                            "block_out_channels must be a list of 1 to %d widths",
                            VD_VAE_MAX_LEVELS);
    c->levels = (int)levels;
    int i = 0;
    for (const vd_json_value *v = vd_json_first(list); v; v = vd_json_next(v), i++) {
        double width = vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : 0;
        if (!(width >= 1 && width <= 65536) || width != (double)(int64_t)width)
            return vd_json_fail(doc, v, "a width must be a whole number from 1 to 65536");
        c->channels[i] = (int64_t)width;
        if (c->channels[i] % c->groups != 0)
            return vd_json_fail(doc, v, "%lld channels do not divide into %d norm groups",
                                (long long)c->channels[i], c->groups);
    }
    return VD_OK;
}

static vd_status parse_config(const vd_json *doc, vd_vae_config *c) {
    vd_status st = VD_OK;
    const vd_json_value *root = vd_json_root(doc);
    int64_t layers = 0, groups = 0;
    const char *name = NULL;
    if (vd_json_type_of(root) != VD_JSON_OBJECT)
        return vd_json_fail(doc, root, "an autoencoder's config.json must be an object");
    VD_TRY(vd_json_text(doc, root, "_class_name", "AutoencoderKL", &name));
    if (strcmp(name, "AutoencoderKL") != 0)
        return vd_json_fail(doc, vd_json_get(root, "_class_name"),
                            "this is a %s, not an AutoencoderKL", name);
    VD_TRY(vd_json_int(doc, root, "layers_per_block", 1, VD_VAE_MAX_LAYERS, 1, &layers));
    VD_TRY(vd_json_int(doc, root, "norm_num_groups", 1, 65536, 32, &groups));
    VD_TRY(vd_json_int(doc, root, "latent_channels", 1, 256, 4, &c->latent_channels));
    VD_TRY(vd_json_int(doc, root, "in_channels", 3, 3, 3, &c->image_channels));
    VD_TRY(vd_json_int(doc, root, "out_channels", 3, 3, 3, &c->image_channels));
    VD_TRY(vd_json_int(doc, root, "sample_size", 1, 1 << 16, 32, &c->sample_size_px));
    VD_TRY(vd_json_double(doc, root, "scaling_factor", 1e-6, 1e6, 0.18215, &c->scaling_factor));
    VD_TRY(vd_json_flag(doc, root, "mid_block_add_attention", true, &c->mid_attention));
    VD_TRY(vd_json_flag(doc, root, "use_quant_conv", true, &c->quant_conv));
    VD_TRY(vd_json_flag(doc, root, "use_post_quant_conv", true, &c->post_quant_conv));
    VD_TRY(expect_value(doc, "act_fn", false, "silu"));
    VD_TRY(expect_value(doc, "latents_mean", true, "null"));
    VD_TRY(expect_value(doc, "latents_std", true, "null"));
    VD_TRY(expect_value(doc, "shift_factor", true, "null"));
    c->layers_per_block = (int)layers;
    c->groups = (int)groups;
    VD_TRY(read_channels(doc, c));
    VD_TRY(check_block_types(doc, "down_block_types", "DownEncoderBlock2D", c->levels));
    VD_TRY(check_block_types(doc, "up_block_types", "UpDecoderBlock2D", c->levels));
done:
    return st;
}

vd_status vd_vae_read_config(const char *dir, vd_vae_config *config) {
    vd_status st = VD_OK;
    vd_json *doc = NULL;
    char *path = vd_format("%s/config.json", dir);
    memset(config, 0, sizeof *config);
    if (!path)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    VD_TRY(vd_json_read(path, "autoencoder config", &doc));
    VD_TRY(parse_config(doc, config));
done:
    vd_json_destroy(doc);
    free(path);
    return st;
}

/* "PREFIX.LEAF" in a buffer of the caller's. */
static const char *join(char buf[160], const char *prefix, const char *leaf) {
    snprintf(buf, 160, "%s.%s", prefix, leaf);
    return buf;
}

static vd_status load_resnet(const vd_loader *l, const vd_vae_config *c, const char *prefix,
                             int64_t in, int64_t out, vd_vae_resnet *r) {
    vd_status st = VD_OK;
    char name[160];
    r->in = in;
    r->out = out;
    VD_TRY(vd_load_norm(l, join(name, prefix, "norm1"), in, c->groups, NORM_EPS, &r->norm1));
    VD_TRY(vd_load_conv(l, join(name, prefix, "conv1"), out, in, 3, 3, false, &r->conv1));
    VD_TRY(vd_load_norm(l, join(name, prefix, "norm2"), out, c->groups, NORM_EPS, &r->norm2));
    VD_TRY(vd_load_conv(l, join(name, prefix, "conv2"), out, out, 3, 3, false, &r->conv2));
    if (in != out)
        VD_TRY(vd_load_linear(l, join(name, prefix, "conv_shortcut"), out, in, true, &r->shortcut));
done:
    return st;
}

static vd_status load_attention(const vd_loader *l, const vd_vae_config *c, const char *prefix,
                                int64_t channels, vd_vae_attention *a) {
    vd_status st = VD_OK;
    static const char *const modern[4] = {"to_q", "to_k", "to_v", "to_out.0"};
    static const char *const old[4] = {"query", "key", "value", "proj_attn"};
    char name[5][160];
    vd_tensor probe;
    bool is_old = vd_checkpoint_find(l->ck, join(name[4], prefix, "query.weight"), &probe);
    for (int i = 0; i < 4; i++)
        join(name[i], prefix, is_old ? old[i] : modern[i]);
    a->channels = channels;
    VD_TRY(vd_load_norm(l, join(name[4], prefix, "group_norm"), channels, c->groups, NORM_EPS,
                        &a->norm));
    VD_TRY(vd_load_linear(l, name[0], channels, channels, true, &a->q));
    VD_TRY(vd_load_fused_linear(l, (const char *const[]){name[1], name[2]}, 2, channels, channels,
                                true, &a->kv));
    VD_TRY(vd_load_linear(l, name[3], channels, channels, true, &a->out));
done:
    return st;
}

static vd_status load_mid(const vd_loader *l, const vd_vae_config *c, const char *side,
                          vd_vae_half *half) {
    vd_status st = VD_OK;
    char name[128];
    int64_t width = c->channels[c->levels - 1];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.mid_block.resnets.%d", side, i);
        VD_TRY(load_resnet(l, c, name, width, width, &half->mid[i]));
    }
    snprintf(name, sizeof name, "%s.mid_block.attentions.0", side);
    if (c->mid_attention)
        VD_TRY(load_attention(l, c, name, width, &half->mid_attention));
done:
    return st;
}

/* Block i of the decoder works at level levels-1-i, so both halves walk `channels` their own way.
 */
static vd_status load_blocks(const vd_loader *l, const vd_vae_config *c, bool decoder,
                             vd_vae_half *half) {
    vd_status st = VD_OK;
    char name[128];
    const char *side = decoder ? "decoder.up_blocks" : "encoder.down_blocks";
    int64_t in = decoder ? c->channels[c->levels - 1] : c->channels[0];
    for (int i = 0; i < c->levels; i++) {
        vd_vae_block *block = &half->block[i];
        int64_t out = c->channels[decoder ? c->levels - 1 - i : i];
        block->resnets = c->layers_per_block + (decoder ? 1 : 0);
        for (int j = 0; j < block->resnets; j++) {
            snprintf(name, sizeof name, "%s.%d.resnets.%d", side, i, j);
            VD_TRY(load_resnet(l, c, name, j == 0 ? in : out, out, &block->resnet[j]));
        }
        snprintf(name, sizeof name, "%s.%d.%s.0.conv", side, i,
                 decoder ? "upsamplers" : "downsamplers");
        if (i + 1 < c->levels)
            VD_TRY(vd_load_conv(l, name, out, out, 3, 3, false, &block->sampler));
        in = out;
    }
done:
    return st;
}

static vd_status load_half(const vd_loader *l, const vd_vae_config *c, bool decoder,
                           vd_vae_half *half) {
    vd_status st = VD_OK;
    char name[160];
    const char *side = decoder ? "decoder" : "encoder";
    int64_t low = c->channels[c->levels - 1], high = c->channels[0];
    int64_t latents = c->latent_channels * (decoder ? 1 : 2);
    VD_TRY(vd_load_conv(l, join(name, side, "conv_in"), decoder ? low : high,
                        decoder ? latents : c->image_channels, 3, 3, false, &half->conv_in));
    VD_TRY(load_blocks(l, c, decoder, half));
    VD_TRY(load_mid(l, c, side, half));
    VD_TRY(vd_load_norm(l, join(name, side, "conv_norm_out"), decoder ? high : low, c->groups,
                        NORM_EPS, &half->norm_out));
    VD_TRY(vd_load_conv(l, join(name, side, "conv_out"), decoder ? c->image_channels : latents,
                        decoder ? high : low, 3, 3, false, &half->conv_out));
    if (decoder ? c->post_quant_conv : c->quant_conv)
        VD_TRY(vd_load_linear(l, decoder ? "post_quant_conv" : "quant_conv", latents, latents, true,
                              &half->quant));
done:
    return st;
}

/* The half that is not wanted is known all the same. */
static void ignore_half(vd_checkpoint *ck, const char *side, const char *quant) {
    for (size_t i = 0; i < vd_checkpoint_count(ck); i++) {
        const char *name = vd_checkpoint_name(ck, i);
        if (strncmp(name, side, strlen(side)) == 0 || strncmp(name, quant, strlen(quant)) == 0)
            vd_checkpoint_ignore(ck, name);
    }
}

vd_status vd_vae_load(vd_vae *vae, vd_vae_parts parts, vd_dtype dtype) {
    vd_status st = VD_OK;
    vd_loader l = {vae->be, vae->ck, dtype};
    if (parts & VD_VAE_DECODER)
        VD_TRY(load_half(&l, &vae->config, true, &vae->decoder));
    else
        ignore_half(vae->ck, "decoder.", "post_quant_conv.");
    if (parts & VD_VAE_ENCODER)
        VD_TRY(load_half(&l, &vae->config, false, &vae->encoder));
    else
        ignore_half(vae->ck, "encoder.", "quant_conv.");
    VD_TRY(vd_checkpoint_finish(vae->ck, "autoencoder"));
done:
    return st;
}

static void destroy_resnet(vd_backend *be, vd_vae_resnet *r) {
    vd_norm_layer_destroy(be, &r->norm1);
    vd_norm_layer_destroy(be, &r->norm2);
    vd_conv_layer_destroy(be, &r->conv1);
    vd_conv_layer_destroy(be, &r->conv2);
    vd_linear_layer_destroy(be, &r->shortcut);
}

void vd_vae_half_destroy(vd_backend *be, vd_vae_half *half) {
    vd_conv_layer_destroy(be, &half->conv_in);
    vd_conv_layer_destroy(be, &half->conv_out);
    for (int i = 0; i < VD_VAE_MAX_LEVELS; i++) {
        for (int j = 0; j < half->block[i].resnets; j++)
            destroy_resnet(be, &half->block[i].resnet[j]);
        vd_conv_layer_destroy(be, &half->block[i].sampler);
    }
    destroy_resnet(be, &half->mid[0]);
    destroy_resnet(be, &half->mid[1]);
    vd_norm_layer_destroy(be, &half->mid_attention.norm);
    vd_linear_layer_destroy(be, &half->mid_attention.q);
    vd_linear_layer_destroy(be, &half->mid_attention.kv);
    vd_linear_layer_destroy(be, &half->mid_attention.out);
    vd_norm_layer_destroy(be, &half->norm_out);
    vd_linear_layer_destroy(be, &half->quant);
}

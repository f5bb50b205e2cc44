#include "unet3d/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char wanted_classes[] = "UNet3DConditionModel or UNet2DConditionModel";

enum {
    MAX_CHANNELS = 16384,
    MAX_LAYERS = 16,
    MAX_GROUPS = 1024,
    MAX_HEAD_DIM = 1024,
    MAX_HEADS = 1024,
    MAX_TRANSFORMERS = 64,
    MAX_ADDED_WIDTH = 1 << 17,
    MAX_SAMPLE_SIZE = 65536,
};

/* diffusers fails on a null where it needs a number; it does not mean the default. */
static vd_status read_int(const vd_json *doc, const char *key, int64_t max, int64_t fallback,
                          int64_t *out) {
    const vd_json_value *root = vd_json_root(doc);
    const vd_json_value *v = vd_json_get(root, key);
    if (v != NULL && vd_json_type_of(v) == VD_JSON_NULL)
        return vd_json_fail(doc, v, "null where a number is needed");
    return vd_json_int(doc, root, key, 1, max, fallback, out);
}

static vd_status read_small_int(const vd_json *doc, const char *key, int max, int fallback,
                                int *out) {
    int64_t wide = fallback;
    const vd_status st = read_int(doc, key, max, fallback, &wide);
    *out = (int)wide;
    return st;
}

static vd_status read_class(const vd_json *doc, vd_unet_config *c) {
    const vd_json_value *root = vd_json_root(doc);
    const char *found = NULL;
    if (vd_json_type_of(root) != VD_JSON_OBJECT)
        return vd_json_fail(doc, root, "not an object; the config of a %s is wanted",
                            wanted_classes);
    const vd_status st = vd_json_text(doc, root, "_class_name", NULL, &found);
    if (st != VD_OK)
        return st;
    if (found == NULL)
        return vd_json_fail(doc, root, "no \"_class_name\"; the config of a %s is wanted",
                            wanted_classes);
    c->temporal = strcmp(found, "UNet3DConditionModel") == 0;
    if (!c->temporal && strcmp(found, "UNet2DConditionModel") != 0)
        return vd_json_fail(doc, vd_json_get(root, "_class_name"),
                            "the class is %s; a %s is wanted", found, wanted_classes);
    return VD_OK;
}

/* The array `key`, of 1 to VD_UNET_MAX_LEVELS members; NULL if it is missing. */
static vd_status find_levels(const vd_json *doc, const char *key, const vd_json_value **out) {
    const vd_json_value *v = vd_json_get(vd_json_root(doc), key);
    *out = v;
    if (v == NULL)
        return VD_OK;
    if (vd_json_type_of(v) != VD_JSON_ARRAY)
        return vd_json_fail(doc, v, "not an array with one entry for each level");
    if (vd_json_size(v) < 1 || vd_json_size(v) > VD_UNET_MAX_LEVELS)
        return vd_json_fail(doc, v, "%zu levels; 1 to %d are supported", vd_json_size(v),
                            VD_UNET_MAX_LEVELS);
    return VD_OK;
}

static vd_status read_channels(const vd_json *doc, vd_unet_config *c) {
    static const int64_t fallback[] = {320, 640, 1280, 1280};
    const vd_json_value *levels = NULL;
    const vd_status st = find_levels(doc, "block_out_channels", &levels);
    if (st != VD_OK)
        return st;
    if (levels == NULL) {
        c->levels = 4;
        memcpy(c->channels, fallback, sizeof fallback);
        return VD_OK;
    }
    c->levels = 0;
    for (const vd_json_value *v = vd_json_first(levels); v != NULL; v = vd_json_next(v)) {
        const double number = vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : 0;
        if (!(number >= 1 && number <= MAX_CHANNELS) || number != (double)(int64_t)number)
            return vd_json_fail(doc, v, "not a whole number of channels between 1 and %d",
                                MAX_CHANNELS);
        c->channels[c->levels++] = (int64_t)number;
    }
    return VD_OK;
}

/* A whole number for all levels, or a list of one for each, the finest first. */
static vd_status read_per_level(const vd_json *doc, const char *key, int max, int fallback,
                                const vd_unet_config *c, int *out) {
    const vd_json_value *list = vd_json_get(vd_json_root(doc), key);
    if (list == NULL || vd_json_type_of(list) != VD_JSON_ARRAY) {
        const vd_status st = read_small_int(doc, key, max, fallback, &out[0]);
        for (int i = 1; i < c->levels; i++)
            out[i] = out[0];
        return st;
    }
    if (vd_json_size(list) != (size_t)c->levels)
        return vd_json_fail(doc, list, "%zu entries for %d levels", vd_json_size(list), c->levels);
    for (const vd_json_value *v = vd_json_first(list); v != NULL; v = vd_json_next(v)) {
        const double number = vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : 0;
        if (!(number >= 1 && number <= max) || number != (double)(int)number)
            return vd_json_fail(doc, v, "not a whole number between 1 and %d", max);
        *out++ = (int)number;
    }
    return VD_OK;
}

/* attention_head_dim is the size of a head in the 3D class and the number of heads in the 2D one.
 */
static vd_status read_heads(const vd_json *doc, vd_unet_config *c) {
    if (!c->temporal)
        return read_per_level(doc, "attention_head_dim", MAX_HEADS, 8, c, c->heads);
    const vd_status st = read_small_int(doc, "attention_head_dim", MAX_HEAD_DIM, 64, &c->head_dim);
    for (int i = 0; st == VD_OK && i < c->levels; i++)
        c->heads[i] = (int)(c->channels[i] / c->head_dim);
    return st;
}

static vd_status read_transformers(const vd_json *doc, vd_unet_config *c) {
    if (!c->temporal)
        return read_per_level(doc, "transformer_layers_per_block", MAX_TRANSFORMERS, 1, c,
                              c->transformers);
    for (int i = 0; i < c->levels; i++)
        c->transformers[i] = 1;
    return VD_OK;
}

static vd_status read_mid_block(const vd_json *doc, vd_unet_config *c) {
    const char *type = NULL;
    const vd_json_value *v = vd_json_get(vd_json_root(doc), "mid_block_type");
    c->mid_layers = 2;
    c->mid_attention = true;
    if (c->temporal || v == NULL)
        return VD_OK;
    const vd_status st = vd_json_text(doc, vd_json_root(doc), "mid_block_type", NULL, &type);
    if (st != VD_OK || (type != NULL && strcmp(type, "UNetMidBlock2DCrossAttn") == 0))
        return st;
    c->mid_attention = false;
    c->mid_layers = type == NULL ? 0 : 1;
    if (type != NULL && strcmp(type, "UNetMidBlock2D") != 0)
        return vd_json_fail(doc, v,
                            "\"%s\" is not supported, only UNetMidBlock2DCrossAttn, "
                            "UNetMidBlock2D and null",
                            type);
    return VD_OK;
}

/* SD XL's: pooled text and sinusoids of sizes, added to the time embedding. */
static vd_status read_addition(const vd_json *doc, vd_unet_config *c) {
    vd_status st = VD_OK;
    const vd_json_value *root = vd_json_root(doc);
    const char *type = NULL;
    VD_TRY(vd_json_text(doc, root, "addition_embed_type", NULL, &type));
    if (type == NULL)
        goto done;
    if (strcmp(type, "text_time") != 0)
        return vd_json_fail(doc, vd_json_get(root, "addition_embed_type"),
                            "\"%s\" is not supported, only \"text_time\"", type);
    VD_TRY(
        vd_json_int(doc, root, "addition_time_embed_dim", 1, MAX_CHANNELS, 0, &c->added_time_dim));
    VD_TRY(vd_json_int(doc, root, "projection_class_embeddings_input_dim", 1, MAX_ADDED_WIDTH, 0,
                       &c->added_width));
    if (c->added_time_dim == 0 || c->added_width <= 6 * c->added_time_dim)
        st = vd_json_fail(doc, root,
                          "\"text_time\" needs addition_time_embed_dim, and "
                          "projection_class_embeddings_input_dim above 6 times as much");
done:
    return st;
}

/* Fills attention[i] with: is block i of the type that has attention? */
static vd_status read_block_types(const vd_json *doc, const char *key, const char *kind,
                                  int fallback_without, const vd_unet_config *c, bool *attention) {
    const char *dimensions = c->temporal ? "3D" : "2D";
    char with_attention[32];
    char without[32];
    (void)snprintf(with_attention, sizeof with_attention, "CrossAttn%sBlock%s", kind, dimensions);
    (void)snprintf(without, sizeof without, "%sBlock%s", kind, dimensions);
    const vd_json_value *levels = NULL;
    const vd_status st = find_levels(doc, key, &levels);
    if (st != VD_OK)
        return st;
    const int count = levels == NULL ? 4 : (int)vd_json_size(levels);
    if (count != c->levels)
        return vd_json_fail(doc, levels == NULL ? vd_json_root(doc) : levels,
                            "%s has %d entries and block_out_channels %d; they must agree", key,
                            count, c->levels);
    if (levels == NULL) {
        for (int i = 0; i < count; i++)
            attention[i] = i != fallback_without;
        return VD_OK;
    }
    int i = 0;
    for (const vd_json_value *v = vd_json_first(levels); v != NULL; v = vd_json_next(v)) {
        const char *type = vd_json_type_of(v) == VD_JSON_STRING ? vd_json_string(v) : "";
        attention[i] = strcmp(type, with_attention) == 0;
        if (!attention[i] && strcmp(type, without) != 0)
            return vd_json_fail(doc, v, "block type \"%s\" is not supported, only %s and %s", type,
                                with_attention, without);
        i++;
    }
    return VD_OK;
}

/* An integer, [height, width] or null; only a default for the caller. */
static vd_status read_sample_size(const vd_json *doc, vd_unet_config *c) {
    const vd_json_value *v = vd_json_get(vd_json_root(doc), "sample_size");
    int size[2] = {0, 0};
    if (v != NULL && vd_json_type_of(v) == VD_JSON_ARRAY) {
        int i = 0;
        if (vd_json_size(v) != 2)
            return vd_json_fail(doc, v, "not a size or [height, width]");
        for (const vd_json_value *side = vd_json_first(v); side != NULL;
             side = vd_json_next(side)) {
            const double number =
                vd_json_type_of(side) == VD_JSON_NUMBER ? vd_json_number(side) : 0;
            if (!(number >= 1 && number <= MAX_SAMPLE_SIZE))
                return vd_json_fail(doc, side, "not a size between 1 and %d", MAX_SAMPLE_SIZE);
            size[i++] = (int)number;
        }
    } else if (v != NULL && vd_json_type_of(v) != VD_JSON_NULL) {
        const vd_status st = read_small_int(doc, "sample_size", MAX_SAMPLE_SIZE, 1, &size[0]);
        if (st != VD_OK)
            return st;
        size[1] = size[0];
    }
    c->sample_height = size[0];
    c->sample_width = size[1];
    return VD_OK;
}

static vd_status check_sizes(const vd_json *doc, const vd_unet_config *c) {
    const vd_json_value *root = vd_json_root(doc);
    for (int i = 0; i < c->levels; i++) {
        const long long channels = c->channels[i];
        /* The middle block is at the last level. */
        const bool attends = c->down_attention[i] || c->up_attention[c->levels - 1 - i] ||
                             (i == c->levels - 1 && c->mid_attention);
        if (channels % c->norm_groups != 0)
            return vd_json_fail(doc, root,
                                "block_out_channels[%d] = %lld is not a multiple of "
                                "norm_num_groups = %d",
                                i, channels, c->norm_groups);
        if (attends && channels % (c->temporal ? c->head_dim : c->heads[i]) != 0)
            return vd_json_fail(doc, root,
                                "block_out_channels[%d] = %lld is not a multiple of "
                                "attention_head_dim = %d, the %s",
                                i, channels, c->temporal ? c->head_dim : c->heads[i],
                                c->temporal ? "head size" : "number of heads");
    }
    return VD_OK;
}

vd_status vd_unet_config_parse(const vd_json *doc, vd_unet_config *out) {
    vd_status st;
    double eps = 0;
    vd_unet_config c = {0};
    memset(out, 0, sizeof *out);

    VD_TRY(read_class(doc, &c));
    VD_TRY(vd_unet_config_supported(doc, c.temporal));
    VD_TRY(read_channels(doc, &c));
    VD_TRY(read_block_types(doc, "down_block_types", "Down", 3, &c, c.down_attention));
    VD_TRY(read_block_types(doc, "up_block_types", "Up", 0, &c, c.up_attention));
    VD_TRY(read_mid_block(doc, &c));
    VD_TRY(read_int(doc, "in_channels", MAX_CHANNELS, 4, &c.in_channels));
    VD_TRY(read_int(doc, "out_channels", MAX_CHANNELS, 4, &c.out_channels));
    VD_TRY(read_small_int(doc, "layers_per_block", MAX_LAYERS, 2, &c.layers_per_block));
    VD_TRY(read_small_int(doc, "norm_num_groups", MAX_GROUPS, 32, &c.norm_groups));
    VD_TRY(read_int(doc, "cross_attention_dim", MAX_CHANNELS, c.temporal ? 1024 : 1280,
                    &c.cross_attention_dim));
    VD_TRY(read_heads(doc, &c));
    VD_TRY(read_transformers(doc, &c));
    if (!c.temporal)
        VD_TRY(read_addition(doc, &c));
    VD_TRY(vd_json_double(doc, vd_json_root(doc), "norm_eps", 0, 1, 1e-5, &eps));
    c.norm_eps = (float)eps;
    VD_TRY(read_sample_size(doc, &c));
    VD_TRY(check_sizes(doc, &c));
    *out = c;
done:
    return st;
}

vd_status vd_unet_config_read(const char *path, vd_unet_config *out) {
    vd_json *doc = NULL;
    memset(out, 0, sizeof *out);
    vd_status st = vd_json_read(path, "UNet config", &doc);
    if (st == VD_OK)
        st = vd_unet_config_parse(doc, out);
    vd_json_destroy(doc);
    return st;
}

/* ---- the convolutions that settings may name ------------------------------------------------ */

static void add_path(vd_spatial_paths *p, vd_path path) {
    p->text[p->count] = path;
    p->list[p->count] = p->text[p->count].text;
    p->count++;
}

static void add_block(vd_spatial_paths *p, const char *block, int resnets, const char *sampler) {
    for (int i = 0; i < resnets; i++)
        for (int k = 1; k <= 2; k++)
            add_path(p, vd_path_join(block, "resnets.%d.conv%d", i, k));
    if (sampler != NULL)
        add_path(p, vd_path_join(block, "%s.0.conv", sampler));
}

vd_status vd_spatial_paths_of(const vd_unet_config *c, vd_spatial_paths *out) {
    const int last = c->levels - 1, layers = c->layers_per_block;
    const size_t most = (size_t)c->levels * (4 * (size_t)layers + 4) + 2 * (size_t)c->mid_layers;
    *out = (vd_spatial_paths){.text = calloc(most, sizeof *out->text),
                              .list = calloc(most + 1, sizeof *out->list)};
    if (out->text == NULL || out->list == NULL) {
        vd_spatial_paths_free(out);
        return vd_fail(VD_ERR_MEMORY, "no memory for the list of convolutions");
    }
    for (int i = 0; i <= last; i++)
        add_block(out, vd_path_join("down_blocks", "%d", i).text, layers,
                  i < last ? "downsamplers" : NULL);
    add_block(out, "mid_block", c->mid_layers, NULL);
    for (int i = 0; i <= last; i++)
        add_block(out, vd_path_join("up_blocks", "%d", i).text, layers + 1,
                  i < last ? "upsamplers" : NULL);
    return VD_OK;
}

void vd_spatial_paths_free(vd_spatial_paths *paths) {
    free(paths->text);
    free(paths->list);
    *paths = (vd_spatial_paths){0};
}

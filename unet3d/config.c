#include "unet3d/config.h"

#include <stdlib.h>
#include <string.h>

static const char class_name[] = "UNet3DConditionModel";

enum {
    MAX_CHANNELS = 16384,
    MAX_LAYERS = 16,
    MAX_GROUPS = 1024,
    MAX_HEAD_DIM = 1024,
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

static vd_status check_class(const vd_json *doc) {
    const vd_json_value *root = vd_json_root(doc);
    const char *found = NULL;
    if (vd_json_type_of(root) != VD_JSON_OBJECT)
        return vd_json_fail(doc, root, "not an object; the config of a %s is wanted", class_name);
    const vd_status st = vd_json_text(doc, root, "_class_name", NULL, &found);
    if (st != VD_OK)
        return st;
    if (found == NULL)
        return vd_json_fail(doc, root, "no \"_class_name\"; the config of a %s is wanted",
                            class_name);
    if (strcmp(found, class_name) != 0)
        return vd_json_fail(doc, vd_json_get(root, "_class_name"),
                            "the class is %s; a %s is wanted", found, class_name);
    return VD_OK;
}

static vd_status check_number(const vd_json *doc, const char *key, double wanted) {
    const vd_json_value *root = vd_json_root(doc);
    double found = wanted;
    const vd_status st = vd_json_double(doc, root, key, -1e9, 1e9, wanted, &found);
    if (st == VD_OK && found != wanted)
        return vd_json_fail(doc, vd_json_get(root, key), "%g is not supported, only %g", found,
                            wanted);
    return st;
}

static vd_status check_null(const vd_json *doc, const char *key, const char *why) {
    const vd_json_value *v = vd_json_get(vd_json_root(doc), key);
    if (v != NULL && vd_json_type_of(v) != VD_JSON_NULL)
        return vd_json_fail(doc, v, "%s", why);
    return VD_OK;
}

/* What diffusers would compute differently and this program does not. */
static vd_status check_supported(const vd_json *doc) {
    vd_status st;
    const vd_json_value *root = vd_json_root(doc);
    const char *act = NULL;
    VD_TRY(vd_json_text(doc, root, "act_fn", "silu", &act));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0) {
        st = vd_json_fail(doc, vd_json_get(root, "act_fn"),
                          "activation \"%s\" is not supported, only \"silu\"", act);
        goto done;
    }
    VD_TRY(check_number(doc, "downsample_padding", 1));
    VD_TRY(check_number(doc, "mid_block_scale_factor", 1));
    VD_TRY(check_null(doc, "time_cond_proj_dim", "a conditioned time embedding is not supported"));
    VD_TRY(check_null(doc, "num_attention_heads",
                      "not supported for this class; attention_head_dim gives the head size"));
done:
    return st;
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

/* Fills attention[i] with: is block i of the type that has attention? */
static vd_status read_block_types(const vd_json *doc, const char *key, const char *with_attention,
                                  const char *without, int fallback_without, int level_count,
                                  bool *attention) {
    const vd_json_value *levels = NULL;
    const vd_status st = find_levels(doc, key, &levels);
    if (st != VD_OK)
        return st;
    const int count = levels == NULL ? 4 : (int)vd_json_size(levels);
    if (count != level_count)
        return vd_json_fail(doc, levels == NULL ? vd_json_root(doc) : levels,
                            "%s has %d entries and block_out_channels %d; they must agree", key,
                            count, level_count);
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
        /* The middle block, at the last level, always has attention. */
        const bool attends =
            c->down_attention[i] || c->up_attention[c->levels - 1 - i] || i == c->levels - 1;
        if (channels % c->norm_groups != 0)
            return vd_json_fail(doc, root,
                                "block_out_channels[%d] = %lld is not a multiple of "
                                "norm_num_groups = %d",
                                i, channels, c->norm_groups);
        if (attends && channels % c->head_dim != 0)
            return vd_json_fail(doc, root,
                                "block_out_channels[%d] = %lld is not a multiple of "
                                "attention_head_dim = %d, the head size",
                                i, channels, c->head_dim);
    }
    return VD_OK;
}

vd_status vd_unet_config_parse(const vd_json *doc, vd_unet_config *out) {
    vd_status st;
    double eps = 0;
    vd_unet_config c = {0};
    memset(out, 0, sizeof *out);

    VD_TRY(check_class(doc));
    VD_TRY(check_supported(doc));
    VD_TRY(read_channels(doc, &c));
    VD_TRY(read_block_types(doc, "down_block_types", "CrossAttnDownBlock3D", "DownBlock3D", 3,
                            c.levels, c.down_attention));
    VD_TRY(read_block_types(doc, "up_block_types", "CrossAttnUpBlock3D", "UpBlock3D", 0, c.levels,
                            c.up_attention));
    VD_TRY(read_int(doc, "in_channels", MAX_CHANNELS, 4, &c.in_channels));
    VD_TRY(read_int(doc, "out_channels", MAX_CHANNELS, 4, &c.out_channels));
    VD_TRY(read_small_int(doc, "layers_per_block", MAX_LAYERS, 2, &c.layers_per_block));
    VD_TRY(read_small_int(doc, "norm_num_groups", MAX_GROUPS, 32, &c.norm_groups));
    VD_TRY(read_int(doc, "cross_attention_dim", MAX_CHANNELS, 1024, &c.cross_attention_dim));
    VD_TRY(read_small_int(doc, "attention_head_dim", MAX_HEAD_DIM, 64, &c.head_dim));
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
    enum { MID_RESNETS = 2, MID_PATHS = 2 * MID_RESNETS };
    const int last = c->levels - 1, layers = c->layers_per_block;
    const size_t most = (size_t)c->levels * (4 * (size_t)layers + 4) + MID_PATHS;
    *out = (vd_spatial_paths){.text = calloc(most, sizeof *out->text),
                              .list = calloc(most + 1, sizeof *out->list)};
    if (out->text == NULL || out->list == NULL) {
        vd_spatial_paths_free(out);
        return vd_fail(VD_ERR_MEMORY, "no memory for the list of convolutions");
    }
    for (int i = 0; i <= last; i++)
        add_block(out, vd_path_join("down_blocks", "%d", i).text, layers,
                  i < last ? "downsamplers" : NULL);
    add_block(out, "mid_block", MID_RESNETS, NULL);
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

/* What a UNet's config.json may ask for: keys with which diffusers would compute something else. */
#include <string.h>

#include "unet3d/config.h"

/* The only value that is supported; a missing key and null mean that diffusers does nothing
 * special. */
typedef struct only_value {
    const char *key;
    enum { ONLY_NULL, ONLY_FALSE, ONLY_NUMBER, ONLY_TEXT } kind;
    double number;
    const char *text;
} only_value;

static const only_value for_both[] = {
    {"downsample_padding", ONLY_NUMBER, 1, NULL},
    {"mid_block_scale_factor", ONLY_NUMBER, 1, NULL},
    {"time_cond_proj_dim", ONLY_NULL, 0, NULL},
    {"num_attention_heads", ONLY_NULL, 0, NULL},
};

static const only_value for_2d[] = {
    {"center_input_sample", ONLY_FALSE, 0, NULL},
    {"freq_shift", ONLY_NUMBER, 0, NULL},
    {"only_cross_attention", ONLY_FALSE, 0, NULL},
    {"reverse_transformer_layers_per_block", ONLY_NULL, 0, NULL},
    {"encoder_hid_dim", ONLY_NULL, 0, NULL},
    {"encoder_hid_dim_type", ONLY_NULL, 0, NULL},
    {"dual_cross_attention", ONLY_FALSE, 0, NULL},
    {"class_embed_type", ONLY_NULL, 0, NULL},
    {"num_class_embeds", ONLY_NULL, 0, NULL},
    {"class_embeddings_concat", ONLY_FALSE, 0, NULL},
    {"resnet_time_scale_shift", ONLY_TEXT, 0, "default"},
    {"resnet_skip_time_act", ONLY_FALSE, 0, NULL},
    {"resnet_out_scale_factor", ONLY_NUMBER, 1, NULL},
    {"time_embedding_type", ONLY_TEXT, 0, "positional"},
    {"time_embedding_dim", ONLY_NULL, 0, NULL},
    {"time_embedding_act_fn", ONLY_NULL, 0, NULL},
    {"timestep_post_act", ONLY_NULL, 0, NULL},
    {"conv_in_kernel", ONLY_NUMBER, 3, NULL},
    {"conv_out_kernel", ONLY_NUMBER, 3, NULL},
    {"attention_type", ONLY_TEXT, 0, "default"},
    {"mid_block_only_cross_attention", ONLY_FALSE, 0, NULL},
    {"cross_attention_norm", ONLY_NULL, 0, NULL},
};

static vd_status check_only(const vd_json *doc, const only_value *only) {
    const vd_json_value *v = vd_json_get(vd_json_root(doc), only->key);
    if (v == NULL || vd_json_type_of(v) == VD_JSON_NULL)
        return VD_OK;
    const vd_json_type type = vd_json_type_of(v);
    switch (only->kind) {
    case ONLY_NULL:
        return vd_json_fail(doc, v, "not supported, only null");
    case ONLY_FALSE:
        if (type == VD_JSON_BOOL && !vd_json_bool(v))
            return VD_OK;
        return vd_json_fail(doc, v, "not supported, only false");
    case ONLY_NUMBER:
        if (type == VD_JSON_NUMBER && vd_json_number(v) == only->number)
            return VD_OK;
        return vd_json_fail(doc, v, "not supported, only %g", only->number);
    case ONLY_TEXT:
        if (type == VD_JSON_STRING && strcmp(vd_json_string(v), only->text) == 0)
            return VD_OK;
        return vd_json_fail(doc, v, "not supported, only \"%s\"", only->text);
    }
    return VD_OK;
}

vd_status vd_unet_config_supported(const vd_json *doc, bool temporal) {
    vd_status st = VD_OK;
    const vd_json_value *root = vd_json_root(doc);
    const char *act = NULL;
    bool sine_after_cosine = true;
    VD_TRY(vd_json_text(doc, root, "act_fn", "silu", &act));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return vd_json_fail(doc, vd_json_get(root, "act_fn"),
                            "activation \"%s\" is not supported, only \"silu\"", act);
    for (size_t i = 0; i < sizeof for_both / sizeof *for_both; i++)
        VD_TRY(check_only(doc, &for_both[i]));
    if (temporal)
        goto done;
    VD_TRY(vd_json_flag(doc, root, "flip_sin_to_cos", true, &sine_after_cosine));
    if (!sine_after_cosine)
        return vd_json_fail(doc, vd_json_get(root, "flip_sin_to_cos"), "not supported, only true");
    for (size_t i = 0; i < sizeof for_2d / sizeof *for_2d; i++)
        VD_TRY(check_only(doc, &for_2d[i]));
done:
    return st;
}

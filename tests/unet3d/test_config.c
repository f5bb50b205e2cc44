/* config.json of a UNet: defaults, what is refused, and mutations that must not crash. */
#include <stdlib.h>

#include "core/rng.h"
#include "tests/check.h"
#include "unet3d/config.h"

static vd_status parse(const char *text, vd_unet_config *out) {
    vd_json *doc = NULL;
    vd_status st = vd_json_parse(text, strlen(text), "config.json", &doc);
    if (st == VD_OK)
        st = vd_unet_config_parse(doc, out);
    vd_json_destroy(doc);
    return st;
}

/* A config with the class name and these members. */
static vd_status parse_class(const char *class_name, const char *members, vd_unet_config *out) {
    char text[4096];
    snprintf(text, sizeof text, "{\"_class_name\": \"%s\"%s%s}", class_name,
             members[0] == '\0' ? "" : ", ", members);
    return parse(text, out);
}

static vd_status parse_members(const char *members, vd_unet_config *out) {
    return parse_class("UNet3DConditionModel", members, out);
}

static vd_status parse_2d(const char *members, vd_unet_config *out) {
    return parse_class("UNet2DConditionModel", members, out);
}

static void test_defaults(void) {
    vd_unet_config c = {0};
    CHECK_OK(parse_members("", &c));
    CHECK(c.temporal && c.levels == 4 && c.in_channels == 4 && c.out_channels == 4);
    CHECK(c.heads[0] == 5 && c.heads[3] == 20 && c.transformers[0] == 1 && c.added_width == 0);
    CHECK(c.mid_layers == 2 && c.mid_attention);
    CHECK(c.channels[0] == 320 && c.channels[1] == 640 && c.channels[2] == 1280 &&
          c.channels[3] == 1280);
    CHECK(c.down_attention[0] && c.down_attention[1] && c.down_attention[2] &&
          !c.down_attention[3]);
    CHECK(!c.up_attention[0] && c.up_attention[1] && c.up_attention[2] && c.up_attention[3]);
    CHECK(c.layers_per_block == 2 && c.norm_groups == 32 && c.norm_eps == 1e-5f);
    CHECK(c.cross_attention_dim == 1024 && c.head_dim == 64);
    CHECK(c.sample_height == 0 && c.sample_width == 0);
}

static void test_values(void) {
    vd_unet_config c = {0};
    CHECK_OK(parse_members("\"sample_size\": [24, 32], \"act_fn\": \"swish\", "
                           "\"block_out_channels\": [32, 96], \"norm_num_groups\": 16, "
                           "\"down_block_types\": [\"DownBlock3D\", \"CrossAttnDownBlock3D\"], "
                           "\"up_block_types\": [\"CrossAttnUpBlock3D\", \"UpBlock3D\"], "
                           "\"attention_head_dim\": 24, \"layers_per_block\": 1, "
                           "\"norm_eps\": 0.25, \"something_else\": {\"a\": [1]}, "
                           "\"time_cond_proj_dim\": null, \"num_attention_heads\": null",
                           &c));
    CHECK(c.levels == 2 && c.channels[0] == 32 && c.channels[1] == 96 && c.norm_groups == 16);
    CHECK(!c.down_attention[0] && c.down_attention[1] && c.up_attention[0] && !c.up_attention[1]);
    CHECK(c.head_dim == 24 && c.layers_per_block == 1 && c.norm_eps == 0.25f);
    CHECK(c.sample_height == 24 && c.sample_width == 32);
    CHECK_OK(parse_members("\"sample_size\": 40", &c));
    CHECK(c.sample_height == 40 && c.sample_width == 40);
}

/* The published configs' keys. SD XL's attention_head_dim and depths are lists. */
static void test_2d(void) {
    vd_unet_config c = {0};
    CHECK_OK(parse_2d("", &c));
    CHECK(!c.temporal && c.levels == 4 && c.cross_attention_dim == 1280 && c.head_dim == 0);
    CHECK(c.heads[0] == 8 && c.heads[3] == 8 && c.transformers[3] == 1 && c.added_width == 0);
    CHECK(c.mid_layers == 2 && c.mid_attention && c.layers_per_block == 2);
    CHECK_OK(parse_2d(
        "\"act_fn\": \"silu\", \"addition_embed_type\": \"text_time\", "
        "\"addition_embed_type_num_heads\": 64, \"addition_time_embed_dim\": 256, "
        "\"attention_head_dim\": [5, 10, 20], \"block_out_channels\": [320, 640, 1280], "
        "\"center_input_sample\": false, \"class_embed_type\": null, "
        "\"class_embeddings_concat\": false, \"conv_in_kernel\": 3, \"conv_out_kernel\": 3, "
        "\"cross_attention_dim\": 2048, \"cross_attention_norm\": null, \"down_block_types\": "
        "[\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"], "
        "\"downsample_padding\": 1, \"dual_cross_attention\": false, \"encoder_hid_dim\": null, "
        "\"flip_sin_to_cos\": true, \"freq_shift\": 0, \"mid_block_only_cross_attention\": null, "
        "\"mid_block_type\": \"UNetMidBlock2DCrossAttn\", \"num_attention_heads\": null, "
        "\"only_cross_attention\": false, \"projection_class_embeddings_input_dim\": 2816, "
        "\"resnet_out_scale_factor\": 1.0, \"resnet_time_scale_shift\": \"default\", "
        "\"sample_size\": 128, \"time_embedding_type\": \"positional\", "
        "\"transformer_layers_per_block\": [1, 2, 10], \"upcast_attention\": true, "
        "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"], "
        "\"use_linear_projection\": true",
        &c));
    CHECK(c.levels == 3 && c.heads[0] == 5 && c.heads[2] == 20 && c.transformers[2] == 10);
    CHECK(c.added_time_dim == 256 && c.added_width == 2816 && c.sample_width == 128);
    CHECK(!c.down_attention[0] && c.up_attention[0] && !c.up_attention[2]);
    CHECK_OK(parse_2d("\"mid_block_type\": null", &c));
    CHECK(c.mid_layers == 0 && !c.mid_attention);
    CHECK_OK(parse_2d("\"mid_block_type\": \"UNetMidBlock2D\"", &c));
    CHECK(c.mid_layers == 1 && !c.mid_attention);
    static const struct {
        const char *members, *message;
    } bad[] = {
        {"\"attention_head_dim\": [5, 10, 20]", "3 entries for 4 levels"},
        {"\"attention_head_dim\": [8, 8, 8, 7]", "= 7, the number of heads"},
        {"\"attention_head_dim\": [8, 8, 8, 0]", "$.attention_head_dim[3]"},
        {"\"attention_head_dim\": null", "$.attention_head_dim"},
        {"\"transformer_layers_per_block\": [1, 1, 1, [2, 2]]",
         "$.transformer_layers_per_block[3]"},
        {"\"cross_attention_dim\": [1280, 1280]", "$.cross_attention_dim"},
        {"\"down_block_types\": [\"DownBlock3D\", \"DownBlock2D\", \"DownBlock2D\", "
         "\"DownBlock2D\"]",
         "\"DownBlock3D\" is not supported, only CrossAttnDownBlock2D and DownBlock2D"},
        {"\"mid_block_type\": \"UNetMidBlock2DSimpleCrossAttn\"", "$.mid_block_type"},
        {"\"addition_embed_type\": \"image\"", "$.addition_embed_type"},
        {"\"addition_embed_type\": \"text_time\"", "addition_time_embed_dim"},
        {"\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 256, "
         "\"projection_class_embeddings_input_dim\": 1536",
         "above 6 times"},
        {"\"center_input_sample\": true", "$.center_input_sample"},
        {"\"flip_sin_to_cos\": false", "$.flip_sin_to_cos"},
        {"\"freq_shift\": 1", "$.freq_shift"},
        {"\"only_cross_attention\": [true, false, false, false]", "$.only_cross_attention"},
        {"\"dual_cross_attention\": true", "$.dual_cross_attention"},
        {"\"class_embed_type\": \"timestep\"", "$.class_embed_type"},
        {"\"num_class_embeds\": 10", "$.num_class_embeds"},
        {"\"resnet_time_scale_shift\": \"scale_shift\"", "$.resnet_time_scale_shift"},
        {"\"time_embedding_type\": \"fourier\"", "$.time_embedding_type"},
        {"\"time_cond_proj_dim\": 256", "$.time_cond_proj_dim"},
        {"\"conv_in_kernel\": 1", "$.conv_in_kernel"},
        {"\"encoder_hid_dim\": 4096", "$.encoder_hid_dim"},
        {"\"reverse_transformer_layers_per_block\": [[1], [2]]",
         "$.reverse_transformer_layers_per_block"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_FAILS(parse_2d(bad[i].members, &c), VD_ERR_INPUT, bad[i].message);
        CHECK_MSG(c.levels == 0 && strchr(vd_error_message(), '\n') == NULL, "%s",
                  vd_error_message());
    }
}

static void test_refusals(void) {
    static const struct {
        const char *members, *message;
    } bad[] = {
        {"\"act_fn\": \"gelu\"", "$.act_fn"},
        {"\"downsample_padding\": 0", "$.downsample_padding"},
        {"\"mid_block_scale_factor\": 1.5", "$.mid_block_scale_factor"},
        {"\"time_cond_proj_dim\": 256", "$.time_cond_proj_dim"},
        {"\"num_attention_heads\": 8", "$.num_attention_heads"},
        {"\"norm_num_groups\": null", "$.norm_num_groups"},
        {"\"attention_head_dim\": [5, 10, 20, 20]", "$.attention_head_dim"},
        {"\"attention_head_dim\": 0", "$.attention_head_dim"},
        {"\"attention_head_dim\": 60", "not a multiple of attention_head_dim"},
        {"\"norm_num_groups\": 31", "not a multiple of norm_num_groups"},
        {"\"norm_num_groups\": -32", "$.norm_num_groups"},
        {"\"block_out_channels\": []", "0 levels"},
        {"\"block_out_channels\": 320", "$.block_out_channels"},
        {"\"block_out_channels\": [1000000000]", "$.block_out_channels[0]"},
        {"\"block_out_channels\": [320, 0.5, 1, 1]", "$.block_out_channels[1]"},
        {"\"block_out_channels\": [320, \"640\", 1, 1]", "$.block_out_channels[1]"},
        {"\"block_out_channels\": [320, NaN, 1, 1]", "$.block_out_channels[1]"},
        {"\"block_out_channels\": [8,8,8,8,8,8,8,8,8,8,8,8,8,8,8,8,8]", "17 levels"},
        {"\"block_out_channels\": [320, 640]", "down_block_types has 4 entries"},
        {"\"down_block_types\": [\"DownBlock3D\"]", "down_block_types has 1 entries"},
        {"\"up_block_types\": [\"UpBlock3D\", \"UpBlock3D\", \"UpBlock3D\"]",
         "up_block_types has 3 entries"},
        {"\"up_block_types\": [\"UpBlock3D\", \"UpBlock3D\", 3, \"UpBlock3D\"]",
         "$.up_block_types[2]"},
        {"\"down_block_types\": [\"DownBlock3D\", \"DownBlock2D\", \"DownBlock3D\", "
         "\"DownBlock3D\"]",
         "\"DownBlock2D\" is not supported"},
        {"\"layers_per_block\": 0", "$.layers_per_block"},
        {"\"layers_per_block\": 1e300", "$.layers_per_block"},
        {"\"layers_per_block\": [1, 2, 2, 2]", "$.layers_per_block"},
        {"\"cross_attention_dim\": null", "$.cross_attention_dim"},
        {"\"cross_attention_dim\": 1e15", "$.cross_attention_dim"},
        {"\"in_channels\": 0", "$.in_channels"},
        {"\"out_channels\": -4", "$.out_channels"},
        {"\"norm_eps\": NaN", "$.norm_eps"},
        {"\"norm_eps\": \"1e-5\"", "$.norm_eps"},
        {"\"sample_size\": [32]", "$.sample_size"},
        {"\"sample_size\": [32, -1]", "$.sample_size[1]"},
        {"\"sample_size\": \"32\"", "$.sample_size"},
    };
    vd_unet_config c = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_FAILS(parse_members(bad[i].members, &c), VD_ERR_INPUT, bad[i].message);
        CHECK_MSG(c.levels == 0 && strchr(vd_error_message(), '\n') == NULL, "%s",
                  vd_error_message());
    }
    CHECK_FAILS(parse("{\"_class_name\": \"UNetMotionModel\"}", &c), VD_ERR_INPUT,
                "the class is UNetMotionModel; a UNet3DConditionModel or UNet2DConditionModel is");
    CHECK_FAILS(parse("{}", &c), VD_ERR_INPUT, "UNet3DConditionModel or");
    CHECK_FAILS(parse("[]", &c), VD_ERR_INPUT, "not an object");
    CHECK_FAILS(parse("{\"_class_name\": 3}", &c), VD_ERR_INPUT, "$._class_name");
    CHECK_FAILS(vd_unet_config_read("no/such/config.json", &c), VD_ERR_INPUT, "no/such");
}

static bool is_sound(const vd_unet_config *c) {
    bool sound = c->levels >= 1 && c->levels <= VD_UNET_MAX_LEVELS && c->layers_per_block >= 1 &&
                 c->norm_groups >= 1 && (c->head_dim >= 1 || !c->temporal) && c->in_channels >= 1 &&
                 c->out_channels >= 1 && c->cross_attention_dim >= 1;
    for (int i = 0; sound && i < c->levels; i++)
        sound = c->channels[i] >= 1 && c->channels[i] % c->norm_groups == 0;
    return sound;
}

/* A few bytes of a good config replaced: an error or a sound result, nothing else. */
static void test_mutations(const char *path) {
    static const char alphabet[] = "0123456789-+.eE,:[]{}\"\\ntfa\xff\0 ";
    char good[4096];
    char bad[4096];
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    if (f == NULL)
        return;
    const size_t bytes = fread(good, 1, sizeof good, f);
    (void)fclose(f);
    CHECK(bytes > 100 && bytes < sizeof good);

    vd_rng rng;
    vd_rng_seed(&rng, 1);
    int parsed = 0;
    for (int round = 0; round < 20000; round++) {
        memcpy(bad, good, bytes);
        const uint32_t edits = 1 + vd_rng_u32(&rng) % 3;
        for (uint32_t i = 0; i < edits; i++)
            bad[vd_rng_u32(&rng) % bytes] = alphabet[vd_rng_u32(&rng) % (sizeof alphabet - 1)];
        const size_t length = vd_rng_u32(&rng) % 8 == 0 ? vd_rng_u32(&rng) % bytes : bytes;
        vd_json *doc = NULL;
        vd_unet_config c;
        if (vd_json_parse(bad, length, "mutated", &doc) == VD_OK &&
            vd_unet_config_parse(doc, &c) == VD_OK) {
            parsed++;
            CHECK(is_sound(&c));
        }
        vd_json_destroy(doc);
    }
    CHECK_MSG(parsed > 100, "only %d of the mutations parsed", parsed);
}

int main(void) {
    test_defaults();
    test_values();
    test_refusals();
    test_2d();
    test_mutations(VD_BINARY_DIR "/golden/t2v-ms/unet/config.json");
    test_mutations(VD_BINARY_DIR "/golden/i-sdxl/unet/config.json");
    return CHECK_DONE();
}

/* Settings: what is read, which names they may hold, and the tables that come of them. */
#include <stdlib.h>

#include "tests/check.h"
#include "unet3d/method_plan.h"

/* As vd_unet_spatial_paths lists them; a part of a small UNet. */
static const char *const paths[] = {
    "down_blocks.0.resnets.0.conv1",     "down_blocks.0.resnets.0.conv2",
    "down_blocks.0.downsamplers.0.conv", "down_blocks.1.resnets.0.conv1",
    "down_blocks.1.resnets.0.conv2",     "down_blocks.1.resnets.10.conv1",
    "mid_block.resnets.0.conv1",         "mid_block.resnets.0.conv2",
    "up_blocks.0.upsamplers.0.conv",     NULL};
enum { LAYERS = sizeof paths / sizeof paths[0] - 1 };

static vd_status parse(const char *text, vd_settings **s) {
    static const char *const others[] = {"step", NULL};
    vd_json *doc = NULL;
    *s = NULL;
    vd_status st = vd_json_parse(text, strlen(text), "f.json", &doc);
    if (st == VD_OK)
        st = vd_settings_parse(doc, vd_json_root(doc), others, "f.json", s);
    vd_json_destroy(doc);
    return st;
}

static vd_status plan(const char *text, int steps, vd_method_plan **out) {
    vd_settings *s = NULL;
    *out = NULL;
    vd_status st = parse(text, &s);
    if (st == VD_OK)
        st = vd_settings_check_steps(s, steps);
    if (st == VD_OK)
        st = vd_method_plan_create(s, paths, steps, out);
    vd_settings_destroy(s);
    return st;
}

static void test_refusals(void) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[]", "object"},
        {"{}", "f.json: $: has no \"dilate\""},
        {"{\"dilate\": {}}", "f.json: $.dilate: name at least one layer"},
        {"{\"dilate\": []}", "$.dilate: name at least one layer"},
        {"{\"dilate\": {\"mid_block\": \"2\"}}", "$.dilate.mid_block: a dilation is a number"},
        {"{\"dilate\": {\"mid_block\": [2]}}", "[height, width]"},
        {"{\"dilate\": {\"mid_block\": [2, 0.5]}}", "$.dilate.mid_block[1]: the dilation 0.5"},
        {"{\"dilate\": {\"mid_block\": 0.999}}", "outside 1 to 16"},
        {"{\"dilate\": {\"mid_block\": 16.5}}", "outside 1 to 16"},
        {"{\"dilate\": {\"mid_block\": NaN}}", "outside 1 to 16"},
        {"{\"dilate\": {\"mid_block\": 2, \"mid_block\": 2}}", "mid_block"},
        {"{\"dilate\": {\"mid_block\": 2}, \"dilate_taus\": 3}",
         "$.dilate_taus: unknown key; did you mean \"dilate_tau\"?"},
        {"{\"dilate\": {\"mid_block\": 2}, \"dilate_tau\": 2.5}", "$.dilate_tau"},
        {"{\"dilate\": {\"mid_block\": 2}, \"dilate_tau\": -1}", "$.dilate_tau"},
        {"{\"dilate\": {\"mid_block\": 2}, \"dilate_tau\": 51}", "51 and the run has 50 steps"},
        {"{\"dilate\": {\"mid_block\": 2}, \"progressive\": true}", "needs \"dilate_tau\""},
        {"{\"dilate\": {\"mid_block\": 2}, \"progressive\": 1}", "$.progressive"},
        {"{\"dilate\": {\"mid_block.resnets.0.conv\": 2}}",
         "did you mean \"mid_block.resnets.0.conv1\"?"},
        {"{\"dilate\": {\"midblock\": 2}}", "did you mean \"mid_block\"?"},
        {"{\"dilate\": {\"down_block.1.resnets\": 2}}", "did you mean \"down_blocks.1.resnets\"?"},
        {"{\"dilate\": {\"down_blocks.1.resnets.1\": 2}}", "no layer \"down_blocks.1.resnets.1\""},
        {"{\"dilate\": {\"mid_block.\": 2}}", "no layer"},
        {"{\"dilate\": {\"\": 2}}", "no layer \"\""},
        {"{\"dilate\": {\"something else entirely\": 2}}", "names are such as"},
        {"{\"dilate\": {\"mid_block.temp_convs.0\": 2}}", "is temporal"},
        {"{\"dilate\": {\"transformer_in\": 2}}", "is temporal"},
        {"{\"dilate\": {\"conv_in\": 2}}", "is the first convolution"},
        {"{\"dilate\": {\"conv_out\": 2}}", "is the last convolution"},
        {"{\"dilate\": {\"up_blocks.0.resnets.0.conv_shortcut\": 2}}", "is a 1x1 convolution"},
        {"{\"dilate\": {\"mid_block.attentions.0\": 2}}", "is attention"},
        {"{\"dilate\": {\"mid_block\": 2, \"mid_block.resnets.0.conv2\": 3}}",
         "both name layer \"mid_block.resnets.0.conv2\""},
        {"{\"dilate\": {\"mid_block\": 2}, \"ndcfg_dilate\": []}",
         "$.ndcfg_dilate: must be an object"},
        {"{\"dilate\": {\"mid_block\": 2}, \"ndcfg_dilate\": {\"mid_block\": 17}}",
         "$.ndcfg_dilate.mid_block: the dilation 17"},
        {"{\"dilate\": {\"mid_block\": 2}, \"ndcfg_dilate\": {\"midblock\": 2}}",
         "f.json: ndcfg_dilate: the model has no layer \"midblock\"; did you mean \"mid_block\"?"},
        {"{\"dilate\": {\"mid_block\": 2}, \"ndcfg_dilate\": {\"mid_block\": 2, "
         "\"mid_block.resnets\": 2}}",
         "ndcfg_dilate: \"mid_block\" and \"mid_block.resnets\" both name"},
        {"{\"dilate\": {\"mid_block\": 2}, \"ndcfg_tau\": 51}",
         "f.json: ndcfg_tau is 51 and the run has 50 steps"},
        {"{\"ndcfg_dilate\": {\"mid_block\": 2}}", "has no \"dilate\""},
        {"{\"dilate_tau\": 3, \"attention_scale\": {\"ratio\": 2}}", "has no \"dilate\""},
        {"{\"dilate\": {\"mid_block\": 2}, \"disperse\": \"mid_block\"}",
         "$.disperse: must be a list"},
        {"{\"dilate\": {\"mid_block\": 2}, \"disperse\": [2]}", "$.disperse[0]: a layer's name"},
        {"{\"dilate\": {\"mid_block\": 2}, \"disperse\": [\"mid_block\"]}",
         "f.json: $: \"disperse\" needs \"R\""},
        {"{\"dilate\": {\"mid_block\": 2}, \"R\": [3, 5, 3, 2]}", "$.R: must be [small, large"},
        {"{\"dilate\": {\"mid_block\": 2}, \"R\": [3, 5, 3, 2, \"x\"]}",
         "$.R: must be [small, large"},
        {"{\"dilate\": {\"mid_block\": 2}, \"R\": [3, 5.5, 3, 2, 0.05]}", "$.R: must be [small"},
        {"{\"dilate\": {\"mid_block\": 2}, \"R\": [3, 4, 3, 2, 0.05]}",
         "$.R: dispersion: small 3, large 4"},
        {"{\"dilate\": {\"mid_block\": 2}, \"R\": [3, 33, 3, 2, 0.05]}",
         "$.R: dispersion: large 33"},
        {"{\"dilate\": {\"mid_block\": 2}, \"R\": [1, 3, 3, 2, 0.05]}",
         "kernels are 3 wide, not 1"},
        {"{\"dilate\": {\"mid_block\": 2}, \"R\": [3, 7, 2, 1, 0]}",
         "f.json: $.R: dispersion 3 -> 7, size 2, scale 1: the equations do not determine"},
        {"{\"dilate\": {\"mid_block\": 2}, \"dilate_tau\": 3, \"disperse\": [\"mid_block\"], "
         "\"inflate_tau\": 4, \"R\": [3, 5, 3, 2, 0.05]}",
         "\"inflate_tau\" is above \"dilate_tau\""},
        {"{\"dilate\": {\"mid_block\": 2}, \"disperse\": [\"mid_blok\"], \"R\": [3, 5, 3, 2, "
         "0.05]}",
         "f.json: disperse: the model has no layer \"mid_blok\"; did you mean \"mid_block\"?"},
        {"{\"dilate\": {\"mid_block\": 2}, \"disperse\": [\"mid_block.temp_convs\"], "
         "\"R\": [3, 5, 3, 2, 0.05]}",
         "disperse: \"mid_block.temp_convs\" is temporal"},
        {"{\"dilate\": {\"mid_block\": 2}, \"disperse\": [\"mid_block\", "
         "\"mid_block.resnets.0.conv1\"],"
         " \"R\": [3, 5, 3, 2, 0.05]}",
         "disperse: \"mid_block\" and \"mid_block.resnets.0.conv1\" both name"},
        {"{\"dilate\": {\"mid_block.resnets.0.conv1\": 2}, \"disperse\": [\"mid_block\"], "
         "\"R\": [3, 5, 3, 2, 0.05]}",
         "names layer \"mid_block.resnets.0.conv2\", which is not in dilate; only re-dilated"},
        {"{\"dilate\": {\"mid_block\": 2}, \"ndcfg_dilate\": {\"down_blocks.0\": 2}, \"disperse\": "
         "[\"mid_block\"], \"R\": [3, 5, 3, 2, 0.05]}",
         "names layer \"mid_block.resnets.0.conv1\", which is not in ndcfg_dilate"},
        {"{\"freeu\": 1}", "$.freeu"},
        {"{\"freeu\": {\"b1\": 1, \"b2\": 1, \"s1\": 1}}", "$.freeu: wants \"b1\""},
        {"{\"freeu\": {\"b1\": 1, \"b2\": 1, \"s1\": 1, \"s2\": -1, \"rule\": \"channels\"}}",
         "$.freeu.s2"},
        {"{\"freeu\": {\"b1\": 1, \"b2\": 1, \"s1\": 1, \"s2\": 1, \"rule\": \"block\"}}",
         "\"rule\" is \"up_block_index\""},
        {"{\"freeu\": {\"b1\": 1, \"b2\": 1, \"s1\": 1, \"s2\": 1, \"rule\": \"channels\", "
         "\"c3\": 8}}",
         "$.freeu.c3: unknown key"},
        {"{\"attention_scale\": 4}", "$.attention_scale"},
        {"{\"attention_scale\": {}}", "wants \"ratio\" above 0"},
        {"{\"attention_scale\": {\"ratio\": 0}}", "wants \"ratio\" above 0"},
        {"{\"attention_scale\": {\"ratio\": -2}}", "$.attention_scale.ratio"},
        {"{\"attention_scale\": {\"ratio\": NaN}}", "$.attention_scale.ratio"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vd_method_plan *p = NULL;
        CHECK_FAILS(plan(cases[i].text, 50, &p), VD_ERR_INPUT, cases[i].message);
        CHECK_MSG(p == NULL, "%s", cases[i].text);
        CHECK_MSG(strchr(vd_error_message(), '\n') == NULL, "%s", cases[i].text);
    }
    vd_settings *s = NULL;
    CHECK_FAILS(vd_settings_read("/nonexistent/settings.json", &s), VD_ERR_INPUT, "settings.json");
    CHECK(s == NULL);
}

/* Prefixes end at dots, so that resnets.1 is not resnets.10. */
static void test_names(void) {
    vd_method_plan *p = NULL;
    CHECK_OK(plan("{\"dilate\": {\"down_blocks.0\": 2, \"down_blocks.1.resnets.0\": [1.5, 3],"
                  " \"up_blocks.0.upsamplers.0.conv\": 1}}",
                  3, &p));
    if (p == NULL)
        return;
    static const vd_redilation want[LAYERS] = {{2, 2}, {2, 2}, {2, 2}, {1.5, 3}, {1.5, 3},
                                               {0, 0}, {0, 0}, {0, 0}, {1, 1}};
    const vd_layer_method *table = vd_method_plan_at(p, 0)->layers;
    CHECK(vd_method_plan_count(p) == 1);
    CHECK(vd_method_plan_distinct(p, 0, NULL) == vd_method_plan_at(p, 2));
    for (int i = 0; i < LAYERS; i++) {
        CHECK_MSG(table[i].redilated == (want[i].h > 0), "%s", paths[i]);
        CHECK_MSG(table[i].factor.h == want[i].h && table[i].factor.w == want[i].w, "%s", paths[i]);
    }
    vd_method_plan_destroy(p);
}

/* The published 2048 x 2048 settings: method.md, section 3. */
static void test_progressive(void) {
    vd_method_plan *p = NULL;
    CHECK_OK(
        plan("{\"dilate\": {\"down_blocks.0\": 2, \"down_blocks.1\": 3, \"mid_block\": [4, 3]},"
             " \"dilate_tau\": 35, \"progressive\": true}",
             50, &p));
    if (p == NULL)
        return;
    /* Tables change after steps 8 (4 -> 3), 11 (3 -> 2), 17 (3 -> 2) and 34 (plain). */
    CHECK(vd_method_plan_count(p) == 5);
    for (int step = 0; step < 50; step++) {
        const vd_layer_method *t = vd_method_plan_at(p, step)->layers;
        const double four = step <= 8 ? 4 : step <= 17 ? 3 : 2;
        const double three = step <= 11 ? 3 : 2;
        CHECK(t[8].redilated == false);
        CHECK(t[0].redilated == (step < 35) && t[6].redilated == (step < 35));
        if (step < 35) {
            CHECK_MSG(t[0].factor.h == 2 && t[3].factor.h == three && t[3].factor.w == three &&
                          t[6].factor.h == four && t[6].factor.w == three,
                      "step %d", step);
        }
    }
    vd_method_plan_destroy(p);
    /* A window of no steps leaves the plain UNet, also with the progressive rule. */
    CHECK_OK(
        plan("{\"dilate\": {\"mid_block\": 2}, \"dilate_tau\": 0, \"progressive\": true}", 2, &p));
    CHECK(p != NULL && vd_method_plan_count(p) == 1);
    CHECK(p != NULL && !vd_method_plan_at(p, 0)->layers[6].redilated);
    vd_method_plan_destroy(p);
}

/* Noise damping: an own table and window, the rules shared; nothing twice. */
static void test_damping(void) {
    vd_method_plan *p = NULL;
    CHECK_OK(plan("{\"dilate\": {\"down_blocks.0\": 2, \"mid_block\": 4}, \"dilate_tau\": 6,"
                  " \"progressive\": true, \"ndcfg_dilate\": {\"mid_block\": 4}, \"ndcfg_tau\": 4,"
                  " \"attention_scale\": {\"ratio\": 4}}",
                  8, &p));
    for (int step = 0; p != NULL && step < 8; step++) {
        const vd_step_method *strong = vd_method_plan_at(p, step);
        const vd_step_method *damped = vd_method_plan_damped_at(p, step);
        /* 4 (1 - step / 6) and 4 (1 - step / 4), rounded up, at least 2 */
        const double want = step == 0 ? 4 : step == 1 ? 4 : step == 2 ? 3 : 2;
        const double want_damped = step == 0 ? 4 : step == 1 ? 3 : 2;
        CHECK(strong->layers[0].redilated == (step < 6) && strong->attention_ratio == 4);
        CHECK(step >= 6 || strong->layers[6].factor.h == want);
        CHECK_MSG((damped != NULL) == (step < 4), "step %d", step);
        if (damped != NULL) {
            CHECK(!damped->layers[0].redilated && damped->attention_ratio == 4);
            CHECK_MSG(damped->layers[6].factor.w == want_damped, "step %d", step);
        }
    }
    vd_method_plan_destroy(p);
    /* The plain network damps where only the window is given; and not after the dilation. */
    CHECK_OK(plan("{\"dilate\": {\"mid_block\": 2}, \"dilate_tau\": 2, \"ndcfg_tau\": 4}", 5, &p));
    for (int step = 0; p != NULL && step < 5; step++) {
        const vd_step_method *damped = vd_method_plan_damped_at(p, step);
        CHECK((damped != NULL) == (step < 2));
        CHECK(damped == NULL || !damped->layers[6].redilated);
    }
    CHECK(p != NULL && vd_method_plan_count(p) == 3);
    vd_method_plan_destroy(p);
    /* The same table gives the same prediction: it is not computed again. */
    CHECK_OK(plan("{\"dilate\": {\"mid_block\": 2}, \"ndcfg_dilate\": {\"mid_block.resnets\": 2}}",
                  3, &p));
    CHECK(p != NULL && vd_method_plan_damped_at(p, 1) == NULL && vd_method_plan_count(p) == 1);
    vd_method_plan_destroy(p);
}

/* Half of the factor, after the progressive rule, in both networks; an own window. */
static void test_dispersion(void) {
    vd_method_plan *p = NULL;
    CHECK_OK(
        plan("{\"dilate\": {\"down_blocks.0\": 2, \"mid_block\": [4, 3]}, \"dilate_tau\": 6,"
             " \"progressive\": true, \"ndcfg_dilate\": {\"mid_block\": 3}, \"ndcfg_tau\": 5,"
             " \"disperse\": [\"mid_block\"], \"inflate_tau\": 4, \"R\": [3, 5, 3, 2, \"0.05\"]}",
             8, &p));
    for (int step = 0; p != NULL && step < 8; step++) {
        const vd_step_method *m = vd_method_plan_at(p, step);
        const vd_step_method *damped = vd_method_plan_damped_at(p, step);
        const double whole = step < 2 ? 4 : step == 2 ? 3 : 2, part = step < 4 ? 2 : 1;
        CHECK(m->dispersion.taps == 5 && m->dispersion.values[12 * 9 + 4] == 1);
        CHECK(!m->layers[0].dispersed && m->layers[6].dispersed == (step < 4));
        CHECK_MSG(step >= 6 || m->layers[6].factor.h == whole / part, "step %d", step);
        CHECK(damped == NULL || damped->layers[6].dispersed == (step < 4));
        CHECK(step != 0 || (damped != NULL && damped->layers[6].factor.w == 1.5));
    }
    vd_method_plan_destroy(p);
    /* The window alone, as ScaleCrafter's settings have it: no list, no effect. */
    CHECK_OK(plan("{\"dilate\": {\"mid_block\": 2}, \"inflate_tau\": 3}", 8, &p));
    CHECK(p != NULL && !vd_method_plan_at(p, 0)->layers[6].dispersed);
    vd_method_plan_destroy(p);
    /* And a list whose window is empty, as the published ones. */
    CHECK_OK(
        plan("{\"dilate\": {\"mid_block\": 2}, \"disperse\": [\"mid_block\"], \"inflate_tau\": 0,"
             " \"R\": [3, 5, 3, 2, 0.05]}",
             8, &p));
    CHECK(p != NULL && vd_method_plan_count(p) == 1 &&
          !vd_method_plan_at(p, 0)->layers[6].dispersed);
    vd_method_plan_destroy(p);
}

static void test_file(void) {
    const char path[] = "settings-test.json";
    FILE *f = fopen(path, "w");
    CHECK(f != NULL && fputs("{\"dilate\": {\"mid_block\": 2.5}, \"dilate_tau\": 30}", f) >= 0);
    if (f != NULL)
        fclose(f);
    vd_settings *s = NULL;
    CHECK_OK(vd_settings_read(path, &s));
    if (s != NULL) {
        CHECK(s->dilate_count == 1 && s->dilate_tau == 30 && !s->progressive);
        CHECK(vd_settings_at(s, "mid_block.resnets.1.conv1", 29).factor.w == 2.5);
        CHECK(!vd_settings_at(s, "mid_block.resnets.1.conv1", 30).redilated);
        CHECK(!vd_settings_at(s, "mid_blocks", 0).redilated);
        CHECK_FAILS(vd_settings_check_steps(s, 29), VD_ERR_INPUT,
                    "settings-test.json: dilate_tau is 30");
        CHECK_OK(vd_settings_check_steps(s, 30));
    }
    vd_settings_destroy(s);
    /* A key that only a golden case may have. */
    f = fopen(path, "w");
    CHECK(f != NULL && fputs("{\"dilate\": {\"mid_block\": 2.5}, \"step\": 3}", f) >= 0);
    if (f != NULL)
        fclose(f);
    CHECK_FAILS(vd_settings_read(path, &s), VD_ERR_INPUT, "$.step: unknown key");
    remove(path);
}

/* What is written reads back the same. */
static void test_round_trip(void) {
    static const char *const texts[] = {
        "{\"dilate\":{\"mid_block\":2.5,\"down_blocks.0\":[1.5,1.1]},\"dilate_tau\":6,"
        "\"progressive\":true}",
        "{\"dilate\":{\"mid_block\":2},\"progressive\":false}",
        "{\"dilate\":{\"mid_block\":4},\"dilate_tau\":35,\"progressive\":true,"
        "\"ndcfg_dilate\":{\"mid_block\":[3,2]},\"ndcfg_tau\":30}",
        "{\"dilate\":{\"mid_block\":4},\"progressive\":false,\"ndcfg_tau\":3}",
        "{\"dilate\":{\"mid_block\":4},\"dilate_tau\":35,\"progressive\":true,\"disperse\":[\"mid_"
        "block\"],"
        "\"inflate_tau\":20,\"R\":[3,7,4,3,0.05]}",
        "{\"dilate\":{\"mid_block\":4},\"progressive\":false,\"disperse\":[\"mid_block.resnets.0\"]"
        ","
        "\"R\":[3,5,3,2,0.05]}",
        "{\"freeu\":{\"b1\":1.2,\"b2\":1.4,\"s1\":0.9,\"s2\":0.2,\"rule\":\"up_block_index\"}}",
        "{\"dilate\":{\"mid_block\":2},\"progressive\":false,\"freeu\":{\"b1\":1.2,\"b2\":1.4,"
        "\"s1\":0.9,\"s2\":0.2,\"rule\":\"channels\",\"c1\":1280,\"c2\":640},"
        "\"attention_scale\":{\"ratio\":4}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        vd_settings *s = NULL;
        vd_json_writer *w = NULL;
        char *text = NULL;
        CHECK_OK(parse(texts[i], &s));
        CHECK_OK(vd_json_writer_create(&w));
        if (s != NULL && w != NULL) {
            vd_settings_put(w, NULL, s);
            CHECK_OK(vd_json_writer_finish(w, false, &text));
            CHECK_MSG(text != NULL && strcmp(text, texts[i]) == 0, "%s", text);
        }
        free(text);
        vd_json_writer_destroy(w);
        vd_settings_destroy(s);
    }
}

int main(void) {
    test_round_trip();
    test_refusals();
    test_names();
    test_progressive();
    test_damping();
    test_dispersion();
    test_file();
    return CHECK_DONE();
}

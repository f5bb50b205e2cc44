/* Which row a render gets, and how its numbers are fitted to another size, step count and
 * scheduler. The published numbers are those of ScaleCrafter's table, typed from it. */
#include <stdlib.h>

#include "tests/check.h"
#include "unet3d/settings.h"
#include "video/method_choice.h"

static const char CONFIGS[] = VD_SOURCE_DIR "/configs";

static const vd_unet_config sd15 = {.levels = 4,
                                    .channels = {320, 640, 1280, 1280},
                                    .layers_per_block = 2,
                                    .mid_layers = 2,
                                    .cross_attention_dim = 768};
static const vd_unet_config sd21 = {.levels = 4,
                                    .channels = {320, 640, 1280, 1280},
                                    .layers_per_block = 2,
                                    .mid_layers = 2,
                                    .cross_attention_dim = 1024};
static const vd_unet_config sdxl = {.levels = 3,
                                    .channels = {320, 640, 1280},
                                    .layers_per_block = 2,
                                    .mid_layers = 2,
                                    .cross_attention_dim = 2048};
static const vd_unet_config video = {.temporal = true,
                                     .levels = 4,
                                     .channels = {320, 640, 1280, 1280},
                                     .layers_per_block = 2,
                                     .mid_layers = 2,
                                     .cross_attention_dim = 1024};

static vd_scheduler *scheduler(const char *name, int steps) {
    static const char text[] =
        "{\"_class_name\": \"DDIMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
        " \"beta_schedule\": \"scaled_linear\", \"clip_sample\": false,"
        " \"set_alpha_to_one\": false, \"steps_offset\": 1}";
    vd_json *doc = NULL;
    vd_scheduler_config config = {0};
    vd_scheduler *s = NULL;
    CHECK_OK(vd_json_parse(text, strlen(text), "scheduler", &doc));
    CHECK_OK(vd_scheduler_config_from_json(doc, vd_json_root(doc), name, &config));
    CHECK_OK(vd_scheduler_create(&config, steps, 0, 1, &s));
    vd_scheduler_config_clear(&config);
    vd_json_destroy(doc);
    return s;
}

/* The fitted settings, or NULL. */
static vd_settings *fitted(const vd_method_fit *fit, const char *method) {
    vd_json_writer *w = NULL;
    vd_json *doc = NULL;
    char *text = NULL;
    vd_settings *s = NULL;
    CHECK_OK(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    vd_method_put(w, fit, method);
    vd_json_end(w);
    CHECK_OK(vd_json_writer_finish(w, false, &text));
    vd_json_writer_destroy(w);
    CHECK_OK(vd_json_parse(text, strlen(text), "fitted", &doc));
    CHECK_OK(vd_settings_parse(doc, vd_json_root(doc), NULL, "fitted", &s));
    vd_json_destroy(doc);
    free(text);
    return s;
}

static vd_redilation factor_of(const vd_dilate_entry *entries, size_t count, const char *path) {
    for (size_t i = 0; i < count; i++)
        if (vd_settings_name_covers(entries[i].name, path))
            return entries[i].factor;
    return (vd_redilation){1, 1};
}

static vd_redilation strong(const vd_settings *s, const char *path) {
    return factor_of(s->dilate, s->dilate_count, path);
}

static vd_redilation damped(const vd_settings *s, const char *path) {
    return factor_of(s->ndcfg_dilate, s->ndcfg_count, path);
}

/* Each file that ships names layers of its own network, once, and suits the class it is for. */
static void test_files(const vd_config_rows *rows) {
    static const struct {
        const char *prefix;
        const vd_unet_config *config;
        int count;
    } families[] = {{"sd15-", &sd15, 4},
                    {"sd21-", &sd21, 4},
                    {"sdxl-", &sdxl, 4},
                    {"modelscope-", &video, 2},
                    {"zeroscope-", &video, 3}};
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        int count = 0;
        vd_spatial_paths paths = {0};
        CHECK_OK(vd_spatial_paths_of(families[f].config, &paths));
        for (size_t i = 0; i < rows->count; i++) {
            const vd_config_row *row = &rows->row[i];
            vd_settings *s = NULL;
            if (strncmp(row->name, families[f].prefix, strlen(families[f].prefix)) != 0)
                continue;
            count++;
            CHECK_MSG(vd_config_row_fits(row, families[f].config), "%s", row->name);
            CHECK_OK(vd_settings_parse(row->doc, vd_json_root(row->doc), vd_settings_row_keys,
                                       row->name, &s));
            CHECK_OK(vd_settings_check_names(s, paths.list));
            vd_settings_destroy(s);
        }
        CHECK_MSG(count == families[f].count, "%s %d", families[f].prefix, count);
        vd_spatial_paths_free(&paths);
    }
}

static vd_method_fit fit_of(const vd_config_rows *rows, const vd_unet_config *c, int trained,
                            double wide, double high, const vd_scheduler *s) {
    const int64_t trained_px[2] = {trained, trained};
    vd_method_fit fit = {.ratio = {wide, high}, .scheduler = s};
    CHECK(vd_method_nearest_row(rows, c, trained_px, &fit));
    return fit;
}

static void test_published(const vd_config_rows *rows) {
    vd_scheduler *ddim = scheduler("ddim", 50);
    vd_method_fit fit = fit_of(rows, &sd15, 512, 4, 4, ddim);
    CHECK(fit.exact && strcmp(fit.row->name, "sd15-2048x2048") == 0);
    vd_settings *s = fitted(&fit, "auto");
    if (s != NULL) {
        CHECK(s->dilate_tau == 35 && s->ndcfg_tau == 35 && s->progressive);
        CHECK(s->freeu.rule == VD_FREEU_OFF && s->attention_ratio == 0 && s->low_res_tau == 0);
        CHECK(s->disperse_count == 0);
        CHECK(strong(s, "down_blocks.0.resnets.0.conv1").h == 1);
        CHECK(strong(s, "down_blocks.1.downsamplers.0.conv").h == 2);
        CHECK(strong(s, "up_blocks.1.resnets.2.conv2").w == 3);
        CHECK(strong(s, "mid_block.resnets.1.conv1").w == 4);
        CHECK(strong(s, "up_blocks.2.upsamplers.0.conv").w == 2);
        CHECK(strong(s, "up_blocks.3.resnets.0.conv1").w == 1);
        CHECK(damped(s, "up_blocks.2.resnets.0.conv1").w == 1);
        CHECK(damped(s, "up_blocks.1.upsamplers.0.conv").w == 3);
    }
    vd_settings_destroy(s);
    s = fitted(&fit, "redilate");
    CHECK(s != NULL && s->ndcfg_tau == 0 && s->dilate_tau == 35 && s->progressive);
    vd_settings_destroy(s);
    s = fitted(&fit, "disperse");
    CHECK(s != NULL && s->disperse_count == 7 && s->inflate_tau == 35 && s->ndcfg_tau == 0);
    CHECK(s != NULL && s->dispersion.large == 5 && s->dispersion.eta == 0.05);
    vd_settings_destroy(s);
    s = fitted(&fit, "freeu");
    CHECK(s != NULL && s->dilate_count == 0 && s->freeu.rule == VD_FREEU_BY_CHANNELS);
    CHECK(s != NULL && s->freeu.b1 == 1.2 && s->freeu.b2 == 1.4 && s->freeu.s1 == 0.9 &&
          s->freeu.s2 == 0.2 && s->freeu.c1 == 1280 && s->freeu.c2 == 640);
    vd_settings_destroy(s);
    s = fitted(&fit, "attn-scale");
    CHECK(s != NULL && s->dilate_count == 0 && s->attention_ratio == 16);
    vd_settings_destroy(s);
    s = fitted(&fit, "low-res");
    CHECK(s != NULL && s->low_res_tau == 25 && s->dilate_tau == 35);
    vd_settings_destroy(s);
    /* Half of another family's size, and this one's non-square row, upright. */
    fit = fit_of(rows, &sd21, 512, 2.5, 2.5, ddim);
    CHECK(fit.exact && strcmp(fit.row->name, "sd21-1280x1280") == 0);
    fit = fit_of(rows, &sd15, 512, 2, 4, ddim);
    CHECK(fit.exact && fit.turned && strcmp(fit.row->name, "sd15-2048x1024") == 0);
    fit = fit_of(rows, &sdxl, 1024, 2, 2, ddim);
    CHECK(fit.exact && strcmp(fit.row->name, "sdxl-2048x2048") == 0);
    fit = fit_of(rows, &video, 256, 2, 2, ddim);
    CHECK(fit.exact && strcmp(fit.row->name, "modelscope-512x512") == 0);
    vd_scheduler_destroy(ddim);
}

static void test_other_sizes(const vd_config_rows *rows) {
    vd_scheduler *ddim = scheduler("ddim", 50);
    /* 1.5 x 1.5 of the row for 2 x 2: half of what is above 1. */
    vd_method_fit fit = fit_of(rows, &sd15, 512, 1.5, 1.5, ddim);
    CHECK(!fit.exact && strcmp(fit.row->name, "sd15-1024x1024") == 0);
    vd_settings *s = fitted(&fit, "auto");
    CHECK(s != NULL && strong(s, "mid_block.resnets.0.conv1").h == 1.5);
    vd_settings_destroy(s);
    /* Each axis by itself: 3 wide, 2 high; 1 high. */
    fit = fit_of(rows, &sd15, 512, 3, 2, ddim);
    CHECK(!fit.exact && strcmp(fit.row->name, "sd15-1280x1280") == 0);
    s = fitted(&fit, "auto");
    CHECK(s != NULL && strong(s, "mid_block.resnets.0.conv1").w == 3);
    CHECK(s != NULL && strong(s, "mid_block.resnets.0.conv1").h == 2);
    vd_settings_destroy(s);
    fit = fit_of(rows, &sd15, 512, 2, 1, ddim);
    s = fitted(&fit, "auto");
    CHECK(s != NULL && strong(s, "mid_block.resnets.0.conv1").w == 2);
    CHECK(s != NULL && strong(s, "mid_block.resnets.0.conv1").h == 1);
    vd_settings_destroy(s);
    /* 3 x 3 of the row for 4 x 4, whose factors are 2, 3, 4: 1 + (d - 1) * 2/3. */
    fit = fit_of(rows, &sd15, 512, 3.5, 3.5, ddim);
    CHECK(!fit.exact && strcmp(fit.row->name, "sd15-2048x2048") == 0);
    CHECK(vd_method_fit_factor(&fit, 4, 0) == 3.5 && vd_method_fit_factor(&fit, 1, 0) == 1);
    s = fitted(&fit, "auto");
    CHECK(s != NULL && s->progressive && strong(s, "down_blocks.1.resnets.0.conv1").h == 1.83);
    vd_settings_destroy(s);
    /* The progressive rule would lift an axis that is hardly enlarged to 2. */
    fit = fit_of(rows, &sd15, 512, 4, 1.5, ddim);
    s = fitted(&fit, "auto");
    CHECK(s != NULL && !s->progressive);
    vd_settings_destroy(s);
    fit = fit_of(rows, &sd15, 512, 30, 30, ddim);
    CHECK(vd_method_fit_factor(&fit, 4, 0) == 16);
    /* Unknown networks have no row. */
    const int64_t trained[2] = {64, 64};
    vd_unet_config other = sd15;
    other.channels[1] = 648;
    CHECK(!vd_method_nearest_row(rows, &other, trained, &fit));
    other = sd15;
    other.temporal = true;
    CHECK(!vd_method_nearest_row(rows, &other, trained, &fit));
    vd_scheduler_destroy(ddim);
}

/* Windows are as many calls as are as noisy as the row's. */
static void test_windows(const vd_config_rows *rows) {
    static const struct {
        const char *scheduler;
        int steps, tau, want;
    } cases[] = {
        {"ddim", 50, 30, 30},  {"ddim", 50, 35, 35},    {"ddim", 50, 50, 49}, {"ddim", 50, 0, 0},
        {"ddim", 25, 30, 15},  {"ddim", 100, 30, 60},   {"ddim", 10, 35, 7},  {"ddim", 1, 30, 1},
        {"euler", 50, 30, 30}, {"dpmpp2m", 20, 30, 12}, {"unipc", 10, 35, 7}, {"lcm", 4, 30, 3},
        {"lcm", 2, 30, 1},     {"lcm", 8, 35, 6},       {"lcm", 1, 35, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vd_scheduler *s = scheduler(cases[i].scheduler, cases[i].steps);
        const vd_method_fit fit = fit_of(rows, &sd15, 512, 2, 2, s);
        const int got = vd_method_fit_tau(&fit, cases[i].tau);
        CHECK_MSG(got == cases[i].want, "%s %d steps, tau %d: %d", cases[i].scheduler,
                  cases[i].steps, cases[i].tau, got);
        vd_scheduler_destroy(s);
    }
    /* Karras' levels crowd where there is little noise: fewer of the calls are noisy. */
    vd_scheduler *karras = scheduler("dpmpp2m-karras", 50);
    const vd_method_fit fit = fit_of(rows, &sd15, 512, 2, 2, karras);
    const int tau = vd_method_fit_tau(&fit, 30);
    CHECK_MSG(tau > 5 && tau < 30, "%d", tau);
    CHECK(vd_scheduler_timestep(karras, tau - 1) >= 399 &&
          vd_scheduler_timestep(karras, tau) < 400);
    vd_scheduler_destroy(karras);
}

static void refuse(const char *text, const char *words) {
    vd_json *doc = NULL;
    vd_config_row row = {0};
    CHECK_OK(vd_json_parse(text, strlen(text), "row.json", &doc));
    CHECK_FAILS(vd_config_row_parse(doc, "row", &row), VD_ERR_INPUT, words);
    CHECK(row.doc == NULL && row.name == NULL);
}

static void test_refusals(void) {
    vd_config_rows rows = {0};
    CHECK_FAILS(vd_config_rows_read("/nonexistent", &rows), VD_ERR_INPUT, "/nonexistent");
    refuse("{\"dilate\": {\"mid_block\": 2}}", "needs \"for\"");
    refuse("{\"dilate\": {\"mid_block\": 2}, \"for\": {}}", "block_out_channels");
    refuse("{\"for\": {\"clas\": \"a\"}, \"dilate\": {\"mid_block\": 2}}",
           "did you mean \"class\"");
    refuse("{\"for\": {\"class\": \"a\", \"block_out_channels\": [1], \"trained\": [1]},"
           " \"dilate\": {\"mid_block\": 2}}",
           "$.for.trained: \"trained\" must be [width, height]");
    refuse("{\"for\": {\"class\": \"a\", \"block_out_channels\": [1], \"trained\": [1, 0.5]},"
           " \"dilate\": {\"mid_block\": 2}}",
           "$.for.trained[1]");
    refuse("{\"for\": {\"class\": \"a\", \"block_out_channels\": [1], \"trained\": [1, 1],"
           " \"size\": [2, 2], \"steps\": 10}, \"dilate\": {\"mid_block\": 2}, \"dilate_tau\": 11}",
           "dilate_tau is 11 and the run has 10 steps");
    refuse("{\"for\": {}, \"dilate\": {}}", "name at least one layer");
}

int main(void) {
    vd_config_rows rows = {0};
    CHECK_OK(vd_config_rows_read(CONFIGS, &rows));
    test_files(&rows);
    test_published(&rows);
    test_other_sizes(&rows);
    test_windows(&rows);
    test_refusals();
    vd_config_rows_free(&rows);
    return CHECK_DONE();
}

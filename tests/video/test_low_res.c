/* What a small render's guidance rests on: the enlargement, and that every scheduler, fed the
 * predictions whose x0 is a given clip, ends at that clip. */
#include <stdlib.h>

#include "core/rng.h"
#include "tests/check.h"
#include "video/low_res.h"
#include "video/scheduler.h"

/* Values of torch.nn.functional.interpolate(mode="bilinear", align_corners=False). */
static void test_enlarge(void) {
    static const float src[4] = {0, 3, 6, 12};
    static const float want[4 * 3] = {0,    1.5F,   3,     1.5F, 3.375F, 5.25F,
                                      4.5F, 7.125F, 9.75F, 6,    9,      12};
    float dst[12];
    vd_low_res_enlarge(dst, 4, 3, src, 2, 2, 1);
    for (int i = 0; i < 12; i++)
        CHECK_MSG(fabsf(dst[i] - want[i]) < 1e-6F, "%d: %g", i, (double)dst[i]);
}

static void test_size(void) {
    const vd_model_info info = {.width_px = 64, .height_px = 64, .size_multiple_px = 4};
    int64_t w = 0, h = 0;
    CHECK(vd_low_res_size(&info, 128, 128, &w, &h) && w == 64 && h == 64);
    CHECK(vd_low_res_size(&info, 256, 64, &w, &h) && w == 128 && h == 32);
    CHECK(vd_low_res_size(&info, 128, 64, &w, &h) && w == 92 && h == 44);
    CHECK(!vd_low_res_size(&info, 64, 64, &w, &h));
    CHECK(!vd_low_res_size(&info, 32, 64, &w, &h));
    CHECK(vd_low_res_size(&info, 16384, 4, &w, &h) && h == 4);
}

enum { COUNT = 64 };

static void check_scheduler(const char *name, const char *prediction, double tolerance) {
    char text[256];
    vd_json *doc = NULL;
    vd_scheduler_config config = {0};
    vd_scheduler *s = NULL;
    float sample[COUNT], clip[COUNT], output[COUNT], noise[COUNT];
    vd_rng rng;
    snprintf(text, sizeof text,
             "{\"_class_name\": \"DDIMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
             " \"beta_schedule\": \"scaled_linear\", \"clip_sample\": false, \"steps_offset\": 1,"
             " \"skip_prk_steps\": true, \"prediction_type\": \"%s\"}",
             prediction);
    CHECK_OK(vd_json_parse(text, strlen(text), "scheduler", &doc));
    CHECK_OK(vd_scheduler_config_from_json(doc, vd_json_root(doc), name, &config));
    CHECK_OK(vd_scheduler_create(&config, 20, 0, COUNT, &s));
    vd_rng_seed(&rng, 7);
    vd_rng_normal_f32(&rng, clip, COUNT);
    vd_rng_normal_f32(&rng, sample, COUNT);
    for (int i = 0; i < COUNT; i++)
        sample[i] *= (float)vd_scheduler_init_noise_sigma(s);
    for (int call = 0; call < vd_scheduler_calls(s); call++) {
        double of_sample = 0, of_output = 0;
        vd_scheduler_x0(s, call, &of_sample, &of_output);
        for (int i = 0; i < COUNT; i++)
            output[i] = (float)(((double)clip[i] - of_sample * (double)sample[i]) / of_output);
        vd_rng_normal_f32(&rng, noise, COUNT);
        CHECK_OK(vd_scheduler_step(s, call, sample, output, noise, COUNT));
    }
    double worst = 0;
    for (int i = 0; i < COUNT; i++)
        worst = fmax(worst, fabs((double)(sample[i] - clip[i])));
    CHECK_MSG(worst < tolerance, "%s %s: %g", name, prediction, worst);
    vd_scheduler_destroy(s);
    vd_scheduler_config_clear(&config);
    vd_json_destroy(doc);
}

/* The last step ends at x0; what is left is the noise of the lowest level (sqrt(1 - alpha) = 0.03)
 * for DDIM and PNDM, which do not go to zero, and rounding for the others. */
static void test_schedulers(void) {
    static const char *const predictions[] = {"epsilon", "v_prediction"};
    check_scheduler("ddim", "sample", 0.15);
    for (size_t p = 0; p < sizeof predictions / sizeof predictions[0]; p++) {
        check_scheduler("ddim", predictions[p], 0.15);
        check_scheduler("pndm", predictions[p], 0.15);
        check_scheduler("lcm", predictions[p], 1e-3);
        check_scheduler("euler", predictions[p], 1e-3);
        check_scheduler("euler-a", predictions[p], 1e-3);
        check_scheduler("dpmpp2m", predictions[p], 1e-3);
        check_scheduler("dpmpp2m-karras", predictions[p], 1e-3);
        check_scheduler("unipc", predictions[p], 1e-3);
    }
}

int main(void) {
    test_enlarge();
    test_size();
    test_schedulers();
    return CHECK_DONE();
}

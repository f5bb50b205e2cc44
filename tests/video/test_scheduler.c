/* The schedulers against diffusers' own numbers (tests/golden), and what no golden case covers. */
#include <math.h>
#include <stdlib.h>

#include "tests/check.h"
#include "tests/golden.h"
#include "video/scheduler.h"

/* ---- golden ---- */

static vd_status scheduler_of_case(const golden_case *c, size_t count, vd_scheduler **out) {
    vd_scheduler_config config = {0};
    int64_t steps = 0;
    double eta = 0;
    vd_status st;
    *out = NULL;
    VD_TRY(vd_scheduler_config_from_json(c->doc, vd_json_get(c->settings, "config"), c->module,
                                         &config));
    VD_TRY(vd_json_int(c->doc, c->settings, "steps", 1, 1000, 0, &steps));
    VD_TRY(vd_json_double(c->doc, c->settings, "eta", 0, 1, 0, &eta));
    VD_TRY(vd_scheduler_create(&config, (int)steps, eta, count, out));
done:
    vd_scheduler_config_clear(&config);
    return st;
}

static void check_lists(const golden_case *c, const vd_scheduler *s) {
    size_t calls = (size_t)vd_scheduler_calls(s);
    double *t = calloc(calls, sizeof *t);
    for (size_t i = 0; t != NULL && i < calls; i++)
        t[i] = vd_scheduler_timestep(s, (int)i);
    CHECK(golden_compare(c, "timesteps", VD_F64, t, calls, GOLDEN_F32));
    free(t);
    double init = vd_scheduler_init_noise_sigma(s);
    CHECK(golden_compare(c, "init_noise_sigma", VD_F64, &init, 1, GOLDEN_F32));
    vd_tensor shape;
    size_t count;
    const double *sigmas = vd_scheduler_sigmas(s, &count);
    CHECK((sigmas != NULL) == golden_output_shape(c, "sigmas", &shape));
    if (sigmas != NULL)
        CHECK(golden_compare(c, "sigmas", VD_F64, sigmas, count, GOLDEN_F32));
}

static void check_trace(const golden_case *c, vd_scheduler *s, float *sample, size_t count,
                        const float *outputs, const float *noise) {
    size_t calls = (size_t)vd_scheduler_calls(s);
    float *scaled = malloc(calls * count * sizeof *scaled);
    float *trace = malloc(calls * count * sizeof *trace);
    CHECK(scaled != NULL && trace != NULL);
    for (size_t e = 0; e < count; e++)
        sample[e] *= (float)vd_scheduler_init_noise_sigma(s);
    for (size_t i = 0; i < calls && scaled != NULL && trace != NULL; i++) {
        float scale = (float)vd_scheduler_input_scale(s, (int)i);
        for (size_t e = 0; e < count; e++)
            scaled[i * count + e] = sample[e] * scale;
        bool noisy = vd_scheduler_needs_noise(s, (int)i);
        CHECK(!noisy || noise != NULL);
        CHECK_OK(vd_scheduler_step(s, (int)i, sample, outputs + i * count,
                                   noisy ? noise + i * count : NULL, count));
        memcpy(trace + i * count, sample, count * sizeof *sample);
    }
    CHECK(golden_compare(c, "scaled_input", VD_F32, scaled, calls * count, GOLDEN_F32));
    CHECK(golden_compare(c, "trace", VD_F32, trace, calls * count, GOLDEN_F32));
    free(scaled);
    free(trace);
}

static void check_case(const golden_case *c) {
    size_t count = 0;
    size_t outputs_count = 0;
    float *sample = golden_input(c, "sample", VD_F32, &count, NULL);
    float *outputs = golden_input(c, "model_output", VD_F32, &outputs_count, NULL);
    float *noise =
        golden_has_input(c, "noise") ? golden_input(c, "noise", VD_F32, NULL, NULL) : NULL;
    vd_scheduler *s = NULL;
    CHECK_OK(scheduler_of_case(c, count, &s));
    if (s != NULL && sample != NULL && outputs != NULL) {
        CHECK(outputs_count == (size_t)vd_scheduler_calls(s) * count);
        check_lists(c, s);
        if (outputs_count == (size_t)vd_scheduler_calls(s) * count)
            check_trace(c, s, sample, count, outputs, noise);
    }
    vd_scheduler_destroy(s);
    free(sample);
    free(outputs);
    free(noise);
}

/* One output of alphas-cumprod is the product under one schedule. */
static void check_alphas(const golden_case *c) {
    static const struct {
        const char *output;
        vd_beta_schedule schedule;
        bool zero_snr;
        golden_bound bound;
    } rows[] = {
        {"scaled_linear", VD_BETAS_SCALED_LINEAR, false, GOLDEN_EXACT},
        {"linear", VD_BETAS_LINEAR, false, GOLDEN_EXACT},
        {"cosine", VD_BETAS_COSINE, false, GOLDEN_F32}, /* libm's cos differs between systems */
        {"scaled_linear_zsnr", VD_BETAS_SCALED_LINEAR, true, GOLDEN_F32},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vd_scheduler_config config;
        CHECK_OK(vd_scheduler_config_from_json(c->doc, c->settings, "ddim", &config));
        config.beta_schedule = rows[i].schedule;
        config.rescale_betas_zero_snr = rows[i].zero_snr;
        size_t n = (size_t)config.train_steps;
        float *alphas = malloc(n * sizeof *alphas);
        CHECK_OK(vd_scheduler_alphas_cumprod(&config, alphas));
        CHECK(golden_compare(c, rows[i].output, VD_F32, alphas, n, rows[i].bound));
        free(alphas);
        vd_scheduler_config_clear(&config);
    }
}

static void test_golden(void) {
    golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    golden_case *c;
    while ((c = golden_next(g, "scheduler", NULL)) != NULL) {
        if (c->module[0] == '\0')
            check_alphas(c);
        else
            check_case(c);
    }
    CHECK(golden_close(g) == 0);
}

/* ---- what holds for every class and number of steps ---- */

static vd_status make(const char *json, const char *name, int steps, double eta, size_t count,
                      vd_scheduler **out) {
    vd_scheduler_config config = {0};
    vd_json *doc = NULL;
    vd_status st;
    *out = NULL;
    VD_TRY(vd_json_parse(json, strlen(json), "test.json", &doc));
    VD_TRY(vd_scheduler_config_from_json(doc, vd_json_root(doc), name, &config));
    VD_TRY(vd_scheduler_create(&config, steps, eta, count, out));
done:
    vd_scheduler_config_clear(&config);
    vd_json_destroy(doc);
    return st;
}

/* Options that no golden case has: the last timestep and sample of a scalar run. */
static void test_more(void) {
    static const struct {
        const char *json;
        int steps;
        double eta, timestep, sample;
    } rows[] = {
#include "tests/video/test_scheduler_more.inc"
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        vd_scheduler *s = NULL;
        CHECK_OK(make(rows[k].json, NULL, rows[k].steps, rows[k].eta, 1, &s));
        if (s == NULL)
            continue;
        float x = (float)vd_scheduler_init_noise_sigma(s);
        int calls = vd_scheduler_calls(s);
        for (int i = 0; i < calls; i++) {
            double scaled = (double)x * vd_scheduler_input_scale(s, i);
            float output = (float)(0.9 * cos(i + 1) + 0.1 * scaled);
            float noise = (float)sin(i + 1);
            CHECK_OK(vd_scheduler_step(s, i, &x, &output, &noise, 1));
        }
        /* Euler's timesteps of a ramp come from float32 logarithms: 1e-6 of 7, times 100 a unit. */
        CHECK_MSG(fabs(vd_scheduler_timestep(s, calls - 1) - rows[k].timestep) < 1e-3, "%s: %g",
                  rows[k].json, vd_scheduler_timestep(s, calls - 1));
        /* The reference ran in float64; ours rounds the sample to 6e-8 in each of up to 20 steps,
         * of samples up to ten times the last. */
        CHECK_MSG(fabs((double)x - rows[k].sample) < 1e-5 * fmax(1, fabs(rows[k].sample)),
                  "%s: %.9g, not %.9g", rows[k].json, (double)x, rows[k].sample);
        vd_scheduler_destroy(s);
    }
}

enum { COUNT = 8 };

/* A stand-in for the UNet that depends on what it is given. */
static void predict(const vd_scheduler *s, int i, const float *sample, float *output) {
    float scale = (float)vd_scheduler_input_scale(s, i);
    for (int e = 0; e < COUNT; e++)
        output[e] = sinf(3 * sample[e] * scale + (float)vd_scheduler_timestep(s, i) / 500);
}

static void start(const vd_scheduler *s, float *sample) {
    for (int e = 0; e < COUNT; e++)
        sample[e] = (float)vd_scheduler_init_noise_sigma(s) * cosf((float)(5 * e + 1));
}

static void advance(vd_scheduler *s, int i, float *sample) {
    float output[COUNT];
    float noise[COUNT];
    for (int e = 0; e < COUNT; e++)
        noise[e] = sinf((float)(7 * e + 11 * i));
    predict(s, i, sample, output);
    CHECK_OK(vd_scheduler_step(s, i, sample, output, vd_scheduler_needs_noise(s, i) ? noise : NULL,
                               COUNT));
}

static void test_every_step_count(void) {
    static const char *const spacings[] = {"leading", "linspace", "trailing"};
    for (const char *const *name = vd_scheduler_names(); *name != NULL; name++)
        for (size_t k = 0; k < 3; k++)
            for (int steps = 1; steps <= 100; steps++) {
                char json[128];
                snprintf(json, sizeof json,
                         "{\"num_train_timesteps\": 100, \"timestep_spacing\": \"%s\", "
                         "\"skip_prk_steps\": true, \"original_inference_steps\": 100}",
                         spacings[k]);
                vd_scheduler *s = NULL;
                vd_status st = make(json, *name, steps, 0.5, COUNT, &s);
                bool twice = steps == 100 && k != 2 &&
                             (strcmp(*name, "dpmpp2m") == 0 || strcmp(*name, "unipc") == 0);
                CHECK_MSG(st == (twice ? VD_ERR_USAGE : VD_OK), "%s %s %d: %s", *name, spacings[k],
                          steps, vd_error_message());
                if (st != VD_OK)
                    continue;
                float sample[COUNT];
                start(s, sample);
                double before = 100;
                bool sane = true;
                for (int i = 0; i < vd_scheduler_calls(s); i++) {
                    double t = vd_scheduler_timestep(s, i);
                    sane = sane && t >= 0 && t <= before && t <= 99;
                    before = t;
                    advance(s, i, sample);
                }
                for (int e = 0; e < COUNT; e++)
                    sane = sane && isfinite(sample[e]);
                CHECK_MSG(sane, "%s %s %d", *name, spacings[k], steps);
                vd_scheduler_destroy(s);
            }
}

/* With the true noise as output, every deterministic solver ends at the sample behind it. */
static void test_exact_noise(void) {
    static const char *const solvers[] = {
        "ddim", "dpmpp2m", "dpmpp2m-karras", "euler", "euler-karras", "unipc", "pndm"};
    for (size_t k = 0; k < sizeof solvers / sizeof *solvers; k++) {
        vd_scheduler *s = NULL;
        CHECK_OK(make("{\"clip_sample\": false, \"set_alpha_to_one\": true, "
                      "\"timestep_spacing\": \"trailing\"}",
                      solvers[k], 20, 0, 1, &s));
        if (s == NULL)
            continue;
        const float x0 = 0.75F;
        const float eps = -1.25F;
        vd_scheduler_config config = {.class_id = VD_SCHEDULER_DDIM,
                                      .train_steps = 1000,
                                      .beta_start = 0.0001,
                                      .beta_end = 0.02};
        float alphas[1000];
        CHECK_OK(vd_scheduler_alphas_cumprod(&config, alphas));
        size_t n;
        const double *sigmas = vd_scheduler_sigmas(s, &n);
        int t = (int)vd_scheduler_timestep(s, 0);
        float sample = sqrtf(alphas[t]) * x0 + sqrtf(1 - alphas[t]) * eps;
        if (strncmp(solvers[k], "euler", 5) == 0)
            sample = x0 + (float)sigmas[0] * eps;
        for (int i = 0; i < vd_scheduler_calls(s); i++)
            CHECK_OK(vd_scheduler_step(s, i, &sample, &eps, NULL, 1));
        /* the first sample is rounded, and 1 / sqrt(alpha) = 157 magnifies that 1.2e-7 */
        CHECK_MSG(fabsf(sample - x0) < 5e-5F, "%s: %g", solvers[k], (double)sample);
        vd_scheduler_destroy(s);
    }
}

static void test_resume(void) {
    for (const char *const *name = vd_scheduler_names(); *name != NULL; name++)
        for (int stop = 0; stop < 8; stop++) {
            vd_scheduler *whole = NULL;
            vd_scheduler *rest = NULL;
            CHECK_OK(make("{\"skip_prk_steps\": false}", *name, 8, 0.3, COUNT, &whole));
            CHECK_OK(make("{\"skip_prk_steps\": false}", *name, 8, 0.3, COUNT, &rest));
            if (whole == NULL || rest == NULL)
                return;
            float a[COUNT];
            float b[COUNT];
            start(whole, a);
            for (int i = 0; i < stop; i++)
                advance(whole, i, a);
            memcpy(b, a, sizeof b);
            size_t count;
            float *history = vd_scheduler_history(whole, &count);
            if (count > 0)
                memcpy(vd_scheduler_history(rest, &count), history, count * sizeof *history);
            CHECK_OK(vd_scheduler_resume(rest, stop));
            for (int i = stop; i < vd_scheduler_calls(whole); i++) {
                advance(whole, i, a);
                advance(rest, i, b);
            }
            bool same = true;
            for (int e = 0; e < COUNT; e++)
                same = same && a[e] == b[e];
            CHECK_MSG(same, "%s resumed at %d", *name, stop);
            vd_scheduler_destroy(whole);
            vd_scheduler_destroy(rest);
        }
}

static void test_misuse(void) {
    vd_scheduler *s = NULL;
    float x[2] = {1, 2};
    CHECK_FAILS(make("{}", "ddim", 0, 0, 2, &s), VD_ERR_USAGE, "1 to 1000");
    CHECK_FAILS(make("{}", "ddim", -5, 0, 2, &s), VD_ERR_USAGE, "1 to 1000");
    CHECK_FAILS(make("{}", "euler", 1001, 0, 2, &s), VD_ERR_USAGE, "1 to 1000");
    CHECK_FAILS(make("{}", "ddim", 10, -0.1, 2, &s), VD_ERR_USAGE, "eta");
    CHECK_FAILS(make("{}", "ddim", 10, NAN, 2, &s), VD_ERR_USAGE, "eta");
    CHECK_FAILS(make("{}", "ddim", 10, 0, 0, &s), VD_ERR_USAGE, "0 values");
    CHECK_FAILS(make("{}", "ddim", 10, 0, SIZE_MAX / 2, &s), VD_ERR_USAGE, "values");
    CHECK_FAILS(make("{}", "lcm", 51, 0, 2, &s), VD_ERR_USAGE, "1 to 50");
    CHECK_FAILS(make("{}", "pndm", 3, 0, 2, &s), VD_ERR_USAGE, "at least 4");
    CHECK_FAILS(make("{\"steps_offset\": 1}", "ddim", 1000, 0, 2, &s), VD_ERR_USAGE,
                "timestep 1000");
    CHECK_FAILS(make("{\"rescale_betas_zero_snr\": true, \"timestep_spacing\": \"trailing\"}",
                     "ddim", 10, 0, 2, &s),
                VD_ERR_INPUT, "v_prediction");
    CHECK_FAILS(make("{\"beta_start\": 0.5, \"beta_end\": 0.9}", "euler", 10, 0, 2, &s),
                VD_ERR_INPUT, "beta_end");
    CHECK_FAILS(make("{\"sigma_min\": 9, \"sigma_max\": 3}", "euler-karras", 10, 0, 2, &s),
                VD_ERR_INPUT, "sigma_min");
    CHECK(s == NULL);

    CHECK_OK(make("{}", "ddim", 10, 1, 2, &s));
    CHECK_FAILS(vd_scheduler_step(s, 1, x, x, x, 2), VD_ERR_USAGE, "out of order");
    CHECK_FAILS(vd_scheduler_step(s, 0, x, x, NULL, 2), VD_ERR_USAGE, "noise");
    CHECK_FAILS(vd_scheduler_step(s, 0, x, x, x, 3), VD_ERR_USAGE, "2 values");
    CHECK_FAILS(vd_scheduler_resume(s, 10), VD_ERR_USAGE, "0 to 9");
    vd_scheduler_destroy(s);
    vd_scheduler_destroy(NULL);
}

int main(void) {
    test_golden();
    test_more();
    test_every_step_count();
    test_exact_noise();
    test_resume();
    test_misuse();
    return CHECK_DONE();
}

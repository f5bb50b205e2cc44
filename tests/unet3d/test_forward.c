/* Whole forwards and intermediate outputs against diffusers (golden data). */
#include <stdlib.h>

#include "tests/check.h"
#include "tests/golden.h"
#include "tests/unet3d/inputs.h"
#include "tests/unet3d/run.h"

static const char manifest[] = VD_BINARY_DIR "/golden/manifest.json";

/* ---- whole forwards ------------------------------------------------------------------------- */

static void test_case(unet_run *run, const golden_case *c, golden_bound bound) {
    inputs in;
    if (inputs_read(c, &in)) {
        float *y = predict(run, &in, NULL);
        CHECK(y != NULL && golden_compare(c, "sample", VD_F32, y, prediction_size(&in), bound));
        free(y);
    }
    inputs_free(&in);
}

static void test_golden(unet_run *run, const char *model) {
    golden *g = golden_open(manifest);
    golden_case *c;
    while ((c = golden_next(g, "unet", model)) != NULL)
        test_case(run, c, GOLDEN_F32);
    CHECK(golden_close(g) == 0);
}

/* A case with errors of the library's own bfloat16 run. */
static void test_golden_bf16(unet_run *run, const char *name) {
    golden *g = golden_open(manifest);
    golden_case *c = golden_find(g, name);
    if (c != NULL)
        test_case(run, c, GOLDEN_BF16);
    CHECK(golden_close(g) == 0);
}

static bool same_bits(const void *a, const void *b, size_t bytes) {
    return a != NULL && b != NULL && memcmp(a, b, bytes) == 0;
}

/* A second forward in the same exec, and one on another number of threads, gives the same bits. */
static void test_same_bits(const char *dir, vd_dtype dtype) {
    unet_run one;
    unet_run two;
    golden *g = golden_open(manifest);
    golden_case *c = golden_find(g, "t2v-plain-batch2");
    inputs in = {0};
    if (c != NULL && inputs_read(c, &in) && run_open(&one, dir, dtype, 1)) {
        golden_skip(c, "sample", "compared by test_golden");
        if (run_open(&two, dir, dtype, 2)) {
            const size_t bytes = prediction_size(&in) * sizeof(float);
            float *first = predict(&one, &in, NULL);
            float *again = predict(&one, &in, NULL);
            float *threaded = predict(&two, &in, NULL);
            CHECK(same_bits(first, again, bytes));
            CHECK(same_bits(first, threaded, bytes));
            free(first);
            free(again);
            free(threaded);
            run_close(&two);
        }
        run_close(&one);
    }
    inputs_free(&in);
    CHECK(golden_close(g) == 0);
}

/* Items do not see each other, and a smaller batch uses the first items of the context. */
static void test_batch_items(unet_run *run) {
    golden *g = golden_open(manifest);
    golden_case *c = golden_find(g, "t2v-plain-batch2");
    inputs in = {0};
    if (c != NULL && inputs_read(c, &in)) {
        float *both = predict(run, &in, NULL);
        in.sample_shape.dim[0] = 1; /* the text still has two items */
        float *first = predict(run, &in, NULL);
        const size_t count = prediction_size(&in);
        double worst = 0;
        for (size_t i = 0; both != NULL && first != NULL && i < count; i++)
            worst = fmax(worst, fabs((double)both[i] - (double)first[i]));
        /* Other shapes may be computed by other kernels; the library's own float32 run is 2e-6
         * from exact here, so two such runs are within twice that, with some room. */
        CHECK_MSG(worst <= 1e-5, "the first item changed by %g", worst);
        golden_skip(c, "sample", "compared by test_golden");
        free(both);
        free(first);
    }
    inputs_free(&in);
    CHECK(golden_close(g) == 0);
}

/* Sinusoids that are on the device already: the bits of those that the forward sends. */
static void test_waves(unet_run *run) {
    enum { MOST_VALUES = 1024 };
    const int64_t width = vd_unet_get_config(run->u)->channels[0];
    golden *g = golden_open(manifest);
    golden_case *c = golden_find(g, "t2v-plain-batch2");
    inputs in = {0};
    float rows[MOST_VALUES];
    CHECK(2 * width <= MOST_VALUES);
    if (c != NULL && inputs_read(c, &in) && 2 * width <= MOST_VALUES) {
        const vd_tensor shape = VD_VIEW(NULL, VD_F32, in.sample_shape.dim[0], width);
        for (int64_t i = 0; i < shape.dim[0]; i++)
            vd_timestep_embedding(rows + i * width, width, in.timestep[i]);
        const vd_tensor waves = run_upload(run, &shape, rows);
        const vd_unet_hooks hooks = {.waves = &waves};
        float *sent = predict(run, &in, NULL), *there = predict(run, &in, &hooks);
        CHECK(same_bits(sent, there, prediction_size(&in) * sizeof(float)));
        golden_skip(c, "sample", "compared by test_golden");
        vd_backend_free(run->be, waves.data);
        free(sent);
        free(there);
    }
    inputs_free(&in);
    CHECK(golden_close(g) == 0);
}

/* ---- taps ----------------------------------------------------------------------------------- */

typedef struct tap_user {
    unet_run *run;
    const golden_case *c;
    int compared, failed;
} tap_user;

/* [n, h, w, c] on the device to [n, c, h, w] in float32 on the host; malloc'ed. */
static float *as_planes(const unet_run *run, const vd_tensor *t) {
    const size_t count = (size_t)vd_tensor_elements(t);
    const int64_t pixels = t->rank == 4 ? t->dim[1] * t->dim[2] : 1;
    const int64_t channels = t->dim[t->rank - 1];
    void *raw = malloc(vd_tensor_bytes(t));
    float *values = malloc(count * sizeof *values);
    float *planes = malloc(count * sizeof *planes);
    if (raw != NULL && values != NULL && planes != NULL &&
        vd_backend_download(run->be, raw, t->data, vd_tensor_bytes(t)) == VD_OK) {
        vd_convert_values(values, VD_F32, raw, t->dtype, count);
        for (int64_t n = 0; n < t->dim[0]; n++)
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t ch = 0; ch < channels; ch++)
                    planes[(n * channels + ch) * pixels + p] =
                        values[(n * pixels + p) * channels + ch];
    }
    free(raw);
    free(values);
    return planes;
}

static vd_status compare_tap(void *user, const char *path, const vd_tensor *output) {
    tap_user *tap = user;
    vd_tensor shape;
    if (!golden_output_shape(tap->c, path, &shape))
        return VD_OK; /* a module that the case does not list */
    float *planes = as_planes(tap->run, output);
    tap->compared++;
    if (planes == NULL || !golden_compare(tap->c, path, VD_F32, planes,
                                          (size_t)vd_tensor_elements(output), GOLDEN_F32))
        tap->failed++;
    free(planes);
    return VD_OK;
}

static void test_taps(unet_run *run, const char *model) {
    golden *g = golden_open(manifest);
    golden_case *c;
    inputs in;
    while ((c = golden_next(g, "unet_taps", model)) != NULL) {
        tap_user user = {.run = run, .c = c};
        const vd_unet_hooks hooks = {.user = &user, .tap = compare_tap};
        if (inputs_read(c, &in)) {
            float *watched = predict(run, &in, &hooks);
            float *alone = predict(run, &in, NULL);
            const size_t count = prediction_size(&in);
            CHECK(user.failed == 0);
            CHECK_MSG(user.compared >= 18, "%s: %d modules", c->name, user.compared);
            CHECK(watched != NULL &&
                  golden_compare(c, "sample", VD_F32, watched, count, GOLDEN_F32));
            CHECK(alone != NULL && golden_compare(c, "sample", VD_F32, alone, count, GOLDEN_F32));
            free(watched);
            free(alone);
        }
        inputs_free(&in);
    }
    CHECK(golden_close(g) == 0);
}

static vd_status refuse(void *user, const char *path, const vd_tensor *output) {
    (void)output;
    return strcmp(path, user) == 0 ? vd_fail(VD_ERR_INTERRUPTED, "stop at %s", path) : VD_OK;
}

/* A forward that is stopped anywhere gives everything back: the next one computes as before. */
static void test_stopped(unet_run *run) {
    static char at[][40] = {"time_embedding",
                            "conv_in",
                            "down_blocks.1.resnets.1",
                            "down_blocks.0.downsamplers.0",
                            "mid_block",
                            "up_blocks.1.attentions.2",
                            "up_blocks.3",
                            "conv_norm_out"};
    const vd_tensor sample_shape = {.dtype = VD_F32, .rank = 5, .dim = {1, 4, 2, 9, 11}};
    const vd_tensor text_shape = {.dtype = VD_F32, .rank = 3, .dim = {1, 5, 16}};
    float sample[4 * 2 * 9 * 11] = {0};
    float text[5 * 16] = {0};
    const double timestep = 3;
    for (size_t i = 0; i < sizeof sample / sizeof *sample; i++)
        sample[i] = sinf((float)i);

    float *expected =
        run_forward(run, &sample_shape, sample, &text_shape, text, &timestep, NULL, NULL);
    CHECK(expected != NULL);
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        const vd_unet_hooks hooks = {.user = at[i], .tap = refuse};
        CHECK(run_forward(run, &sample_shape, sample, &text_shape, text, &timestep, &hooks, NULL) ==
              NULL);
        CHECK_MSG(strstr(vd_error_message(), at[i]) != NULL, "%s", vd_error_message());
        /* Without a reset between: what was left over would have shifted or exhausted the arena. */
        vd_tensor all = {0};
        const int64_t floats = (int64_t)(vd_exec_peak_bytes(run->x) / sizeof(float));
        CHECK_OK(VD_ALLOC(run->x, VD_F32, &all, floats));
        vd_exec_free(run->x, &all);
    }
    float *after =
        run_forward(run, &sample_shape, sample, &text_shape, text, &timestep, NULL, NULL);
    CHECK(same_bits(expected, after, sizeof sample));
    free(expected);
    free(after);
}

/* ---- the rest ------------------------------------------------------------------------------- */

static void test_timestep_embedding(void) {
    golden *g = golden_open(manifest);
    golden_case *c = golden_find(g, "timestep-embedding");
    size_t count = 0;
    float *t = c == NULL ? NULL : golden_input(c, "t", VD_F32, &count, NULL);
    CHECK(t != NULL);
    const int64_t widths[] = {8, 16, 320};
    for (size_t i = 0; t != NULL && i < 3; i++) {
        char name[16];
        float *y = malloc(count * (size_t)widths[i] * sizeof *y);
        CHECK(y != NULL);
        if (y == NULL)
            break;
        for (size_t k = 0; k < count; k++)
            vd_timestep_embedding(y + k * (size_t)widths[i], widths[i], (double)t[k]);
        snprintf(name, sizeof name, "dim%d", (int)widths[i]);
        CHECK(golden_compare(c, name, VD_F32, y, count * (size_t)widths[i], GOLDEN_F32));
        free(y);
    }
    free(t);
    CHECK(golden_close(g) == 0);

    float odd[5] = {9, 9, 9, 9, 9};
    vd_timestep_embedding(odd, 5, 0);
    CHECK(odd[0] == 1 && odd[1] == 1 && odd[2] == 0 && odd[3] == 0 && odd[4] == 0);
}

static void test_wrong_calls(unet_run *run) {
    vd_tensor sample = {.data = run, .dtype = VD_F32, .rank = 5, .dim = {3, 4, 1, 8, 8}};
    vd_tensor text = {.data = run, .dtype = VD_F32, .rank = 3, .dim = {1, 5, 17}};
    double timestep[3] = {1, 2, NAN};
    vd_unet *u = run->u;
    CHECK_FAILS(vd_unet_set_context(u, run->x, &text), VD_ERR_BACKEND, "[batch, tokens, 16]");
    CHECK_FAILS(vd_unet_forward(u, run->x, &sample, &sample, timestep, NULL), VD_ERR_BACKEND,
                "a sample of 3");
    sample.dim[0] = 1;
    CHECK_FAILS(vd_unet_forward(u, run->x, &sample, &sample, timestep + 2, NULL), VD_ERR_BACKEND,
                "timestep");
    const vd_tensor waves = {.data = run, .dtype = VD_F32, .rank = 2, .dim = {1, 7}};
    const vd_unet_hooks hooks = {.waves = &waves};
    CHECK_FAILS(vd_unet_forward(u, run->x, &sample, &sample, timestep, &hooks), VD_ERR_BACKEND,
                "sinusoids");
    CHECK_FAILS(vd_unet_set_added(u, 1, text.data, 6, timestep), VD_ERR_BACKEND,
                "not for 6 time ids");
    sample.dim[1] = 5;
    CHECK_FAILS(vd_unet_forward(u, run->x, &sample, &sample, timestep, NULL), VD_ERR_BACKEND,
                "[1, 5, 1, 8, 8]");
}

/* The image models, which have the same code without what looks along the frames. */
static void test_image_models(void) {
    static const char *const models[] = {"i-sd15", "i-sd21", "i-sdxl"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char dir[512];
        char with_bf16[64];
        unet_run run;
        (void)snprintf(dir, sizeof dir, VD_BINARY_DIR "/golden/%s/unet", models[i]);
        (void)snprintf(with_bf16, sizeof with_bf16, "%s-plain", models[i]);
        CHECK(run_open(&run, dir, VD_F32, 2));
        if (run.u != NULL) {
            test_golden(&run, models[i]);
            test_taps(&run, models[i]);
            run_close(&run);
        }
        CHECK(run_open(&run, dir, VD_BF16, 2));
        if (run.u != NULL) {
            test_golden_bf16(&run, with_bf16);
            run_close(&run);
        }
    }
}

int main(void) {
    const char *dir = VD_BINARY_DIR "/golden/t2v-ms/unet";
    unet_run run;
    test_timestep_embedding();
    test_image_models();
    CHECK(run_open(&run, dir, VD_F32, 2));
    if (run.u != NULL) {
        test_golden(&run, "t2v-ms");
        test_taps(&run, "t2v-ms");
        test_batch_items(&run);
        test_waves(&run);
        test_stopped(&run);
        test_wrong_calls(&run);
        run_close(&run);
    }
    test_same_bits(dir, VD_F32);
    CHECK(run_open(&run, dir, VD_BF16, 2));
    if (run.u != NULL) {
        test_golden_bf16(&run, "t2v-plain-t1");
        run_close(&run);
    }
    test_same_bits(dir, VD_BF16);
    return CHECK_DONE();
}

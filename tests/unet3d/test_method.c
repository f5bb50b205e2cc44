/* Whole forwards under the method's settings, against diffusers patched as the method does it
 * (golden data), and what a loop over steps relies on. */
#include "tests/unet3d/inputs.h"
#include "unet3d/method_plan.h"

static const char manifest[] = VD_BINARY_DIR "/golden/manifest.json";

static bool same_bits(const void *a, const void *b, size_t bytes) {
    return a != NULL && b != NULL && memcmp(a, b, bytes) == 0;
}

/* The plan of a case, up to its step. */
static vd_method_plan *plan_of(const unet_run *run, const golden_case *c, int *step) {
    static const char *const others[] = {"step", NULL};
    vd_settings *s = NULL;
    vd_method_plan *plan = NULL;
    int64_t at = 0;
    CHECK_OK(vd_json_int(c->doc, c->settings, "step", 0, 100, 0, &at));
    CHECK_OK(vd_settings_parse(c->doc, c->settings, others, c->name, &s));
    if (s != NULL)
        CHECK_OK(vd_method_plan_create(s, vd_unet_spatial_paths(run->u), (int)at + 1, &plan));
    vd_settings_destroy(s);
    *step = (int)at;
    return plan;
}

static void test_case(unet_run *one, unet_run *two, const golden_case *c) {
    inputs in;
    int step = 0;
    vd_method_plan *plan = plan_of(two, c, &step);
    if (inputs_read(c, &in) && plan != NULL) {
        const vd_unet_hooks hooks = {.method = vd_method_plan_at(plan, step)};
        float *threaded = predict(two, &in, &hooks);
        float *alone = predict(one, &in, &hooks);
        CHECK(threaded != NULL &&
              golden_compare(c, "sample", VD_F32, threaded, prediction_size(&in), GOLDEN_F32));
        CHECK(same_bits(threaded, alone, prediction_size(&in) * sizeof *alone));
        free(threaded);
        free(alone);
    }
    inputs_free(&in);
    vd_method_plan_destroy(plan);
}

static void test_golden(unet_run *one, unet_run *two) {
    static const struct {
        const char *group;
        int cases;
    } groups[] = {{"redilate", 12}, {"freeu", 2}, {"attention_scale", 1}, {"disperse", 4}};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        golden *g = golden_open(manifest);
        golden_case *c;
        int count = 0;
        for (; (c = golden_next(g, groups[i].group, "t2v-ms")) != NULL; count++)
            test_case(one, two, c);
        CHECK_MSG(count == groups[i].cases, "%s: %d cases", groups[i].group, count);
        CHECK(golden_close(g) == 0);
    }
}

/* The list of method.md, section 2, for four levels with two layers a block. */
static void test_paths(const unet_run *run) {
    const char *const *paths = vd_unet_spatial_paths(run->u);
    int count = 0, samplers = 0;
    for (; paths[count] != NULL; count++) {
        const char *end = strrchr(paths[count], '.');
        const bool resnet = strstr(paths[count], ".resnets.") != NULL;
        CHECK_MSG(end != NULL && (resnet ? strcmp(end, ".conv1") == 0 || strcmp(end, ".conv2") == 0
                                         : strcmp(end, ".conv") == 0),
                  "%s", paths[count]);
        samplers += !resnet;
    }
    CHECK(count == 50 && samplers == 6);
    if (count != 50)
        return;
    /* What the forward looks up by index is the layer of that name. */
    for (int b = 0; b < run->u->block_count; b++) {
        const vd_unet_block *block = &run->u->blocks[b];
        for (int i = 0; i <= block->layer_count; i++) {
            const vd_resnet *resnet = i < block->layer_count ? &block->layers[i].resnet : NULL;
            const vd_spatial_conv *conv[2] = {resnet ? &resnet->conv1 : &block->sampler,
                                              resnet ? &resnet->conv2 : &block->sampler};
            for (int k = 0; k < 2 && (resnet || block->has_sampler); k++)
                CHECK_MSG(strcmp(conv[k]->path.text, paths[conv[k]->index]) == 0, "%s",
                          conv[k]->path.text);
        }
    }
    CHECK(strcmp(paths[0], "down_blocks.0.resnets.0.conv1") == 0);
    CHECK(strcmp(paths[count - 1], "up_blocks.3.resnets.2.conv2") == 0);
}

typedef struct loop {
    unet_run *run;
    const inputs *in;
    vd_tensor sample, states, out; /* on the device */
} loop;

/* A forward; the prediction if `result`. */
static vd_status forward(loop *l, const vd_step_method *method, float *result) {
    const vd_unet_hooks hooks = {.method = method};
    vd_status st =
        vd_unet_forward(l->run->u, l->run->x, &l->out, &l->sample, l->in->timestep, &hooks);
    if (st == VD_OK && result != NULL)
        st = vd_backend_download(l->run->be, result, l->out.data, vd_tensor_bytes(&l->out));
    return st;
}

/* As unet3d.h says it: all tables dry, one commit, then the steps, which need no more memory than
 * was booked and give what each table gives by itself. */
static void run_loop(loop *l, const vd_method_plan *plan, int steps) {
    vd_exec *x = l->run->x;
    const size_t count = prediction_size(l->in);
    size_t largest = 0;
    vd_exec_reset(x);
    CHECK_OK(vd_unet_set_context(l->run->u, x, &l->states));
    for (int i = 0; i < vd_method_plan_count(plan); i++)
        CHECK_OK(forward(l, vd_method_plan_distinct(plan, i, NULL), NULL));
    CHECK_OK(vd_exec_commit(x));
    largest = vd_exec_peak_bytes(x);
    CHECK_OK(vd_unet_set_context(l->run->u, x, &l->states));
    float *in_loop = malloc((size_t)steps * count * sizeof *in_loop);
    for (int i = 0; i < steps; i++)
        CHECK_OK(forward(l, vd_method_plan_at(plan, i), in_loop + (size_t)i * count));
    CHECK(vd_exec_peak_bytes(x) == largest);
    size_t largest_alone = 0;
    for (int i = 0; i < steps; i++) {
        size_t peak = 0;
        const vd_unet_hooks hooks = {.method = vd_method_plan_at(plan, i)};
        float *alone = run_forward(l->run, &l->in->sample_shape, l->in->sample, &l->in->text_shape,
                                   l->in->text, l->in->timestep, &hooks, &peak);
        CHECK(same_bits(in_loop + (size_t)i * count, alone, count * sizeof *alone));
        largest_alone = peak > largest_alone ? peak : largest_alone;
        if (i == steps - 1) { /* the plain UNet */
            float *plain = predict(l->run, l->in, NULL);
            CHECK(same_bits(plain, alone, count * sizeof *alone));
            free(plain);
        }
        free(alone);
    }
    CHECK_MSG(largest == largest_alone, "%zu and %zu", largest, largest_alone);
    free(in_loop);
}

static void test_loop(unet_run *run) {
    enum { STEPS = 7 };
    static const char text[] = "{\"dilate\": {\"down_blocks.1\": 2.5, \"mid_block\": [4, 2],"
                               " \"up_blocks.0.resnets\": 3}, \"dilate_tau\": 6,"
                               " \"progressive\": true}";
    golden *g = golden_open(manifest);
    golden_case *c = golden_find(g, "t2v-redilate-odd");
    inputs in = {0};
    vd_json *doc = NULL;
    vd_settings *s = NULL;
    vd_method_plan *plan = NULL;
    CHECK_OK(vd_json_parse(text, strlen(text), "text", &doc));
    CHECK_OK(vd_settings_parse(doc, vd_json_root(doc), NULL, "text", &s));
    CHECK_OK(vd_method_plan_create(s, vd_unet_spatial_paths(run->u), STEPS, &plan));
    if (c != NULL && inputs_read(c, &in) && plan != NULL) {
        golden_skip(c, "sample", "compared by test_golden");
        loop l = {.run = run,
                  .in = &in,
                  .sample = run_upload(run, &in.sample_shape, in.sample),
                  .states = run_upload(run, &in.text_shape, in.text),
                  .out = run_upload(run, &in.sample_shape, NULL)};
        CHECK(vd_method_plan_count(plan) > 2);
        run_loop(&l, plan, STEPS);
        vd_backend_free(run->be, l.sample.data);
        vd_backend_free(run->be, l.states.data);
        vd_backend_free(run->be, l.out.data);
    }
    inputs_free(&in);
    vd_method_plan_destroy(plan);
    vd_settings_destroy(s);
    vd_json_destroy(doc);
    CHECK(golden_close(g) == 0);
}

/* A downsampler that has only one row left cannot be re-dilated: the message says where. */
static void test_too_small(unet_run *run) {
    static const char text[] = "{\"dilate\": {\"down_blocks.2.downsamplers\": 2}}";
    const vd_tensor sample_shape = {.dtype = VD_F32, .rank = 5, .dim = {1, 4, 1, 4, 16}};
    const vd_tensor text_shape = {.dtype = VD_F32, .rank = 3, .dim = {1, 3, 16}};
    const float zeros[4 * 4 * 16] = {0};
    const double timestep = 1;
    vd_json *doc = NULL;
    vd_settings *s = NULL;
    vd_method_plan *plan = NULL;
    CHECK_OK(vd_json_parse(text, strlen(text), "text", &doc));
    CHECK_OK(vd_settings_parse(doc, vd_json_root(doc), NULL, "text", &s));
    CHECK_OK(vd_method_plan_create(s, vd_unet_spatial_paths(run->u), 1, &plan));
    if (plan != NULL) {
        const vd_unet_hooks hooks = {.method = vd_method_plan_at(plan, 0)};
        CHECK(run_forward(run, &sample_shape, zeros, &text_shape, zeros, &timestep, &hooks, NULL) ==
              NULL);
        CHECK_MSG(strstr(vd_error_message(), "down_blocks.2.downsamplers.0.conv: re-dilated") !=
                      NULL,
                  "%s", vd_error_message());
    }
    vd_method_plan_destroy(plan);
    vd_settings_destroy(s);
    vd_json_destroy(doc);
}

/* Attention among tokens of which less than one would have been there in training. */
static void test_too_few_tokens(unet_run *run) {
    const vd_tensor sample_shape = {.dtype = VD_F32, .rank = 5, .dim = {1, 4, 1, 8, 16}};
    const vd_tensor text_shape = {.dtype = VD_F32, .rank = 3, .dim = {1, 3, 16}};
    const float zeros[4 * 8 * 16] = {0};
    const double timestep = 1;
    /* 8 x 16 pixels are 2 tokens at the lowest level. */
    const vd_step_method method = {.attention_ratio = 2};
    const vd_unet_hooks hooks = {.method = &method};
    CHECK(run_forward(run, &sample_shape, zeros, &text_shape, zeros, &timestep, &hooks, NULL) ==
          NULL);
    CHECK_MSG(strstr(vd_error_message(), "mid_block.attentions.0: attention among 2 tokens") !=
                  NULL,
              "%s", vd_error_message());
}

int main(void) {
    const char *dir = VD_BINARY_DIR "/golden/t2v-ms/unet";
    unet_run one;
    unet_run two;
    CHECK(run_open(&one, dir, VD_F32, 1));
    CHECK(run_open(&two, dir, VD_F32, 2));
    if (one.u != NULL && two.u != NULL) {
        test_paths(&two);
        test_golden(&one, &two);
        test_loop(&two);
        test_too_small(&two);
        test_too_few_tokens(&two);
    }
    run_close(&one);
    run_close(&two);
    return CHECK_DONE();
}

/* Single modules against diffusers (golden data), fed small inputs, where a wrong epsilon shows. */
#include <stdlib.h>

#include "tests/check.h"
#include "tests/golden.h"
#include "tests/unet3d/run.h"

typedef struct module_input {
    unet_run *run;
    const vd_unet_layer *layer; /* the first of the case's block */
    vd_tensor temb, text;       /* on the device */
} module_input;

static vd_status run_resnet(void *user, vd_unet_pass *pass, vd_tensor *h) {
    module_input *in = user;
    vd_status st;
    vd_tensor out = {0};
    VD_TRY(vd_exec_alloc(pass->x, VD_F32, in->temb.rank, in->temb.dim, &pass->time));
    VD_TRY(vd_activate(pass->x, &pass->time, &in->temb, VD_ACT_SILU));
    VD_TRY(vd_resnet_forward(pass, &out, h, NULL, &in->layer->resnet));
    vd_exec_free(pass->x, h);
    *h = out;
done:
    vd_exec_free(pass->x, &pass->time);
    return st;
}

static vd_status run_temp_conv(void *user, vd_unet_pass *pass, vd_tensor *h) {
    const module_input *in = user;
    return vd_temporal_conv_forward(pass->x, h, &in->layer->temp_conv, pass->frames);
}

static vd_status run_spatial(void *user, vd_unet_pass *pass, vd_tensor *h) {
    module_input *in = user;
    const vd_status st = vd_unet_set_context(in->run->u, pass->x, &in->text);
    return st != VD_OK ? st : vd_spatial_transformer_forward(pass, h, &in->layer->attention);
}

static vd_status run_temporal(void *user, vd_unet_pass *pass, vd_tensor *h) {
    const module_input *in = user;
    return vd_temporal_transformer_forward(pass->x, h, &in->layer->temp_attention, pass->frames);
}

static vd_status run_transformer_in(void *user, vd_unet_pass *pass, vd_tensor *h) {
    const module_input *in = user;
    return vd_temporal_transformer_forward(pass->x, h, &in->run->u->transformer_in, pass->frames);
}

static const struct {
    const char *name, *module;
    run_module_fn run;
    const char *input; /* besides x */
    int block;         /* of the module, in the order of computation */
} cases[] = {
    {"t2v-ms-module-resnet", "unet:down_blocks.1.resnets.0", run_resnet, "temb", 1},
    {"t2v-ms-module-temp-conv", "unet:down_blocks.1.temp_convs.0", run_temp_conv, NULL, 1},
    {"t2v-ms-module-attention", "unet:down_blocks.1.attentions.0", run_spatial, "context", 1},
    {"t2v-ms-module-temp-attention", "unet:down_blocks.1.temp_attentions.0", run_temporal, NULL, 1},
    {"t2v-ms-module-transformer-in", "unet:transformer_in", run_transformer_in, NULL, 0},
    {"i-sd15-module-attention", "unet:down_blocks.1.attentions.0", run_spatial, "context", 1},
    {"i-sdxl-module-attention", "unet:mid_block.attentions.0", run_spatial, "context", 3},
};
enum { CASE_COUNT = sizeof cases / sizeof *cases };

static void test_case(unet_run *run, golden *g, int index, const char *model) {
    const golden_case *c = golden_find(g, cases[index].name);
    CHECK(c != NULL);
    if (c == NULL)
        return;
    CHECK_MSG(strcmp(c->module, cases[index].module) == 0, "%s", c->module);
    CHECK_MSG(strcmp(c->model, model) == 0, "%s", c->model);
    module_input in = {.run = run, .layer = &run->u->blocks[cases[index].block].layers[0]};
    vd_tensor shape;
    vd_tensor out = {0};
    int64_t frames = 1;
    CHECK_OK(vd_json_int(c->doc, c->settings, "num_frames", 1, 16, 1, &frames));
    float *x = golden_input(c, "x", VD_F32, NULL, &shape);
    vd_tensor *extra = cases[index].input == NULL                ? NULL
                       : strcmp(cases[index].input, "temb") == 0 ? &in.temb
                                                                 : &in.text;
    if (extra != NULL) {
        vd_tensor extra_shape;
        float *values = golden_input(c, cases[index].input, VD_F32, NULL, &extra_shape);
        CHECK(values != NULL);
        if (values != NULL)
            *extra = run_upload(run, &extra_shape, values);
        free(values);
    }
    float *y = x == NULL ? NULL : run_module(run, &shape, x, frames, cases[index].run, &in, &out);
    CHECK_MSG(y != NULL, "%s", vd_error_message());
    if (y != NULL)
        CHECK(golden_compare(c, "y", VD_F32, y, (size_t)vd_tensor_elements(&out), GOLDEN_F32));
    free(x);
    free(y);
    vd_backend_free(run->be, in.temb.data);
    vd_backend_free(run->be, in.text.data);
}

/* No module case of these UNets is left out of the table above. */
static void test_complete(void) {
    vd_json *doc = NULL;
    int found = 0;
    CHECK_OK(vd_json_read(VD_BINARY_DIR "/golden/manifest.json", "golden manifest", &doc));
    const vd_json_value *list = doc == NULL ? NULL : vd_json_get(vd_json_root(doc), "cases");
    for (const vd_json_value *v = list == NULL ? NULL : vd_json_first(list); v != NULL;
         v = vd_json_next(v)) {
        const char *name = NULL;
        const char *module = NULL;
        CHECK_OK(vd_json_text(doc, v, "name", "", &name));
        CHECK_OK(vd_json_text(doc, v, "module", "", &module));
        const bool ours = strncmp(name, "t2v-ms-", 7) == 0 || strncmp(name, "i-", 2) == 0;
        found += ours && strstr(name, "-module-") != NULL && strncmp(module, "unet:", 5) == 0;
    }
    CHECK_MSG(found == CASE_COUNT, "%d module cases in the manifest", found);
    vd_json_destroy(doc);
}

/* The feed-forward walks long inputs in pieces: rows that repeat give results that repeat. */
static void test_many_rows(unet_run *run) {
    enum { PERIOD = 100, ROWS = 20000 };
    const vd_feed_forward *ff = &run->u->transformer_in.ff;
    const int64_t width = ff->width;
    const vd_tensor shape = {.dtype = VD_F32, .rank = 2, .dim = {ROWS, width}};
    float *rows = malloc(vd_tensor_bytes(&shape));
    float *before = malloc(vd_tensor_bytes(&shape));
    CHECK(rows != NULL && before != NULL);
    if (rows != NULL && before != NULL) {
        for (int64_t i = 0; i < ROWS * width; i++)
            rows[i] = before[i] = sinf((float)(i % (PERIOD * width)));
        vd_tensor device = run_upload(run, &shape, rows);
        vd_exec_reset(run->x);
        CHECK_OK(vd_feed_forward_forward(run->x, &device, ff));
        CHECK_OK(vd_exec_commit(run->x));
        CHECK_OK(vd_feed_forward_forward(run->x, &device, ff));
        CHECK_OK(vd_backend_download(run->be, rows, device.data, vd_tensor_bytes(&shape)));
        double worst = 0;
        double change = 0;
        for (int64_t i = 0; i < ROWS * width; i++) {
            worst = fmax(worst, fabs((double)rows[i] - (double)rows[i % (PERIOD * width)]));
            change = fmax(change, fabs((double)rows[i] - (double)before[i]));
        }
        /* The last, shorter piece may be computed by another kernel: a few float32 roundings. */
        CHECK_MSG(worst <= 1e-5, "rows that are equal differ by %g", worst);
        CHECK_MSG(change > 0.1, "the layer changed nothing (%g)", change);
        vd_backend_free(run->be, device.data);
    }
    free(rows);
    free(before);
}

static void test_model(const char *model) {
    unet_run run;
    char dir[512];
    (void)snprintf(dir, sizeof dir, VD_BINARY_DIR "/golden/%s/unet", model);
    CHECK(run_open(&run, dir, VD_F32, 2));
    if (run.u == NULL)
        return;
    golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    const size_t length = strlen(model);
    for (int i = 0; i < CASE_COUNT; i++)
        if (strncmp(cases[i].name, model, length) == 0)
            test_case(&run, g, i, model);
    CHECK(golden_close(g) == 0);
    if (run.u->config.temporal)
        test_many_rows(&run);
    run_close(&run);
}

int main(void) {
    test_complete();
    test_model("t2v-ms");
    test_model("i-sd15");
    test_model("i-sdxl");
    return CHECK_DONE();
}

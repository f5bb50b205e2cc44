/* The CLIP text encoder against transformers: whole encoders and single layers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "tests/backend_name.h"
#include "tests/check.h"
#include "tests/golden.h"
#include "text/clip.h"

typedef struct run {
    golden_case *c;
    vd_backend *be;
    vd_exec *x;
    golden_bound bound;
    bool real;
} run;

/* A device activation as float32 on the host. */
static float *fetch(vd_backend *be, const vd_tensor *t) {
    size_t count = (size_t)vd_tensor_elements(t);
    void *raw = malloc(vd_tensor_bytes(t));
    float *values = malloc(count * sizeof *values);
    CHECK(raw && values);
    CHECK_OK(vd_backend_download(be, raw, t->data, vd_tensor_bytes(t)));
    vd_convert_values(values, VD_F32, raw, t->dtype, count);
    free(raw);
    return values;
}

static void compare(const run *r, const char *name, const vd_tensor *t) {
    float *values = fetch(r->be, t);
    CHECK(golden_compare(r->c, name, VD_F32, values, (size_t)vd_tensor_elements(t), r->bound));
    free(values);
}

static void on_hidden(void *user, int index, const vd_tensor *states) {
    run *r = user;
    char name[32];
    vd_tensor shape;
    snprintf(name, sizeof name, "hidden_%d", index);
    if (!r->real || !golden_output_shape(r->c, name, &shape))
        return;
    compare(r, name, states);
}

static void compare_before_last(const run *r, const vd_clip_config *config, const vd_tensor *t) {
    char name[32];
    snprintf(name, sizeof name, "hidden_%d", config->layers - 1);
    compare(r, name, t);
}

static void compare_pooled(const run *r, const vd_clip *clip, const int32_t *ids,
                           const vd_tensor *states) {
    const vd_clip_config *config = vd_clip_get_config(clip);
    int64_t batch = states->dim[0], tokens = states->dim[1];
    size_t width = (size_t)config->width;
    vd_tensor shape;
    float *last = fetch(r->be, states);
    float *pooled = malloc((size_t)batch * width * sizeof *pooled);
    CHECK(pooled != NULL);
    for (int64_t b = 0; b < batch; b++) {
        int64_t end = vd_clip_end_position(config, ids + b * tokens, tokens);
        memcpy(pooled + (size_t)b * width, last + (size_t)(b * tokens + end) * width,
               width * sizeof *pooled);
    }
    if (golden_output_shape(r->c, "pooled", &shape))
        CHECK(golden_compare(r->c, "pooled", VD_F32, pooled, (size_t)batch * width, r->bound));
    free(last);
    free(pooled);
}

static void check_encoder(golden *g, golden_case *c, vd_backend *be, vd_dtype dtype) {
    char dir[512];
    vd_clip *clip = NULL;
    vd_tensor shape;
    run r = {.c = c, .be = be, .bound = dtype == VD_F32 ? GOLDEN_F32 : GOLDEN_BF16};
    vd_clip_tap tap = {on_hidden, &r};
    int32_t *ids = golden_input(c, "ids", VD_I32, NULL, &shape);
    CHECK(ids != NULL);
    CHECK(golden_component(g, c->model, c->module, dir, sizeof dir) != NULL);
    CHECK_OK(vd_clip_open(be, dir, dtype, &clip));
    if (!clip || !ids)
        return;
    const vd_clip_config *config = vd_clip_get_config(clip);
    int64_t batch = shape.dim[0], tokens = shape.dim[1];
    CHECK_OK(vd_exec_create(be, dtype, &r.x));
    vd_tensor last = VD_VIEW(NULL, VD_F32, batch, tokens, config->width), before = last;
    vd_tensor embeds =
        VD_VIEW(NULL, VD_F32, batch, config->projection > 0 ? config->projection : 1);
    CHECK_OK(vd_backend_alloc(be, vd_tensor_bytes(&last), &last.data));
    CHECK_OK(vd_backend_alloc(be, vd_tensor_bytes(&before), &before.data));
    CHECK_OK(vd_backend_alloc(be, vd_tensor_bytes(&embeds), &embeds.data));
    vd_clip_outputs out = {&last, &before, config->projection > 0 ? &embeds : NULL};
    CHECK_OK(vd_clip_encode(clip, r.x, &out, ids, batch, tokens, &tap));
    CHECK_OK(vd_exec_commit(r.x));
    r.real = true;
    CHECK_OK(vd_clip_encode(clip, r.x, &out, ids, batch, tokens, &tap));
    compare(&r, "last_hidden_state", &last);
    compare_before_last(&r, config, &before);
    if (golden_output_shape(c, "text_embeds", &shape))
        compare(&r, "text_embeds", &embeds);
    compare_pooled(&r, clip, ids, &last);
    /* The states before the last layer alone, and what is refused. */
    out = (vd_clip_outputs){.penultimate = &before};
    CHECK_OK(vd_clip_encode(clip, r.x, &out, ids, batch, tokens, NULL));
    compare_before_last(&r, config, &before);
    out.text_embeds = &embeds;
    if (config->projection == 0)
        CHECK_FAILS(vd_clip_encode(clip, r.x, &out, ids, batch, tokens, NULL), VD_ERR_INPUT,
                    "no text_projection");
    int32_t outside = (int32_t)config->vocabulary;
    CHECK_FAILS(vd_clip_encode(clip, r.x, &out, &outside, 1, 1, NULL), VD_ERR_INPUT, "token id");
    CHECK_FAILS(vd_clip_encode(clip, r.x, &out, ids, 1, 100000, NULL), VD_ERR_INPUT, "positions");
    free(ids);
    vd_backend_free(be, last.data);
    vd_backend_free(be, before.data);
    vd_backend_free(be, embeds.data);
    vd_exec_destroy(r.x);
    vd_clip_destroy(clip);
}

static void check_layer(golden *g, golden_case *c, vd_backend *be) {
    char dir[512];
    vd_clip *clip = NULL;
    vd_exec *x = NULL;
    vd_tensor shape;
    size_t count = 0;
    int layer = -1;
    float *input = golden_input(c, "x", VD_F32, &count, &shape);
    CHECK(sscanf(c->module, "text_encoder:encoder.layers.%d", &layer) == 1);
    CHECK(golden_component(g, c->model, "text_encoder", dir, sizeof dir) != NULL);
    CHECK_OK(vd_clip_open(be, dir, VD_F32, &clip));
    if (!clip || !input || layer < 0)
        return;
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    CHECK_OK(vd_backend_alloc(be, count * sizeof *input, &shape.data));
    CHECK_OK(vd_clip_layer(clip, x, &shape, layer));
    CHECK_OK(vd_exec_commit(x));
    CHECK_OK(vd_backend_upload(be, shape.data, input, count * sizeof *input));
    CHECK_OK(vd_clip_layer(clip, x, &shape, layer));
    float *values = fetch(be, &shape);
    CHECK(golden_compare(c, "y", VD_F32, values, count, GOLDEN_F32));
    free(values);
    free(input);
    vd_backend_free(be, shape.data);
    vd_exec_destroy(x);
    vd_clip_destroy(clip);
}

int main(void) {
    static const vd_dtype dtypes[] = {VD_F32, VD_BF16};
    vd_backend *be = NULL;
    golden_case *c = NULL;
    CHECK_OK(vd_backend_open(check_backend(), 2, &be));
    for (int d = 0; d < 2; d++) {
        if (!vd_backend_has_dtype(be, dtypes[d])) {
            printf("SKIPPED: this machine has no %s\n", vd_dtype_name(dtypes[d]));
            continue;
        }
        golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
        while ((c = golden_next(g, "text_encoder", NULL)) != NULL)
            check_encoder(g, c, be, dtypes[d]);
        CHECK(golden_close(g) == 0);
    }
    golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    while ((c = golden_next(g, "module", NULL)) != NULL) {
        if (strncmp(c->module, "text_encoder:", 13) == 0)
            check_layer(g, c, be);
        else
            golden_skip(c, "y", "not a text encoder");
    }
    CHECK(golden_close(g) == 0);
    vd_backend_close(be);
    return CHECK_DONE();
}

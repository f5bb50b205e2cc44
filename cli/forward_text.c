/* Groups tokenizer and text_encoder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/forward.h"
#include "text/clip.h"
#include "text/tokenizer.h"

/* Tokenizes all prompts with one folder: ids_SUFFIX and untruncated_len_SUFFIX. */
static vd_status tokenize_all(forward_case *c, const vd_json_value *prompts, const char *suffix,
                              const char *folder, int64_t max_length) {
    vd_status st = VD_OK;
    vd_tokenizer *t = NULL;
    char *path = forward_path(c, folder), *vocabulary = NULL;
    float *ids = NULL, *lengths = NULL;
    int32_t *row = malloc((size_t)max_length * sizeof *row);
    int64_t count = (int64_t)vd_json_size(prompts), r = 0;
    char name[64];
    if (!path || !row) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for token ids");
        goto done;
    }
    VD_TRY(forward_vocabulary(c, path, &vocabulary));
    VD_TRY(vd_tokenizer_open_shared(path, vocabulary ? vocabulary : path, &t));
    VD_TRY(forward_floats((size_t)(count * max_length), &ids));
    VD_TRY(forward_floats((size_t)count, &lengths));
    for (const vd_json_value *v = vd_json_first(prompts); v; v = vd_json_next(v), r++) {
        size_t length = 0;
        if (vd_json_type_of(v) != VD_JSON_STRING) {
            st = vd_fail(VD_ERR_INPUT, "%s: prompt %lld is not a text", c->name, (long long)r);
            goto done;
        }
        VD_TRY(vd_tokenizer_encode(t, vd_json_string(v), (size_t)max_length, row, &length, NULL));
        lengths[r] = (float)length;
        for (int64_t i = 0; i < max_length; i++)
            ids[r * max_length + i] = (float)row[i];
    }
    snprintf(name, sizeof name, "ids_%s", suffix);
    st = FORWARD_ADD(c, name, ids, count, max_length);
    ids = NULL;
    if (st != VD_OK)
        goto done;
    snprintf(name, sizeof name, "untruncated_len_%s", suffix);
    st = FORWARD_ADD(c, name, lengths, count);
    lengths = NULL;
done:
    free(ids);
    free(lengths);
    free(row);
    free(path);
    free(vocabulary);
    vd_tokenizer_destroy(t);
    return st;
}

vd_status forward_tokenizer(forward_case *c) {
    vd_status st = VD_OK;
    vd_json *doc = NULL;
    char *path = NULL;
    const char *prompts = NULL;
    int64_t max_length = 0;
    VD_TRY(vd_json_text(c->doc, c->settings, "prompts", "prompts.json", &prompts));
    VD_TRY(vd_json_int(c->doc, c->settings, "max_length", 2, 1 << 16, 77, &max_length));
    path = forward_path(c, prompts);
    if (!path) {
        st = VD_ERR_MEMORY;
        goto done;
    }
    VD_TRY(vd_json_read(path, "prompts", &doc));
    const vd_json_value *root = vd_json_root(doc);
    if (vd_json_type_of(root) != VD_JSON_ARRAY) {
        st = vd_json_fail(doc, root, "expected a list of prompts");
        goto done;
    }
    /* Every setting pad_X names a tokenizer folder. */
    for (const vd_json_value *v = vd_json_first(c->settings); v; v = vd_json_next(v)) {
        const char *key = vd_json_key(v);
        if (strncmp(key, "pad_", 4) == 0 && vd_json_type_of(v) == VD_JSON_STRING)
            VD_TRY(tokenize_all(c, root, key, vd_json_string(v), max_length));
    }
done:
    vd_json_destroy(doc);
    free(path);
    return st;
}

/* Copies of the hidden states as the encoder computes them. */
typedef struct hidden_states {
    forward_case *c;
    vd_backend *be;
    bool real; /* not the dry pass */
    vd_status status;
} hidden_states;

static void on_hidden(void *user, int index, const vd_tensor *states) {
    hidden_states *h = user;
    char name[32];
    snprintf(name, sizeof name, "hidden_%d", index);
    if (!h->real || h->status != VD_OK || !forward_wants(h->c, name))
        return;
    size_t count = (size_t)vd_tensor_elements(states), bytes = vd_tensor_bytes(states);
    float *values = NULL;
    void *raw = malloc(bytes);
    h->status = raw ? forward_floats(count, &values) : vd_fail(VD_ERR_MEMORY, "no memory");
    if (h->status == VD_OK)
        h->status = vd_backend_download(h->be, raw, states->data, bytes);
    if (h->status == VD_OK) {
        vd_convert_values(values, VD_F32, raw, states->dtype, count);
        h->status = forward_add(h->c, name, values, states->rank, states->dim);
        values = NULL;
    }
    free(values);
    free(raw);
}

typedef struct text_run {
    vd_backend *be;
    vd_exec *x;
    vd_clip *clip;
    int32_t *ids;
    int64_t batch, tokens, width;
    vd_tensor states, embeds; /* device; embeds only of a model with projection */
} text_run;

static vd_status run_encoder(forward_case *c, text_run *t) {
    vd_status st = VD_OK;
    hidden_states h = {c, t->be, false, VD_OK};
    vd_clip_tap tap = {on_hidden, &h};
    vd_clip_outputs out = {.last = &t->states, .text_embeds = t->embeds.data ? &t->embeds : NULL};
    VD_TRY(vd_clip_encode(t->clip, t->x, &out, t->ids, t->batch, t->tokens, &tap));
    VD_TRY(vd_exec_commit(t->x));
    h.real = true;
    VD_TRY(vd_clip_encode(t->clip, t->x, &out, t->ids, t->batch, t->tokens, &tap));
    st = h.status;
done:
    return st;
}

static vd_status add_states(forward_case *c, text_run *t) {
    vd_status st = VD_OK;
    const vd_clip_config *config = vd_clip_get_config(t->clip);
    size_t row = (size_t)t->width, count = (size_t)(t->batch * t->tokens) * row;
    float *last = NULL, *pooled = NULL;
    VD_TRY(forward_floats(count, &last));
    VD_TRY(forward_floats((size_t)t->batch * row, &pooled));
    VD_TRY(vd_backend_download(t->be, last, t->states.data, count * sizeof(float)));
    for (int64_t b = 0; b < t->batch; b++) {
        int64_t end = vd_clip_end_position(config, t->ids + b * t->tokens, t->tokens);
        memcpy(pooled + (size_t)b * row, last + (size_t)(b * t->tokens + end) * row,
               row * sizeof(float));
    }
    if (t->embeds.data && forward_wants(c, "text_embeds"))
        VD_TRY(forward_add_device(c, t->be, "text_embeds", &t->embeds));
    if (forward_wants(c, "pooled")) {
        st = FORWARD_ADD(c, "pooled", pooled, t->batch, t->width);
        pooled = NULL;
        if (st != VD_OK)
            goto done;
    }
    if (forward_wants(c, "last_hidden_state")) {
        st = FORWARD_ADD(c, "last_hidden_state", last, t->batch, t->tokens, t->width);
        last = NULL;
    }
done:
    free(last);
    free(pooled);
    return st;
}

vd_status forward_text_encoder(forward_case *c) {
    vd_status st = VD_OK;
    text_run t = {0};
    vd_dtype dtype;
    vd_tensor shape;
    float *values = NULL;
    char *folder = NULL;
    VD_TRY(forward_component(c, c->module, &folder));
    VD_TRY(forward_input(c, "ids", &values, &shape));
    if (shape.rank != 2) {
        st = vd_fail(VD_ERR_INPUT, "%s: in.ids must be [batch, tokens]", c->name);
        goto done;
    }
    t.batch = shape.dim[0];
    t.tokens = shape.dim[1];
    t.ids = malloc((size_t)(t.batch * t.tokens + 1) * sizeof *t.ids);
    if (!t.ids) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for token ids");
        goto done;
    }
    vd_convert_values(t.ids, VD_I32, values, VD_F32, (size_t)(t.batch * t.tokens));
    VD_TRY(forward_open(c, &t.be, &t.x, &dtype));
    VD_TRY(vd_clip_open(t.be, folder, dtype, &t.clip));
    t.width = vd_clip_get_config(t.clip)->width;
    t.states = VD_VIEW(NULL, VD_F32, t.batch, t.tokens, t.width);
    VD_TRY(forward_to_device(t.be, NULL, &t.states));
    t.embeds = VD_VIEW(NULL, VD_F32, t.batch, vd_clip_get_config(t.clip)->projection);
    if (t.embeds.dim[1] > 0)
        VD_TRY(forward_to_device(t.be, NULL, &t.embeds));
    VD_TRY(run_encoder(c, &t));
    VD_TRY(add_states(c, &t));
done:
    if (t.be) {
        vd_backend_free(t.be, t.states.data);
        vd_backend_free(t.be, t.embeds.data);
    }
    vd_exec_destroy(t.x);
    vd_clip_destroy(t.clip);
    vd_backend_close(t.be);
    free(t.ids);
    free(values);
    free(folder);
    return st;
}

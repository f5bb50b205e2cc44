#include "text/clip.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/layers.h"
#include "core/json.h"
#include "core/text.h"

enum { MAX_LAYERS = 256, MAX_WIDTH = 1 << 16, MAX_INTERMEDIATE = 1 << 19 };

typedef struct clip_layer {
    vd_norm_layer norm1, norm2;
    vd_linear_layer qkv, out, fc1, fc2;
} clip_layer;

struct vd_clip {
    vd_backend *be;
    vd_clip_config config;
    vd_checkpoint *ck;
    vd_tensor token_table, position_table; /* in the mapped file */
    clip_layer layer[MAX_LAYERS];
    vd_norm_layer final_norm;
    vd_linear_layer projection;
};

static vd_status read_activation(const vd_json *doc, const vd_json_value *root,
                                 vd_activation *act) {
    const char *name = NULL;
    vd_status st = vd_json_text(doc, root, "hidden_act", "quick_gelu", &name);
    if (st != VD_OK)
        return st;
    if (strcmp(name, "quick_gelu") == 0)
        *act = VD_ACT_QUICK_GELU;
    else if (strcmp(name, "gelu") == 0)
        *act = VD_ACT_GELU;
    else
        return vd_json_fail(doc, vd_json_get(root, "hidden_act"),
                            "activation \"%s\" is not supported: gelu or quick_gelu", name);
    return VD_OK;
}

static vd_status read_config(const vd_json *doc, vd_clip_config *c) {
    vd_status st = VD_OK;
    const vd_json_value *root = vd_json_root(doc);
    if (vd_json_type_of(root) != VD_JSON_OBJECT)
        return vd_json_fail(doc, root, "a text encoder's config.json must be an object");
    const char *type = NULL;
    double eps = 0;
    int64_t layers = 0, heads = 0;
    VD_TRY(vd_json_text(doc, root, "model_type", "clip_text_model", &type));
    if (strcmp(type, "clip_text_model") != 0)
        return vd_json_fail(doc, vd_json_get(root, "model_type"),
                            "this is a \"%s\", not a CLIP text encoder (clip_text_model)", type);
    VD_TRY(vd_json_int(doc, root, "vocab_size", 1, 1 << 24, 49408, &c->vocabulary));
    VD_TRY(vd_json_int(doc, root, "hidden_size", 1, MAX_WIDTH, 512, &c->width));
    VD_TRY(
        vd_json_int(doc, root, "intermediate_size", 1, MAX_INTERMEDIATE, 2048, &c->intermediate));
    VD_TRY(vd_json_int(doc, root, "max_position_embeddings", 2, 1 << 16, 77, &c->max_tokens));
    VD_TRY(vd_json_int(doc, root, "num_hidden_layers", 1, MAX_LAYERS, 12, &layers));
    VD_TRY(vd_json_int(doc, root, "num_attention_heads", 1, MAX_WIDTH, 8, &heads));
    VD_TRY(vd_json_double(doc, root, "layer_norm_eps", 0, 1, 1e-5, &eps));
    VD_TRY(vd_json_int(doc, root, "eos_token_id", 0, 1 << 24, 49407, &c->end_token));
    VD_TRY(vd_json_int(doc, root, "projection_dim", 1, MAX_WIDTH, 512, &c->projection));
    VD_TRY(read_activation(doc, root, &c->act));
    if (c->width % heads != 0)
        return vd_json_fail(doc, vd_json_get(root, "num_attention_heads"),
                            "%lld heads do not divide the width %lld", (long long)heads,
                            (long long)c->width);
    c->layers = (int)layers;
    c->heads = (int)heads;
    c->norm_eps = (float)eps;
done:
    return st;
}

static vd_status load_layer(const vd_loader *l, const vd_clip_config *c, const char *root,
                            int index, clip_layer *layer) {
    vd_status st = VD_OK;
    char name[8][96];
    static const char *const leaf[8] = {"layer_norm1",      "layer_norm2",       "mlp.fc1",
                                        "mlp.fc2",          "self_attn.q_proj",  "self_attn.k_proj",
                                        "self_attn.v_proj", "self_attn.out_proj"};
    for (int i = 0; i < 8; i++)
        snprintf(name[i], sizeof name[i], "%sencoder.layers.%d.%s", root, index, leaf[i]);
    VD_TRY(vd_load_norm(l, name[0], c->width, 0, c->norm_eps, &layer->norm1));
    VD_TRY(vd_load_norm(l, name[1], c->width, 0, c->norm_eps, &layer->norm2));
    VD_TRY(vd_load_linear(l, name[2], c->intermediate, c->width, true, &layer->fc1));
    VD_TRY(vd_load_linear(l, name[3], c->width, c->intermediate, true, &layer->fc2));
    VD_TRY(vd_load_fused_linear(l, (const char *const[]){name[4], name[5], name[6]}, 3, c->width,
                                c->width, true, &layer->qkv));
    VD_TRY(vd_load_linear(l, name[7], c->width, c->width, true, &layer->out));
done:
    return st;
}

static vd_status load(vd_clip *clip, vd_dtype dtype) {
    vd_status st = VD_OK;
    vd_clip_config *c = &clip->config;
    vd_loader l = {clip->be, clip->ck, dtype};
    vd_tensor probe;
    bool prefixed =
        vd_checkpoint_find(clip->ck, "text_model.embeddings.token_embedding.weight", &probe);
    const char *root = prefixed ? "text_model." : "";
    char name[96];

    VD_TRY(vd_load_check(&l, "text encoder"));
    snprintf(name, sizeof name, "%sembeddings.token_embedding.weight", root);
    clip->token_table = vd_checkpoint_take(clip->ck, name, 2, (int64_t[]){c->vocabulary, c->width});
    snprintf(name, sizeof name, "%sembeddings.position_embedding.weight", root);
    clip->position_table =
        vd_checkpoint_take(clip->ck, name, 2, (int64_t[]){c->max_tokens, c->width});
    snprintf(name, sizeof name, "%sembeddings.position_ids", root);
    vd_checkpoint_ignore(clip->ck, name);
    for (int i = 0; i < c->layers; i++)
        VD_TRY(load_layer(&l, c, root, i, &clip->layer[i]));
    snprintf(name, sizeof name, "%sfinal_layer_norm", root);
    VD_TRY(vd_load_norm(&l, name, c->width, 0, c->norm_eps, &clip->final_norm));
    if (vd_checkpoint_find(clip->ck, "text_projection.weight", &probe))
        VD_TRY(vd_load_linear(&l, "text_projection", c->projection, c->width, false,
                              &clip->projection));
    else
        c->projection = 0;
    VD_TRY(vd_checkpoint_finish(clip->ck, "text encoder"));
done:
    return st;
}

vd_status vd_clip_open(vd_backend *be, const char *dir, vd_dtype dtype, vd_clip **out) {
    vd_status st = VD_OK;
    vd_json *doc = NULL;
    char *path = vd_format("%s/config.json", dir);
    vd_clip *clip = calloc(1, sizeof *clip);
    *out = NULL;
    if (!clip || !path) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for the text encoder");
        goto done;
    }
    clip->be = be;
    VD_TRY(vd_json_read(path, "text encoder config", &doc));
    VD_TRY(read_config(doc, &clip->config));
    VD_TRY(vd_checkpoint_open(dir, "model", &clip->ck));
    VD_TRY(load(clip, dtype));
    *out = clip;
    clip = NULL;
done:
    vd_clip_destroy(clip);
    vd_json_destroy(doc);
    free(path);
    return st;
}

void vd_clip_destroy(vd_clip *clip) {
    if (!clip)
        return;
    for (int i = 0; i < clip->config.layers; i++) {
        clip_layer *layer = &clip->layer[i];
        vd_norm_layer_destroy(clip->be, &layer->norm1);
        vd_norm_layer_destroy(clip->be, &layer->norm2);
        vd_linear_layer_destroy(clip->be, &layer->qkv);
        vd_linear_layer_destroy(clip->be, &layer->out);
        vd_linear_layer_destroy(clip->be, &layer->fc1);
        vd_linear_layer_destroy(clip->be, &layer->fc2);
    }
    vd_norm_layer_destroy(clip->be, &clip->final_norm);
    vd_linear_layer_destroy(clip->be, &clip->projection);
    vd_checkpoint_destroy(clip->ck);
    free(clip);
}

const vd_clip_config *vd_clip_get_config(const vd_clip *clip) {
    return &clip->config;
}

/* Token plus position embedding, on the host: a table row is read where it lies in the file.
 * row: [tokens, width] of one prompt; position: room for one row. */
static void embed(const vd_clip *clip, float *row, float *position, const int32_t *ids,
                  int64_t tokens) {
    const vd_tensor *table = &clip->token_table, *positions = &clip->position_table;
    size_t width = (size_t)clip->config.width;
    for (int64_t t = 0; t < tokens; t++, row += width) {
        size_t token_at = (size_t)ids[t] * width * vd_dtype_bytes(table->dtype);
        size_t position_at = (size_t)t * width * vd_dtype_bytes(positions->dtype);
        vd_convert_values(row, VD_F32, (const char *)table->data + token_at, table->dtype, width);
        vd_convert_values(position, VD_F32, (const char *)positions->data + position_at,
                          positions->dtype, width);
        for (size_t i = 0; i < width; i++)
            row[i] += position[i];
    }
}

static vd_status upload_embeddings(vd_clip *clip, vd_tensor *dst, const int32_t *ids) {
    vd_status st = VD_OK;
    int64_t batch = dst->dim[0], tokens = dst->dim[1];
    size_t width = (size_t)clip->config.width, count = (size_t)vd_tensor_elements(dst);
    float *rows = malloc((count + width) * sizeof *rows);
    if (!rows)
        return vd_fail(VD_ERR_MEMORY, "no memory for the embeddings of %zu values", count);
    for (int64_t b = 0; b < batch; b++)
        embed(clip, rows + (size_t)(b * tokens) * width, rows + count, ids + b * tokens, tokens);
    st = vd_backend_upload(clip->be, dst->data, rows, count * sizeof *rows);
    free(rows);
    return st;
}

static vd_status self_attention(const vd_clip *clip, vd_exec *x, vd_tensor *states,
                                const clip_layer *layer, const vd_tensor *normed) {
    vd_status st = VD_OK;
    const vd_clip_config *c = &clip->config;
    int64_t batch = states->dim[0], tokens = states->dim[1], width = c->width;
    int head_dim = (int)(width / c->heads);
    vd_tensor qkv = {0}, mixed = {0};
    VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &qkv, batch, tokens, 3 * width));
    VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &mixed, batch, tokens, width));
    VD_TRY(vd_linear(x, &qkv, normed, layer->qkv.w, layer->qkv.bias, NULL, VD_ACT_NONE));
    vd_attention_strides in = {tokens * 3 * width, 0, 3 * width};
    vd_attention_desc desc = {
        .outer = batch,
        .inner = 1,
        .q_tokens = tokens,
        .kv_tokens = tokens,
        .heads = c->heads,
        .head_dim = head_dim,
        .scale = 1.0F / sqrtf((float)head_dim),
        .causal = true,
        .q = in,
        .k = in,
        .v = in,
        .out = {tokens * width, 0, width},
    };
    size_t part = (size_t)width * vd_dtype_bytes(qkv.dtype);
    const char *q = qkv.data;
    VD_TRY(vd_attention(x, mixed.data, q, q + part, q + 2 * part, &desc));
    VD_TRY(vd_linear(x, states, &mixed, layer->out.w, layer->out.bias, states, VD_ACT_NONE));
done:
    vd_exec_free(x, &mixed);
    vd_exec_free(x, &qkv);
    return st;
}

vd_status vd_clip_layer(vd_clip *clip, vd_exec *x, vd_tensor *states, int layer_index) {
    vd_status st = VD_OK;
    const clip_layer *layer = &clip->layer[layer_index];
    int64_t batch = states->dim[0], tokens = states->dim[1];
    vd_tensor normed = {0}, inner = {0};
    VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &normed, batch, tokens, clip->config.width));
    VD_TRY(vd_layer_norm(x, &normed, states, layer->norm1.scale, layer->norm1.shift,
                         layer->norm1.eps));
    VD_TRY(self_attention(clip, x, states, layer, &normed));
    VD_TRY(vd_layer_norm(x, &normed, states, layer->norm2.scale, layer->norm2.shift,
                         layer->norm2.eps));
    VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &inner, batch, tokens, clip->config.intermediate));
    VD_TRY(vd_linear(x, &inner, &normed, layer->fc1.w, layer->fc1.bias, NULL, clip->config.act));
    VD_TRY(vd_linear(x, states, &inner, layer->fc2.w, layer->fc2.bias, states, VD_ACT_NONE));
done:
    vd_exec_free(x, &inner);
    vd_exec_free(x, &normed);
    return st;
}

static void show(const vd_clip_tap *tap, int index, const vd_tensor *states) {
    if (tap && tap->hidden)
        tap->hidden(tap->user, index, states);
}

int64_t vd_clip_end_position(const vd_clip_config *config, const int32_t *ids, int64_t tokens) {
    int64_t best = 0;
    for (int64_t i = 0; i < tokens; i++) {
        if (config->end_token == 2 ? ids[i] > ids[best] : ids[i] == config->end_token) {
            best = i;
            if (config->end_token != 2)
                break;
        }
    }
    return best;
}

/* text_embeds of the final states, row by row: each prompt ends elsewhere. */
static vd_status project(const vd_clip *clip, vd_exec *x, vd_tensor *dst, const vd_tensor *states,
                         const int32_t *ids) {
    vd_status st = VD_OK;
    const int64_t tokens = states->dim[1], width = states->dim[2], out = clip->config.projection;
    for (int64_t b = 0; b < states->dim[0]; b++) {
        int64_t row = b * tokens + vd_clip_end_position(&clip->config, ids + b * tokens, tokens);
        size_t at = (size_t)(row * width) * vd_dtype_bytes(states->dtype);
        vd_tensor end = VD_VIEW((char *)states->data + at, states->dtype, 1, width);
        vd_tensor to = VD_VIEW((float *)dst->data + b * out, VD_F32, 1, out);
        VD_TRY(vd_linear(x, &to, &end, clip->projection.w, NULL, NULL, VD_ACT_NONE));
    }
done:
    return st;
}

static vd_status check_call(const vd_clip *clip, const vd_clip_outputs *out, const int32_t *ids,
                            int64_t batch, int64_t tokens) {
    const vd_clip_config *c = &clip->config;
    if (tokens > c->max_tokens)
        return vd_fail(VD_ERR_INPUT, "text encoder: %lld tokens, but it has %lld positions",
                       (long long)tokens, (long long)c->max_tokens);
    for (int64_t i = 0; i < batch * tokens; i++)
        if (ids[i] < 0 || ids[i] >= c->vocabulary)
            return vd_fail(VD_ERR_INPUT,
                           "text encoder: token id %d, but its table has %lld rows: the tokenizer "
                           "belongs to another model",
                           ids[i], (long long)c->vocabulary);
    if (out->text_embeds && !clip->projection.w)
        return vd_fail(VD_ERR_INPUT, "%s: this text encoder has no text_projection",
                       vd_checkpoint_path(clip->ck));
    return VD_OK;
}

/* All layers but the last. */
static vd_status run_layers(vd_clip *clip, vd_exec *x, vd_tensor *states, const int32_t *ids,
                            const vd_clip_tap *tap) {
    vd_status st = VD_OK;
    vd_tensor input = {0};
    VD_TRY(VD_ALLOC(x, VD_F32, &input, states->dim[0], states->dim[1], states->dim[2]));
    if (!vd_exec_dry(x))
        VD_TRY(upload_embeddings(clip, &input, ids));
    VD_TRY(vd_activate(x, states, &input, VD_ACT_NONE));
    vd_exec_free(x, &input);
    show(tap, 0, states);
    for (int i = 0; i < clip->config.layers - 1; i++) {
        VD_TRY(vd_clip_layer(clip, x, states, i));
        show(tap, i + 1, states);
    }
done:
    vd_exec_free(x, &input);
    return st;
}

vd_status vd_clip_encode(vd_clip *clip, vd_exec *x, const vd_clip_outputs *out, const int32_t *ids,
                         int64_t batch, int64_t tokens, const vd_clip_tap *tap) {
    const vd_clip_config *c = &clip->config;
    const vd_norm_layer *norm = &clip->final_norm;
    vd_tensor states = {0};
    vd_status st = check_call(clip, out, ids, batch, tokens);
    if (st != VD_OK)
        return st;
    VD_TRY(VD_ALLOC(x, vd_exec_dtype(x), &states, batch, tokens, c->width));
    VD_TRY(run_layers(clip, x, &states, ids, tap));
    if (out->penultimate)
        VD_TRY(vd_activate(x, out->penultimate, &states, VD_ACT_NONE));
    if (!out->last && !out->text_embeds)
        goto done;
    VD_TRY(vd_clip_layer(clip, x, &states, c->layers - 1));
    show(tap, c->layers, &states);
    VD_TRY(vd_layer_norm(x, &states, &states, norm->scale, norm->shift, norm->eps));
    if (out->last)
        VD_TRY(vd_activate(x, out->last, &states, VD_ACT_NONE));
    if (out->text_embeds)
        VD_TRY(project(clip, x, out->text_embeds, &states, ids));
done:
    vd_exec_free(x, &states);
    return st;
}

/* Prompts -> text states. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "video/stage.h"

/* One text encoder at work. */
typedef struct encoder {
    const vd_render_job *job;
    int index;
    int32_t *ids;
    vd_exec *x;
    vd_tensor states, embeds;  /* device; embeds only of SD XL's second encoder, else no elements */
    size_t state_count, count; /* values of the states, of both */
    float *values;             /* host: the states, then the embeds */
} encoder;

static vd_status tokenize(const vd_render_job *j, const encoder *e, const char *text,
                          const char *which, int32_t *ids) {
    size_t length = 0;
    char *dropped = NULL;
    vd_status st = vd_tokenizer_encode(j->m->tokenizer[e->index], text, (size_t)j->tokens, ids,
                                       &length, &dropped);
    /* Once: the second encoder cuts at the same place. */
    if (st == VD_OK && dropped && j->ev->warning && e->index == 0) {
        char message[512];
        snprintf(message, sizeof message,
                 "the %s has %zu tokens and the model reads %lld; dropped: \"%.300s\"", which,
                 length, (long long)j->tokens, dropped);
        j->ev->warning(j->ev->user, message);
    }
    free(dropped);
    return st;
}

static vd_status tokenize_all(const vd_render_job *j, encoder *e) {
    vd_status st = VD_OK;
    const char *negative = j->r->negative_prompt ? j->r->negative_prompt : "";
    e->ids = malloc((size_t)(j->branches * j->tokens) * sizeof *e->ids);
    if (!e->ids)
        return vd_fail(VD_ERR_MEMORY, "no memory for token ids");
    if (j->branches == 2)
        VD_TRY(tokenize(j, e, negative, "negative prompt", e->ids));
    VD_TRY(tokenize(j, e, j->r->prompt, "prompt", e->ids + (j->branches - 1) * j->tokens));
done:
    return st;
}

/* The number of tokens, and room for all encoders' states; from the first encoder. */
static vd_status begin_context(vd_render_job *j) {
    const vd_clip_config *c = vd_clip_get_config(j->m->clip[0]);
    size_t max_length = vd_tokenizer_max_length(j->m->tokenizer[0]);
    j->tokens = max_length < (size_t)c->max_tokens ? (int64_t)max_length : c->max_tokens;
    j->width = j->m->unet_config.cross_attention_dim;
    return vd_stage_floats((size_t)(j->branches * j->tokens * j->width), &j->context);
}

/* Shapes of what this encoder gives, and room for them on the host. */
static vd_status make_room(const vd_render_job *j, encoder *e) {
    const vd_clip_config *c = vd_clip_get_config(j->m->clip[e->index]);
    e->states = VD_VIEW(NULL, VD_F32, j->branches, j->tokens, c->width);
    e->embeds = VD_VIEW(NULL, VD_F32, j->branches, e->index == 0 ? 0 : c->projection);
    if (e->index > 0 && c->projection == 0)
        return vd_fail(VD_ERR_INPUT,
                       "%s: has no text_projection, which the UNet's added embedding wants",
                       j->m->folder.text_encoder[e->index]);
    e->state_count = (size_t)vd_tensor_elements(&e->states);
    e->count = e->state_count + (size_t)vd_tensor_elements(&e->embeds);
    return vd_stage_floats(e->count, &e->values);
}

/* A forward in e->x. SD XL takes the states before the last layer. */
static vd_status forward(void *user) {
    encoder *e = user;
    const vd_render_job *j = e->job;
    vd_clip_outputs out = {.text_embeds = e->index > 0 ? &e->embeds : NULL};
    if (j->m->info.text_encoders == 1)
        out.last = &e->states;
    else
        out.penultimate = &e->states;
    return vd_clip_encode(j->m->clip[e->index], e->x, &out, e->ids, j->branches, j->tokens, NULL);
}

static vd_status run_encoder(const vd_render_job *j, encoder *e) {
    vd_status st = VD_OK;
    vd_backend *be = j->m->be;
    const bool has_embeds = e->index > 0;
    VD_TRY(vd_stage_exec(j, VD_F32, &e->x));
    VD_TRY(vd_backend_alloc(be, vd_tensor_bytes(&e->states), &e->states.data));
    if (has_embeds)
        VD_TRY(vd_backend_alloc(be, vd_tensor_bytes(&e->embeds), &e->embeds.data));
    for (int dry = 1; dry >= 0; dry--) {
        VD_TRY(forward(e));
        if (dry) {
            VD_TRY(vd_stage_fits(j, VD_STAGE_TEXT, e->x, 0, 0));
            VD_TRY(vd_exec_commit(e->x));
        }
    }
    VD_TRY(vd_backend_download(be, e->values, e->states.data, vd_tensor_bytes(&e->states)));
    if (has_embeds)
        VD_TRY(vd_backend_download(be, e->values + e->state_count, e->embeds.data,
                                   vd_tensor_bytes(&e->embeds)));
    if (!vd_stage_finite(e->values, e->count))
        st = vd_stage_blame(e->x, forward, e, "the text encoder");
done:
    return st;
}

/* From the model's cache, or by the network. */
static vd_status find_states(const vd_render_job *j, encoder *e) {
    vd_text_cache *cache = &j->m->texts[e->index];
    const size_t ids = (size_t)(j->branches * j->tokens);
    if (vd_text_cache_get(cache, e->ids, ids, e->values, e->count))
        return VD_OK;
    const vd_status st = run_encoder(j, e);
    if (st == VD_OK && j->m->keep_loaded)
        vd_text_cache_put(cache, e->ids, ids, e->values, e->count);
    return st;
}

/* The job's pooled text, if this encoder gives it. */
static vd_status keep_pooled(vd_render_job *j, const encoder *e) {
    const size_t count = e->count - e->state_count;
    if (count == 0)
        return VD_OK;
    j->pooled_width = e->embeds.dim[1];
    const vd_status st = vd_stage_floats(count, &j->pooled);
    if (st == VD_OK)
        memcpy(j->pooled, e->values + e->state_count, count * sizeof *e->values);
    return st;
}

/* Writes the states into columns of the context, from *column on. */
static vd_status add_columns(vd_render_job *j, const encoder *e, int64_t *column) {
    const int64_t width = e->states.dim[2];
    if (e->values && *column + width <= j->width)
        for (int64_t row = 0; row < j->branches * j->tokens; row++)
            memcpy(j->context + row * j->width + *column, e->values + row * width,
                   (size_t)width * sizeof *e->values);
    *column += width;
    const bool last = e->index == j->m->info.text_encoders - 1;
    if (*column > j->width || (last && *column != j->width))
        return vd_fail(VD_ERR_INPUT,
                       "%s: gives text states %lld wide%s, but the UNet takes %lld: they belong to "
                       "different models",
                       j->m->folder.text_encoder[e->index], (long long)*column,
                       e->index > 0 ? " with the first encoder's" : "", (long long)j->width);
    return VD_OK;
}

static vd_status encode(vd_render_job *j, int index, int64_t *column) {
    vd_status st = VD_OK;
    encoder e = {.job = j, .index = index};
    VD_TRY(vd_model_need_text(j->m, index));
    if (index == 0)
        VD_TRY(begin_context(j));
    VD_TRY(tokenize_all(j, &e));
    VD_TRY(make_room(j, &e));
    VD_TRY(find_states(j, &e));
    VD_TRY(keep_pooled(j, &e));
    VD_TRY(add_columns(j, &e, column));
done:
    vd_backend_free(j->m->be, e.states.data);
    vd_backend_free(j->m->be, e.embeds.data);
    vd_exec_destroy(e.x);
    free(e.ids);
    free(e.values);
    vd_model_release_text(j->m, index);
    return st;
}

vd_status vd_stage_text(vd_render_job *j) {
    vd_status st = VD_OK;
    int64_t column = 0;
    const int encoders = j->m->info.text_encoders;
    VD_TRY(vd_stage_report(j, VD_STAGE_TEXT, 0, encoders));
    for (int i = 0; i < encoders; i++) {
        VD_TRY(encode(j, i, &column));
        VD_TRY(vd_stage_report(j, VD_STAGE_TEXT, i + 1, encoders));
    }
    if (j->pooled && j->branches == 2 && !j->r->negative_prompt && j->m->zeros_without_negative) {
        memset(j->context, 0, (size_t)(j->tokens * j->width) * sizeof *j->context);
        memset(j->pooled, 0, (size_t)j->pooled_width * sizeof *j->pooled);
    }
    if (j->ev->context)
        j->ev->context(j->ev->user, j->context, j->branches, j->tokens, j->width);
done:
    return st;
}

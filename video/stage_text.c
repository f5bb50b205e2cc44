/* Prompts -> text states. */
#include <stdio.h>
#include <stdlib.h>

#include "video/stage.h"

static vd_status tokenize(const vd_render_job *j, const char *text, const char *which,
                          int32_t *ids) {
    size_t length = 0;
    char *dropped = NULL;
    vd_status st =
        vd_tokenizer_encode(j->m->tokenizer, text, (size_t)j->tokens, ids, &length, &dropped);
    if (st == VD_OK && dropped && j->ev->warning) {
        char message[512];
        snprintf(message, sizeof message,
                 "the %s has %zu tokens and the model reads %lld; dropped: \"%.300s\"", which,
                 length, (long long)j->tokens, dropped);
        j->ev->warning(j->ev->user, message);
    }
    free(dropped);
    return st;
}

/* Runs the network on the ids of all branches. */
static vd_status encode(vd_render_job *j, const int32_t *ids, size_t count) {
    vd_status st = VD_OK;
    vd_exec *x = NULL;
    void *device = NULL;
    VD_TRY(vd_stage_exec(j, VD_F32, &x));
    VD_TRY(vd_backend_alloc(j->m->be, count * sizeof(float), &device));
    vd_tensor states = VD_VIEW(device, VD_F32, j->branches, j->tokens, j->width);
    VD_TRY(vd_clip_encode(j->m->clip, x, &states, ids, j->branches, j->tokens, NULL));
    VD_TRY(vd_exec_commit(x));
    VD_TRY(vd_clip_encode(j->m->clip, x, &states, ids, j->branches, j->tokens, NULL));
    VD_TRY(vd_backend_download(j->m->be, j->context, device, count * sizeof(float)));
done:
    vd_backend_free(j->m->be, device);
    vd_exec_destroy(x);
    return st;
}

vd_status vd_stage_text(vd_render_job *j) {
    vd_status st = VD_OK;
    int32_t *ids = NULL;
    VD_TRY(vd_stage_report(j, VD_STAGE_TEXT, 0, 1));
    VD_TRY(vd_model_need_text(j->m));
    const vd_clip_config *c = vd_clip_get_config(j->m->clip);
    size_t max_length = vd_tokenizer_max_length(j->m->tokenizer);
    j->tokens = max_length < (size_t)c->max_tokens ? (int64_t)max_length : c->max_tokens;
    j->width = c->width;
    size_t id_count = (size_t)(j->branches * j->tokens), count = id_count * (size_t)j->width;
    ids = malloc(id_count * sizeof *ids);
    VD_TRY(vd_stage_floats(count, &j->context));
    if (!ids) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for token ids");
        goto done;
    }
    if (j->branches == 2)
        VD_TRY(tokenize(j, j->r->negative_prompt ? j->r->negative_prompt : "", "negative prompt",
                        ids));
    VD_TRY(tokenize(j, j->r->prompt, "prompt", ids + (j->branches - 1) * j->tokens));
    if (!vd_text_cache_get(&j->m->texts, ids, id_count, j->context, count)) {
        VD_TRY(encode(j, ids, count));
        if (j->m->keep_loaded)
            vd_text_cache_put(&j->m->texts, ids, id_count, j->context, count);
    }
    if (j->ev->context)
        j->ev->context(j->ev->user, j->context, j->branches, j->tokens, j->width);
    VD_TRY(vd_stage_report(j, VD_STAGE_TEXT, 1, 1));
done:
    free(ids);
    vd_model_release_text(j->m);
    return st;
}

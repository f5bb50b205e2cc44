/* From options to a request, and its render. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/render.h"
#include "core/safetensors.h"
#include "review/scores.h"

static vd_status read_latents(const char *path, const vd_model_info *info,
                              const vd_render_request *r, float **out) {
    vd_status st = VD_OK;
    vd_checkpoint *ck = NULL;
    vd_tensor t;
    char found[96];
    vd_tensor want = VD_VIEW(NULL, VD_F32, 1, info->latent_channels, r->frames,
                             r->height_px / info->latent_scale, r->width_px / info->latent_scale);
    *out = NULL;
    VD_TRY(vd_checkpoint_open_file(path, &ck));
    if (!vd_checkpoint_find(ck, "latents", &t)) {
        st = vd_fail(VD_ERR_INPUT, "%s: holds no tensor \"latents\"", path);
        goto done;
    }
    if (!vd_tensor_same_shape(&t, &want)) {
        st = vd_fail(VD_ERR_INPUT,
                     "%s: latents are %s; this render wants [1, %lld, %lld, %lld, %lld]", path,
                     vd_tensor_describe(&t, found, sizeof found), (long long)want.dim[1],
                     (long long)want.dim[2], (long long)want.dim[3], (long long)want.dim[4]);
        goto done;
    }
    size_t count = (size_t)vd_tensor_elements(&t);
    *out = malloc(count * sizeof **out);
    if (!*out) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for the latents of %s", path);
        goto done;
    }
    vd_convert_values(*out, VD_F32, t.data, t.dtype, count);
    for (size_t i = 0; i < count && st == VD_OK; i++)
        if (!isfinite((*out)[i]))
            st = vd_fail(VD_ERR_INPUT, "%s: the latents hold NaN or infinity", path);
done:
    vd_checkpoint_destroy(ck);
    return st;
}

typedef struct watcher {
    const cli_render_watch *watch;
    const char *save_path; /* NULL: latents are not kept */
    const vd_model_info *info;
    const vd_render_request *request;
    vd_scorer *scorer;
} watcher;

static vd_status on_latents(void *user, const float *latents, size_t count) {
    const watcher *w = user;
    const char *name = "latents";
    const vd_render_request *r = w->request;
    int64_t scale = w->info->latent_scale;
    (void)count;
    vd_tensor t = VD_VIEW(NULL, VD_F32, 1, w->info->latent_channels, r->frames,
                          r->height_px / scale, r->width_px / scale);
    /* A tensor's data is not const, but the writer only reads it. */
    memcpy(&t.data, &latents, sizeof t.data);
    return vd_safetensors_write(w->save_path, &name, &t, 1, NULL);
}

static vd_status on_progress(void *user, const vd_progress *p) {
    const watcher *w = user;
    w->watch->progress(w->watch->user, p);
    return VD_OK;
}

static void on_warning(void *user, const char *message) {
    const watcher *w = user;
    w->watch->warning(w->watch->user, message);
}

static vd_status on_frame(void *user, int64_t index, const float *image, const uint8_t *rgb) {
    const watcher *w = user;
    (void)index;
    (void)image;
    vd_scorer_add(w->scorer, rgb);
    return VD_OK;
}

/* A finished clip that is hardly what was asked for. */
static const char *tell_fault(watcher *w) {
    vd_clip_scores scores;
    vd_scorer_finish(w->scorer, &scores);
    const char *fault = vd_clip_fault(&scores);
    if (!fault)
        return NULL;
    if (strcmp(fault, "frozen") == 0)
        on_warning(w, "all frames are alike: the clip is frozen");
    else
        on_warning(w, strcmp(fault, "black") == 0 ? "every frame is black"
                                                  : "every frame is of one flat colour");
    return fault;
}

static bool should_stop(void *user) {
    const watcher *w = user;
    return cli_interrupted(NULL) || (w->watch->stop && w->watch->stop(w->watch->user));
}

static void show_progress(void *user, const vd_progress *p) {
    cli_progress_show(user, p);
}

static void show_warning(void *user, const char *message) {
    cli_progress_end(user);
    fprintf(stderr, "vidilate: warning: %s\n", message);
}

static vd_status fill_request(const cli_render_args *a, const vd_model *model,
                              vd_render_request *r) {
    const vd_model_info *info = vd_model_get_info(model);
    *r = vd_render_defaults(model);
    r->prompt = (a->explain || a->dry_run) && !a->prompt ? "" : a->prompt;
    r->negative_prompt = a->negative_prompt;
    if (a->has.scale) {
        if (!(a->scale > 0 && a->scale <= 64))
            return vd_fail(VD_ERR_USAGE, "render: --scale %g: must be above 0 and at most 64",
                           a->scale);
        double multiple = (double)info->size_multiple_px;
        r->width_px = (int64_t)(round((double)info->width_px * a->scale / multiple) * multiple);
        r->height_px = (int64_t)(round((double)info->height_px * a->scale / multiple) * multiple);
    }
    if (a->has.width || (a->size_from_clip && !a->has.scale))
        r->width_px = a->width;
    if (a->has.height || (a->size_from_clip && !a->has.scale))
        r->height_px = a->height;
    if (a->has.frames)
        r->frames = a->frames;
    if (a->has.fps)
        r->fps = a->fps;
    r->steps = a->steps;
    r->guidance = a->guidance;
    r->guidance_rescale = a->guidance_rescale;
    r->eta = a->eta;
    r->seed = a->seed;
    r->scheduler = a->scheduler;
    r->vae_tiling = a->vae_tiling;
    r->vae_memory_gb = a->vae_memory;
    return VD_OK;
}

vd_status cli_render_open(const cli_render_args *a, bool keep_loaded, vd_model **out) {
    vd_status st = VD_OK;
    char *shipped = NULL;
    *out = NULL;
    if (!a->model)
        VD_TRY(cli_shipped_model(&shipped));
    vd_model_options options = {.dir = a->model ? a->model : shipped,
                                .backend = a->backend,
                                .dtype = a->dtype,
                                .threads = (int)a->threads,
                                .keep_loaded = keep_loaded,
                                .offload = a->offload};
    VD_TRY(vd_model_open(&options, out));
done:
    free(shipped);
    return st;
}

vd_status cli_render_fill(const cli_render_args *a, const vd_json *clip, const vd_model *model,
                          cli_render_work *out) {
    vd_status st = VD_OK;
    memset(out, 0, sizeof *out);
    out->output = (vd_output){a->output ? a->output : "null:", a->codec, a->pix_fmt, a->crf};
    VD_TRY(fill_request(a, model, &out->request));
    out->saved_latents = a->save_latents;
    out->request.save_every = a->save_every;
    if (!a->decode_only && !a->re_encode)
        VD_TRY(cli_render_state_path(a->output, &out->state));
    out->request.state_path = out->state;
    VD_TRY(cli_render_method(a, clip, model, &out->request, &out->method));
done:
    return st;
}

vd_status cli_render_read(const cli_render_args *a, const vd_model *model, cli_render_work *work) {
    vd_status st = VD_OK;
    if (a->latents) {
        VD_TRY(read_latents(a->latents, vd_model_get_info(model), &work->request, &work->latents));
        if (a->decode_only || a->re_encode)
            work->request.final_latents = work->latents;
        else
            work->request.latents = work->latents;
    }
done:
    return st;
}

void cli_render_work_free(cli_render_work *work) {
    vd_method_choice_free(&work->method);
    free(work->latents);
    free(work->state);
    memset(work, 0, sizeof *work);
}

vd_status cli_render_run(const cli_render_args *a, vd_model *model, const cli_render_work *work,
                         const cli_render_watch *watch, cli_render_result *result) {
    vd_status st;
    cli_progress own = {0};
    const cli_render_watch own_watch = {&own, show_progress, show_warning, NULL};
    watcher w = {.watch = watch ? watch : &own_watch,
                 .save_path = a->save_latents,
                 .info = vd_model_get_info(model),
                 .request = &work->request};
    vd_render_events events = {.user = &w,
                               .should_stop = should_stop,
                               .progress = on_progress,
                               .warning = on_warning,
                               .frame = on_frame,
                               .latents = a->save_latents ? on_latents : NULL};
    cli_progress_init(&own, a->progress);
    if (work->method.warning)
        on_warning(&w, work->method.warning);
    result->fault = NULL;
    VD_TRY(vd_scorer_create_for_faults(work->request.width_px, work->request.height_px, &w.scorer));
    VD_TRY(vd_render_to_file(model, &work->request, &work->output, &events, result->digest));
    result->fault = tell_fault(&w);
done:
    cli_progress_end(&own);
    vd_scorer_destroy(w.scorer);
    return st;
}

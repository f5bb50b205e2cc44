#include "video/request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/text.h"
#include "encode/sink.h"
#include "unet3d/settings.h"
#include "video/model.h"
#include "video/pipeline.h"

enum { MAX_SIDE_PX = 16384, MAX_FRAMES = 1024 };

vd_render_request vd_render_defaults(const vd_model *model) {
    const vd_model_info *info = &model->info;
    return (vd_render_request){
        .width_px = info->width_px,
        .height_px = info->height_px,
        .frames = info->frames,
        .fps = info->fps,
        .steps = 50,
        .guidance = 7.5,
        .vae_memory_gb = 4,
    };
}

vd_output vd_output_defaults(const char *path) {
    return (vd_output){.path = path, .codec = "libx264", .pix_fmt = "yuv420p", .crf = 18};
}

static vd_status check_side(const vd_model_info *info, const char *name, int64_t px) {
    int64_t multiple = info->size_multiple_px;
    if (px < multiple || px > MAX_SIDE_PX)
        return vd_fail(VD_ERR_USAGE, "%s %lld: must be from %lld to %d", name, (long long)px,
                       (long long)multiple, MAX_SIDE_PX);
    const long long below = px / multiple * multiple, above = below + multiple;
    if (px != below)
        return vd_fail(VD_ERR_USAGE,
                       "%s %lld: this model draws in multiples of %lld; the nearest are %lld and "
                       "%lld",
                       name, (long long)px, (long long)multiple, below, above);
    return VD_OK;
}

static vd_status check_integer(const char *name, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high)
        return vd_fail(VD_ERR_USAGE, "%s %lld: must be from %lld to %lld", name, (long long)value,
                       (long long)low, (long long)high);
    return VD_OK;
}

static vd_status check_frames(const vd_model_info *info, int64_t frames) {
    if (!info->draws_video && frames != 1)
        return vd_fail(VD_ERR_USAGE, "frames %lld: a %s draws a picture; must be 1",
                       (long long)frames, info->pipeline);
    return check_integer("frames", frames, 1, MAX_FRAMES);
}

static vd_status check_number(const char *name, double value, double low, double high) {
    if (!(value >= low && value <= high))
        return vd_fail(VD_ERR_USAGE, "%s %g: must be from %g to %g", name, value, low, high);
    return VD_OK;
}

static vd_status check_text(const char *name, const char *text) {
    if (text && !vd_utf8_valid(text, strlen(text)))
        return vd_fail(VD_ERR_USAGE, "the %s is not valid UTF-8", name);
    return VD_OK;
}

static vd_status check_tiling(const char *name) {
    if (!name)
        return VD_OK;
    for (const char *const *known = vd_vae_tiling_names(); *known != NULL; known++)
        if (strcmp(name, *known) == 0)
            return VD_OK;
    return vd_fail(VD_ERR_USAGE, "vae-tiling \"%s\": must be auto, off, exact, plain or sync",
                   name);
}

static vd_status check_settings(const vd_model *model, const vd_render_request *r, int calls) {
    vd_status st = VD_OK;
    vd_spatial_paths paths = {0};
    VD_TRY(vd_settings_check_steps(r->settings, calls));
    VD_TRY(vd_spatial_paths_of(&model->unet_config, &paths));
    VD_TRY(vd_settings_check_names(r->settings, paths.list));
done:
    vd_spatial_paths_free(&paths);
    return st;
}

/* Gathers what is wrong: everything if somebody wants to hear of it, else the first. */
typedef struct check {
    vd_status first;
    vd_request_problem problem;
    void *user;
} check;

static bool check_goes_on(const check *c) {
    return c->first == VD_OK || c->problem;
}

static void check_add(check *c, const char *option, vd_status st) {
    if (st == VD_OK)
        return;
    if (c->first == VD_OK)
        c->first = st;
    if (c->problem)
        c->problem(c->user, option, st);
}

/* *calls: of the UNet. */
static vd_status check_scheduler(const vd_model *model, const vd_render_request *r, int *calls) {
    vd_scheduler *scheduler = NULL;
    const vd_status st = vd_model_schedule(model, r, 1, &scheduler);
    if (st != VD_OK)
        return st;
    *calls = vd_scheduler_calls(scheduler);
    vd_scheduler_destroy(scheduler);
    return st;
}

vd_status vd_request_check(const vd_model *model, const vd_render_request *r,
                           vd_request_problem problem, void *user) {
    check c = {.problem = problem, .user = user};
#define CHECK(option, expr)                                                                        \
    do {                                                                                           \
        if (check_goes_on(&c))                                                                     \
            check_add(&c, option, expr);                                                           \
    } while (0)
    CHECK("prompt", r->prompt ? check_text("prompt", r->prompt)
                              : vd_fail(VD_ERR_USAGE, "no prompt; give --prompt TEXT"));
    CHECK("negative-prompt", check_text("negative prompt", r->negative_prompt));
    CHECK("width", check_side(&model->info, "width", r->width_px));
    CHECK("height", check_side(&model->info, "height", r->height_px));
    CHECK("frames", check_frames(&model->info, r->frames));
    CHECK("save-every", check_integer("save-every", r->save_every, 0, 1000));
    CHECK("fps", check_number("fps", r->fps, 0.1, 1000));
    CHECK("guidance", check_number("guidance", r->guidance, 0, 1000));
    CHECK("guidance-rescale", check_number("guidance-rescale", r->guidance_rescale, 0, 1));
    vd_status steps = check_integer("steps", r->steps, 1, 1000);
    CHECK("steps", steps);
    vd_status eta = check_number("eta", r->eta, 0, 1);
    CHECK("eta", eta);
    CHECK("vae-memory", check_number("vae-memory", r->vae_memory_gb, 0.001, 1e6));
    CHECK("vae-tiling", check_tiling(r->vae_tiling));
    int calls = 0;
    if (steps == VD_OK && eta == VD_OK)
        CHECK("scheduler", check_scheduler(model, r, &calls));
    if (r->settings && calls > 0)
        CHECK("settings", check_settings(model, r, calls));
#undef CHECK
    return c.first;
}

vd_status vd_render_check(const vd_model *model, const vd_render_request *r) {
    return vd_request_check(model, r, NULL, NULL);
}

vd_sink_options vd_request_sink_options(const vd_output *o, const vd_render_request *r,
                                        int threads) {
    vd_sink_options s = VD_SINK_OPTIONS_DEFAULT;
    s.path = o->path;
    s.width_px = r->width_px;
    s.height_px = r->height_px;
    s.fps = r->fps;
    s.frame_count = r->frames;
    s.codec = o->codec ? o->codec : s.codec;
    s.pix_fmt = o->pix_fmt ? o->pix_fmt : s.pix_fmt;
    s.crf = o->crf;
    s.threads = threads;
    return s;
}

vd_status vd_output_check(const vd_output *output, const vd_render_request *request) {
    vd_sink_options s = vd_request_sink_options(output, request, 1);
    return vd_sink_options_check(&s);
}

vd_status vd_request_describe(vd_model *model, const vd_render_request *r, const vd_output *o,
                              char **out) {
    vd_status st = VD_OK;
    vd_json_writer *w = NULL;
    char hash[72], size[48];
    *out = NULL;
    VD_TRY(vd_model_hash(model, hash));
    snprintf(size, sizeof size, "%lldx%lld", (long long)model->info.width_px,
             (long long)model->info.height_px);
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    vd_json_put_string(w, "prompt", r->prompt);
    if (r->negative_prompt)
        vd_json_put_string(w, "negative-prompt", r->negative_prompt);
    vd_json_put_int(w, "width", r->width_px);
    vd_json_put_int(w, "height", r->height_px);
    vd_json_put_int(w, "frames", r->frames);
    vd_json_put_double(w, "fps", r->fps);
    vd_json_put_int(w, "steps", r->steps);
    vd_json_put_double(w, "guidance", r->guidance);
    if (r->guidance_rescale > 0)
        vd_json_put_double(w, "guidance-rescale", r->guidance_rescale);
    vd_json_put_double(w, "eta", r->eta);
    /* As text: a JSON number would round seeds above 2^53. */
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->seed);
    vd_json_put_string(w, "seed", seed);
    if (r->scheduler)
        vd_json_put_string(w, "scheduler", r->scheduler);
    if (r->method)
        vd_json_put_string(w, "method", r->method);
    if (r->settings)
        vd_settings_put(w, "settings", r->settings);
    if (r->vae_tiling && strcmp(r->vae_tiling, "auto") != 0)
        vd_json_put_string(w, "vae-tiling", r->vae_tiling);
    vd_json_put_double(w, "vae-memory", r->vae_memory_gb);
    if (o->codec)
        vd_json_put_string(w, "codec", o->codec);
    if (o->pix_fmt)
        vd_json_put_string(w, "pix-fmt", o->pix_fmt);
    vd_json_put_double(w, "crf", o->crf);
    vd_json_put_string(w, "backend", vd_backend_name(model->be));
    vd_json_put_string(w, "dtype", model->info.dtype);
    vd_json_put_bool(w, "from-latents", r->latents != NULL);
    vd_json_put_string(w, "model", model->name);
    vd_json_put_string(w, "model-hash", hash);
    vd_json_put_string(w, "model-size", size);
    vd_json_put_string(w, "version", vd_version());
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, false, out));
done:
    vd_json_writer_destroy(w);
    return st;
}

typedef struct recorder {
    const vd_sink_options *options;
    vd_frame_sink *sink;
    vd_model_times *times;
} recorder;

static vd_status record_frame(void *user, const uint8_t *rgb) {
    recorder *rec = user;
    const double start_s = vd_now_s();
    /* Opened late: an encoder holds much memory, which the denoising can use. */
    vd_status st = rec->sink ? VD_OK : vd_frame_sink_open(rec->options, &rec->sink);
    if (st == VD_OK)
        st = vd_frame_sink_write(rec->sink, rgb);
    rec->times->encode_s += vd_now_s() - start_s;
    return st;
}

static vd_status finish_file(const recorder *rec) {
    const double start_s = vd_now_s();
    vd_status st = vd_frame_sink_finish(rec->sink);
    rec->times->encode_s += vd_now_s() - start_s;
    return st;
}

vd_status vd_render_to_file(vd_model *model, const vd_render_request *request,
                            const vd_output *output, const vd_render_events *events, char *digest) {
    vd_status st = VD_OK;
    char *settings = NULL;
    vd_sink_options s = vd_request_sink_options(output, request, vd_backend_threads(model->be));
    recorder rec = {.options = &s, .times = &model->times};
    VD_TRY(vd_render_check(model, request));
    VD_TRY(vd_output_check(output, request));
    VD_TRY(vd_request_describe(model, request, output, &settings));
    vd_metadata entry = {"vidilate", settings};
    s.comment = request->prompt;
    s.metadata = &entry;
    s.metadata_count = 1;
    VD_TRY(vd_render_frames(model, request, events, record_frame, &rec));
    VD_TRY(finish_file(&rec));
    if (digest)
        vd_frame_sink_digest(rec.sink, digest);
done:
    vd_frame_sink_destroy(rec.sink);
    free(settings);
    return st;
}

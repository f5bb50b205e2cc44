#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "core/sha256.h"
#include "core/text.h"
#include "encode/probe.h"
#include "encode/sink.h"
#include "unet3d/settings.h"
#include "video/scheduler.h"
#include "video/vidilate.h"

typedef struct render_args {
    const char *model, *prompt, *negative_prompt, *scheduler, *backend, *dtype, *method;
    const char *codec, *pix_fmt, *save_latents, *latents, *progress, *output, *from, *settings;
    int64_t width, height, frames, steps, threads;
    double scale, fps, guidance, guidance_rescale, eta, crf;
    uint64_t seed;
    struct {
        bool width, height, scale, frames, fps;
    } has;
    bool size_from_clip; /* width and height came with --from: --scale replaces them */
} render_args;

static const char *const BACKENDS[] = {"auto", "cpu", "cuda", NULL};
static const char *const DTYPES[] = {"auto", "f32", "bf16", "f16", NULL};
static const char *const METHODS[] = {"auto", "direct", NULL};
static const char *const PROGRESS[] = {"auto", "bar", "json", "none", NULL};

static const char SHIPPED_MODEL[] = "shapes";

enum { OPTION_COUNT = 27 };

static void fill_options(render_args *a, cli_option options[OPTION_COUNT]) {
    const cli_option list[OPTION_COUNT] = {
        {"model", 0, CLI_TEXT, &a->model, "DIR",
         "model folder in diffusers layout (the model that ships)", NULL, NULL},
        {"prompt", 'p', CLI_PROMPT, &a->prompt, "TEXT", "what to draw; @FILE reads it", NULL, NULL},
        {"negative-prompt", 'n', CLI_PROMPT, &a->negative_prompt, "TEXT",
         "what to keep away from; @FILE reads it", NULL, NULL},
        {"output", 'o', CLI_TEXT, &a->output, "FILE",
         ".mp4 .mov .mkv .webm, NAME%04d.png for frames, hash: or null:", NULL, NULL},
        {"width", 0, CLI_INT, &a->width, "PX", "width (the model's own)", NULL, &a->has.width},
        {"height", 0, CLI_INT, &a->height, "PX", "height (the model's own)", NULL, &a->has.height},
        {"scale", 0, CLI_DOUBLE, &a->scale, "X", "size relative to the model's own (1)", NULL,
         &a->has.scale},
        {"frames", 0, CLI_INT, &a->frames, "N", "number of frames (the model's own)", NULL,
         &a->has.frames},
        {"fps", 0, CLI_DOUBLE, &a->fps, "RATE", "frames a second (the model's own)", NULL,
         &a->has.fps},
        {"steps", 0, CLI_INT, &a->steps, "N", "denoising steps (50)", NULL, NULL},
        {"guidance", 0, CLI_DOUBLE, &a->guidance, "W",
         "classifier-free guidance scale; 1 turns it off (7.5)", NULL, NULL},
        {"guidance-rescale", 0, CLI_DOUBLE, &a->guidance_rescale, "PHI",
         "pull the guided prediction's deviation back, 0..1 (0)", NULL, NULL},
        {"scheduler", 0, CLI_CHOICE, &a->scheduler, "NAME",
         "ddim, dpmpp2m, euler, ... with the folder's settings (the folder's own)",
         vd_scheduler_names(), NULL},
        {"eta", 0, CLI_DOUBLE, &a->eta, "ETA", "noise of DDIM's steps, 0..1 (0)", NULL, NULL},
        {"seed", 's', CLI_SEED, &a->seed, "N", "initial noise as torch.randn draws it (0)", NULL,
         NULL},
        {"method", 0, CLI_CHOICE, &a->method, "NAME", "auto or direct: the plain network (auto)",
         METHODS, NULL},
        {"settings", 0, CLI_TEXT, &a->settings, "FILE",
         "layers to re-dilate, JSON: {\"dilate\": {\"mid_block\": 2}, \"dilate_tau\": 30, "
         "\"progressive\": true}; overrides --method",
         NULL, NULL},
        {"backend", 0, CLI_CHOICE, &a->backend, "NAME", "auto, cpu or cuda (auto)", BACKENDS, NULL},
        {"dtype", 0, CLI_CHOICE, &a->dtype, "TYPE", "auto, f32, bf16 or f16 (auto: the fastest)",
         DTYPES, NULL},
        {"threads", 0, CLI_INT, &a->threads, "N", "CPU threads (one per core)", NULL, NULL},
        {"codec", 0, CLI_TEXT, &a->codec, "NAME", "video encoder of libavcodec (libx264)", NULL,
         NULL},
        {"crf", 0, CLI_DOUBLE, &a->crf, "N", "constant quality, lower is better (18)", NULL, NULL},
        {"pix-fmt", 0, CLI_TEXT, &a->pix_fmt, "NAME", "pixel format (yuv420p)", NULL, NULL},
        {"latents", 0, CLI_TEXT, &a->latents, "FILE",
         "start from `latents` [1,C,F,h,w] of a safetensors file instead of noise", NULL, NULL},
        {"save-latents", 0, CLI_TEXT, &a->save_latents, "FILE",
         "write the final latents as safetensors", NULL, NULL},
        {"from", 0, CLI_TEXT, &a->from, "CLIP",
         "take the settings out of a rendered file; other options override them", NULL, NULL},
        {"progress", 0, CLI_CHOICE, &a->progress, "MODE",
         "auto, bar, json or none, on stderr (auto: a bar on a terminal)", PROGRESS, NULL},
    };
    memcpy(options, list, sizeof list);
}

/* ---- settings out of a rendered file ------------------------------------------------------- */

static vd_status apply_member(cli_command *command, const vd_json *doc, const vd_json_value *v) {
    /* What the file records about itself; --model is a folder, and only its name is known. The
     * settings are no option's text: read_settings takes them. */
    static const char *const facts[] = {"model",        "model-hash", "version", "backend",
                                        "from-latents", "settings",   NULL};
    const char *key = vd_json_key(v);
    char number[40];
    for (const char *const *fact = facts; *fact; fact++)
        if (strcmp(key, *fact) == 0)
            return VD_OK;
    switch (vd_json_type_of(v)) {
    case VD_JSON_STRING:
        return cli_set(command, key, vd_json_string(v));
    case VD_JSON_NUMBER:
        snprintf(number, sizeof number, "%.17g", vd_json_number(v));
        return cli_set(command, key, number);
    default:
        return vd_json_fail(doc, v, "expected a text or a number");
    }
}

/* The file knows its model by name and hash, not by folder. */
static vd_status check_clip_model(const render_args *a, const vd_json *doc) {
    vd_status st = VD_OK;
    const char *name = NULL;
    bool from_latents = false;
    const vd_json_value *root = vd_json_root(doc);
    VD_TRY(vd_json_text(doc, root, "model", SHIPPED_MODEL, &name));
    VD_TRY(vd_json_flag(doc, root, "from-latents", false, &from_latents));
    if (!a->model && strcmp(name, SHIPPED_MODEL) != 0)
        st = vd_fail(VD_ERR_USAGE, "%s was rendered with the model \"%s\": give --model DIR",
                     a->from, name);
    else if (!a->latents && from_latents)
        st = vd_fail(VD_ERR_USAGE, "%s was rendered from saved latents: give --latents FILE",
                     a->from);
done:
    return st;
}

/* *doc keeps the texts alive. */
static vd_status apply_clip(cli_command *command, render_args *a, vd_json **doc) {
    vd_status st = VD_OK;
    vd_media_info *info = NULL;
    const char *settings = NULL;
    VD_TRY(vd_probe(a->from, VD_PROBE_HEADERS, 1, &info));
    settings = vd_media_info_get(info, "vidilate");
    if (!settings) {
        st = vd_fail(VD_ERR_INPUT, "%s: holds no settings: it was not rendered by vidilate",
                     a->from);
        goto done;
    }
    VD_TRY(vd_json_parse(settings, strlen(settings), a->from, doc));
    const vd_json_value *root = vd_json_root(*doc);
    if (vd_json_type_of(root) != VD_JSON_OBJECT) {
        st = vd_json_fail(*doc, root, "the settings in the file are not an object");
        goto done;
    }
    VD_TRY(check_clip_model(a, *doc));
    for (const vd_json_value *v = vd_json_first(root); v; v = vd_json_next(v))
        VD_TRY(apply_member(command, *doc, v));
    a->size_from_clip = a->has.width && a->has.height;
    a->has.width = a->has.height = false;
done:
    vd_media_info_destroy(info);
    return st;
}

/* Tells of a clip that was made by other weights than those at hand. */
static vd_status compare_models(const render_args *a, vd_model *model, const vd_json *clip) {
    vd_status st = VD_OK;
    const char *recorded = NULL;
    char hash[72];
    VD_TRY(vd_json_text(clip, vd_json_root(clip), "model-hash", NULL, &recorded));
    VD_TRY(vd_model_hash(model, hash));
    if (recorded && strcmp(recorded, hash) != 0)
        fprintf(stderr,
                "vidilate: warning: %s was rendered with other weights (%.19s...) than these "
                "(%.19s...): the frames will differ\n",
                a->from, recorded, hash);
done:
    return st;
}

/* ---- latents ------------------------------------------------------------------------------- */

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

/* ---- the render ---------------------------------------------------------------------------- */

typedef struct watcher {
    cli_progress progress;
    const char *save_path; /* NULL: latents are not kept */
    const vd_model_info *info;
    const vd_render_request *request;
    float *latents; /* after the last step so far */
} watcher;

static vd_status save_latents(const watcher *w) {
    const char *name = "latents";
    const vd_render_request *r = w->request;
    int64_t scale = w->info->latent_scale;
    vd_tensor t = VD_VIEW(w->latents, VD_F32, 1, w->info->latent_channels, r->frames,
                          r->height_px / scale, r->width_px / scale);
    return vd_safetensors_write(w->save_path, &name, &t, 1, NULL);
}

static vd_status on_progress(void *user, const vd_progress *p) {
    watcher *w = user;
    cli_progress_show(&w->progress, p);
    /* Before the decoding, which must not lose them. */
    bool denoised = p->stage == VD_STAGE_DECODE && p->done == 0;
    return denoised && w->latents ? save_latents(w) : VD_OK;
}

static void on_warning(void *user, const char *message) {
    watcher *w = user;
    cli_progress_end(&w->progress);
    fprintf(stderr, "vidilate: warning: %s\n", message);
}

static vd_status on_step(void *user, int64_t step, const float *latents, const float *prediction,
                         size_t count) {
    watcher *w = user;
    (void)step;
    (void)prediction;
    if (!w->latents)
        w->latents = malloc(count * sizeof *latents);
    if (!w->latents)
        return vd_fail(VD_ERR_MEMORY, "no memory for the latents to save");
    memcpy(w->latents, latents, count * sizeof *latents);
    return VD_OK;
}

static vd_status fill_request(const render_args *a, const vd_model *model, vd_render_request *r) {
    const vd_model_info *info = vd_model_get_info(model);
    *r = vd_render_defaults(model);
    r->prompt = a->prompt;
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
    return VD_OK;
}

/* From the file of --settings, or else those that the clip of --from was rendered with. */
static vd_status read_settings(const render_args *a, const vd_json *clip, vd_settings **out) {
    const vd_json_value *recorded = clip ? vd_json_get(vd_json_root(clip), "settings") : NULL;
    *out = NULL;
    if (a->settings)
        return vd_settings_read(a->settings, out);
    if (!recorded || strcmp(a->method, "direct") == 0)
        return VD_OK;
    return vd_settings_parse(clip, recorded, NULL, a->from, out);
}

static vd_status run(const render_args *a, const vd_json *clip) {
    vd_status st = VD_OK;
    vd_model *model = NULL;
    char *shipped = NULL;
    float *latents = NULL;
    vd_settings *settings = NULL;
    char digest[VD_SHA256_HEX_BYTES];
    vd_render_request r;
    watcher w = {.save_path = a->save_latents, .request = &r};
    vd_output output = {a->output, a->codec, a->pix_fmt, a->crf};
    vd_render_events events = {.user = &w,
                               .should_stop = cli_interrupted,
                               .progress = on_progress,
                               .warning = on_warning,
                               .step = a->save_latents ? on_step : NULL};
    double start_s = cli_now_s();
    cli_progress_init(&w.progress, a->progress);
    VD_TRY(read_settings(a, clip, &settings));
    if (!a->model)
        VD_TRY(cli_shipped_model(&shipped));
    vd_model_options options = {.dir = a->model ? a->model : shipped,
                                .backend = a->backend,
                                .dtype = a->dtype,
                                .threads = (int)a->threads};
    VD_TRY(vd_model_open(&options, &model));
    w.info = vd_model_get_info(model);
    VD_TRY(fill_request(a, model, &r));
    r.settings = settings;
    VD_TRY(vd_render_check(model, &r));
    VD_TRY(vd_output_check(&output, &r));
    if (clip)
        VD_TRY(compare_models(a, model, clip));
    if (a->latents) {
        VD_TRY(read_latents(a->latents, w.info, &r, &latents));
        r.latents = latents;
    }
    VD_TRY(vd_render_to_file(model, &r, &output, &events, digest));
    size_t name_length = strlen(a->output);
    if (a->output[name_length - 1] == ':')
        name_length--;
    printf("%.*s: %lldx%lld, %lld frames at %g fps, seed %llu, %.1f s, peak %lld MB, sha256:%s\n",
           (int)name_length, a->output, (long long)r.width_px, (long long)r.height_px,
           (long long)r.frames, r.fps, (unsigned long long)r.seed, cli_now_s() - start_s,
           (long long)(cli_peak_bytes() / 1000000), digest);
done:
    cli_progress_end(&w.progress);
    free(w.latents);
    free(latents);
    vd_settings_destroy(settings);
    vd_model_close(model);
    free(shipped);
    return st;
}

static vd_status check_args(const render_args *a) {
    if (!a->prompt)
        return vd_fail(VD_ERR_USAGE, "render: no prompt; give --prompt TEXT");
    if (!a->output)
        return vd_fail(VD_ERR_USAGE, "render: no output; give -o FILE");
    if (a->has.scale && (a->has.width || a->has.height))
        return vd_fail(VD_ERR_USAGE, "render: give --scale or --width and --height, not both");
    if (a->threads < 0 || a->threads > 1024)
        return vd_fail(VD_ERR_USAGE, "render: --threads %lld: must be from 0 (all cores) to 1024",
                       (long long)a->threads);
    return VD_OK;
}

int cli_render(int argc, char **argv) {
    vd_status st = VD_OK;
    bool done_early = false;
    vd_json *clip = NULL;
    cli_option options[OPTION_COUNT];
    render_args a = {.backend = "auto",
                     .dtype = "auto",
                     .method = "auto",
                     .progress = "auto",
                     .codec = "libx264",
                     .pix_fmt = "yuv420p",
                     .crf = 18,
                     .steps = 50,
                     .guidance = 7.5};
    cli_command command = {.name = "render",
                           .usage = "--prompt TEXT [options] -o FILE",
                           .summary = "Draws a clip from a prompt. Without --model it uses the "
                                      "model that ships.",
                           .options = options,
                           .option_count = OPTION_COUNT};
    fill_options(&a, options);
    VD_TRY(cli_parse(&command, argc, argv, &done_early));
    if (done_early)
        goto done;
    if (a.from) {
        VD_TRY(apply_clip(&command, &a, &clip));
        /* Again, so that what is on the command line wins. */
        VD_TRY(cli_parse(&command, argc, argv, &done_early));
    }
    VD_TRY(check_args(&a));
    VD_TRY(run(&a, clip));
done:
    cli_command_free(&command);
    vd_json_destroy(clip);
    return cli_report(st);
}

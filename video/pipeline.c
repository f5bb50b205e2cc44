/* Prompt -> text states -> latents -> frames: the three stages of a render, each of which loads its
 * network, plans its memory with a dry pass, and lets go of both before the next begins. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "unet3d/settings.h"
#include "video/guidance.h"
#include "video/model.h"
#include "video/noise.h"
#include "video/pipeline.h"

typedef struct render {
    vd_model *m;
    const vd_render_request *r;
    const vd_render_events *ev;
    int64_t h, w, pixels; /* of a latent frame */
    size_t count;         /* latent values: channels * frames * pixels */
    int branches;         /* 2 with guidance: negative, prompt */
    float *context;       /* host [branches, tokens, width] */
    int64_t tokens, width;
    float *latents; /* host [1, channels, frames, h, w] */
    vd_status (*consume)(void *user, const uint8_t *rgb);
    void *consume_user;
} render;

static vd_status report(const render *j, vd_stage stage, int64_t done, int64_t total) {
    vd_progress p = {stage, done, total};
    return j->ev->progress ? j->ev->progress(j->ev->user, &p) : VD_OK;
}

static vd_status check_stop(const render *j) {
    if (j->ev->should_stop && j->ev->should_stop(j->ev->user))
        return vd_fail(VD_ERR_INTERRUPTED, "interrupted");
    return VD_OK;
}

static vd_status exec_for(const render *j, vd_dtype dtype, vd_exec **out) {
    vd_status st = vd_exec_create(j->m->be, dtype, out);
    if (st == VD_OK)
        vd_exec_set_interrupt(*out, j->ev->should_stop, j->ev->user);
    return st;
}

static vd_status host_floats(size_t count, float **out) {
    *out = NULL;
    vd_status st = vd_memory_check(count * sizeof **out, "the latents");
    if (st != VD_OK)
        return st;
    *out = malloc(count * sizeof **out);
    return *out ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for %zu values", count);
}

/* ---- text ---------------------------------------------------------------------------------- */

static vd_status tokenize(const render *j, const char *text, const char *which, int32_t *ids) {
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

static vd_status encode_text(render *j) {
    vd_status st = VD_OK;
    vd_exec *x = NULL;
    int32_t *ids = NULL;
    void *device = NULL;
    VD_TRY(report(j, VD_STAGE_TEXT, 0, 1));
    VD_TRY(vd_model_need_text(j->m));
    const vd_clip_config *c = vd_clip_get_config(j->m->clip);
    size_t max_length = vd_tokenizer_max_length(j->m->tokenizer);
    j->tokens = max_length < (size_t)c->max_tokens ? (int64_t)max_length : c->max_tokens;
    j->width = c->width;
    size_t count = (size_t)(j->branches * j->tokens * j->width);
    ids = malloc((size_t)(j->branches * j->tokens) * sizeof *ids);
    VD_TRY(host_floats(count, &j->context));
    if (!ids) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for token ids");
        goto done;
    }
    if (j->branches == 2)
        VD_TRY(tokenize(j, j->r->negative_prompt ? j->r->negative_prompt : "", "negative prompt",
                        ids));
    VD_TRY(tokenize(j, j->r->prompt, "prompt", ids + (j->branches - 1) * j->tokens));
    VD_TRY(exec_for(j, VD_F32, &x));
    VD_TRY(vd_backend_alloc(j->m->be, count * sizeof(float), &device));
    vd_tensor states = VD_VIEW(device, VD_F32, j->branches, j->tokens, j->width);
    VD_TRY(vd_clip_encode(j->m->clip, x, &states, ids, j->branches, j->tokens, NULL));
    VD_TRY(vd_exec_commit(x));
    VD_TRY(vd_clip_encode(j->m->clip, x, &states, ids, j->branches, j->tokens, NULL));
    VD_TRY(vd_backend_download(j->m->be, j->context, device, count * sizeof(float)));
    if (j->ev->context)
        j->ev->context(j->ev->user, j->context, j->branches, j->tokens, j->width);
    VD_TRY(report(j, VD_STAGE_TEXT, 1, 1));
done:
    vd_backend_free(j->m->be, device);
    vd_exec_destroy(x);
    free(ids);
    vd_model_release_text(j->m);
    return st;
}

/* ---- denoising ----------------------------------------------------------------------------- */

/* What the loop keeps on the device and the host. */
typedef struct denoiser {
    vd_exec *x;
    vd_scheduler *scheduler;
    vd_method_plan *plan; /* NULL: the plain network */
    vd_rng rng;
    void *sample_memory, *output_memory, *states_memory;
    vd_tensor sample, output, states; /* device; sample and output [branches, C, F, h, w] */
    float *input;                     /* host: one branch's scaled sample */
    float *prediction;                /* host [branches, C, F, h, w] */
    float *mixed;                     /* host: the branches after guidance; NULL with one branch */
    float *noise, *noise_scratch;     /* host, for stochastic schedulers */
} denoiser;

static vd_status denoiser_memory(const render *j, denoiser *d) {
    vd_status st = VD_OK;
    vd_backend *be = j->m->be;
    int64_t c = j->m->info.latent_channels;
    d->sample = VD_VIEW(NULL, VD_F32, j->branches, c, j->r->frames, j->h, j->w);
    d->output = d->sample;
    d->states = VD_VIEW(NULL, VD_F32, j->branches, j->tokens, j->width);
    VD_TRY(vd_backend_alloc(be, vd_tensor_bytes(&d->sample), &d->sample_memory));
    VD_TRY(vd_backend_alloc(be, vd_tensor_bytes(&d->output), &d->output_memory));
    VD_TRY(vd_backend_alloc(be, vd_tensor_bytes(&d->states), &d->states_memory));
    d->sample.data = d->sample_memory;
    d->output.data = d->output_memory;
    d->states.data = d->states_memory;
    VD_TRY(vd_backend_upload(be, d->states.data, j->context, vd_tensor_bytes(&d->states)));
    VD_TRY(host_floats(j->count, &d->input));
    VD_TRY(host_floats(j->count * (size_t)j->branches, &d->prediction));
    if (j->branches == 2)
        VD_TRY(host_floats(j->count, &d->mixed));
    VD_TRY(host_floats(j->count, &d->noise));
    VD_TRY(host_floats(j->count, &d->noise_scratch));
done:
    return st;
}

static void denoiser_free(vd_backend *be, denoiser *d) {
    vd_exec_destroy(d->x);
    vd_scheduler_destroy(d->scheduler);
    vd_method_plan_destroy(d->plan);
    vd_backend_free(be, d->sample_memory);
    vd_backend_free(be, d->output_memory);
    vd_backend_free(be, d->states_memory);
    free(d->input);
    free(d->prediction);
    free(d->mixed);
    free(d->noise);
    free(d->noise_scratch);
}

static vd_status make_scheduler(const render *j, vd_scheduler **out) {
    vd_status st = VD_OK;
    vd_scheduler_config config = {0};
    if (j->r->scheduler_config)
        return vd_scheduler_create(j->r->scheduler_config, (int)j->r->steps, j->r->eta, j->count,
                                   out);
    VD_TRY(vd_model_scheduler(j->m, j->r->scheduler, &config));
    VD_TRY(vd_scheduler_create(&config, (int)j->r->steps, j->r->eta, j->count, out));
done:
    vd_scheduler_config_clear(&config);
    return st;
}

/* Initial latents, then times init_noise_sigma. */
static void start_latents(const render *j, denoiser *d) {
    vd_rng_seed(&d->rng, j->r->seed);
    if (j->r->latents)
        memcpy(j->latents, j->r->latents, j->count * sizeof *j->latents);
    else
        vd_noise_initial(&d->rng, j->latents, j->m->info.latent_channels, j->r->frames, j->pixels);
    float sigma = (float)vd_scheduler_init_noise_sigma(d->scheduler);
    for (size_t i = 0; i < j->count; i++)
        j->latents[i] *= sigma;
}

/* One UNet call for all branches at once, then guidance. */
static vd_status predict(const render *j, denoiser *d, int call) {
    vd_status st = VD_OK;
    vd_backend *be = j->m->be;
    float scale = (float)vd_scheduler_input_scale(d->scheduler, call);
    double timestep[2] = {vd_scheduler_timestep(d->scheduler, call), 0};
    timestep[1] = timestep[0];
    const vd_unet_hooks hooks = {.methods = d->plan ? vd_method_plan_at(d->plan, call) : NULL};
    size_t bytes = j->count * sizeof(float);
    for (size_t i = 0; i < j->count; i++)
        d->input[i] = j->latents[i] * scale;
    for (int b = 0; b < j->branches; b++)
        VD_TRY(vd_backend_upload(be, (char *)d->sample.data + (size_t)b * bytes, d->input, bytes));
    VD_TRY(vd_unet_forward(j->m->unet, d->x, &d->output, &d->sample, timestep, &hooks));
    VD_TRY(vd_backend_download(be, d->prediction, d->output.data, (size_t)j->branches * bytes));
    if (j->branches == 2) {
        const float *uncond = d->prediction, *text = d->prediction + j->count;
        vd_guidance_mix(d->mixed, uncond, uncond, text, j->r->guidance, j->count);
        if (j->r->guidance_rescale > 0)
            VD_TRY(vd_guidance_rescale(d->mixed, text, j->r->guidance_rescale, 1, j->count));
    }
done:
    return st;
}

static vd_status check_finite(const render *j, int step) {
    for (size_t i = 0; i < j->count; i++)
        if (!isfinite(j->latents[i]))
            return vd_fail(VD_ERR_BACKEND,
                           "the latents hold NaN or infinity after step %d of %lld: try --dtype "
                           "f32, another scheduler or a lower guidance",
                           step + 1, (long long)j->r->steps);
    return VD_OK;
}

static vd_status loop(const render *j, denoiser *d) {
    vd_status st = VD_OK;
    int calls = vd_scheduler_calls(d->scheduler);
    const float *guided = j->branches == 2 ? d->mixed : d->prediction;
    VD_TRY(report(j, VD_STAGE_DENOISE, 0, calls));
    for (int i = 0; i < calls; i++) {
        VD_TRY(check_stop(j));
        VD_TRY(predict(j, d, i));
        const float *noise = NULL;
        if (vd_scheduler_needs_noise(d->scheduler, i)) {
            noise = j->r->step_noise ? j->r->step_noise + (size_t)i * j->count : d->noise;
            if (!j->r->step_noise)
                vd_noise_step(&d->rng, d->noise, d->noise_scratch, j->m->info.latent_channels,
                              j->r->frames, j->pixels);
        }
        VD_TRY(vd_scheduler_step(d->scheduler, i, j->latents, guided, noise, j->count));
        VD_TRY(check_finite(j, i));
        if (j->ev->step)
            VD_TRY(j->ev->step(j->ev->user, i, j->latents, guided, j->count));
        VD_TRY(report(j, VD_STAGE_DENOISE, i + 1, calls));
    }
done:
    return st;
}

/* Dry forwards with each table of the settings, and then the memory for the largest. */
static vd_status plan_memory(const render *j, denoiser *d) {
    vd_status st = VD_OK;
    vd_unet *unet = j->m->unet;
    const double timestep[2] = {0, 0};
    int calls = vd_scheduler_calls(d->scheduler);
    if (j->r->settings)
        VD_TRY(vd_method_plan_create(j->r->settings, vd_unet_spatial_paths(unet), calls, &d->plan));
    VD_TRY(vd_unet_set_context(unet, d->x, &d->states));
    int tables = d->plan ? vd_method_plan_table_count(d->plan) : 1;
    for (int i = 0; i < tables; i++) {
        const vd_unet_hooks hooks = {.methods = d->plan ? vd_method_plan_table(d->plan, i) : NULL};
        VD_TRY(vd_unet_forward(unet, d->x, &d->output, &d->sample, timestep, &hooks));
    }
    VD_TRY(vd_exec_commit(d->x));
    VD_TRY(vd_unet_set_context(unet, d->x, &d->states));
done:
    return st;
}

static vd_status denoise(render *j) {
    vd_status st = VD_OK;
    denoiser d = {0};
    VD_TRY(make_scheduler(j, &d.scheduler));
    VD_TRY(host_floats(j->count, &j->latents));
    start_latents(j, &d);
    VD_TRY(vd_model_need_unet(j->m));
    VD_TRY(exec_for(j, j->m->dtype, &d.x));
    VD_TRY(denoiser_memory(j, &d));
    VD_TRY(plan_memory(j, &d));
    VD_TRY(loop(j, &d));
done:
    denoiser_free(j->m->be, &d);
    vd_model_release_unet(j->m);
    return st;
}

/* ---- decoding ------------------------------------------------------------------------------ */

typedef struct decoder {
    vd_exec *x;
    void *latents_memory, *picture_memory;
    vd_tensor planes, latents; /* device: [1, C, F*h*w] and, channels-last, [F*h*w, C] */
    vd_tensor picture;         /* device: [1, H, W, 3] */
    float *image;              /* host, one frame */
    uint8_t *rgb;
} decoder;

/* Latents as the autoencoder wants them: channels-last, divided by the scaling factor. */
static vd_status prepare_latents(const render *j, decoder *d) {
    vd_status st = VD_OK;
    double factor = 1 / j->m->vae_config.scaling_factor;
    vd_tensor channels_last =
        VD_VIEW(d->latents.data, VD_F32, 1, j->r->frames * j->pixels, j->m->info.latent_channels);
    const vd_tensor *source = &d->planes;
    VD_TRY(vd_combine(d->x, &d->planes, 1, &factor, &source));
    VD_TRY(vd_transpose(d->x, &channels_last, &d->planes));
done:
    return st;
}

static vd_status decode_frame(const render *j, decoder *d, int64_t index) {
    int64_t c = j->m->info.latent_channels;
    float *first = (float *)d->latents.data + index * j->pixels * c;
    vd_tensor frame = VD_VIEW(first, VD_F32, 1, j->h, j->w, c);
    return vd_vae_decode(j->m->vae, d->x, &d->picture, &frame);
}

static vd_status decoder_memory(const render *j, decoder *d) {
    vd_status st = VD_OK;
    vd_backend *be = j->m->be;
    size_t bytes = j->count * sizeof(float);
    size_t values = (size_t)(j->r->width_px * j->r->height_px * 3);
    VD_TRY(vd_backend_alloc(be, 2 * bytes, &d->latents_memory));
    VD_TRY(vd_backend_alloc(be, values * sizeof(float), &d->picture_memory));
    d->planes =
        VD_VIEW(d->latents_memory, VD_F32, 1, j->m->info.latent_channels, j->r->frames * j->pixels);
    d->latents = VD_VIEW((char *)d->latents_memory + bytes, VD_F32, j->r->frames * j->pixels,
                         j->m->info.latent_channels);
    d->picture = VD_VIEW(d->picture_memory, VD_F32, 1, j->r->height_px, j->r->width_px, 3);
    VD_TRY(vd_backend_upload(be, d->planes.data, j->latents, bytes));
    VD_TRY(host_floats(values, &d->image));
    d->rgb = malloc(values);
    if (!d->rgb)
        st = vd_fail(VD_ERR_MEMORY, "no memory for a frame");
done:
    return st;
}

static vd_status decode(render *j) {
    vd_status st = VD_OK;
    decoder d = {0};
    size_t values = (size_t)(j->r->width_px * j->r->height_px * 3);
    VD_TRY(report(j, VD_STAGE_DECODE, 0, j->r->frames));
    VD_TRY(vd_model_need_vae(j->m));
    VD_TRY(exec_for(j, j->m->dtype, &d.x));
    VD_TRY(decoder_memory(j, &d));
    VD_TRY(prepare_latents(j, &d));
    VD_TRY(decode_frame(j, &d, 0));
    VD_TRY(vd_exec_commit(d.x));
    VD_TRY(prepare_latents(j, &d));
    for (int64_t f = 0; f < j->r->frames; f++) {
        VD_TRY(check_stop(j));
        VD_TRY(decode_frame(j, &d, f));
        VD_TRY(vd_backend_download(j->m->be, d.image, d.picture.data, values * sizeof(float)));
        vd_vae_to_bytes(d.rgb, d.image, values);
        if (j->consume)
            VD_TRY(j->consume(j->consume_user, d.rgb));
        if (j->ev->frame)
            VD_TRY(j->ev->frame(j->ev->user, f, d.image, d.rgb));
        VD_TRY(report(j, VD_STAGE_DECODE, f + 1, j->r->frames));
    }
done:
    vd_exec_destroy(d.x);
    vd_backend_free(j->m->be, d.latents_memory);
    vd_backend_free(j->m->be, d.picture_memory);
    free(d.image);
    free(d.rgb);
    vd_model_release_vae(j->m);
    return st;
}

vd_status vd_render_frames(vd_model *model, const vd_render_request *request,
                           const vd_render_events *events,
                           vd_status (*consume)(void *user, const uint8_t *rgb), void *user) {
    static const vd_render_events silent = {0};
    vd_status st = VD_OK;
    render j = {.m = model,
                .r = request,
                .ev = events ? events : &silent,
                .consume = consume,
                .consume_user = user};
    VD_TRY(vd_render_check(model, request));
    j.h = request->height_px / model->info.latent_scale;
    j.w = request->width_px / model->info.latent_scale;
    j.pixels = j.h * j.w;
    j.count = (size_t)(model->info.latent_channels * request->frames * j.pixels);
    j.branches = request->guidance > 1 ? 2 : 1;
    VD_TRY(encode_text(&j));
    VD_TRY(denoise(&j));
    if (j.ev->frame || j.consume)
        VD_TRY(decode(&j));
done:
    free(j.context);
    free(j.latents);
    return st;
}

vd_status vd_render(vd_model *model, const vd_render_request *request,
                    const vd_render_events *events) {
    return vd_render_frames(model, request, events, NULL, NULL);
}

/* Text states and noise -> latents. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "unet3d/method_plan.h"
#include "video/guidance.h"
#include "video/low_res.h"
#include "video/noise.h"
#include "video/preflight.h"
#include "video/stage.h"
#include "video/state.h"

enum { SAVE_AFTER_S = 10 };

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
    float *damped;                    /* host [C, F, h, w]: the noise-damped network's */
    float *mixed;                     /* host: the branches after guidance; NULL with one branch */
    float *noise, *noise_scratch;     /* host, for stochastic schedulers */
    int next;                         /* the call that the latents are for */
    double saved_s;                   /* when the state was saved last */
    bool warned;                      /* that it cannot be */
    float *guide;                     /* host: a small render, enlarged (low_res.h); NULL: none */
} denoiser;

/* Shapes, for the dry pass. */
static void shape_denoiser(const vd_render_job *j, denoiser *d) {
    const int64_t c = j->m->info.latent_channels;
    d->sample = VD_VIEW(vd_stage_nowhere(0), VD_F32, j->branches, c, j->r->frames, j->h, j->w);
    d->output = d->sample;
    d->output.data = vd_stage_nowhere(1);
    d->states = VD_VIEW(vd_stage_nowhere(2), VD_F32, j->branches, j->tokens, j->width);
}

/* What denoiser_memory, the latents and the scheduler take; a noiseless loop touches less. */
static size_t denoiser_bytes(const vd_render_job *j, const denoiser *d) {
    size_t history = 0;
    (void)vd_scheduler_history(d->scheduler, &history);
    const bool noisy = vd_scheduler_needs_noise(d->scheduler, 0);
    const size_t arrays = 4 + 3 * (size_t)j->branches + (noisy ? 2 : 0);
    return (arrays * j->count + history) * sizeof(float);
}

static vd_status denoiser_memory(const vd_render_job *j, denoiser *d) {
    vd_status st = VD_OK;
    vd_backend *be = j->m->be;
    VD_TRY(vd_backend_alloc(be, vd_tensor_bytes(&d->sample), &d->sample_memory));
    VD_TRY(vd_backend_alloc(be, vd_tensor_bytes(&d->output), &d->output_memory));
    VD_TRY(vd_backend_alloc(be, vd_tensor_bytes(&d->states), &d->states_memory));
    d->sample.data = d->sample_memory;
    d->output.data = d->output_memory;
    d->states.data = d->states_memory;
    VD_TRY(vd_backend_upload(be, d->states.data, j->context, vd_tensor_bytes(&d->states)));
    VD_TRY(vd_stage_floats(j->count, &d->input));
    VD_TRY(vd_stage_floats(j->count * (size_t)j->branches, &d->prediction));
    VD_TRY(vd_stage_floats(j->count, &d->damped));
    if (j->branches == 2)
        VD_TRY(vd_stage_floats(j->count, &d->mixed));
    VD_TRY(vd_stage_floats(j->count, &d->noise));
    VD_TRY(vd_stage_floats(j->count, &d->noise_scratch));
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
    free(d->damped);
    free(d->mixed);
    free(d->noise);
    free(d->noise_scratch);
    free(d->guide);
}

/* Initial latents, then times init_noise_sigma. */
static void start_latents(const vd_render_job *j, denoiser *d) {
    vd_rng_seed(&d->rng, j->r->seed);
    if (j->r->latents)
        memcpy(j->latents, j->r->latents, j->count * sizeof *j->latents);
    else
        vd_noise_initial(&d->rng, j->latents, j->m->info.latent_channels, j->r->frames, j->pixels);
    float sigma = (float)vd_scheduler_init_noise_sigma(d->scheduler);
    for (size_t i = 0; i < j->count; i++)
        j->latents[i] *= sigma;
}

/* The network on the first `batch` branches of d->sample; `result` NULL: is not wanted. */
static vd_status forward(const vd_render_job *j, denoiser *d, const vd_step_method *method,
                         int batch, double t, float *result) {
    const double timestep[2] = {t, t};
    const vd_unet_hooks hooks = {.method = method};
    vd_tensor sample = d->sample, output = d->output;
    sample.dim[0] = output.dim[0] = batch;
    vd_status st = vd_unet_forward(j->m->unet, d->x, &output, &sample, timestep, &hooks);
    if (st == VD_OK && result)
        st = vd_backend_download(j->m->be, result, output.data, vd_tensor_bytes(&output));
    return st;
}

/* The network that the negative prompt's prediction is taken from besides; NULL: none. */
static const vd_step_method *damped_of(const vd_render_job *j, const denoiser *d, int call) {
    return d->plan && j->branches == 2 ? vd_method_plan_damped_at(d->plan, call) : NULL;
}

/* One UNet call for all branches at once; with noise damping, one more for the negative prompt.
 * Results as in forward. */
static vd_status run_networks(const vd_render_job *j, denoiser *d, int call, float *prediction,
                              float *damped_prediction) {
    const double t = vd_scheduler_timestep(d->scheduler, call);
    const vd_step_method *method = d->plan ? vd_method_plan_at(d->plan, call) : NULL;
    const vd_step_method *damped = damped_of(j, d, call);
    vd_status st = forward(j, d, method, j->branches, t, prediction);
    if (st == VD_OK && damped)
        st = forward(j, d, damped, 1, t, damped_prediction);
    return st;
}

/* The networks, then guidance. */
static vd_status predict(const vd_render_job *j, denoiser *d, int call) {
    vd_status st = VD_OK;
    vd_backend *be = j->m->be;
    float scale = (float)vd_scheduler_input_scale(d->scheduler, call);
    size_t bytes = j->count * sizeof(float);
    for (size_t i = 0; i < j->count; i++)
        d->input[i] = j->latents[i] * scale;
    for (int b = 0; b < j->branches; b++)
        VD_TRY(vd_backend_upload(be, (char *)d->sample.data + (size_t)b * bytes, d->input, bytes));
    VD_TRY(run_networks(j, d, call, d->prediction, d->damped));
    if (j->branches == 2) {
        const float *uncond = d->prediction, *text = d->prediction + j->count;
        vd_guidance_mix(d->mixed, damped_of(j, d, call) ? d->damped : uncond, uncond, text,
                        j->r->guidance, j->count);
        if (j->r->guidance_rescale > 0)
            VD_TRY(vd_guidance_rescale(d->mixed, text, j->r->guidance_rescale, 1, j->count));
    }
done:
    return st;
}

static bool is_guided_by_small(const vd_render_job *j, const denoiser *d, int call) {
    return d->guide && call < j->r->settings->low_res_tau;
}

/* The guided prediction of a call: the network's, or the small render's. */
static vd_status guided_prediction(const vd_render_job *j, denoiser *d, int call, float *guided) {
    if (!is_guided_by_small(j, d, call))
        return predict(j, d, call);
    double of_sample = 0, of_output = 0;
    vd_scheduler_x0(d->scheduler, call, &of_sample, &of_output);
    for (size_t i = 0; i < j->count; i++)
        guided[i] = (float)(((double)d->guide[i] - of_sample * (double)j->latents[i]) / of_output);
    return VD_OK;
}

/* A call whose sample is on the device still. */
typedef struct past_call {
    const vd_render_job *j;
    denoiser *d;
    int call;
} past_call;

static vd_status call_again(void *user) {
    const past_call *p = user;
    vd_status st = VD_OK;
    if (is_guided_by_small(p->j, p->d, p->call))
        return st;
    VD_TRY(vd_unet_set_context(p->j->m->unet, p->d->x, &p->d->states));
    VD_TRY(run_networks(p->j, p->d, p->call, NULL, NULL));
done:
    return st;
}

/* A sampler that clamps would hide what is wrong with a prediction, so both are looked at. */
static vd_status check_finite(const vd_render_job *j, denoiser *d, int call, const float *values) {
    past_call past = {j, d, call};
    char what[64];
    if (vd_stage_finite(values, j->count))
        return VD_OK;
    snprintf(what, sizeof what, "step %d of %d", call + 1, vd_scheduler_calls(d->scheduler));
    return vd_stage_blame(d->x, call_again, &past, what);
}

/* ---- durability ---- */

/* The call that an earlier run's state goes on with; 0 if there is none that fits. */
static int resumed_call(const vd_render_job *j, const denoiser *d) {
    const vd_render_state *s = j->resume;
    size_t count = 0;
    (void)vd_scheduler_history(d->scheduler, &count);
    const bool fits =
        s && s->calls == vd_scheduler_calls(d->scheduler) && s->history_count == count;
    return fits ? (int)s->next : 0;
}

/* Goes on from an earlier run's state, if there is one. */
static vd_status restore(const vd_render_job *j, denoiser *d) {
    vd_status st = VD_OK;
    const vd_render_state *s = j->resume;
    size_t count = 0;
    float *history = vd_scheduler_history(d->scheduler, &count);
    d->saved_s = vd_now_s();
    d->next = resumed_call(j, d);
    if (d->next == 0)
        return st;
    VD_TRY(vd_scheduler_resume(d->scheduler, d->next));
    memcpy(j->latents, s->latents, j->count * sizeof *j->latents);
    if (count > 0)
        memcpy(history, s->history, count * sizeof *history);
    d->rng = s->rng;
done:
    return st;
}

/* A state that cannot be saved must not end a render that may yet come out: it is told once. Not
 * after the last call: the output goes to the same disk, and its failure says what is wrong. */
static void save(const vd_render_job *j, denoiser *d) {
    vd_render_state s = {.next = d->next,
                         .calls = vd_scheduler_calls(d->scheduler),
                         .rng = d->rng,
                         .latents = j->latents};
    s.history = vd_scheduler_history(d->scheduler, &s.history_count);
    const bool tell = !d->warned && d->next < s.calls && j->ev->warning;
    if (vd_state_write(j, &s) != VD_OK && tell) {
        char message[512];
        snprintf(message, sizeof message, "%.400s: if this render is killed, it begins anew",
                 vd_error_message());
        j->ev->warning(j->ev->user, message);
        d->warned = true;
    }
    d->saved_s = vd_now_s();
}

static bool save_is_due(const vd_render_job *j, const denoiser *d) {
    if (!j->r->state_path)
        return false;
    if (d->next == vd_scheduler_calls(d->scheduler))
        return true;
    return j->r->save_every > 0 ? d->next % j->r->save_every == 0
                                : vd_now_s() - d->saved_s >= SAVE_AFTER_S;
}

static vd_status loop(const vd_render_job *j, denoiser *d) {
    vd_status st = VD_OK;
    int calls = vd_scheduler_calls(d->scheduler);
    float *guided = j->branches == 2 ? d->mixed : d->prediction;
    const int64_t total = j->calls_before + calls + j->calls_after;
    VD_TRY(restore(j, d));
    const int first = d->next;
    VD_TRY(vd_stage_report(j, VD_STAGE_DENOISE, j->calls_before, total));
    for (int i = first; i < calls; i++) {
        VD_TRY(vd_stage_check_stop(j));
        VD_TRY(guided_prediction(j, d, i, guided));
        VD_TRY(check_finite(j, d, i, guided));
        const float *noise = NULL;
        if (vd_scheduler_needs_noise(d->scheduler, i)) {
            noise = j->r->step_noise ? j->r->step_noise + (size_t)i * j->count : d->noise;
            if (!j->r->step_noise)
                vd_noise_step(&d->rng, d->noise, d->noise_scratch, j->m->info.latent_channels,
                              j->r->frames, j->pixels);
        }
        VD_TRY(vd_scheduler_step(d->scheduler, i, j->latents, guided, noise, j->count));
        d->next = i + 1;
        VD_TRY(check_finite(j, d, i, j->latents));
        if (save_is_due(j, d))
            save(j, d);
        if (j->ev->step)
            VD_TRY(j->ev->step(j->ev->user, i, j->latents, guided, j->count));
        VD_TRY(vd_stage_report(j, VD_STAGE_DENOISE, j->calls_before + i + 1, total));
    }
done:
    /* A call that was stopped has not touched the latents. */
    if (st == VD_ERR_INTERRUPTED && j->r->state_path && d->next > 0) {
        save(j, d);
        st = vd_fail(st, "interrupted");
    }
    return st;
}

/* SD XL's pooled text, and the sizes that it was trained to be told: of the picture before and
 * after cropping, with nothing cropped. */
static vd_status set_added(const vd_render_job *j) {
    enum { IDS = 6, MAX_BRANCHES = 2 };
    const double h = (double)j->r->height_px, w = (double)j->r->width_px;
    const double ids[MAX_BRANCHES * IDS] = {h, w, 0, 0, h, w, h, w, 0, 0, h, w};
    return vd_unet_set_added(j->m->unet, j->branches, j->pooled, IDS, ids);
}

/* ---- preflight ---- */

/* Whether two calls run the same networks. */
static bool same_call(const denoiser *d, int a, int b) {
    return !d->plan ||
           (vd_method_plan_at(d->plan, a) == vd_method_plan_at(d->plan, b) &&
            vd_method_plan_damped_at(d->plan, a) == vd_method_plan_damped_at(d->plan, b));
}

/* Seconds of a call; of the faster of two where that is soon known. */
static vd_status time_call(const vd_render_job *j, denoiser *d, int call, double *seconds) {
    vd_status st = VD_OK;
    *seconds = INFINITY;
    for (int i = 0; i < 2; i++) {
        const double start_s = vd_now_s();
        VD_TRY(predict(j, d, call));
        const double took_s = vd_now_s() - start_s;
        j->preflight->probe_s += took_s;
        *seconds = took_s < *seconds ? took_s : *seconds;
        if (took_s > VD_PREFLIGHT_SHORT_S)
            break;
    }
done:
    return st;
}

/* Instead of the loop: one call as the first, where all that a method does is on, and one as the
 * last. Those in between that are like neither count as the dearer one. */
static vd_status probe(const vd_render_job *j, denoiser *d) {
    vd_status st = VD_OK;
    vd_preflight *p = j->preflight;
    const int calls = vd_scheduler_calls(d->scheduler), last = calls - 1;
    const int first = d->guide ? j->r->settings->low_res_tau : 0;
    double first_s = 0, last_s = 0;
    if (first >= calls)
        goto done;
    VD_TRY(time_call(j, d, first, &first_s));
    last_s = first_s;
    if (!same_call(d, first, last))
        VD_TRY(time_call(j, d, last, &last_s));
    for (int i = first; i < calls; i++) {
        const double dearer_s = first_s > last_s ? first_s : last_s;
        p->denoise_s += same_call(d, i, last)    ? last_s
                        : same_call(d, i, first) ? first_s
                                                 : dearer_s;
        p->forwards += j->branches + (damped_of(j, d, i) != NULL);
    }
    p->calls += calls - first;
done:
    return st;
}

/* ---- memory ---- */

/* Dry forwards with each network of the settings. */
static vd_status plan_memory(const vd_render_job *j, denoiser *d) {
    vd_status st = VD_OK;
    vd_unet *unet = j->m->unet;
    int calls = vd_scheduler_calls(d->scheduler);
    if (j->r->settings)
        VD_TRY(vd_method_plan_create(j->r->settings, vd_unet_spatial_paths(unet), calls, &d->plan));
    if (j->pooled)
        VD_TRY(set_added(j));
    VD_TRY(vd_unet_set_context(unet, d->x, &d->states));
    if (!d->plan)
        VD_TRY(forward(j, d, NULL, j->branches, 0, NULL));
    for (int i = 0; d->plan && i < vd_method_plan_count(d->plan); i++) {
        bool damped = false;
        const vd_step_method *method = vd_method_plan_distinct(d->plan, i, &damped);
        if (!damped || j->branches == 2)
            VD_TRY(forward(j, d, method, damped ? 1 : j->branches, 0, NULL));
    }
    vd_unet_drop_pages(unet);
    VD_TRY(vd_stage_fits(j, VD_STAGE_DENOISE, d->x, denoiser_bytes(j, d)));
done:
    return st;
}

/* Takes what the dry forwards asked for, and gives the network the texts. */
static vd_status take_memory(const vd_render_job *j, denoiser *d) {
    vd_status st = VD_OK;
    VD_TRY(denoiser_memory(j, d));
    VD_TRY(vd_exec_commit(d->x));
    if (j->pooled)
        VD_TRY(set_added(j));
    VD_TRY(vd_unet_set_context(j->m->unet, d->x, &d->states));
done:
    return st;
}

/* The render at the model's own size that guides this one. */
static vd_status render_small(vd_render_job *j, denoiser *d) {
    vd_status st;
    const vd_model_info *info = &j->m->info;
    const bool keep_loaded = j->m->keep_loaded;
    vd_render_request r = *j->r;
    const vd_render_events ev = {
        .user = j->ev->user, .should_stop = j->ev->should_stop, .progress = j->ev->progress};
    vd_render_job small = *j;
    if (!vd_low_res_size(info, j->r->width_px, j->r->height_px, &r.width_px, &r.height_px))
        return VD_OK;
    r.settings = NULL;
    r.latents = r.step_noise = NULL;
    r.state_path = NULL; /* the large render keeps one */
    small.r = &r;
    small.ev = &ev;
    small.latents = NULL;
    small.resume = NULL;
    small.calls_after = vd_scheduler_calls(d->scheduler);
    vd_stage_shape(&small);
    j->m->keep_loaded = true;
    VD_TRY(vd_stage_denoise(&small));
    j->calls_before = small.calls_after;
    VD_TRY(vd_stage_floats(j->count, &d->guide));
    vd_low_res_enlarge(d->guide, j->h, j->w, small.latents, small.h, small.w,
                       info->latent_channels * r.frames);
done:
    j->m->keep_loaded = keep_loaded;
    free(small.latents);
    return st;
}

vd_status vd_stage_denoise(vd_render_job *j) {
    vd_status st = VD_OK;
    denoiser d = {0};
    VD_TRY(vd_model_schedule(j->m, j->r, j->count, &d.scheduler));
    VD_TRY(vd_model_need_unet(j->m));
    VD_TRY(vd_stage_exec(j, j->m->dtype, &d.x));
    shape_denoiser(j, &d);
    VD_TRY(plan_memory(j, &d));
    if (j->r->settings && j->r->settings->low_res_tau > resumed_call(j, &d))
        VD_TRY(render_small(j, &d));
    VD_TRY(vd_stage_floats(j->count, &j->latents));
    start_latents(j, &d);
    VD_TRY(take_memory(j, &d));
    VD_TRY(j->preflight ? probe(j, &d) : loop(j, &d));
done:
    denoiser_free(j->m->be, &d);
    vd_model_release_unet(j->m);
    return st;
}

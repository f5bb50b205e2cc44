/* Text states and noise -> latents. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "video/denoiser.h"
#include "video/low_res.h"
#include "video/noise.h"
#include "video/preflight.h"
#include "video/stage.h"
#include "video/state.h"

enum { SAVE_AFTER_S = 10 };

/* What the loop has beside the device. */
typedef struct loop_state {
    vd_denoiser d;
    vd_rng rng;                   /* of the noise that has been drawn */
    vd_rng state_rng;             /* as a state of call `next` needs it */
    float *noise, *noise_scratch; /* host; NULL: the sampler adds none */
    float *guided;                /* host; NULL: nobody wants it there */
    int next;                     /* the call that the latents are for; 0: none to go on with */
    double saved_s;               /* when the state was saved last */
    bool warned;                  /* that it cannot be */
    float *guide;                 /* host: a small render, enlarged (low_res.h); NULL: none */
} loop_state;

static size_t host_floats(const vd_render_job *j, const loop_state *l) {
    size_t history = 0;
    (void)vd_scheduler_history(l->d.scheduler, &history);
    return (vd_denoiser_is_noisy(&l->d) ? 3 : 1) * j->count + history;
}

/* Host memory beside the latents. */
static vd_status take_buffers(const vd_render_job *j, loop_state *l) {
    vd_status st = VD_OK;
    if (vd_denoiser_is_noisy(&l->d)) {
        VD_TRY(vd_stage_floats(j->count, &l->noise));
        VD_TRY(vd_stage_floats(j->count, &l->noise_scratch));
    }
    if (j->ev->step || l->guide)
        VD_TRY(vd_stage_floats(j->count, &l->guided));
done:
    return st;
}

static void loop_free(loop_state *l) {
    vd_denoiser_free(&l->d);
    free(l->noise);
    free(l->noise_scratch);
    free(l->guided);
    free(l->guide);
}

/* Initial latents, then times init_noise_sigma. */
static void start_latents(const vd_render_job *j, loop_state *l) {
    vd_rng_seed(&l->rng, j->r->seed);
    if (j->r->latents)
        memcpy(j->latents, j->r->latents, j->count * sizeof *j->latents);
    else
        vd_noise_initial(&l->rng, j->latents, j->m->info.latent_channels, j->r->frames, j->pixels);
    float sigma = (float)vd_scheduler_init_noise_sigma(l->d.scheduler);
    for (size_t i = 0; i < j->count; i++)
        j->latents[i] *= sigma;
}

/* The latents on the device to j->latents. Waits. */
static vd_status fetch_latents(const vd_render_job *j, const loop_state *l) {
    return vd_backend_download(j->m->be, j->latents, l->d.latents.data,
                               j->count * sizeof *j->latents);
}

static bool is_guided_by_small(const vd_render_job *j, const loop_state *l, int call) {
    return l->guide && call < j->r->settings->low_res_tau;
}

/* A call whose guided prediction is the one that has the small render as its x0. */
static vd_status call_of_small(const vd_render_job *j, loop_state *l, int call) {
    double of_sample = 0, of_output = 0;
    const vd_status st = fetch_latents(j, l);
    if (st != VD_OK)
        return st;
    vd_scheduler_x0(l->d.scheduler, call, &of_sample, &of_output);
    for (size_t i = 0; i < j->count; i++)
        l->guided[i] =
            (float)(((double)l->guide[i] - of_sample * (double)j->latents[i]) / of_output);
    return vd_denoiser_call_with(&l->d, call, l->guided);
}

static vd_status run_call(const vd_render_job *j, loop_state *l, int call) {
    return is_guided_by_small(j, l, call) ? call_of_small(j, l, call)
                                          : vd_denoiser_call(&l->d, call);
}

/* Draws and sends the noise of a call, behind what the device still does: while that runs, the host
 * draws what comes next. */
static vd_status send_noise(const vd_render_job *j, loop_state *l, int call) {
    const float *noise = l->noise;
    if (call >= vd_scheduler_calls(l->d.scheduler) ||
        !vd_scheduler_needs_noise(l->d.scheduler, call))
        return VD_OK;
    if (j->r->step_noise)
        noise = j->r->step_noise + (size_t)call * j->count;
    else
        vd_noise_step(&l->rng, l->noise, l->noise_scratch, j->m->info.latent_channels, j->r->frames,
                      j->pixels);
    return vd_backend_upload(j->m->be, l->d.noise.data, noise, j->count * sizeof *noise);
}

/* A call whose sample is on the device still. */
typedef struct past_call {
    const vd_render_job *j;
    loop_state *l;
    int call;
} past_call;

static vd_status call_again(void *user) {
    const past_call *p = user;
    vd_denoiser *d = &p->l->d;
    vd_status st = VD_OK;
    if (is_guided_by_small(p->j, p->l, p->call))
        return st;
    VD_TRY(vd_unet_set_context(p->j->m->unet, d->x, &d->states));
    VD_TRY(vd_denoiser_networks(d, p->call));
done:
    return st;
}

/* Waits for the call. A sampler that clamps would hide what is wrong with a prediction, so the
 * device looks at both. */
static vd_status check_finite(const vd_render_job *j, loop_state *l, int call) {
    past_call past = {j, l, call};
    char what[64];
    bool finite = true;
    const vd_status st = vd_denoiser_finite(&l->d, &finite);
    if (st != VD_OK || finite)
        return st;
    l->next = 0;
    snprintf(what, sizeof what, "step %d of %d", call + 1, vd_scheduler_calls(l->d.scheduler));
    return vd_stage_blame(l->d.x, call_again, &past, what);
}

/* ---- durability ---- */

/* The call that an earlier run's state goes on with; 0 if there is none that fits. */
static int resumed_call(const vd_render_job *j, const loop_state *l) {
    const vd_render_state *s = j->resume;
    size_t count = 0;
    (void)vd_scheduler_history(l->d.scheduler, &count);
    const bool fits =
        s && s->calls == vd_scheduler_calls(l->d.scheduler) && s->history_count == count;
    return fits ? (int)s->next : 0;
}

/* Sends what the loop begins with, which may be an earlier run's state. */
static vd_status restore(const vd_render_job *j, loop_state *l) {
    vd_status st = VD_OK;
    vd_backend *be = j->m->be;
    vd_denoiser *d = &l->d;
    const vd_render_state *s = j->resume;
    l->saved_s = vd_now_s();
    l->next = resumed_call(j, l);
    if (l->next > 0) {
        memcpy(j->latents, s->latents, j->count * sizeof *j->latents);
        if (s->history_count > 0)
            VD_TRY(vd_backend_upload(be, d->history.data, s->history,
                                     s->history_count * sizeof *s->history));
        l->rng = s->rng;
    }
    l->state_rng = l->rng;
    VD_TRY(vd_backend_upload(be, d->latents.data, j->latents, j->count * sizeof *j->latents));
    VD_TRY(send_noise(j, l, l->next));
done:
    return st;
}

/* A state that cannot be saved must not end a render that may yet come out: it is told once. Not
 * after the last call: the output goes to the same disk, and its failure says what is wrong. */
static void save(const vd_render_job *j, loop_state *l) {
    const vd_denoiser *d = &l->d;
    vd_render_state s = {.next = l->next,
                         .calls = vd_scheduler_calls(d->scheduler),
                         .rng = l->state_rng,
                         .latents = j->latents};
    vd_status st = fetch_latents(j, l);
    s.history = vd_scheduler_history(d->scheduler, &s.history_count);
    if (st == VD_OK && s.history_count > 0)
        st = vd_backend_download(j->m->be, s.history, d->history.data,
                                 s.history_count * sizeof *s.history);
    if (st == VD_OK)
        st = vd_state_write(j, &s);
    if (st != VD_OK && !l->warned && l->next < s.calls && j->ev->warning) {
        char message[512];
        snprintf(message, sizeof message, "%.400s: if this render is killed, it begins anew",
                 vd_error_message());
        j->ev->warning(j->ev->user, message);
        l->warned = true;
    }
    l->saved_s = vd_now_s();
}

static bool save_is_due(const vd_render_job *j, const loop_state *l) {
    if (!j->r->state_path)
        return false;
    if (l->next == vd_scheduler_calls(l->d.scheduler))
        return true;
    return j->r->save_every > 0 ? l->next % j->r->save_every == 0
                                : vd_now_s() - l->saved_s >= SAVE_AFTER_S;
}

/* Tells who wants to see each step. */
static vd_status show_step(const vd_render_job *j, const loop_state *l, int call) {
    vd_status st = VD_OK;
    if (!j->ev->step)
        return st;
    VD_TRY(fetch_latents(j, l));
    VD_TRY(
        vd_backend_download(j->m->be, l->guided, l->d.guided.data, j->count * sizeof *l->guided));
    VD_TRY(j->ev->step(j->ev->user, call, j->latents, l->guided, j->count));
done:
    return st;
}

static vd_status loop(const vd_render_job *j, loop_state *l) {
    vd_status st = VD_OK;
    const int calls = vd_scheduler_calls(l->d.scheduler);
    const int64_t total = j->calls_before + calls + j->calls_after;
    VD_TRY(restore(j, l));
    const int first = l->next;
    VD_TRY(vd_stage_report(j, VD_STAGE_DENOISE, j->calls_before, total));
    for (int i = first; i < calls; i++) {
        VD_TRY(vd_stage_check_stop(j));
        VD_TRY(run_call(j, l, i));
        const vd_rng state_rng = l->rng;
        VD_TRY(send_noise(j, l, i + 1));
        VD_TRY(check_finite(j, l, i));
        l->next = i + 1;
        l->state_rng = state_rng;
        if (save_is_due(j, l))
            save(j, l);
        VD_TRY(show_step(j, l, i));
        VD_TRY(vd_stage_report(j, VD_STAGE_DENOISE, j->calls_before + i + 1, total));
    }
    VD_TRY(fetch_latents(j, l));
done:
    /* A call that was stopped has not touched the latents. */
    if (st == VD_ERR_INTERRUPTED && j->r->state_path && l->next > 0) {
        save(j, l);
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
static bool same_call(const vd_denoiser *d, int a, int b) {
    return !d->plan ||
           (vd_method_plan_at(d->plan, a) == vd_method_plan_at(d->plan, b) &&
            vd_method_plan_damped_at(d->plan, a) == vd_method_plan_damped_at(d->plan, b));
}

/* Seconds of a call; of the faster of two where that is soon known. */
static vd_status time_call(const vd_render_job *j, loop_state *l, int call, double *seconds) {
    vd_status st = VD_OK;
    *seconds = INFINITY;
    for (int i = 0; i < 2; i++) {
        const double start_s = vd_now_s();
        VD_TRY(run_call(j, l, call));
        VD_TRY(vd_backend_synchronize(j->m->be));
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
static vd_status probe(const vd_render_job *j, loop_state *l) {
    vd_status st = VD_OK;
    vd_preflight *p = j->preflight;
    const vd_denoiser *d = &l->d;
    const int calls = vd_scheduler_calls(d->scheduler), last = calls - 1;
    const int first = l->guide ? j->r->settings->low_res_tau : 0;
    double first_s = 0, last_s = 0;
    if (first >= calls)
        goto done;
    VD_TRY(restore(j, l));
    VD_TRY(time_call(j, l, first, &first_s));
    last_s = first_s;
    if (!same_call(d, first, last))
        VD_TRY(time_call(j, l, last, &last_s));
    for (int i = first; i < calls; i++) {
        const double dearer_s = first_s > last_s ? first_s : last_s;
        p->denoise_s += same_call(d, i, last)    ? last_s
                        : same_call(d, i, first) ? first_s
                                                 : dearer_s;
        p->forwards += j->branches + (vd_denoiser_damped(d, i) != NULL);
    }
    p->calls += calls - first;
done:
    return st;
}

/* ---- memory ---- */

/* Dry forwards with each network of the settings. */
static vd_status plan_memory(const vd_render_job *j, loop_state *l) {
    vd_status st = VD_OK;
    vd_unet *unet = j->m->unet;
    vd_denoiser *d = &l->d;
    int calls = vd_scheduler_calls(d->scheduler);
    if (j->r->settings)
        VD_TRY(vd_method_plan_create(j->r->settings, vd_unet_spatial_paths(unet), calls, &d->plan));
    if (j->pooled)
        VD_TRY(set_added(j));
    const size_t bytes = vd_denoiser_shape(d);
    VD_TRY(vd_unet_set_context(unet, d->x, &d->states));
    if (!d->plan)
        VD_TRY(vd_denoiser_pass(d, NULL, false, 0));
    for (int i = 0; d->plan && i < vd_method_plan_count(d->plan); i++) {
        bool damped = false;
        const vd_step_method *method = vd_method_plan_distinct(d->plan, i, &damped);
        if (!damped || j->branches == 2)
            VD_TRY(vd_denoiser_pass(d, method, damped, 0));
    }
    vd_unet_drop_pages(unet);
    VD_TRY(vd_stage_fits(j, VD_STAGE_DENOISE, d->x, host_floats(j, l) * sizeof(float), bytes));
done:
    return st;
}

/* Takes what the dry forwards asked for, and gives the network the texts. */
static vd_status take_memory(const vd_render_job *j, loop_state *l) {
    vd_status st = VD_OK;
    VD_TRY(take_buffers(j, l));
    VD_TRY(vd_denoiser_take(&l->d));
    VD_TRY(vd_exec_commit(l->d.x));
    if (j->pooled)
        VD_TRY(set_added(j));
    VD_TRY(vd_unet_set_context(j->m->unet, l->d.x, &l->d.states));
done:
    return st;
}

/* The render at the model's own size that guides this one. */
static vd_status render_small(vd_render_job *j, loop_state *l) {
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
    small.calls_after = vd_scheduler_calls(l->d.scheduler);
    vd_stage_shape(&small);
    j->m->keep_loaded = true;
    VD_TRY(vd_stage_denoise(&small));
    j->calls_before = small.calls_after;
    VD_TRY(vd_stage_floats(j->count, &l->guide));
    vd_low_res_enlarge(l->guide, j->h, j->w, small.latents, small.h, small.w,
                       info->latent_channels * r.frames);
done:
    j->m->keep_loaded = keep_loaded;
    free(small.latents);
    return st;
}

vd_status vd_stage_denoise(vd_render_job *j) {
    vd_status st = VD_OK;
    loop_state l = {.d = {.j = j}};
    VD_TRY(vd_model_schedule(j->m, j->r, j->count, &l.d.scheduler));
    VD_TRY(vd_model_need_unet(j->m));
    VD_TRY(vd_stage_exec(j, j->m->dtype, &l.d.x));
    VD_TRY(plan_memory(j, &l));
    if (j->r->settings && j->r->settings->low_res_tau > resumed_call(j, &l))
        VD_TRY(render_small(j, &l));
    VD_TRY(vd_stage_floats(j->count, &j->latents));
    start_latents(j, &l);
    VD_TRY(take_memory(j, &l));
    VD_TRY(j->preflight ? probe(j, &l) : loop(j, &l));
done:
    loop_free(&l);
    vd_model_release_unet(j->m);
    return st;
}

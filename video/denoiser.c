#include "video/denoiser.h"

#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"

enum { ALIGN_BYTES = 64 };

/* What one call reads that others read with other values; the sinusoids of its timestep follow, for
 * each branch. */
typedef struct call_row {
    vd_sampler_program prepare, guide, step;
} call_row;

/* The buffers of these programs. */
enum { PREPARE_LATENTS, PREPARE_SAMPLES };
enum { GUIDE_BASE, GUIDE_NEGATIVE, GUIDE_TEXT, GUIDE_RESULT, GUIDE_BUFFERS };

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static const size_t waves_at = (sizeof(call_row) + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;

/* ---- memory --------------------------------------------------------------------------------- */

typedef struct taker {
    unsigned char *base;
    size_t at;
} taker;

static void *take(taker *t, size_t bytes) {
    void *place = t->base + t->at;
    t->at += aligned(bytes);
    return place;
}

static void place(taker *t, vd_tensor *tensor) {
    tensor->data = take(t, vd_tensor_bytes(tensor));
}

bool vd_denoiser_is_noisy(const vd_denoiser *d) {
    bool noisy = false;
    for (int i = 0; i < vd_scheduler_calls(d->scheduler); i++)
        noisy = noisy || vd_scheduler_needs_noise(d->scheduler, i);
    return noisy;
}

/* Everything from `base` on; returns the bytes. */
static size_t lay_out(vd_denoiser *d, unsigned char *base) {
    const vd_render_job *j = d->j;
    const int64_t c = j->m->info.latent_channels, frames = j->r->frames;
    const int64_t width = vd_unet_get_config(j->m->unet)->channels[0];
    const int buffers = vd_scheduler_history_buffers(d->scheduler);
    taker t = {0};
    t.base = base;
    d->states = VD_VIEW(NULL, VD_F32, j->branches, j->tokens, j->width);
    d->latents = VD_VIEW(NULL, VD_F32, 1, c, frames, j->h, j->w);
    d->guided = d->noise = d->damped = d->latents;
    d->sample = VD_VIEW(NULL, VD_F32, j->branches, c, frames, j->h, j->w);
    d->output = d->sample;
    d->history = VD_VIEW(NULL, VD_F32, buffers, c, frames, j->h, j->w);
    d->waves = VD_VIEW(NULL, VD_F32, j->branches, width);
    d->row_bytes = aligned(waves_at + vd_tensor_bytes(&d->waves));
    vd_tensor *const each[] = {&d->states, &d->latents, &d->sample, &d->output};
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++)
        place(&t, each[i]);
    if (buffers > 0)
        place(&t, &d->history);
    d->noise.data = d->latents.data; /* nothing reads it, but where it has a place of its own */
    if (vd_denoiser_is_noisy(d))
        place(&t, &d->noise);
    d->guided.data = d->output.data;
    if (j->branches == 2)
        place(&t, &d->guided);
    if (j->branches == 2 && d->plan)
        place(&t, &d->damped);
    d->rows = take(&t, (size_t)vd_scheduler_calls(d->scheduler) * d->row_bytes);
    d->row = take(&t, d->row_bytes);
    d->waves.data = d->row + waves_at;
    d->bad = take(&t, sizeof *d->bad);
    return t.at;
}

size_t vd_denoiser_shape(vd_denoiser *d) {
    return lay_out(d, vd_stage_nowhere(0));
}

static void fill_row(const vd_denoiser *d, int call, unsigned char *bytes) {
    call_row *row = (call_row *)(void *)bytes;
    float *waves = (float *)(void *)(bytes + waves_at);
    /* The latents are scaled by a float32, as PyTorch does it. */
    const double scale = (double)(float)vd_scheduler_input_scale(d->scheduler, call);
    for (int b = 0; b < d->j->branches; b++) {
        row->prepare.op[b] = (vd_sampler_op){
            .dst = PREPARE_SAMPLES + b, .terms = 1, .src = {PREPARE_LATENTS}, .factor = {scale}};
        vd_timestep_embedding(waves + b * d->waves.dim[1], d->waves.dim[1],
                              vd_scheduler_timestep(d->scheduler, call));
    }
    row->prepare.ops = d->j->branches;
    row->guide.ops = 1;
    row->guide.op[0] = (vd_sampler_op){.kind = VD_SAMPLER_GUIDE,
                                       .dst = GUIDE_RESULT,
                                       .src = {GUIDE_BASE, GUIDE_NEGATIVE, GUIDE_TEXT},
                                       .factor = {d->j->r->guidance}};
    row->step = *vd_scheduler_program(d->scheduler, call);
}

static vd_status send_rows(vd_denoiser *d) {
    const size_t calls = (size_t)vd_scheduler_calls(d->scheduler);
    unsigned char *rows = calloc(calls, d->row_bytes);
    if (!rows)
        return vd_fail(VD_ERR_MEMORY, "no memory for the numbers of %zu steps", calls);
    for (size_t i = 0; i < calls; i++)
        fill_row(d, (int)i, rows + i * d->row_bytes);
    const vd_status st = vd_backend_upload(d->j->m->be, d->rows, rows, calls * d->row_bytes);
    free(rows);
    return st;
}

vd_status vd_denoiser_take(vd_denoiser *d) {
    vd_status st = VD_OK;
    vd_backend *be = d->j->m->be;
    VD_TRY(vd_backend_alloc(be, vd_denoiser_shape(d), &d->memory));
    (void)lay_out(d, d->memory);
    VD_TRY(vd_backend_upload(be, d->states.data, d->j->context, vd_tensor_bytes(&d->states)));
    VD_TRY(send_rows(d));
done:
    return st;
}

void vd_denoiser_free(vd_denoiser *d) {
    vd_exec_destroy(d->x);
    vd_scheduler_destroy(d->scheduler);
    vd_method_plan_destroy(d->plan);
    if (d->j)
        vd_backend_free(d->j->m->be, d->memory);
}

/* ---- networks ------------------------------------------------------------------------------- */

vd_status vd_denoiser_pass(vd_denoiser *d, const vd_step_method *method, bool damped, double t) {
    const double timestep[2] = {t, t};
    const vd_unet_hooks hooks = {.method = method, .waves = &d->waves};
    vd_tensor sample = d->sample, output = damped ? d->damped : d->output;
    sample.dim[0] = output.dim[0];
    return vd_unet_forward(d->j->m->unet, d->x, &output, &sample, timestep, &hooks);
}

static const vd_step_method *method_of(const vd_denoiser *d, int call) {
    return d->plan ? vd_method_plan_at(d->plan, call) : NULL;
}

const vd_step_method *vd_denoiser_damped(const vd_denoiser *d, int call) {
    return d->plan && d->j->branches == 2 ? vd_method_plan_damped_at(d->plan, call) : NULL;
}

vd_status vd_denoiser_networks(vd_denoiser *d, int call) {
    const double t = vd_scheduler_timestep(d->scheduler, call);
    const vd_step_method *damped = vd_denoiser_damped(d, call);
    vd_status st = vd_denoiser_pass(d, method_of(d, call), false, t);
    if (st == VD_OK && damped)
        st = vd_denoiser_pass(d, damped, true, t);
    return st;
}

/* ---- a call --------------------------------------------------------------------------------- */

static const call_row *row_of(const vd_denoiser *d) {
    return (const call_row *)(const void *)d->row;
}

static vd_status prepare(vd_denoiser *d) {
    const vd_tensor sample[] = {vd_tensor_item(&d->sample, 0),
                                vd_tensor_item(&d->sample, d->j->branches - 1)};
    const vd_tensor *buffer[] = {&d->latents, &sample[0], &sample[1]};
    return vd_sampler_run(d->x, buffer, 1 + d->j->branches, &row_of(d)->prepare, NULL);
}

static vd_status guide(vd_denoiser *d, bool damped) {
    vd_status st = VD_OK;
    const double rescale = d->j->r->guidance_rescale;
    const vd_tensor negative = vd_tensor_item(&d->output, 0), text = vd_tensor_item(&d->output, 1);
    const vd_tensor *buffer[] = {[GUIDE_BASE] = damped ? &d->damped : &negative,
                                 [GUIDE_NEGATIVE] = &negative,
                                 [GUIDE_TEXT] = &text,
                                 [GUIDE_RESULT] = &d->guided};
    VD_TRY(vd_sampler_run(d->x, buffer, GUIDE_BUFFERS, &row_of(d)->guide, NULL));
    if (rescale > 0)
        VD_TRY(vd_match_deviation(d->x, &d->guided, &text, rescale));
done:
    return st;
}

static vd_status step(vd_denoiser *d) {
    vd_tensor history[VD_SAMPLER_BUFFERS];
    const vd_tensor *buffer[VD_SAMPLER_BUFFERS] = {[VD_SCHEDULER_SAMPLE] = &d->latents,
                                                   [VD_SCHEDULER_OUTPUT] = &d->guided,
                                                   [VD_SCHEDULER_NOISE] = &d->noise};
    int count = VD_SCHEDULER_HISTORY;
    for (int i = 0; i < d->history.dim[0]; i++) {
        history[i] = vd_tensor_item(&d->history, i);
        buffer[count++] = &history[i];
    }
    return vd_sampler_run(d->x, buffer, count, &row_of(d)->step, d->bad);
}

static vd_status take_row(vd_denoiser *d, int call) {
    return vd_backend_copy(d->j->m->be, d->row, d->rows + (size_t)call * d->row_bytes,
                           d->row_bytes);
}

typedef struct running_call {
    vd_denoiser *d;
    int call;
} running_call;

/* Of `call` only what all calls of the same networks share may be used here, but for checks: it is
 * the row that differs. */
static vd_status run_call(void *user) {
    const running_call *r = user;
    vd_denoiser *d = r->d;
    vd_status st = VD_OK;
    VD_TRY(prepare(d));
    VD_TRY(vd_denoiser_networks(d, r->call));
    if (d->j->branches == 2)
        VD_TRY(guide(d, vd_denoiser_damped(d, r->call) != NULL));
    VD_TRY(step(d));
done:
    return st;
}

vd_status vd_denoiser_call(vd_denoiser *d, int call) {
    running_call r = {d, call};
    const vd_status st = take_row(d, call);
    if (st != VD_OK)
        return st;
    return vd_exec_repeat(d->x, method_of(d, call), vd_denoiser_damped(d, call), run_call, &r);
}

vd_status vd_denoiser_call_with(vd_denoiser *d, int call, const float *guided) {
    vd_status st = VD_OK;
    VD_TRY(take_row(d, call));
    VD_TRY(vd_backend_upload(d->j->m->be, d->guided.data, guided, vd_tensor_bytes(&d->guided)));
    VD_TRY(step(d));
done:
    return st;
}

vd_status vd_denoiser_finite(vd_denoiser *d, bool *out) {
    int32_t bad = 0;
    const vd_status st = vd_backend_download(d->j->m->be, &bad, d->bad, sizeof bad);
    *out = bad == 0;
    return st;
}

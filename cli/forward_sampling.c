/* Groups guidance, scheduler and pipeline. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "cli/cli.h"
#include "cli/forward.h"
#include "unet3d/settings.h"
#include "video/model.h"
#include "video/scheduler.h"

typedef struct guidance_run {
    vd_backend *be;
    vd_exec *x;
    vd_tensor uncond, text, base, mixed; /* device, of one shape; items along axis 0 */
    void *program;                       /* device */
} guidance_run;

static vd_status input_to_device(forward_case *c, vd_backend *be, const char *name,
                                 const vd_tensor *like, vd_tensor *out) {
    float *values = NULL;
    vd_status st = VD_OK;
    VD_TRY(forward_input(c, name, &values, out));
    out->dtype = VD_F32;
    if (out->rank < 1 || (like && !vd_tensor_same_shape(out, like))) {
        out->data = NULL;
        st = vd_fail(VD_ERR_INPUT, "%s: the three predictions differ in shape", c->name);
        goto done;
    }
    VD_TRY(forward_to_device(be, values, out));
done:
    free(values);
    return st;
}

static vd_status guide(guidance_run *g, const vd_tensor *base, const double *rescale) {
    vd_status st = VD_OK;
    const vd_tensor *buffer[] = {base, &g->uncond, &g->text, &g->mixed};
    VD_TRY(vd_sampler_run(g->x, buffer, 4, g->program, NULL));
    for (int64_t i = 0; rescale && i < g->mixed.dim[0]; i++) {
        vd_tensor mixed = vd_tensor_item(&g->mixed, i);
        const vd_tensor text = vd_tensor_item(&g->text, i);
        VD_TRY(vd_match_deviation(g->x, &mixed, &text, *rescale));
    }
done:
    return st;
}

vd_status forward_guidance(forward_case *c) {
    static const char *const names[] = {"cfg", "ndcfg", "cfg_rescaled", "ndcfg_rescaled"};
    vd_sampler_program program = {.ops = 1,
                                  .op = {{.kind = VD_SAMPLER_GUIDE, .dst = 3, .src = {0, 1, 2}}}};
    vd_status st = VD_OK;
    guidance_run g = {0};
    double rescale = 0;
    VD_TRY(vd_json_double(c->doc, c->settings, "guidance_scale", 0, 1e6, 7.5,
                          &program.op[0].factor[0]));
    VD_TRY(vd_json_double(c->doc, c->settings, "guidance_rescale", 0, 1, 0, &rescale));
    VD_TRY(vd_backend_open(c->backend, 0, &g.be));
    VD_TRY(input_to_device(c, g.be, "strong_uncond", NULL, &g.uncond));
    VD_TRY(input_to_device(c, g.be, "strong_text", &g.uncond, &g.text));
    VD_TRY(input_to_device(c, g.be, "base_uncond", &g.uncond, &g.base));
    g.mixed = g.uncond;
    g.mixed.data = NULL;
    VD_TRY(forward_to_device(g.be, NULL, &g.mixed));
    VD_TRY(vd_backend_alloc(g.be, sizeof program, &g.program));
    VD_TRY(vd_backend_upload(g.be, g.program, &program, sizeof program));
    VD_TRY(vd_exec_create(g.be, VD_F32, &g.x));
    VD_TRY(vd_exec_commit(g.x));
    for (int i = 0; i < 4; i++) {
        VD_TRY(guide(&g, i % 2 ? &g.base : &g.uncond, i >= 2 ? &rescale : NULL));
        VD_TRY(forward_add_device(c, g.be, names[i], &g.mixed));
    }
done:
    vd_exec_destroy(g.x);
    if (g.be) {
        vd_backend_free(g.be, g.uncond.data);
        vd_backend_free(g.be, g.text.data);
        vd_backend_free(g.be, g.base.data);
        vd_backend_free(g.be, g.mixed.data);
        vd_backend_free(g.be, g.program);
    }
    vd_backend_close(g.be);
    return st;
}

/* ---- scheduler ----------------------------------------------------------------------------- */

/* Outputs named after a beta schedule, with _zsnr for zero terminal SNR. */
static vd_status alphas_cumprod(forward_case *c) {
    static const struct {
        const char *name;
        vd_beta_schedule schedule;
        bool zero_snr;
    } wanted[] = {{"scaled_linear", VD_BETAS_SCALED_LINEAR, false},
                  {"linear", VD_BETAS_LINEAR, false},
                  {"cosine", VD_BETAS_COSINE, false},
                  {"scaled_linear_zsnr", VD_BETAS_SCALED_LINEAR, true}};
    vd_status st = VD_OK;
    vd_scheduler_config config;
    VD_TRY(vd_scheduler_config_from_json(c->doc, c->settings, "DDIMScheduler", &config));
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && st == VD_OK; i++) {
        float *values = NULL;
        config.beta_schedule = wanted[i].schedule;
        config.rescale_betas_zero_snr = wanted[i].zero_snr;
        st = forward_floats((size_t)config.train_steps, &values);
        if (st == VD_OK)
            st = vd_scheduler_alphas_cumprod(&config, values);
        if (st == VD_OK)
            st = FORWARD_ADD(c, wanted[i].name, values, config.train_steps);
        else
            free(values);
    }
    vd_scheduler_config_clear(&config);
done:
    return st;
}

typedef struct sampler_run {
    vd_scheduler *s;
    float *sample, *outputs, *noise;
    vd_tensor shape;
    size_t count; /* values of one sample */
    int calls;
} sampler_run;

static vd_status open_sampler(forward_case *c, sampler_run *r) {
    vd_status st = VD_OK;
    vd_tensor outputs, noise = {0};
    vd_scheduler_config config;
    int64_t steps = 0;
    double eta = 0;
    const vd_json_value *keys = vd_json_get(c->settings, "config");
    if (!keys)
        return vd_json_fail(c->doc, c->settings, "the case has no scheduler `config`");
    VD_TRY(vd_json_int(c->doc, c->settings, "steps", 1, 100000, 50, &steps));
    VD_TRY(vd_json_double(c->doc, c->settings, "eta", 0, 1, 0, &eta));
    VD_TRY(forward_input(c, "sample", &r->sample, &r->shape));
    VD_TRY(forward_input(c, "model_output", &r->outputs, &outputs));
    if (forward_has_input(c, "noise"))
        VD_TRY(forward_input(c, "noise", &r->noise, &noise));
    r->count = (size_t)vd_tensor_elements(&r->shape);
    VD_TRY(vd_scheduler_config_from_json(c->doc, keys, c->module, &config));
    st = vd_scheduler_create(&config, (int)steps, eta, r->count, &r->s);
    vd_scheduler_config_clear(&config);
    if (st != VD_OK)
        goto done;
    r->calls = vd_scheduler_calls(r->s);
    size_t all = r->count * (size_t)r->calls;
    if ((size_t)vd_tensor_elements(&outputs) < all ||
        (r->noise && (size_t)vd_tensor_elements(&noise) < all))
        st = vd_fail(VD_ERR_INPUT, "%s: %d calls want as many model outputs (and noises)", c->name,
                     r->calls);
done:
    return st;
}

static vd_status add_schedule(forward_case *c, const sampler_run *r) {
    vd_status st = VD_OK;
    float *timesteps = NULL, *sigma = NULL, *sigmas = NULL;
    size_t sigma_count = 0;
    const double *ladder = vd_scheduler_sigmas(r->s, &sigma_count);
    VD_TRY(forward_floats((size_t)r->calls, &timesteps));
    for (int i = 0; i < r->calls; i++)
        timesteps[i] = (float)vd_scheduler_timestep(r->s, i);
    VD_TRY(FORWARD_ADD(c, "timesteps", timesteps, r->calls));
    VD_TRY(forward_floats(1, &sigma));
    sigma[0] = (float)vd_scheduler_init_noise_sigma(r->s);
    VD_TRY(FORWARD_ADD(c, "init_noise_sigma", sigma, 1));
    if (ladder && forward_wants(c, "sigmas")) {
        VD_TRY(forward_floats(sigma_count, &sigmas));
        for (size_t i = 0; i < sigma_count; i++)
            sigmas[i] = (float)ladder[i];
        VD_TRY(FORWARD_ADD(c, "sigmas", sigmas, (int64_t)sigma_count));
    }
done:
    return st;
}

vd_status forward_scheduler(forward_case *c) {
    vd_status st = VD_OK;
    sampler_run r = {0};
    float *scaled = NULL, *trace = NULL;
    if (!c->module[0])
        return alphas_cumprod(c);
    VD_TRY(open_sampler(c, &r));
    VD_TRY(add_schedule(c, &r));
    VD_TRY(forward_floats(r.count * (size_t)r.calls, &scaled));
    VD_TRY(forward_floats(r.count * (size_t)r.calls, &trace));
    float sigma = (float)vd_scheduler_init_noise_sigma(r.s);
    for (size_t i = 0; i < r.count; i++)
        r.sample[i] *= sigma;
    for (int k = 0; k < r.calls; k++) {
        size_t at = (size_t)k * r.count;
        float scale = (float)vd_scheduler_input_scale(r.s, k);
        for (size_t i = 0; i < r.count; i++)
            scaled[at + i] = r.sample[i] * scale;
        VD_TRY(vd_scheduler_step(r.s, k, r.sample, r.outputs + at, r.noise ? r.noise + at : NULL,
                                 r.count));
        memcpy(trace + at, r.sample, r.count * sizeof *trace);
    }
    int64_t dim[VD_MAX_RANK] = {r.calls};
    int rank = r.shape.rank < VD_MAX_RANK ? r.shape.rank : VD_MAX_RANK - 1;
    memcpy(dim + 1, r.shape.dim, (size_t)rank * sizeof *dim);
    st = forward_add(c, "scaled_input", scaled, rank + 1, dim);
    scaled = NULL;
    if (st != VD_OK)
        goto done;
    st = forward_add(c, "trace", trace, rank + 1, dim);
    trace = NULL;
done:
    vd_scheduler_destroy(r.s);
    free(r.sample);
    free(r.outputs);
    free(r.noise);
    free(scaled);
    free(trace);
    return st;
}

/* ---- pipeline ------------------------------------------------------------------------------ */

typedef struct pipeline_run {
    forward_case *c;
    vd_render_request request;
    vd_scheduler_config config;
    bool has_config;
    vd_settings *settings;
    float *latents_in, *noise;
    int64_t latent_dim[5];
    bool image; /* the case's latents have no frame axis */
    /* What the events gather. */
    float *context, *trace, *prediction, *pixels, *frames;
    int64_t branches, tokens, width, steps;
    vd_status status; /* of events that cannot fail by themselves */
} pipeline_run;

static void on_context(void *user, const float *states, int64_t branches, int64_t tokens,
                       int64_t width) {
    pipeline_run *p = user;
    size_t count = (size_t)(branches * tokens * width);
    p->status = forward_floats(count, &p->context);
    if (p->status != VD_OK)
        return;
    memcpy(p->context, states, count * sizeof *states);
    p->branches = branches;
    p->tokens = tokens;
    p->width = width;
}

static vd_status on_step(void *user, int64_t step, const float *latents, const float *prediction,
                         size_t count) {
    pipeline_run *p = user;
    float *grown = realloc(p->trace, (size_t)(step + 1) * count * sizeof *grown);
    if (!grown)
        return vd_fail(VD_ERR_MEMORY, "no memory for the trace of latents");
    p->trace = grown;
    memcpy(grown + (size_t)step * count, latents, count * sizeof *latents);
    p->steps = step + 1;
    if (step > 0)
        return p->status;
    vd_status st = forward_floats(count, &p->prediction);
    if (st == VD_OK)
        memcpy(p->prediction, prediction, count * sizeof *prediction);
    return st;
}

static vd_status on_frame(void *user, int64_t index, const float *image, const uint8_t *rgb) {
    vd_status st = VD_OK;
    pipeline_run *p = user;
    const vd_render_request *r = &p->request;
    size_t count = (size_t)(r->height_px * r->width_px * 3), all = count * (size_t)r->frames;
    if (!p->pixels)
        VD_TRY(forward_floats(all, &p->pixels));
    if (!p->frames)
        VD_TRY(forward_floats(all, &p->frames));
    for (size_t i = 0; i < count; i++) {
        float unit = image[i] / 2 + 0.5F;
        p->pixels[(size_t)index * count + i] = unit < 0 ? 0 : unit > 1 ? 1 : unit;
        p->frames[(size_t)index * count + i] = (float)rgb[i];
    }
done:
    return st;
}

static vd_status open_pipeline(forward_case *c, vd_model **out) {
    vd_status st = VD_OK;
    vd_model_folders f = {0};
    vd_model_options options = {
        .backend = c->backend, .dtype = strcmp(c->dtype_name, "auto") == 0 ? "f32" : c->dtype_name};
    VD_TRY(forward_component(c, "text_encoder", &f.text_encoder[0]));
    VD_TRY(forward_component(c, "tokenizer", &f.tokenizer[0]));
    if (forward_has_component(c, "text_encoder_2")) {
        VD_TRY(forward_component(c, "text_encoder_2", &f.text_encoder[1]));
        VD_TRY(forward_component(c, "tokenizer_2", &f.tokenizer[1]));
    }
    VD_TRY(forward_component(c, "unet", &f.unet));
    VD_TRY(forward_component(c, "vae", &f.vae));
    VD_TRY(forward_component(c, "scheduler", &f.scheduler));
    VD_TRY(forward_vocabulary(c, f.tokenizer[0], &f.vocabulary));
    VD_TRY(vd_model_open_folders(&f, &options, out));
done:
    vd_model_folders_free(&f);
    return st;
}

/* The method's settings, which a pipeline's case has among its others. */
static vd_status read_settings(pipeline_run *p) {
    enum { MAX_OTHERS = 48 };
    const forward_case *c = p->c;
    const char *others[MAX_OTHERS + 1] = {0};
    int count = 0;
    if (!vd_settings_present(c->settings))
        return VD_OK;
    for (const vd_json_value *v = vd_json_first(c->settings); v && count < MAX_OTHERS;
         v = vd_json_next(v))
        others[count++] = vd_json_key(v);
    vd_status st = vd_settings_parse(c->doc, c->settings, others, c->name, &p->settings);
    p->request.settings = p->settings;
    return st;
}

static vd_status read_request(pipeline_run *p, const vd_model *model) {
    vd_status st = VD_OK;
    forward_case *c = p->c;
    vd_render_request *r = &p->request;
    vd_tensor shape, noise;
    int64_t scale = vd_model_get_info(model)->latent_scale;
    const vd_json_value *scheduler = vd_json_get(c->settings, "scheduler");
    *r = vd_render_defaults(model);
    VD_TRY(read_settings(p));
    VD_TRY(vd_json_text(c->doc, c->settings, "prompt", "", &r->prompt));
    VD_TRY(vd_json_text(c->doc, c->settings, "negative_prompt", NULL, &r->negative_prompt));
    VD_TRY(vd_json_int(c->doc, c->settings, "steps", 1, 1000, 50, &r->steps));
    VD_TRY(vd_json_double(c->doc, c->settings, "guidance_scale", 0, 1e6, 7.5, &r->guidance));
    VD_TRY(vd_json_double(c->doc, c->settings, "guidance_rescale", 0, 1, 0, &r->guidance_rescale));
    VD_TRY(vd_json_double(c->doc, c->settings, "eta", 0, 1, 0, &r->eta));
    VD_TRY(forward_input(c, "latents", &p->latents_in, &shape));
    p->image = !vd_model_get_info(model)->draws_video && shape.rank == 4;
    if (p->image)
        shape = VD_VIEW(NULL, VD_F32, shape.dim[0], shape.dim[1], 1, shape.dim[2], shape.dim[3]);
    if (shape.rank != 5 || shape.dim[0] != 1 ||
        shape.dim[1] != vd_model_get_info(model)->latent_channels) {
        st = vd_fail(VD_ERR_INPUT, "%s: wants in.latents [1, %lld, F, h, w]", c->name,
                     (long long)vd_model_get_info(model)->latent_channels);
        goto done;
    }
    memcpy(p->latent_dim, shape.dim, sizeof p->latent_dim);
    r->latents = p->latents_in;
    r->frames = shape.dim[2];
    r->height_px = shape.dim[3] * scale;
    r->width_px = shape.dim[4] * scale;
    if (forward_has_input(c, "noise")) {
        VD_TRY(forward_input(c, "noise", &p->noise, &noise));
        if (vd_tensor_elements(&noise) < r->steps * vd_tensor_elements(&shape)) {
            st = vd_fail(VD_ERR_INPUT, "%s: in.noise holds fewer than %lld steps", c->name,
                         (long long)r->steps);
            goto done;
        }
        r->step_noise = p->noise;
    }
    if (scheduler) {
        VD_TRY(vd_scheduler_config_from_json(c->doc, scheduler, NULL, &p->config));
        p->has_config = true;
        r->scheduler_config = &p->config;
    }
done:
    return st;
}

static vd_status add_results(pipeline_run *p) {
    vd_status st = VD_OK;
    const vd_render_request *r = &p->request;
    const int64_t *d = p->latent_dim;
    struct {
        const char *name;
        float **values;
        int rank;
        int64_t dim[6];
    } result[] = {
        {"latents", &p->trace, 6, {p->steps, d[0], d[1], d[2], d[3], d[4]}},
        {"first_prediction", &p->prediction, 5, {d[0], d[1], d[2], d[3], d[4]}},
        {"context", &p->context, 3, {p->branches, p->tokens, p->width}},
        {"pixels", &p->pixels, 4, {r->frames, r->height_px, r->width_px, 3}},
        {"frames", &p->frames, 4, {r->frames, r->height_px, r->width_px, 3}},
    };
    for (size_t i = 0; i < sizeof result / sizeof result[0] && st == VD_OK; i++) {
        if (!forward_wants(p->c, result[i].name))
            continue;
        /* The frame axis of latents, before h and w. */
        int64_t *dim = result[i].dim;
        if (p->image && i < 2) {
            int rank = --result[i].rank;
            memmove(dim + rank - 2, dim + rank - 1, 2 * sizeof *dim);
        }
        st = forward_add(p->c, result[i].name, *result[i].values, result[i].rank, dim);
        *result[i].values = NULL;
    }
    return st;
}

vd_status forward_pipeline(forward_case *c) {
    vd_status st = VD_OK;
    pipeline_run p = {.c = c};
    vd_model *model = NULL;
    vd_render_events events = {.user = &p,
                               .should_stop = cli_interrupted,
                               .context = on_context,
                               .step = on_step,
                               .frame = on_frame};
    VD_TRY(open_pipeline(c, &model));
    VD_TRY(read_request(&p, model));
    VD_TRY(vd_render(model, &p.request, &events));
    VD_TRY(p.status);
    VD_TRY(add_results(&p));
done:
    if (p.has_config)
        vd_scheduler_config_clear(&p.config);
    vd_model_close(model);
    vd_settings_destroy(p.settings);
    free(p.latents_in);
    free(p.noise);
    free(p.context);
    free(p.trace);
    free(p.prediction);
    free(p.pixels);
    free(p.frames);
    return st;
}

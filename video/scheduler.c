/* Creating a scheduler, asking it, and running the planned steps. */
#include "video/scheduler.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "video/scheduler_impl.h"

const vd_scheduler_entry vd_scheduler_entries[VD_SCHEDULER_CLASSES] = {
    [VD_SCHEDULER_DDIM] = {"DDIMScheduler", "ddim", vd_ddim_lay_out, vd_ddim_plan},
    [VD_SCHEDULER_DPMPP] = {"DPMSolverMultistepScheduler", "dpmpp2m", vd_multistep_lay_out,
                            vd_dpmpp_plan},
    [VD_SCHEDULER_EULER] = {"EulerDiscreteScheduler", "euler", vd_euler_lay_out, vd_euler_plan},
    [VD_SCHEDULER_EULER_A] = {"EulerAncestralDiscreteScheduler", "euler-a", vd_euler_lay_out,
                              vd_euler_a_plan},
    [VD_SCHEDULER_UNIPC] = {"UniPCMultistepScheduler", "unipc", vd_multistep_lay_out,
                            vd_unipc_plan},
    [VD_SCHEDULER_PNDM] = {"PNDMScheduler", "pndm", vd_pndm_lay_out, vd_pndm_plan},
    [VD_SCHEDULER_LCM] = {"LCMScheduler", "lcm", vd_lcm_lay_out, vd_lcm_plan},
};
_Static_assert(VD_SCHEDULER_CLASSES == 7, "a new class needs an entry above");

const char *vd_scheduler_class_name(vd_scheduler_class class_id) {
    return vd_scheduler_entries[class_id].class_name;
}

/* ---- planning ---- */

vd_sampler_op *vd_plan_op(vd_scheduler *s, int i, int dst) {
    vd_sampler_program *call = &s->plan[i];
    assert(call->ops < VD_SAMPLER_OPS);
    vd_sampler_op *op = &call->op[call->ops++];
    op->dst = dst;
    return op;
}

void vd_plan_term(vd_scheduler *s, int i, vd_sampler_op *op, int src, double factor) {
    if (!isfinite(factor) && !s->not_finite) {
        s->not_finite = true;
        s->not_finite_call = i;
    }
    if (factor == 0)
        return;
    for (int t = 0; t < op->terms; t++)
        if (op->src[t] == src) {
            op->factor[t] += factor;
            return;
        }
    assert(op->terms < VD_SAMPLER_TERMS);
    op->src[op->terms] = src;
    op->factor[op->terms++] = factor;
}

vd_prediction_mix vd_prediction_split(vd_prediction prediction, double alpha, double sigma) {
    switch (prediction) {
    case VD_PREDICT_EPSILON:
        return (vd_prediction_mix){1 / alpha, -sigma / alpha, 0, 1};
    case VD_PREDICT_V:
        return (vd_prediction_mix){alpha, -sigma, sigma, alpha};
    case VD_PREDICT_SAMPLE:
        break;
    }
    return (vd_prediction_mix){0, 1, 1 / sigma, -alpha / sigma};
}

vd_sampler_op *vd_plan_from_x0(vd_scheduler *s, int i, vd_prediction_mix mix, double weight) {
    if (!s->config.clip_sample) {
        vd_sampler_op *op = vd_plan_op(s, i, VD_SCHEDULER_SAMPLE);
        vd_plan_term(s, i, op, VD_SCHEDULER_SAMPLE, weight * mix.x0_sample);
        vd_plan_term(s, i, op, VD_SCHEDULER_OUTPUT, weight * mix.x0_output);
        return op;
    }
    vd_sampler_op *x0 = vd_plan_op(s, i, VD_SCHEDULER_HISTORY);
    vd_plan_term(s, i, x0, VD_SCHEDULER_SAMPLE, mix.x0_sample);
    vd_plan_term(s, i, x0, VD_SCHEDULER_OUTPUT, mix.x0_output);
    x0->clamp = s->config.clip_sample_range;
    vd_sampler_op *op = vd_plan_op(s, i, VD_SCHEDULER_SAMPLE);
    vd_plan_term(s, i, op, VD_SCHEDULER_HISTORY, weight);
    return op;
}

/* ---- life ---- */

static vd_status check_request(const vd_scheduler_config *config, int steps, double eta,
                               size_t count) {
    if (steps < 1 || steps > config->train_steps)
        return vd_fail(VD_ERR_USAGE,
                       "%d steps: must be 1 to %d, the timesteps the model was trained on", steps,
                       config->train_steps);
    if (!(eta >= 0 && eta <= 1))
        return vd_fail(VD_ERR_USAGE, "eta %g: must be 0 to 1", eta);
    if (count == 0 || count > SIZE_MAX / sizeof(float) / 16)
        return vd_fail(VD_ERR_USAGE, "a sample of %zu values cannot be scheduled", count);
    return VD_OK;
}

static vd_status plan_all(vd_scheduler *s) {
    s->plan = calloc((size_t)s->calls, sizeof *s->plan);
    if (s->plan == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory to plan %d scheduler calls", s->calls);
    const vd_scheduler_entry *entry = &vd_scheduler_entries[s->config.class_id];
    for (int i = 0; i < s->calls; i++)
        entry->plan(s, i);
    if (!s->not_finite)
        return VD_OK;
    if (s->alphas[s->config.train_steps - 1] == 0 && s->config.prediction == VD_PREDICT_EPSILON)
        return vd_fail(VD_ERR_INPUT,
                       "scheduler config: with rescale_betas_zero_snr nothing is left of the "
                       "signal at timestep %g, so prediction_type epsilon has no answer there; it "
                       "needs v_prediction or sample",
                       s->timesteps[s->not_finite_call]);
    return vd_fail(VD_ERR_INPUT,
                   "scheduler config: call %d of %s in %d steps, at timestep %g, has a factor "
                   "that is not finite; take other steps or betas",
                   s->not_finite_call, entry->class_name, s->steps,
                   s->timesteps[s->not_finite_call]);
}

vd_status vd_scheduler_create(const vd_scheduler_config *config, int steps, double eta,
                              size_t count, vd_scheduler **out) {
    *out = NULL;
    vd_status st = check_request(config, steps, eta, count);
    if (st != VD_OK)
        return st;
    vd_scheduler *s = calloc(1, sizeof *s);
    if (s == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a scheduler");
    s->config = *config;
    s->config.trained_betas = NULL;
    s->steps = steps;
    s->eta = eta;
    s->count = count;
    s->init_noise_sigma = 1;
    s->alphas = malloc((size_t)config->train_steps * sizeof *s->alphas);
    if (s->alphas == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for %d timesteps", config->train_steps);
        goto done;
    }
    VD_TRY(vd_scheduler_alphas_cumprod(config, s->alphas));
    VD_TRY(vd_scheduler_entries[config->class_id].lay_out(s));
    assert(VD_SCHEDULER_HISTORY + s->history_buffers <= VD_SAMPLER_BUFFERS);
    VD_TRY(plan_all(s));
    if (s->history_buffers > 0) {
        s->history = calloc((size_t)s->history_buffers * count, sizeof *s->history);
        if (s->history == NULL)
            st = vd_fail(VD_ERR_MEMORY, "no memory for %d scheduler buffers of %zu values",
                         s->history_buffers, count);
    }
done:
    if (st != VD_OK)
        vd_scheduler_destroy(s);
    else
        *out = s;
    return st;
}

void vd_scheduler_destroy(vd_scheduler *s) {
    if (s == NULL)
        return;
    free(s->alphas);
    free(s->timesteps);
    free(s->sigmas);
    free(s->plan);
    free(s->history);
    free(s);
}

/* ---- questions ---- */

int vd_scheduler_calls(const vd_scheduler *s) {
    return s->calls;
}

double vd_scheduler_timestep(const vd_scheduler *s, int i) {
    return s->timesteps[i];
}

double vd_scheduler_init_noise_sigma(const vd_scheduler *s) {
    return s->init_noise_sigma;
}

double vd_scheduler_input_scale(const vd_scheduler *s, int i) {
    return s->scales_input && s->sigmas != NULL ? 1 / sqrt(s->sigmas[i] * s->sigmas[i] + 1) : 1;
}

void vd_scheduler_x0(const vd_scheduler *s, int i, double *of_sample, double *of_output) {
    double alpha = 0, sigma = 0;
    if (s->sigmas != NULL) {
        alpha = 1 / sqrt(s->sigmas[i] * s->sigmas[i] + 1);
        sigma = s->sigmas[i] * alpha;
    } else {
        const double product = (double)s->alphas[(int)s->timesteps[i]];
        alpha = sqrt(product);
        sigma = sqrt(1 - product);
    }
    const vd_prediction_mix mix = vd_prediction_split(s->config.prediction, alpha, sigma);
    *of_sample = mix.x0_sample * vd_scheduler_input_scale(s, i);
    *of_output = mix.x0_output;
}

bool vd_scheduler_needs_noise(const vd_scheduler *s, int i) {
    const vd_sampler_program *call = &s->plan[i];
    for (int k = 0; k < call->ops; k++)
        for (int t = 0; t < call->op[k].terms; t++)
            if (call->op[k].src[t] == VD_SCHEDULER_NOISE)
                return true;
    return false;
}

const double *vd_scheduler_sigmas(const vd_scheduler *s, size_t *count) {
    *count = s->sigmas == NULL ? 0 : (size_t)s->steps + 1;
    return s->sigmas;
}

const vd_sampler_program *vd_scheduler_program(const vd_scheduler *s, int i) {
    return &s->plan[i];
}

int vd_scheduler_history_buffers(const vd_scheduler *s) {
    return s->history_buffers;
}

float *vd_scheduler_history(vd_scheduler *s, size_t *count) {
    *count = (size_t)s->history_buffers * s->count;
    return s->history;
}

vd_status vd_scheduler_resume(vd_scheduler *s, int i) {
    if (i < 0 || i >= s->calls)
        return vd_fail(VD_ERR_USAGE, "scheduler call %d: must be 0 to %d", i, s->calls - 1);
    s->next = i;
    return VD_OK;
}

/* ---- stepping ---- */

vd_status vd_scheduler_step(vd_scheduler *s, int i, float *sample, const float *model_output,
                            const float *noise, size_t count) {
    if (i < 0 || i >= s->calls || (i != 0 && i != s->next))
        return vd_fail(VD_ERR_USAGE, "scheduler call %d of %d out of order: %d is next", i,
                       s->calls, s->next);
    if (count != s->count)
        return vd_fail(VD_ERR_USAGE, "a scheduler for samples of %zu values was given %zu",
                       s->count, count);
    if (noise == NULL && vd_scheduler_needs_noise(s, i))
        return vd_fail(VD_ERR_USAGE, "scheduler call %d of %s adds noise and was given none", i,
                       vd_scheduler_class_name(s->config.class_id));
    const float *buffer[VD_SAMPLER_BUFFERS] = {sample, model_output, noise};
    for (int k = 0; k < s->history_buffers; k++)
        buffer[VD_SCHEDULER_HISTORY + k] = s->history + (size_t)k * count;
    for (int k = 0; k < s->plan[i].ops; k++) {
        const vd_sampler_op *op = &s->plan[i].op[k];
        float *dst = op->dst == VD_SCHEDULER_SAMPLE
                         ? sample
                         : s->history + (size_t)(op->dst - VD_SCHEDULER_HISTORY) * count;
        for (size_t e = 0; e < count; e++)
            dst[e] = vd_sampler_value(op, buffer, (int64_t)e);
    }
    s->next = i + 1;
    return VD_OK;
}

/* What the scheduler families share: the noise schedule and the plan of a step. */
#ifndef VD_VIDEO_SCHEDULER_IMPL_H
#define VD_VIDEO_SCHEDULER_IMPL_H

#include "video/scheduler.h"

struct vd_scheduler {
    vd_scheduler_config config; /* trained_betas is NULL: alphas holds what came of them */
    int steps;
    double eta;
    size_t count;
    float *alphas;     /* running product of 1 - beta, [train_steps] */
    double *timesteps; /* [calls] */
    double *sigmas;    /* [steps + 1], float32 values; NULL for classes without */
    double init_noise_sigma;
    bool scales_input; /* by 1 / sqrt(sigma^2 + 1) */
    int calls;
    vd_sampler_program *plan; /* [calls] */
    int history_buffers;
    float *history; /* [history_buffers][count] */
    int next;
    bool not_finite; /* a planned factor was */
    int not_finite_call;
};

/* One class: which keys it has, how its steps are laid out, what a step does. */
typedef struct vd_scheduler_entry {
    const char *class_name;
    const char *short_name;
    /* Fills timesteps, calls, sigmas, init_noise_sigma, history_buffers; alphas are there. */
    vd_status (*lay_out)(vd_scheduler *s);
    /* Adds the ops of call i. */
    void (*plan)(vd_scheduler *s, int i);
} vd_scheduler_entry;

extern const vd_scheduler_entry vd_scheduler_entries[VD_SCHEDULER_CLASSES];

vd_status vd_ddim_lay_out(vd_scheduler *s);
void vd_ddim_plan(vd_scheduler *s, int i);
vd_status vd_multistep_lay_out(vd_scheduler *s);
void vd_dpmpp_plan(vd_scheduler *s, int i);
void vd_unipc_plan(vd_scheduler *s, int i);
vd_status vd_euler_lay_out(vd_scheduler *s);
void vd_euler_plan(vd_scheduler *s, int i);
void vd_euler_a_plan(vd_scheduler *s, int i);
vd_status vd_pndm_lay_out(vd_scheduler *s);
void vd_pndm_plan(vd_scheduler *s, int i);
vd_status vd_lcm_lay_out(vd_scheduler *s);
void vd_lcm_plan(vd_scheduler *s, int i);

/* Appends "dst = nothing yet" to call i. */
vd_sampler_op *vd_plan_op(vd_scheduler *s, int i, int dst);

/* Adds factor * src to it; several terms of one source are summed, a factor of 0 is left out. */
void vd_plan_term(vd_scheduler *s, int i, vd_sampler_op *op, int src, double factor);

/* Of sample = alpha * x0 + sigma * eps: x0 and eps as combinations of the sample and the output. */
typedef struct vd_prediction_mix {
    double x0_sample, x0_output;
    double eps_sample, eps_output;
} vd_prediction_mix;
vd_prediction_mix vd_prediction_split(vd_prediction prediction, double alpha, double sigma);

/* Appends "sample = weight * x0" to call i; with clip_sample, x0 is clipped first, in the first
 * history buffer. */
vd_sampler_op *vd_plan_from_x0(vd_scheduler *s, int i, vd_prediction_mix mix, double weight);

/* Allocates `calls` timesteps. */
vd_status vd_alloc_timesteps(vd_scheduler *s, int calls);

/* `steps` timesteps from high to low by the config's spacing, for classes that start a step at
 * each of them (DDIM, PNDM, Euler). Whole numbers unless `fractional`. VD_ERR_USAGE if one lies
 * beyond the trained ones. */
vd_status vd_spaced_timesteps(const vd_scheduler *s, bool fractional, double *out);

/* The same for classes that lay out steps + 1 levels and leave out the lowest (DPM++, UniPC). */
vd_status vd_spaced_timesteps_open(const vd_scheduler *s, double *out);

/* Fills s->sigmas from s->timesteps and appends the last; with Karras both are replaced, from the
 * ends of the schedule or, with `of_steps`, of the chosen sigmas. `round_times`: timesteps are
 * whole. */
vd_status vd_fill_sigmas(vd_scheduler *s, bool of_steps, bool round_times);

/* The product of 1 - beta before timestep t, where `t < 0` means "before the first". */
double vd_alpha_or_final(const vd_scheduler *s, int t);

#endif

/* Sampling schedulers, equal to diffusers' classes of the same name.
 *
 *     vd_scheduler_config config;
 *     vd_scheduler_config_read("model/scheduler/scheduler_config.json", "dpmpp2m", &config);
 *     vd_scheduler_create(&config, 50, 0.0, count, &s);
 *     // sample = noise * vd_scheduler_init_noise_sigma(s)
 *     for (int i = 0; i < vd_scheduler_calls(s); i++) {
 *         // output = UNet(sample * vd_scheduler_input_scale(s, i), vd_scheduler_timestep(s, i))
 *         vd_scheduler_step(s, i, sample, output, noise, count);
 *     }
 *     vd_scheduler_destroy(s);
 *     vd_scheduler_config_clear(&config);
 *
 * Everything that depends on the schedule is worked out by vd_scheduler_create: a step is a short
 * list of elementwise linear combinations of buffers (vd_scheduler_program), which a device can run
 * as it is. Coefficients are float64, data float32.
 */
#ifndef VD_VIDEO_SCHEDULER_H
#define VD_VIDEO_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>

#include "backend/sampler.h"
#include "core/json.h"
#include "core/status.h"

typedef enum vd_scheduler_class {
    VD_SCHEDULER_DDIM,    /* DDIMScheduler, "ddim"; the only one with eta */
    VD_SCHEDULER_DPMPP,   /* DPMSolverMultistepScheduler, "dpmpp2m", "dpmpp2m-karras" */
    VD_SCHEDULER_EULER,   /* EulerDiscreteScheduler, "euler", "euler-karras" */
    VD_SCHEDULER_EULER_A, /* EulerAncestralDiscreteScheduler, "euler-a" */
    VD_SCHEDULER_UNIPC,   /* UniPCMultistepScheduler, "unipc" */
    VD_SCHEDULER_PNDM,    /* PNDMScheduler, "pndm" */
    VD_SCHEDULER_LCM,     /* LCMScheduler, "lcm" */
    VD_SCHEDULER_CLASSES,
} vd_scheduler_class;

typedef enum vd_prediction { VD_PREDICT_EPSILON, VD_PREDICT_V, VD_PREDICT_SAMPLE } vd_prediction;
typedef enum vd_spacing { VD_SPACING_LEADING, VD_SPACING_LINSPACE, VD_SPACING_TRAILING } vd_spacing;
typedef enum vd_beta_schedule {
    VD_BETAS_LINEAR,
    VD_BETAS_SCALED_LINEAR,
    VD_BETAS_COSINE, /* squaredcos_cap_v2 */
} vd_beta_schedule;
typedef enum vd_solver_type {
    VD_SOLVER_MIDPOINT, /* DPM++ */
    VD_SOLVER_HEUN,
    VD_SOLVER_BH1, /* UniPC */
    VD_SOLVER_BH2,
} vd_solver_type;

/* A scheduler_config.json with the defaults of its class filled in. Keys that the class does not
 * have keep a neutral value. */
typedef struct vd_scheduler_config {
    vd_scheduler_class class_id;
    int train_steps; /* num_train_timesteps, 2 .. VD_SCHEDULER_MAX_TRAIN_STEPS */
    double beta_start;
    double beta_end;
    vd_beta_schedule beta_schedule;
    float *trained_betas; /* owned, [train_steps], or NULL */
    bool rescale_betas_zero_snr;
    vd_prediction prediction;
    vd_spacing spacing;
    int steps_offset;
    bool clip_sample;
    double clip_sample_range;
    bool set_alpha_to_one;
    bool use_karras_sigmas;
    double sigma_min; /* ends of the Karras ramp; 0: those of the schedule */
    double sigma_max;
    bool final_sigma_min; /* final_sigmas_type is sigma_min, not zero */
    int solver_order;     /* 1 .. 3 */
    vd_solver_type solver_type;
    bool lower_order_final;
    bool euler_at_final;
    bool skip_prk_steps;
    int original_inference_steps;
    double timestep_scaling;
} vd_scheduler_config;

enum { VD_SCHEDULER_MAX_TRAIN_STEPS = 100000 };

/* NULL-terminated list of the short names. */
const char *const *vd_scheduler_names(void);

/* "DDIMScheduler" */
const char *vd_scheduler_class_name(vd_scheduler_class class_id);

/* Reads the config in `object`. The class is `name` (a short name or a class name) if that is not
 * NULL, else the object's _class_name or class_name. Another class takes over the keys that are
 * really there; the others get its own defaults. Keys that the class does not know are accepted;
 * values that would change the result and are not implemented are VD_ERR_INPUT with file and JSON
 * path. VD_ERR_USAGE: `name` is no scheduler. `out` needs vd_scheduler_config_clear after VD_OK. */
vd_status vd_scheduler_config_from_json(const vd_json *doc, const vd_json_value *object,
                                        const char *name, vd_scheduler_config *out);

/* The same for a file. */
vd_status vd_scheduler_config_read(const char *path, const char *name, vd_scheduler_config *out);
void vd_scheduler_config_clear(vd_scheduler_config *config);

/* The running product of 1 - beta, [train_steps], as the class uses it. VD_ERR_INPUT if it leaves
 * (0, 1): a zero is allowed only at the end, from rescale_betas_zero_snr. */
vd_status vd_scheduler_alphas_cumprod(const vd_scheduler_config *config, float *out);

typedef struct vd_scheduler vd_scheduler;

/* Lays out `steps` steps (1 .. train_steps; LCM: .. original_inference_steps) for samples of
 * `count` values. eta in [0, 1] matters to DDIM only. The config is copied. VD_ERR_USAGE: steps or
 * eta out of range for this config; VD_ERR_INPUT: the config has no finite step (an epsilon
 * prediction at zero signal, say). */
vd_status vd_scheduler_create(const vd_scheduler_config *config, int steps, double eta,
                              size_t count, vd_scheduler **out);
void vd_scheduler_destroy(vd_scheduler *s);

/* Number of UNet calls: `steps`, but PNDM takes steps + 1 (1 for one step), or steps + 9 with its
 * Runge-Kutta start. The functions below take a call 0 <= i < calls. */
int vd_scheduler_calls(const vd_scheduler *s);

/* What the UNet is told. Whole numbers except for Euler. */
double vd_scheduler_timestep(const vd_scheduler *s, int i);

/* The first sample is N(0, 1) times this. */
double vd_scheduler_init_noise_sigma(const vd_scheduler *s);

/* The UNet gets the sample times this. */
double vd_scheduler_input_scale(const vd_scheduler *s, int i);

/* Of call i: the predicted finished sample x0 is *of_sample * sample + *of_output * model output.
 */
void vd_scheduler_x0(const vd_scheduler *s, int i, double *of_sample, double *of_output);

/* Whether call i adds fresh N(0, 1) noise. */
bool vd_scheduler_needs_noise(const vd_scheduler *s, int i);

/* Sigma at each step and the last one, [*count = steps + 1], or NULL for classes without. */
const double *vd_scheduler_sigmas(const vd_scheduler *s, size_t *count);

/* Replaces `sample` by that of the next noise level. All arrays are float32[count] on the host and
 * do not overlap. `noise` may be NULL when call i needs none. Calls go in order; 0 starts over.
 * VD_ERR_USAGE: out of order, another count than at creation, missing noise. */
vd_status vd_scheduler_step(vd_scheduler *s, int i, float *sample, const float *model_output,
                            const float *noise, size_t count);

/* The buffers that ops name. History buffer k is VD_SCHEDULER_HISTORY + k. */
enum {
    VD_SCHEDULER_SAMPLE,
    VD_SCHEDULER_OUTPUT,
    VD_SCHEDULER_NOISE,
    VD_SCHEDULER_HISTORY,
};

/* What step i does. */
const vd_sampler_program *vd_scheduler_program(const vd_scheduler *s, int i);
int vd_scheduler_history_buffers(const vd_scheduler *s);

/* Between steps: the history, [history buffers * count], borrowed. Saved with the sample and put
 * back before vd_scheduler_resume(s, i), it lets call i be the next. */
float *vd_scheduler_history(vd_scheduler *s, size_t *count);
vd_status vd_scheduler_resume(vd_scheduler *s, int i);

#endif

#include <math.h>

#include "video/scheduler_impl.h"

vd_status vd_lcm_lay_out(vd_scheduler *s) {
    int original = s->config.original_inference_steps;
    if (s->steps > original)
        return vd_fail(VD_ERR_USAGE,
                       "%d steps: LCMScheduler allows 1 to %d, its original_inference_steps",
                       s->steps, original);
    vd_status st = vd_alloc_timesteps(s, s->steps);
    if (st != VD_OK)
        return st;
    int stride = s->config.train_steps / original;
    double pick = (double)original / s->steps;
    for (int i = 0; i < s->steps; i++)
        s->timesteps[i] = (double)(original - (int)floor(i * pick)) * stride - 1;
    s->history_buffers = s->config.clip_sample ? 1 : 0;
    return VD_OK;
}

void vd_lcm_plan(vd_scheduler *s, int i) {
    double from = (double)s->alphas[(int)s->timesteps[i]];
    vd_prediction_mix mix = vd_prediction_split(s->config.prediction, sqrt(from), sqrt(1 - from));
    double q = s->config.timestep_scaling * s->timesteps[i];
    double skip = 0.25 / (q * q + 0.25);
    double weight = q / sqrt(q * q + 0.25);
    double noise = 0;
    if (i + 1 < s->calls) {
        double to = (double)s->alphas[(int)s->timesteps[i + 1]];
        weight *= sqrt(to);
        skip *= sqrt(to);
        noise = sqrt(1 - to);
    }
    vd_sampler_op *op = vd_plan_from_x0(s, i, mix, weight);
    vd_plan_term(s, i, op, VD_SCHEDULER_SAMPLE, skip);
    vd_plan_term(s, i, op, VD_SCHEDULER_NOISE, noise);
}

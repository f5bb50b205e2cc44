#include <math.h>

#include "video/scheduler_impl.h"

vd_status vd_ddim_lay_out(vd_scheduler *s) {
    vd_status st = vd_alloc_timesteps(s, s->steps);
    if (st != VD_OK)
        return st;
    s->history_buffers = s->config.clip_sample ? 1 : 0;
    return vd_spaced_timesteps(s, false, s->timesteps);
}

void vd_ddim_plan(vd_scheduler *s, int i) {
    int t = (int)s->timesteps[i];
    double from = (double)s->alphas[t];
    /* One stride further, which is not always the next entry of the list. */
    double to = vd_alpha_or_final(s, t - s->config.train_steps / s->steps);
    vd_prediction_mix mix = vd_prediction_split(s->config.prediction, sqrt(from), sqrt(1 - from));
    double variance = s->eta * s->eta * ((1 - to) / (1 - from)) * (1 - from / to);
    double direction = sqrt(fmax(1 - to - variance, 0));
    double x0_weight = sqrt(to);

    vd_sampler_op *op = vd_plan_from_x0(s, i, mix, x0_weight);
    vd_plan_term(s, i, op, VD_SCHEDULER_SAMPLE, direction * mix.eps_sample);
    vd_plan_term(s, i, op, VD_SCHEDULER_OUTPUT, direction * mix.eps_output);
    vd_plan_term(s, i, op, VD_SCHEDULER_NOISE, sqrt(fmax(variance, 0)));
}

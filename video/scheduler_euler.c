/* Euler and Euler ancestral: the sample is x0 + sigma * noise, not scaled to unit variance. */
#include <math.h>

#include "video/scheduler_impl.h"

vd_status vd_euler_lay_out(vd_scheduler *s) {
    vd_status st;
    VD_TRY(vd_alloc_timesteps(s, s->steps));
    VD_TRY(vd_spaced_timesteps(s, true, s->timesteps));
    VD_TRY(vd_fill_sigmas(s, true, false));
    s->scales_input = true;
    double top = s->sigmas[0];
    s->init_noise_sigma = s->config.spacing == VD_SPACING_LEADING ? sqrt(top * top + 1) : top;
done:
    return st;
}

/* x += (x - x0) / sigma * (to - sigma) */
static vd_sampler_op *plan_move(vd_scheduler *s, int i, double to) {
    double sigma = s->sigmas[i];
    double stretch = (to - sigma) / sigma;
    double square = sigma * sigma + 1;
    double x0_sample = 0;
    double x0_output = 1;
    if (s->config.prediction == VD_PREDICT_EPSILON) {
        x0_sample = 1;
        x0_output = -sigma;
    } else if (s->config.prediction == VD_PREDICT_V) {
        x0_sample = 1 / square;
        x0_output = -sigma / sqrt(square);
    }
    vd_sampler_op *op = vd_plan_op(s, i, VD_SCHEDULER_SAMPLE);
    vd_plan_term(s, i, op, VD_SCHEDULER_SAMPLE, 1 + stretch * (1 - x0_sample));
    vd_plan_term(s, i, op, VD_SCHEDULER_OUTPUT, -stretch * x0_output);
    return op;
}

void vd_euler_plan(vd_scheduler *s, int i) {
    plan_move(s, i, s->sigmas[i + 1]);
}

void vd_euler_a_plan(vd_scheduler *s, int i) {
    double from = s->sigmas[i];
    double to = s->sigmas[i + 1];
    double up = sqrt(fmax(to * to * (from * from - to * to) / (from * from), 0));
    double down = sqrt(fmax(to * to - up * up, 0));
    vd_plan_term(s, i, plan_move(s, i, down), VD_SCHEDULER_NOISE, up);
}

/* Pseudo numerical methods: linear multistep (PLMS), after a Runge-Kutta start (PRK) if asked. */
#include <math.h>

#include "video/scheduler_impl.h"

enum {
    PRK_CALLS = 12,
    SAVED = VD_SCHEDULER_HISTORY, /* the sample that several calls start from */
    MEAN,                         /* of the Runge-Kutta slopes so far, weighted */
    OUTPUTS,                      /* ring of the last three model outputs */
    RING = 3,
    BUFFERS = 2 + RING,
};

static int stride(const vd_scheduler *s) {
    return s->config.train_steps / s->steps;
}

static bool has_prk(const vd_scheduler *s) {
    return !s->config.skip_prk_steps;
}

/* Spreads the `steps` spaced timesteps, high to low, over the calls. They lie at the end of
 * s->timesteps; no entry is overwritten before it was read. */
static void order_calls(vd_scheduler *s) {
    const double *t = s->timesteps + (s->calls - s->steps);
    double *call = s->timesteps;
    if (has_prk(s)) {
        int half = stride(s) / 2;
        for (int k = 0; k < 3; k++) {
            double next = t[k + 1];
            *call++ = t[k];
            *call++ = next + half;
            *call++ = next + half;
            *call++ = next;
        }
    } else if (s->steps > 1) {
        double second = t[1];
        *call++ = t[0];
        *call++ = second;
    }
}

vd_status vd_pndm_lay_out(vd_scheduler *s) {
    int n = s->steps;
    if (has_prk(s) && n < 4)
        return vd_fail(VD_ERR_USAGE,
                       "%d steps: PNDMScheduler needs at least 4 for its Runge-Kutta start; or set "
                       "skip_prk_steps in its config",
                       n);
    int calls = n;
    if (has_prk(s))
        calls = n - 3 + PRK_CALLS;
    else if (n > 1)
        calls = n + 1;
    vd_status st;
    VD_TRY(vd_alloc_timesteps(s, calls));
    VD_TRY(vd_spaced_timesteps(s, false, s->timesteps + (calls - n)));
    order_calls(s);
    s->history_buffers = BUFFERS;
done:
    return st;
}

/* The move of `from_buffer` from timestep t to `to` along a slope, as factors of the two. */
typedef struct transfer {
    double sample;
    double slope; /* of a model output */
} transfer;

static transfer transfer_between(const vd_scheduler *s, int t, int to) {
    double a = (double)s->alphas[t];
    double b = vd_alpha_or_final(s, to);
    double along = (b - a) / (a * sqrt(1 - b) + sqrt(a * (1 - a) * b));
    vd_prediction_mix mix = vd_prediction_split(s->config.prediction, sqrt(a), sqrt(1 - a));
    return (transfer){sqrt(b / a) - along * mix.eps_sample, -along * mix.eps_output};
}

static void plan_copy(vd_scheduler *s, int i, int dst, int src) {
    vd_plan_term(s, i, vd_plan_op(s, i, dst), src, 1);
}

static void plan_prk(vd_scheduler *s, int i) {
    static const double weight[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
    int part = i % 4;
    int t = (int)s->timesteps[i];
    transfer move =
        transfer_between(s, (int)s->timesteps[i - part], i % 2 == 0 ? t - stride(s) / 2 : t);
    if (part == 0) {
        plan_copy(s, i, SAVED, VD_SCHEDULER_SAMPLE);
        plan_copy(s, i, OUTPUTS + i / 4, VD_SCHEDULER_OUTPUT);
    }
    vd_sampler_op *op = vd_plan_op(s, i, VD_SCHEDULER_SAMPLE);
    vd_plan_term(s, i, op, SAVED, move.sample);
    if (part == 3) {
        vd_plan_term(s, i, op, MEAN, move.slope);
        vd_plan_term(s, i, op, VD_SCHEDULER_OUTPUT, move.slope * weight[part]);
        return;
    }
    vd_plan_term(s, i, op, VD_SCHEDULER_OUTPUT, move.slope);
    op = vd_plan_op(s, i, MEAN);
    if (part > 0)
        vd_plan_term(s, i, op, MEAN, 1);
    vd_plan_term(s, i, op, VD_SCHEDULER_OUTPUT, weight[part]);
}

/* The second call of PLMS: the first step once more, with the mean of both its slopes. */
static void plan_redo(vd_scheduler *s, int i) {
    int to = (int)s->timesteps[i];
    transfer move = transfer_between(s, to + stride(s), to);
    vd_sampler_op *op = vd_plan_op(s, i, VD_SCHEDULER_SAMPLE);
    vd_plan_term(s, i, op, SAVED, move.sample);
    vd_plan_term(s, i, op, VD_SCHEDULER_OUTPUT, move.slope / 2);
    vd_plan_term(s, i, op, OUTPUTS, move.slope / 2);
}

void vd_pndm_plan(vd_scheduler *s, int i) {
    /* Adams-Bashforth: the newest output first. */
    static const double weight[4][4] = {
        {1, 0, 0, 0},
        {3.0 / 2, -1.0 / 2, 0, 0},
        {23.0 / 12, -16.0 / 12, 5.0 / 12, 0},
        {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24},
    };
    if (has_prk(s) && i < PRK_CALLS) {
        plan_prk(s, i);
        return;
    }
    if (!has_prk(s) && i == 1) {
        plan_redo(s, i);
        return;
    }
    /* Outputs stored before this call: PRK leaves 3, and call 1 of PLMS stores none. */
    int stored = i;
    if (has_prk(s))
        stored = i - PRK_CALLS + 3;
    else if (i > 1)
        stored = i - 1;
    int t = (int)s->timesteps[i];
    transfer move = transfer_between(s, t, t - stride(s));
    if (!has_prk(s) && i == 0)
        plan_copy(s, i, SAVED, VD_SCHEDULER_SAMPLE);
    const double *w = weight[stored < 3 ? stored : 3];
    vd_sampler_op *op = vd_plan_op(s, i, VD_SCHEDULER_SAMPLE);
    vd_plan_term(s, i, op, VD_SCHEDULER_SAMPLE, move.sample);
    vd_plan_term(s, i, op, VD_SCHEDULER_OUTPUT, move.slope * w[0]);
    for (int back = 1; back <= 3 && back <= stored; back++)
        vd_plan_term(s, i, op, OUTPUTS + (stored - back) % RING, move.slope * w[back]);
    plan_copy(s, i, OUTPUTS + stored % RING, VD_SCHEDULER_OUTPUT);
}

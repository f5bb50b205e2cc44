/* DPM-Solver++ and UniPC: both step on the predicted x0 of this and earlier calls, in lambda, the
 * logarithm of the signal-to-noise ratio. */
#include <math.h>

#include "video/scheduler_impl.h"

/* History: a ring of the last solver_order + 1 predicted x0, then, for UniPC, the sample before the
 * last prediction. */
enum { MAX_ORDER = 3 };

vd_status vd_multistep_lay_out(vd_scheduler *s) {
    vd_status st;
    VD_TRY(vd_alloc_timesteps(s, s->steps));
    if (!s->config.use_karras_sigmas)
        VD_TRY(vd_spaced_timesteps_open(s, s->timesteps));
    VD_TRY(vd_fill_sigmas(s, false, true));
    s->history_buffers =
        s->config.solver_order + (s->config.class_id == VD_SCHEDULER_UNIPC ? 2 : 1);
done:
    return st;
}

/* A noise level: sample = alpha * x0 + sigma * noise, alpha^2 + sigma^2 = 1. */
typedef struct level {
    double alpha;
    double sigma;
    double lambda; /* ln(alpha / sigma); infinite without noise */
} level;

static level level_at(const vd_scheduler *s, int index) {
    double ratio = s->sigmas[index];
    double alpha = 1 / sqrt(ratio * ratio + 1);
    return (level){alpha, ratio * alpha, -log(ratio)};
}

/* Where the x0 predicted at call i is kept. */
static int x0_buffer(const vd_scheduler *s, int i) {
    return VD_SCHEDULER_HISTORY + i % (s->config.solver_order + 1);
}

static int last_sample_buffer(const vd_scheduler *s) {
    return VD_SCHEDULER_HISTORY + s->config.solver_order + 1;
}

static void plan_x0(vd_scheduler *s, int i) {
    level here = level_at(s, i);
    vd_prediction_mix mix = vd_prediction_split(s->config.prediction, here.alpha, here.sigma);
    vd_sampler_op *op = vd_plan_op(s, i, x0_buffer(s, i));
    vd_plan_term(s, i, op, VD_SCHEDULER_SAMPLE, mix.x0_sample);
    vd_plan_term(s, i, op, VD_SCHEDULER_OUTPUT, mix.x0_output);
}

/* ---- DPM-Solver++ ---- */

static int dpmpp_order(const vd_scheduler *s, int i) {
    bool few = s->config.lower_order_final && s->steps < 15;
    bool low_end = few || s->config.euler_at_final || !s->config.final_sigma_min;
    int order = s->config.solver_order < i + 1 ? s->config.solver_order : i + 1;
    if (i == s->steps - 1 && low_end)
        return 1;
    if (i == s->steps - 2 && few && order > 2)
        return 2;
    return order;
}

void vd_dpmpp_plan(vd_scheduler *s, int i) {
    plan_x0(s, i);
    int order = dpmpp_order(s, i);
    level from = level_at(s, i);
    level to = level_at(s, i + 1);
    double h = to.lambda - from.lambda;
    double decay = expm1(-h);
    double slope = to.alpha * (h == 0 ? 0 : decay / h + 1); /* of the first derivative, "heun" */
    int m0 = x0_buffer(s, i);

    vd_sampler_op *op = vd_plan_op(s, i, VD_SCHEDULER_SAMPLE);
    vd_plan_term(s, i, op, VD_SCHEDULER_SAMPLE, to.sigma / from.sigma);
    vd_plan_term(s, i, op, m0, -to.alpha * decay);
    if (order == 1)
        return;
    /* d10 = (m0 - m1) / r0, r0 = h0 / h */
    int m1 = x0_buffer(s, i - 1);
    double h0 = from.lambda - level_at(s, i - 1).lambda;
    double inverse_r0 = h / h0;
    if (order == 2) {
        double weight = s->config.solver_type == VD_SOLVER_HEUN ? slope : -0.5 * to.alpha * decay;
        vd_plan_term(s, i, op, m0, weight * inverse_r0);
        vd_plan_term(s, i, op, m1, -weight * inverse_r0);
        return;
    }
    /* d11 = (m1 - m2) / r1; D1 = d10 + r0 / (r0 + r1) (d10 - d11), D2 = (d10 - d11) / (r0 + r1) */
    int m2 = x0_buffer(s, i - 2);
    double h1 = level_at(s, i - 1).lambda - level_at(s, i - 2).lambda;
    double inverse_r1 = h / h1;
    double bend = -to.alpha * (h == 0 ? 0 : (decay + h) / (h * h) - 0.5);
    double difference = slope * h0 / (h0 + h1) + bend * h / (h0 + h1); /* weight of d10 - d11 */
    double d10 = (slope + difference) * inverse_r0;
    double d11 = -difference * inverse_r1;
    vd_plan_term(s, i, op, m0, d10);
    vd_plan_term(s, i, op, m1, d11 - d10);
    vd_plan_term(s, i, op, m2, -d11);
}

/* ---- UniPC ---- */

static int unipc_order(const vd_scheduler *s, int i) {
    int order = s->config.solver_order;
    if (s->config.lower_order_final && s->steps - i < order)
        order = s->steps - i;
    return order < i + 1 ? order : i + 1;
}

/* Solves the n x n system in place by Gaussian elimination with pivoting; b becomes the answer.
 * A singular system gives values that are not finite, which planning refuses. */
static void solve(double m[MAX_ORDER][MAX_ORDER], double b[MAX_ORDER], int n) {
    for (int c = 0; c < n; c++) {
        int pivot = c;
        for (int r = c + 1; r < n; r++)
            if (fabs(m[r][c]) > fabs(m[pivot][c]))
                pivot = r;
        for (int k = 0; k < n; k++) {
            double swap = m[c][k];
            m[c][k] = m[pivot][k];
            m[pivot][k] = swap;
        }
        double swap = b[c];
        b[c] = b[pivot];
        b[pivot] = swap;
        for (int r = c + 1; r < n; r++) {
            double f = m[r][c] / m[c][c];
            for (int k = c; k < n; k++)
                m[r][k] -= f * m[c][k];
            b[r] -= f * b[c];
        }
    }
    for (int r = n - 1; r >= 0; r--) {
        for (int k = r + 1; k < n; k++)
            b[r] -= m[r][k] * b[k];
        b[r] /= m[r][r];
    }
}

/* rho of the first n differences, for a move of -g in lambda */
static void unipc_weights(double g, double b_h, const double *r, int n, double rho[MAX_ORDER]) {
    double m[MAX_ORDER][MAX_ORDER];
    double q = expm1(g) / g - 1;
    double factorial = 1;
    for (int k = 0; k < n; k++) {
        for (int j = 0; j < n; j++)
            m[k][j] = pow(r[j], k);
        rho[k] = q * factorial / b_h;
        factorial *= k + 2;
        q = q / g - 1 / factorial;
    }
    solve(m, rho, n);
}

/* sample = the move from index a to a + 1 that starts in buffer `start`, of order p. The corrector
 * also knows the x0 predicted at its end, in buffer `reached`; the predictor passes -1. */
static void plan_unipc_move(vd_scheduler *s, int i, int a, int start, int p, int reached) {
    level from = level_at(s, a);
    level to = level_at(s, a + 1);
    double h = to.lambda - from.lambda;
    double decay = expm1(-h);
    double b_h = s->config.solver_type == VD_SOLVER_BH2 ? decay : -h;
    int m0 = x0_buffer(s, a);

    double r[MAX_ORDER];
    for (int j = 1; j < p; j++)
        r[j - 1] = (level_at(s, a - j).lambda - from.lambda) / h;
    r[p - 1] = 1;
    double rho[MAX_ORDER] = {0.5, 0, 0};
    if (reached >= 0 ? p > 1 : p > 2)
        unipc_weights(-h, b_h, r, reached >= 0 ? p : p - 1, rho);

    vd_sampler_op *op = vd_plan_op(s, i, VD_SCHEDULER_SAMPLE);
    vd_plan_term(s, i, op, start, to.sigma / from.sigma);
    vd_plan_term(s, i, op, m0, -to.alpha * decay);
    for (int j = 1; j < p; j++) {
        double weight = -to.alpha * b_h * rho[j - 1] / r[j - 1];
        vd_plan_term(s, i, op, x0_buffer(s, a - j), weight);
        vd_plan_term(s, i, op, m0, -weight);
    }
    if (reached >= 0) {
        double weight = -to.alpha * b_h * rho[p - 1];
        vd_plan_term(s, i, op, reached, weight);
        vd_plan_term(s, i, op, m0, -weight);
    }
}

void vd_unipc_plan(vd_scheduler *s, int i) {
    int last = last_sample_buffer(s);
    plan_x0(s, i);
    if (i > 0)
        plan_unipc_move(s, i, i - 1, last, unipc_order(s, i - 1), x0_buffer(s, i));
    vd_plan_term(s, i, vd_plan_op(s, i, last), VD_SCHEDULER_SAMPLE, 1);
    plan_unipc_move(s, i, i, VD_SCHEDULER_SAMPLE, unipc_order(s, i), -1);
}

/* Betas, timesteps and sigmas. Rounding follows PyTorch and NumPy step by step: a timestep that is
 * rounded the other way is another timestep. */
#include <math.h>
#include <stdlib.h>

#include "video/scheduler_impl.h"

static const double PI = 3.14159265358979323846;

/* torch.linspace in float32: from both ends to the middle, one rounding each. */
static void line(float *out, int n, double start_exact, double end_exact) {
    float start = (float)start_exact;
    float end = (float)end_exact;
    float step = (end - start) / (float)(n - 1);
    for (int i = 0; i < n; i++)
        out[i] = i < n / 2 ? fmaf(step, (float)i, start) : fmaf(-step, (float)(n - 1 - i), end);
}

static double cosine_alpha(double t) {
    double c = cos((t + 0.008) / 1.008 * PI / 2);
    return c * c;
}

static void fill_betas(const vd_scheduler_config *config, float *betas) {
    int n = config->train_steps;
    if (config->trained_betas != NULL) {
        for (int i = 0; i < n; i++)
            betas[i] = config->trained_betas[i];
        return;
    }
    switch (config->beta_schedule) {
    case VD_BETAS_LINEAR:
        line(betas, n, config->beta_start, config->beta_end);
        break;
    case VD_BETAS_SCALED_LINEAR:
        line(betas, n, sqrt(config->beta_start), sqrt(config->beta_end));
        for (int i = 0; i < n; i++)
            betas[i] *= betas[i];
        break;
    case VD_BETAS_COSINE:
        for (int i = 0; i < n; i++)
            betas[i] =
                (float)fmin(1 - cosine_alpha((i + 1.0) / n) / cosine_alpha((double)i / n), 0.999);
        break;
    }
}

/* torch.cumprod on the CPU keeps the product in float64. */
static void product_of_one_minus(const float *betas, int n, float *out) {
    double product = 1;
    for (int i = 0; i < n; i++) {
        product *= (double)(1.0F - betas[i]);
        out[i] = (float)product;
    }
}

/* Algorithm 1 of arXiv 2305.08891, in float32; `alphas` is the running product of `betas`. */
static void rescale_to_zero_snr(float *betas, float *alphas, int n) {
    for (int i = 0; i < n; i++)
        alphas[i] = sqrtf(alphas[i]);
    float first = alphas[0];
    float last = alphas[n - 1];
    float stretch = first / (first - last);
    for (int i = 0; i < n; i++) {
        float root = (alphas[i] - last) * stretch;
        alphas[i] = root * root;
    }
    betas[0] = 1 - alphas[0];
    for (int i = 1; i < n; i++)
        betas[i] = 1 - alphas[i] / alphas[i - 1];
    product_of_one_minus(betas, n, alphas);
}

vd_status vd_scheduler_alphas_cumprod(const vd_scheduler_config *config, float *out) {
    int n = config->train_steps;
    float *betas = malloc((size_t)n * sizeof *betas);
    if (betas == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a schedule of %d timesteps", n);
    fill_betas(config, betas);
    product_of_one_minus(betas, n, out);
    if (config->rescale_betas_zero_snr)
        rescale_to_zero_snr(betas, out, n);
    free(betas);
    float before = 1;
    for (int i = 0; i < n; i++) {
        bool zero_allowed = config->rescale_betas_zero_snr && i == n - 1;
        if (!(out[i] < 1 && out[i] <= before && (out[i] > 0 || (zero_allowed && out[i] == 0))))
            return vd_fail(VD_ERR_INPUT,
                           "scheduler config: these betas leave a signal of %g at timestep %d of "
                           "%d; it has to fall from below 1 to above 0, so mend beta_start, "
                           "beta_end or trained_betas",
                           (double)out[i], i, n);
        before = out[i];
    }
    bool by_sigma =
        config->class_id == VD_SCHEDULER_DPMPP || config->class_id == VD_SCHEDULER_UNIPC ||
        config->class_id == VD_SCHEDULER_EULER || config->class_id == VD_SCHEDULER_EULER_A;
    /* The sigma of an exact 0 would be infinite. The one before may be below this already. */
    if (config->rescale_betas_zero_snr && by_sigma)
        out[n - 1] = 0x1p-24F;
    return VD_OK;
}

double vd_alpha_or_final(const vd_scheduler *s, int t) {
    if (t >= 0)
        return (double)s->alphas[t];
    return s->config.set_alpha_to_one ? 1 : (double)s->alphas[0];
}

vd_status vd_alloc_timesteps(vd_scheduler *s, int calls) {
    s->calls = calls;
    s->timesteps = malloc((size_t)calls * sizeof *s->timesteps);
    if (s->timesteps == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for %d timesteps", calls);
    return VD_OK;
}

/* numpy.linspace(0, last, n)[i] */
static double linspace(double last, int n, int i) {
    if (n == 1)
        return 0;
    return i == n - 1 ? last : i * (last / (n - 1));
}

/* round(numpy.arange(train, 0, -train/steps)) - 1. For 62 values of `steps` under 1000 that array
 * has one entry too many, which ends at timestep -1; here it has always `steps` entries. */
static double trailing(int train, int steps, int i) {
    double step = (double)train / steps;
    double delta = (train - step) - train; /* numpy's own rounding */
    return rint(train + i * delta) - 1;
}

static vd_status check_timesteps(const vd_scheduler *s, const double *timesteps) {
    int train = s->config.train_steps;
    for (int i = 0; i < s->steps; i++)
        if (!(timesteps[i] >= 0 && timesteps[i] <= train - 1))
            return vd_fail(VD_ERR_USAGE,
                           "%d steps with a steps_offset of %d ask for timestep %g, but the model "
                           "was trained on 0 to %d; take fewer steps",
                           s->steps, s->config.steps_offset, timesteps[i], train - 1);
    return VD_OK;
}

vd_status vd_spaced_timesteps(const vd_scheduler *s, bool fractional, double *out) {
    int train = s->config.train_steps;
    int n = s->steps;
    int stride = train / n;
    for (int i = 0; i < n; i++) {
        int rank = n - 1 - i;
        switch (s->config.spacing) {
        case VD_SPACING_LEADING:
            out[i] = rank * stride + s->config.steps_offset;
            break;
        case VD_SPACING_LINSPACE:
            out[i] = linspace(train - 1, n, rank);
            out[i] = fractional ? (double)(float)out[i] : rint(out[i]);
            break;
        case VD_SPACING_TRAILING:
            out[i] = trailing(train, n, i);
            break;
        }
    }
    return check_timesteps(s, out);
}

vd_status vd_spaced_timesteps_open(const vd_scheduler *s, double *out) {
    int train = s->config.train_steps;
    int n = s->steps;
    if (n == train && s->config.spacing != VD_SPACING_TRAILING)
        return vd_fail(VD_ERR_USAGE,
                       "%d steps would visit a timestep twice; %s allows at most %d with this "
                       "timestep_spacing",
                       n, vd_scheduler_class_name(s->config.class_id), train - 1);
    int stride = train / (n + 1);
    for (int i = 0; i < n; i++) {
        int rank = n - i;
        switch (s->config.spacing) {
        case VD_SPACING_LEADING:
            out[i] = rank * stride + s->config.steps_offset;
            break;
        case VD_SPACING_LINSPACE:
            out[i] = rint(linspace(train - 1, n + 1, rank));
            break;
        case VD_SPACING_TRAILING:
            out[i] = trailing(train, n, i);
            break;
        }
    }
    return check_timesteps(s, out);
}

/* sqrt((1 - a) / a) in float32, as the reference has it */
static float sigma_of(float alpha) {
    return sqrtf((1 - alpha) / alpha);
}

/* The sigma at a timestep between the trained ones, by a straight line. */
static double sigma_at(const vd_scheduler *s, double t) {
    int last = s->config.train_steps - 1;
    int low = t >= last ? last - 1 : (int)t;
    double a = (double)sigma_of(s->alphas[low]);
    double b = (double)sigma_of(s->alphas[low + 1]);
    return t >= last ? b : (b - a) * (t - low) + a;
}

/* The timestep of a sigma, by a straight line in ln(sigma). Sigmas rise with the timestep, but for
 * the last one, which rescale_betas_zero_snr may lower. */
static double time_at(const vd_scheduler *s, double sigma) {
    double wanted = log(fmax(sigma, 1e-10));
    int low = 0;
    int high = s->config.train_steps - 1;
    if ((double)logf(sigma_of(s->alphas[high])) <= wanted)
        low = high - 1;
    while (high - low > 1) { /* the last timestep whose ln(sigma) is not above the wanted */
        int middle = low + (high - low) / 2;
        if ((double)logf(sigma_of(s->alphas[middle])) <= wanted)
            low = middle;
        else
            high = middle;
    }
    double a = (double)logf(sigma_of(s->alphas[low]));
    double b = (double)logf(sigma_of(s->alphas[low + 1]));
    double w = fmin(fmax((a - wanted) / (a - b), 0), 1);
    return (1 - w) * low + w * (low + 1);
}

/* Karras et al. 2022, equation 5, with their rho of 7. */
static void karras_sigmas(vd_scheduler *s, double low, double high, bool round_times) {
    const double rho = 7;
    double from = pow(high, 1 / rho);
    double to = pow(low, 1 / rho);
    for (int i = 0; i < s->steps; i++) {
        s->sigmas[i] = pow(from + linspace(1, s->steps, i) * (to - from), rho);
        double t = time_at(s, s->sigmas[i]);
        if (round_times) /* the reference does not round cosine schedules: it truncates */
            t = s->config.beta_schedule == VD_BETAS_COSINE &&
                        s->config.class_id == VD_SCHEDULER_DPMPP
                    ? trunc(t)
                    : rint(t);
        s->timesteps[i] = round_times ? t : (double)(float)t;
    }
}

vd_status vd_fill_sigmas(vd_scheduler *s, bool of_steps, bool round_times) {
    int n = s->steps;
    s->sigmas = malloc(((size_t)n + 1) * sizeof *s->sigmas);
    if (s->sigmas == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for %d sigmas", n + 1);
    double lowest = (double)sigma_of(s->alphas[0]);
    for (int i = 0; i < n && (of_steps || !s->config.use_karras_sigmas); i++)
        s->sigmas[i] = sigma_at(s, s->timesteps[i]);
    s->sigmas[n] = s->config.final_sigma_min ? lowest : 0;
    if (s->config.use_karras_sigmas) {
        double low = of_steps ? s->sigmas[n - 1] : lowest;
        double high =
            of_steps ? s->sigmas[0] : (double)sigma_of(s->alphas[s->config.train_steps - 1]);
        if (s->config.sigma_min > 0)
            low = s->config.sigma_min;
        if (s->config.sigma_max > 0)
            high = s->config.sigma_max;
        karras_sigmas(s, low, high, round_times);
        if (s->config.final_sigma_min && s->config.class_id == VD_SCHEDULER_UNIPC)
            s->sigmas[n] = s->sigmas[n - 1]; /* UniPC alone ends at the ramp's own last value */
    }
    for (int i = 0; i <= n; i++)
        s->sigmas[i] = (double)(float)s->sigmas[i];
    for (int i = 0; i < n; i++)
        if (!(s->sigmas[i] >= s->sigmas[i + 1] * (1 - 1e-6))) /* the ramp's end is rounded */
            return vd_fail(VD_ERR_INPUT,
                           "scheduler config: the noise rises from sigma %g to %g at step %d of "
                           "%d; take fewer steps, or mend sigma_min and sigma_max",
                           s->sigmas[i], s->sigmas[i + 1], i, n);
    return VD_OK;
}

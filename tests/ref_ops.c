#include "tests/ref_ops.h"

#include <math.h>

double ref_activation(double v, vd_activation act) {
    switch (act) {
    case VD_ACT_SILU:
        return v / (1 + exp(-v));
    case VD_ACT_GELU:
        return 0.5 * v * erfc(-v * sqrt(0.5));
    case VD_ACT_QUICK_GELU:
        return v / (1 + exp(-1.702 * v));
    case VD_ACT_NONE:
    case VD_ACT_GEGLU:
        break;
    }
    return v;
}

/* The taps of output pixel (y, x) that fall inside the image, for one output channel. */
static double convolve(const float *image, const float *kernel, const ref_conv2d_shape *s,
                       const vd_conv2d_desc *d, int64_t y, int64_t x) {
    double sum = 0;
    for (int64_t ky = 0; ky < s->kh; ky++)
        for (int64_t kx = 0; kx < s->kw; kx++) {
            const int64_t iy = y * d->stride_h + ky * d->dilation_h - d->pad_top;
            const int64_t ix = x * d->stride_w + kx * d->dilation_w - d->pad_left;
            if (iy < 0 || iy >= s->h || ix < 0 || ix >= s->w)
                continue;
            for (int64_t i = 0; i < s->ci; i++)
                sum += (double)image[(iy * s->w + ix) * s->ci + i] *
                       (double)kernel[(i * s->kh + ky) * s->kw + kx];
        }
    return sum;
}

void ref_conv2d(double *dst, const float *src, const float *weight, const float *bias,
                const float *add, const float *residual, const ref_conv2d_shape *s,
                const vd_conv2d_desc *d) {
    const int64_t pixels = s->oh * s->ow;
    for (int64_t p = 0; p < s->n * pixels; p++) {
        const int64_t image = p / pixels, y = p % pixels / s->ow, x = p % s->ow;
        for (int64_t o = 0; o < s->co; o++) {
            double v = convolve(src + image * s->h * s->w * s->ci,
                                weight + o * s->ci * s->kh * s->kw, s, d, y, x);
            if (bias != NULL)
                v += (double)bias[o];
            if (add != NULL)
                v += (double)add[image / (s->n / s->groups) * s->co + o];
            v = ref_activation(v, d->act);
            dst[p * s->co + o] = v + (residual == NULL ? 0.0 : (double)residual[p * s->co + o]);
        }
    }
}

void ref_linear(double *dst, const float *src, const float *weight, const float *bias,
                const float *residual, int64_t rows, int64_t in, int64_t out, vd_activation act) {
    const int halves = act == VD_ACT_GEGLU ? 2 : 1;
    const int64_t columns = out / halves;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            double v[2] = {0, 0}; /* a, and with GEGLU its gate */
            for (int half = 0; half < halves; half++) {
                const int64_t o = c + half * columns;
                for (int64_t i = 0; i < in; i++)
                    v[half] += (double)src[r * in + i] * (double)weight[o * in + i];
                if (bias != NULL)
                    v[half] += (double)bias[o];
            }
            const double value = act == VD_ACT_GEGLU ? v[0] * ref_activation(v[1], VD_ACT_GELU)
                                                     : ref_activation(v[0], act);
            dst[r * columns + c] =
                value + (residual == NULL ? 0.0 : (double)residual[r * columns + c]);
        }
}

/* ---- attention ------------------------------------------------------------------------------ */

static double score(const float *q, const float *k, const vd_attention_desc *d) {
    double sum = 0;
    for (int e = 0; e < d->head_dim; e++)
        sum += (double)q[e] * (double)k[e];
    return sum * (double)d->scale;
}

/* One query of one head: k and v point to the head's first key and value. */
static void attend(double *out, const float *q, const float *k, const float *v, int64_t keys,
                   const vd_attention_desc *d) {
    double most = -INFINITY, weights = 0;
    for (int64_t j = 0; j < keys; j++)
        most = fmax(most, score(q, k + j * d->k.token, d));
    for (int e = 0; e < d->head_dim; e++)
        out[e] = 0;
    for (int64_t j = 0; j < keys; j++) {
        const double w = exp(score(q, k + j * d->k.token, d) - most);
        weights += w;
        for (int e = 0; e < d->head_dim; e++)
            out[e] += w * (double)v[j * d->v.token + e];
    }
    for (int e = 0; e < d->head_dim; e++)
        out[e] /= weights;
}

void ref_attention(double *out, const float *q, const float *k, const float *v,
                   const vd_attention_desc *d) {
    for (int64_t o = 0; o < d->outer; o++)
        for (int64_t i = 0; i < d->inner; i++)
            for (int64_t t = 0; t < d->q_tokens; t++)
                for (int64_t h = 0; h < d->heads; h++) {
                    const int64_t head = h * d->head_dim;
                    const int64_t last = t + 1 < d->kv_tokens ? t + 1 : d->kv_tokens;
                    attend(out + o * d->out.outer + i * d->out.inner + t * d->out.token + head,
                           q + o * d->q.outer + i * d->q.inner + t * d->q.token + head,
                           k + o * d->k.outer + i * d->k.inner + head,
                           v + o * d->v.outer + i * d->v.inner + head,
                           d->causal ? last : d->kv_tokens, d);
                }
}

/* ---- norms ---------------------------------------------------------------------------------- */

static double joined(const float *src1, const float *src2, const ref_group_norm_shape *s,
                     int64_t row, int64_t c) {
    return (double)(c < s->c1 ? src1[row * s->c1 + c] : src2[row * s->c2 + c - s->c1]);
}

void ref_group_norm(double *dst, const float *src1, const float *src2, const float *scale,
                    const float *shift, const ref_group_norm_shape *s, double eps,
                    vd_activation act) {
    const int64_t channels = s->c1 + s->c2, run = channels / s->groups;
    const double count = (double)(s->middle * run);
    for (int64_t item = 0; item < s->n; item++)
        for (int64_t first = 0; first < channels; first += run) {
            double mean = 0, variance = 0;
            for (int64_t i = 0; i < s->middle * run; i++)
                mean += joined(src1, src2, s, item * s->middle + i / run, first + i % run) / count;
            for (int64_t i = 0; i < s->middle * run; i++) {
                const double v =
                    joined(src1, src2, s, item * s->middle + i / run, first + i % run) - mean;
                variance += v * v / count;
            }
            for (int64_t i = 0; i < s->middle * run; i++) {
                const int64_t row = item * s->middle + i / run, c = first + i % run;
                const double v = (joined(src1, src2, s, row, c) - mean) / sqrt(variance + eps);
                dst[row * channels + c] =
                    ref_activation(v * (double)scale[c] + (double)shift[c], act);
            }
        }
}

void ref_layer_norm(double *dst, const float *src, const float *scale, const float *shift,
                    int64_t rows, int64_t c, double eps) {
    for (int64_t r = 0; r < rows; r++) {
        const float *row = src + r * c;
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < c; i++)
            mean += (double)row[i] / (double)c;
        for (int64_t i = 0; i < c; i++)
            variance += ((double)row[i] - mean) * ((double)row[i] - mean) / (double)c;
        for (int64_t i = 0; i < c; i++)
            dst[r * c + i] = ((double)row[i] - mean) / sqrt(variance + eps) * (double)scale[i] +
                             (double)shift[i];
    }
}

/* ---- element-wise and the like -------------------------------------------------------------- */

void ref_activate(double *dst, const float *src, int64_t count, vd_activation act) {
    for (int64_t i = 0; i < count; i++)
        dst[i] = ref_activation((double)src[i], act);
}

void ref_resize_nearest(double *dst, const float *src, const ref_resize_shape *s) {
    for (int64_t i = 0; i < s->n * s->oh * s->ow * s->c; i++) {
        const int64_t c = i % s->c, x = i / s->c % s->ow, y = i / s->c / s->ow % s->oh;
        const int64_t image = i / s->c / s->ow / s->oh;
        const int64_t from = (image * s->h + y * s->h / s->oh) * s->w + x * s->w / s->ow;
        dst[i] = (double)src[from * s->c + c];
    }
}

static double coordinate(int64_t at, int64_t in, int64_t out) {
    const float scale = (float)in / (float)out;
    const float source = (float)((double)scale * ((double)at + 0.5) - 0.5);
    return source < 0 ? 0.0 : (double)source;
}

void ref_resize_bilinear(double *dst, const float *src, const ref_resize_shape *s) {
    for (int64_t i = 0; i < s->n * s->oh * s->ow * s->c; i++) {
        const int64_t c = i % s->c, image = i / s->c / s->ow / s->oh;
        const double y = coordinate(i / s->c / s->ow % s->oh, s->h, s->oh);
        const double x = coordinate(i / s->c % s->ow, s->w, s->ow);
        const int64_t y0 = (int64_t)y, x0 = (int64_t)x;
        const int64_t y1 = y0 + 1 < s->h ? y0 + 1 : y0, x1 = x0 + 1 < s->w ? x0 + 1 : x0;
        const double fy = y - (double)y0, fx = x - (double)x0;
        const float *from = src + image * s->h * s->w * s->c + c;
        const double above = (1 - fx) * (double)from[(y0 * s->w + x0) * s->c] +
                             fx * (double)from[(y0 * s->w + x1) * s->c];
        const double below = (1 - fx) * (double)from[(y1 * s->w + x0) * s->c] +
                             fx * (double)from[(y1 * s->w + x1) * s->c];
        dst[i] = (1 - fy) * above + fy * below;
    }
}

void ref_transpose(double *dst, const float *src, int64_t b, int64_t c, int64_t p) {
    for (int64_t i = 0; i < b; i++)
        for (int64_t j = 0; j < c; j++)
            for (int64_t k = 0; k < p; k++)
                dst[(i * p + k) * c + j] = (double)src[(i * c + j) * p + k];
}

void ref_combine(double *dst, int terms, const double *coefficient, const float *const *src,
                 int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        dst[i] = 0;
        for (int k = 0; k < terms; k++)
            dst[i] += coefficient[k] * (double)src[k][i];
    }
}

void ref_scale_channels(double *dst, const float *src, int64_t rows, int64_t c, int64_t channels,
                        double factor) {
    for (int64_t i = 0; i < rows * c; i++)
        dst[i] = (double)src[i] * (i % c < channels ? factor : 1);
}

/* 2 pi (u y / h + v x / w) at pixel i */
static double phase(int64_t i, int64_t h, int64_t w, int64_t u, int64_t v) {
    const int64_t y = i / w, x = i % w;
    return 2 * acos(-1.0) * ((double)(u * y) / (double)h + (double)(v * x) / (double)w);
}

/* Adds the share of the frequency (u, v) of one channel to dst. */
static void add_frequency(double *dst, const float *src, int64_t h, int64_t w, int64_t c, int64_t u,
                          int64_t v, double factor) {
    double re = 0, im = 0;
    for (int64_t i = 0; i < h * w; i++) {
        re += (double)src[i * c] * cos(phase(i, h, w, u, v));
        im -= (double)src[i * c] * sin(phase(i, h, w, u, v));
    }
    for (int64_t i = 0; i < h * w; i++) {
        const double angle = phase(i, h, w, u, v);
        dst[i * c] += factor * (re * cos(angle) - im * sin(angle)) / (double)(h * w);
    }
}

void ref_scale_low_frequencies(double *dst, const float *src, int64_t n, int64_t h, int64_t w,
                               int64_t c, double factor) {
    for (int64_t i = 0; i < n * h * w * c; i++)
        dst[i] = 0;
    for (int64_t plane = 0; plane < n * c; plane++) {
        const int64_t first = plane / c * h * w * c + plane % c;
        for (int64_t u = 0; u < h; u++)
            for (int64_t v = 0; v < w; v++) {
                const bool low = (u == 0 || u == h - 1) && (v == 0 || v == w - 1);
                add_frequency(dst + first, src + first, h, w, c, u, v, low ? factor : 1);
            }
    }
}

/* The oracle: every operation of backend/ops.h written naively, summed in double, float32 values
 * in, unrounded double out. Layouts as in ops.h (channels-last); weights as checkpoints have them.
 * Nothing here is shared with a backend. */
#ifndef VD_TESTS_REF_OPS_H
#define VD_TESTS_REF_OPS_H

#include <stdint.h>

#include "backend/ops.h"

/* VD_ACT_NONE, SILU, GELU, QUICK_GELU. */
double ref_activation(double v, vd_activation act);

/* src [n, h, w, ci] -> dst [n, oh, ow, co], weight [co, ci, kh, kw], add [groups, co]. */
typedef struct ref_conv2d_shape {
    int64_t n, h, w, ci, oh, ow, co, kh, kw, groups;
} ref_conv2d_shape;

/* bias, add, residual may be NULL. */
void ref_conv2d(double *dst, const float *src, const float *weight, const float *bias,
                const float *add, const float *residual, const ref_conv2d_shape *shape,
                const vd_conv2d_desc *desc);

/* weight [out, in]; dst and residual have out columns, with GEGLU half of them. */
void ref_linear(double *dst, const float *src, const float *weight, const float *bias,
                const float *residual, int64_t rows, int64_t in, int64_t out, vd_activation act);

/* Writes only the elements of `out` that the strides reach. */
void ref_attention(double *out, const float *q, const float *k, const float *v,
                   const vd_attention_desc *d);

/* src1 [n, middle, c1], src2 [n, middle, c2] (NULL with c2 = 0) -> dst [n, middle, c1 + c2]. */
typedef struct ref_group_norm_shape {
    int64_t n, middle, c1, c2;
    int groups;
} ref_group_norm_shape;

void ref_group_norm(double *dst, const float *src1, const float *src2, const float *scale,
                    const float *shift, const ref_group_norm_shape *shape, double eps,
                    vd_activation act);

void ref_layer_norm(double *dst, const float *src, const float *scale, const float *shift,
                    int64_t rows, int64_t c, double eps);

void ref_activate(double *dst, const float *src, int64_t count, vd_activation act);

/* src [n, h, w, c] -> dst [n, oh, ow, c]. */
typedef struct ref_resize_shape {
    int64_t n, h, w, c, oh, ow;
} ref_resize_shape;

void ref_resize_nearest(double *dst, const float *src, const ref_resize_shape *shape);

/* Source coordinates are float32 as in PyTorch, whose builds fuse scale * (i + 1/2) - 1/2: they are
 * part of what is meant (in double they differ by up to 1e-5 pixels). The interpolation is double.
 */
void ref_resize_bilinear(double *dst, const float *src, const ref_resize_shape *shape);

/* [b, c, p] -> [b, p, c] */
void ref_transpose(double *dst, const float *src, int64_t b, int64_t c, int64_t p);

void ref_combine(double *dst, int terms, const double *coefficient, const float *const *src,
                 int64_t count);

/* [rows, c]; the first `channels` of each row. */
void ref_scale_channels(double *dst, const float *src, int64_t rows, int64_t c, int64_t channels,
                        double factor);

/* The whole transform of each channel of [n, h, w, c], the mask, the inverse, its real part. */
void ref_scale_low_frequencies(double *dst, const float *src, int64_t n, int64_t h, int64_t w,
                               int64_t c, double factor);

#endif

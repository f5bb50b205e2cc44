/* Inner loops that are compiled once for each instruction set (kernels.c with different -march
 * flags) and chosen when the backend opens. Single-threaded: the callers divide the work, always
 * the same way whatever the thread count, so that results do not depend on it.
 *
 * Activations are F32 or BF16 and computed in float32. NaN comes out where NaN went in; avx512_bf16
 * rounds to BF16 by an instruction that takes what is subnormal for zero. Strides and counts are in
 * elements.
 */
#ifndef VD_BACKEND_CPU_KERNELS_H
#define VD_BACKEND_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/ops.h"
#include "backend/sample.h"

/* What rows of products and scores are padded to. */
enum { VD_CPU_PAD = 16 };

/* How rows are normalized: (x - mean[c]) * scale[c] + shift[c]. */
typedef struct vd_cpu_norm {
    const float *mean, *scale, *shift;
    vd_activation act;
} vd_cpu_norm;

/* What follows sums: act(sums + bias) + residual; with gates (sums + bias) * gelu(gates +
 * gate_bias)
 * + residual. */
typedef struct vd_cpu_finish_desc {
    const float *bias, *gate_bias; /* or NULL */
    const float *gates;            /* as the sums, or NULL */
    vd_activation act;             /* without gates */
    const void *residual;          /* strided as dst; or NULL */
    vd_dtype residual_dtype, dst_dtype;
} vd_cpu_finish_desc;

/* 3x3 filters with taps of their own, one for each tap j of a small kernel: R(j) of a large one.
 * Mirroring the filter of a tap gives that of the mirrored tap. So along an axis, with x(d) the tap
 * d from the centre, the filters `side` (the mean of before and behind) and `centre` need only the
 * sums x(d) + x(-d), and `slope` (half of behind - before) only the differences. */
enum { VD_CPU_MIX_MAX_TAPS = 31 };
typedef struct vd_cpu_tap_mix {
    int half; /* the large kernel has 2 half + 1 taps along an axis */
    /* At [d * (half + 1) + k], of the sum or difference d down and k across, for (along columns,
     * along rows): side side, side centre, centre side, centre centre, side slope, centre slope,
     * slope side, slope centre, slope slope. */
    float coefficient[(VD_CPU_MIX_MAX_TAPS / 2 + 1) * (VD_CPU_MIX_MAX_TAPS / 2 + 1)][9];
} vd_cpu_tap_mix;

/* What the sums of a run of positions are made of. Tap k of raw column j lies in column j * stride
 * - pad + k * dilation. Sum j of position i goes to dst + i * position + (j % 3) * across + (j / 3)
 * * down; all distances in elements. */
typedef struct vd_cpu_mix_run {
    /* Lines of taps of the two raw lines, at the first channel; NULL: outside. */
    const void *line[2][VD_CPU_MIX_MAX_TAPS];
    float weight; /* of the second line; 0: the first one only */
    vd_dtype src_dtype, dst_dtype;
    size_t pixel;  /* from one column of src to the next */
    int64_t width; /* columns of src */
    size_t ahead; /* bytes from a value to the one that will be read of its pixel some time later */
    int stride, pad, dilation;
    const vd_sample *sample; /* [count] raw columns, ascending */
    int64_t count;
    void *dst;
    size_t position, across, down;
} vd_cpu_mix_run;

typedef struct vd_cpu_kernels {
    const char *isa; /* "avx512_bf16", "avx512", "avx2", "baseline" */

    /* Rows of an activation to and from float32. */
    void (*load)(float *dst, const void *src, vd_dtype dtype, size_t count);
    void (*store)(void *dst, vd_dtype dtype, const float *src, size_t count);

    /* Weights of any float dtype to F32 or BF16, as vd_convert_values does it. */
    void (*convert)(void *dst, vd_dtype dst_dtype, const void *src, vd_dtype src_dtype,
                    size_t count);

    /* 16 rows of weights [channels, taps], at most 32 channels of each row's dtype, as half of a
     * block of B of backend/cpu/amx.h: a tile for each tap, `tap_bytes` apart. What is not there,
     * rows that are NULL too, is zero. scratch: a tile for each tap, if there are several. */
    void (*pack_tiles)(void *dst, size_t tap_bytes, const void *const *row, const vd_dtype *dtype,
                       size_t channels, size_t taps, void *scratch);

    /* x = act(x) in place; VD_ACT_NONE, SILU, GELU, QUICK_GELU. */
    void (*activate)(float *x, vd_activation act, size_t count);

    /* dst[i] = a[i] * gelu(g[i]) */
    void (*geglu)(float *dst, const float *a, const float *g, size_t count);

    /* Finishes sums [rows, columns] that lie `sum_stride` apart. */
    void (*finish)(void *dst, size_t dst_stride, const float *sums, size_t sum_stride, size_t rows,
                   size_t columns, const vd_cpu_finish_desc *f);

    /* The mean of each channel over `rows` rows (at most a few thousand) that lie `stride` apart,
     * and the sum of squares of the differences from it. */
    void (*moments)(double *mean, double *squares, const void *src, vd_dtype dtype, size_t rows,
                    size_t stride, size_t channels);

    /* One row of `channels` out of rows that may be wider. */
    void (*normalize)(void *dst, vd_dtype dst_dtype, const void *src, vd_dtype src_dtype,
                      const vd_cpu_norm *norm, size_t channels);

    /* dst may be src if the dtypes are equal. `row`: scratch of `channels` floats. */
    void (*layer_norm)(void *dst, vd_dtype dst_dtype, const void *src, vd_dtype src_dtype,
                       const float *scale, const float *shift, float eps, size_t channels,
                       float *row);

    /* dst = (1 - fy) ((1 - fx) a0 + fx a1) + fy ((1 - fx) b0 + fx b1), all of `dtype`. */
    void (*blend)(void *dst, const void *const corner[4], vd_dtype dtype, float fx, float fy,
                  size_t count);

    /* The nine sums for a run of positions of a line. */
    void (*mix_taps)(const vd_cpu_mix_run *run, const vd_cpu_tap_mix *mix, size_t channels);

    /* dst[c, r] = src[r, c] */
    void (*transpose)(void *dst, vd_dtype dst_dtype, size_t dst_stride, const void *src,
                      vd_dtype src_dtype, size_t src_stride, size_t rows, size_t columns);

    /* dst[i] = sum of coefficient[k] * src[k][first + i], in double */
    void (*combine)(float *dst, int terms, const double *coefficient, const float *const *src,
                    size_t first, size_t count);

    /* c[m, n] = a[m, k] b[k, n], or c += a b. Element (r, p) of a lies at r * a_row + p * a_column.
     * Rows of b and c are readable and writable up to n rounded up to VD_CPU_PAD. */
    void (*product)(float *c, size_t ldc, const float *a, size_t a_row, size_t a_column,
                    const float *b, size_t ldb, size_t m, size_t n, size_t k, bool accumulate);

    /* Weights w[rows, columns] of scores s[rows, columns], a column being what one query gives to a
     * block of keys: w = exp(scale * s - top), top[c] becoming the largest of scale * s in the
     * column and in the blocks before (kept in units of log 2). sum[c] grows by what is written,
     * after factor[c], the correction of what was computed with the top before. w may be s if it
     * is F32. Rows and vectors are readable and writable up to `columns` rounded up to VD_CPU_PAD.
     * Start with top -infinity, sum 0. */
    void (*softmax)(void *w, vd_dtype dtype, const float *s, size_t stride, size_t rows,
                    size_t columns, float scale, float *top, float *sum, float *factor);

    /* Weights of 16 rows of dense scores of 32 columns, in bf16: half of what a step of K has in a
     * block of B of backend/cpu/amx.h; those of rows that are not there are zero. w = sqrt(2) 2^(x
     * - base[c]), x = scale * s in units of log 2, and top[c] grows to the largest x - base[c].
     * That is to be at most 120, and what lies below -125 counts as -125. */
    void (*power_pairs)(void *w, const float *s, size_t rows, float scale, const float *base,
                        float *top);

    /* x[r, c] *= factor[c], padded like scores */
    void (*scale_columns)(float *x, size_t stride, size_t rows, size_t columns,
                          const float *factor);
} vd_cpu_kernels;

extern const vd_cpu_kernels vd_cpu_kernels_baseline;
extern const vd_cpu_kernels vd_cpu_kernels_avx2;
extern const vd_cpu_kernels vd_cpu_kernels_avx512;
extern const vd_cpu_kernels vd_cpu_kernels_avx512_bf16;

#endif

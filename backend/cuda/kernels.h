/* Our own kernels: launchers, one for each, in the .cu file of the same name as the .c file that
 * calls it. Plain C on both sides. All pointers are device memory; launches go to `stream`, and
 * what CUDA says of the launch is returned.
 *
 * Vectors of 8 values are read at once where widths and addresses allow it.
 */
#ifndef VD_BACKEND_CUDA_KERNELS_H
#define VD_BACKEND_CUDA_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#include "backend/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- eltwise.cu ----------------------------------------------------------------------------- */

cudaError_t vd_launch_activate(cudaStream_t stream, void *dst, vd_dtype dst_dtype, const void *src,
                               vd_dtype src_dtype, vd_activation act, int64_t count);

/* dst[b, c, r] = src[b, r, c] */
cudaError_t vd_launch_transpose(cudaStream_t stream, void *dst, vd_dtype dst_dtype, const void *src,
                                vd_dtype src_dtype, int64_t batch, int64_t rows, int64_t columns);

enum { VD_CUDA_TERMS = 8 };
typedef struct vd_cuda_sum {
    int terms;
    double coefficient[VD_CUDA_TERMS];
    const float *src[VD_CUDA_TERMS];
} vd_cuda_sum;
cudaError_t vd_launch_combine(cudaStream_t stream, float *dst, const vd_cuda_sum *sum,
                              int64_t count);

/* t[rows, 0 .. scaled - 1] *= factor */
cudaError_t vd_launch_scale_channels(cudaStream_t stream, void *t, vd_dtype dtype, int64_t rows,
                                     int64_t columns, int64_t scaled, double factor);

/* As vd_paste says: dst [n, dst_h, dst_w, channels], src [n, src_h, src_w, channels]. */
typedef struct vd_cuda_rectangle {
    float *dst;
    const float *src;
    int64_t n, channels, dst_h, dst_w, src_h, src_w;
    vd_paste_desc desc;
} vd_cuda_rectangle;
cudaError_t vd_launch_paste(cudaStream_t stream, const vd_cuda_rectangle *job);

/* What follows a product: dst[r, c] = act(src[r, c] + bias[run, c]) + residual[r, c], where row
 * `first_row` + r belongs to run (first_row + r) / run_rows. With GEGLU src has 2 * columns:
 * (src[r, c] + ..) * gelu(src[r, columns + c] + ..). bias and residual may be NULL; src may be dst
 * if the dtypes are equal and act is not GEGLU. */
typedef struct vd_cuda_finish {
    void *dst;
    vd_dtype dst_dtype;
    const void *src;
    vd_dtype src_dtype;
    const void *residual;
    vd_dtype residual_dtype;
    const float *bias;
    int64_t rows, columns, first_row, run_rows;
    vd_activation act;
} vd_cuda_finish;
cudaError_t vd_launch_finish(cudaStream_t stream, const vd_cuda_finish *job);

/* dst[i, c] = add[i / (rows / add_rows), c] + bias[c]; bias may be NULL. */
cudaError_t vd_launch_bias_rows(cudaStream_t stream, float *dst, const float *add,
                                const float *bias, int64_t rows, int64_t add_rows, int64_t columns);

/* ---- norm.cu -------------------------------------------------------------------------------- */

enum { VD_CUDA_FACTORS = 3 };

/* The moments of each channel of each chunk of rows, then those of each group. */
typedef struct vd_cuda_moments {
    const void *src[2]; /* the second may be NULL */
    vd_dtype src_dtype[2];
    int64_t channels[2];
    int64_t items, rows; /* rows of an item */
    int64_t chunk_rows, chunks;
    int groups;
    float eps;
    vd_activation act;
    double *part;   /* [items, chunks, channels, 2]: mean, sum of squared differences */
    float *factors; /* [items, groups, VD_CUDA_FACTORS]: mean, what float32 leaves of it, and
                     * 1 / sqrt(variance + eps) */
    double *stats;  /* [items, groups, 2]: mean and biased variance; or NULL */
    const float *scale, *shift;
    void *dst;
    vd_dtype dst_dtype;
} vd_cuda_moments;
cudaError_t vd_launch_group_measure(cudaStream_t stream, const vd_cuda_moments *job);
cudaError_t vd_launch_group_apply(cudaStream_t stream, const vd_cuda_moments *job);

cudaError_t vd_launch_layer_norm(cudaStream_t stream, void *dst, vd_dtype dst_dtype,
                                 const void *src, vd_dtype src_dtype, const float *scale,
                                 const float *shift, float eps, int64_t rows, int64_t columns);

/* ---- resize.cu ------------------------------------------------------------------------------ */

typedef struct vd_cuda_resize {
    void *dst;
    const void *src;
    vd_dtype dtype;
    int64_t images, h, w, dst_h, dst_w, channels;
} vd_cuda_resize;
cudaError_t vd_launch_nearest(cudaStream_t stream, const vd_cuda_resize *job);
cudaError_t vd_launch_bilinear(cudaStream_t stream, const vd_cuda_resize *job);

/* ---- spectrum.cu ---------------------------------------------------------------------------- */

typedef struct vd_cuda_spectrum {
    void *t; /* [n, h, w, channels] */
    vd_dtype dtype;
    int64_t n, h, w, channels;
    double change;   /* (factor - 1) / (h w) */
    double *scratch; /* of vd_spectrum_doubles */
} vd_cuda_spectrum;
size_t vd_spectrum_doubles(int64_t n, int64_t h, int64_t w, int64_t channels);
cudaError_t vd_launch_low_frequencies(cudaStream_t stream, const vd_cuda_spectrum *job);

/* ---- sampler.cu ----------------------------------------------------------------------------- */

/* As vd_sampler_run says. */
typedef struct vd_cuda_sampler {
    float *buffer[VD_SAMPLER_BUFFERS];
    int count;
    int64_t elements;
    const vd_sampler_program *program;
    int32_t *bad;
} vd_cuda_sampler;
cudaError_t vd_launch_sampler(cudaStream_t stream, const vd_cuda_sampler *job);

/* As vd_match_deviation says. */
cudaError_t vd_launch_match_deviation(cudaStream_t stream, float *dst, const float *like,
                                      double phi, int64_t count);

/* ---- conv.cu -------------------------------------------------------------------------------- */

/* Sizes of a convolution, as in vd_conv2d_desc. */
typedef struct vd_cuda_conv {
    int64_t n, in, out, src_h, src_w, dst_h, dst_w;
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int64_t pad_top, pad_left;
    int64_t raw_h, raw_w; /* 0: dst_h, dst_w */
} vd_cuda_conv;

/* Rows first.. of the matrix of taps: dst[count, kernel_h * kernel_w * in]. */
cudaError_t vd_launch_taps(cudaStream_t stream, void *dst, vd_dtype dst_dtype, const void *src,
                           vd_dtype src_dtype, const vd_cuda_conv *conv, int64_t first,
                           int64_t count);

/* The same with a map of a 3x3 kernel (vd_kernel_map): conv's kernel is K, map is float32
 * [kernel_h * kernel_w, 9], and a row has 9 sums of its taps for each channel: dst[count, 9 * in].
 */
cudaError_t vd_launch_mixed_taps(cudaStream_t stream, void *dst, vd_dtype dst_dtype,
                                 const void *src, vd_dtype src_dtype, const vd_cuda_conv *conv,
                                 const float *map, int64_t first, int64_t count);

/* The d x d phases of a picture, with what the taps reach beyond its edges as zeros:
 * dst[n * dilation_h * dilation_w, phase_h + kernel_h - 1, phase_w + kernel_w - 1, in], where
 * phase_h = ceil(dst_h / dilation_h). Strides must be 1. An ordinary convolution without padding
 * of that gives the phases of the result, which are put together again. */
cudaError_t vd_launch_split(cudaStream_t stream, void *dst, const void *src, vd_dtype dtype,
                            const vd_cuda_conv *conv);

/* dst[n, dst_h, dst_w, out] = join(src) + bias[image / run_images] + residual */
typedef struct vd_cuda_join {
    void *dst;
    const void *src, *residual;
    vd_dtype dtype; /* of dst and residual */
    vd_dtype src_dtype;
    const float *bias;
    int64_t run_images;
    vd_activation act;
} vd_cuda_join;
cudaError_t vd_launch_join(cudaStream_t stream, const vd_cuda_join *job, const vd_cuda_conv *conv);

/* ---- attention.cu --------------------------------------------------------------------------- */

typedef struct vd_cuda_attention_args {
    void *out;
    const void *q, *k, *v;
    vd_dtype dtype;
} vd_cuda_attention_args;

/* Any shape, with the scores in shared memory, a block at a time. */
cudaError_t vd_launch_attention(cudaStream_t stream, const vd_cuda_attention_args *args,
                                const vd_attention_desc *desc);

/* True if the sequences of a few pixels fit in shared memory together: then this is faster. */
bool vd_attention_is_short(const vd_attention_desc *desc);
cudaError_t vd_launch_short_attention(cudaStream_t stream, const vd_cuda_attention_args *args,
                                      const vd_attention_desc *desc);

#ifdef __cplusplus
}
#endif

#endif

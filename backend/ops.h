/* The operations of a backend: one typed descriptor and one entry for each.
 *
 * Tensors are device views, dense and channels-last: an activation is [n, h, w, c] (n = batch *
 * frames, frame fastest) or [rows, c]. Activations have the exec's dtype or F32; parameters that
 * are vectors are F32. Accumulation is float32 or better. In a dry exec an op makes its plan and
 * books its scratch and touches no data.
 *
 * The functions below check shapes (VD_ERR_BACKEND for a caller's mistake, which names the op and
 * the shapes) and call the backend's entry in vd_op_table (backend/backend_impl.h).
 */
#ifndef VD_BACKEND_OPS_H
#define VD_BACKEND_OPS_H

#include "backend/backend.h"
#include "backend/sampler.h"

typedef enum vd_activation {
    VD_ACT_NONE,
    VD_ACT_SILU,
    VD_ACT_GELU,       /* exact, with erf */
    VD_ACT_QUICK_GELU, /* x * sigmoid(1.702 x) */
    VD_ACT_GEGLU,      /* vd_linear only: columns [a, g] -> a * gelu(g), half as many columns */
} vd_activation;

/* A kernel that is the same combination of a 3x3 weight for every pair of channels,
 * K[i] = sum over j of values[i, j] w[j]: so it is never made. Mirroring rows of taps in both i and
 * j changes nothing, nor does mirroring columns. */
typedef struct vd_kernel_map {
    int taps;             /* of K along an axis; odd, 3 to 31 */
    const double *values; /* [taps * taps, 9] */
} vd_kernel_map;

/* dst[n, h', w', co] = act(conv(src[n, h, w, ci], w[co, ci, kh, kw]) + bias[co] + add[i, co])
 *                      + residual[n, h', w', co]
 * Zero padding: pad_top rows above and pad_left columns before; what the output size given by dst
 * needs below and behind is padded too. dilation is the spacing of taps (1 = dense). With a map,
 * the kernel that is spread and padded is K, and the output size given by it may differ from dst's:
 * it is raw_h x raw_w then, resized bilinearly to dst's before act. */
typedef struct vd_conv2d_desc {
    int stride_h, stride_w;
    int pad_top, pad_left;
    int dilation_h, dilation_w;
    vd_activation act;
    const vd_kernel_map *map; /* NULL: the weight is the kernel */
    int64_t raw_h, raw_w;     /* with a map only; 0: dst's size */
} vd_conv2d_desc;

/* bias: vector [co] or NULL. add: F32 [g, co] or NULL, n a multiple of g: images are split into g
 * consecutive equal runs. residual: NULL or like dst; may be dst itself. */
vd_status vd_conv2d(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                    const vd_weight *bias, const vd_tensor *add, const vd_tensor *residual,
                    const vd_conv2d_desc *desc);

/* dst[rows, out] = act(src[rows, in] w[out, in]^T + bias[out]) + residual[rows, out]
 * All leading axes of src and dst count as rows. src, dst and residual each: exec dtype or F32.
 * residual may be dst itself (accumulate). */
vd_status vd_linear(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                    const vd_weight *bias, const vd_tensor *residual, vd_activation act);

/* Softmax(scale * q k^T) v for outer * inner independent batches of `heads` heads.
 * Element (o, i, t, h, e) of q lies at o*q.outer + i*q.inner + t*q.token + h*head_dim + e (strides
 * in elements); likewise k, v, out. So q, k, v may be slices of one fused tensor, the frame axis of
 * a channels-last activation is read in place (inner = pixel, token = frame), and inner stride 0
 * shares keys among the frames of an item. */
typedef struct vd_attention_strides {
    int64_t outer, inner, token;
} vd_attention_strides;

typedef struct vd_attention_desc {
    int64_t outer, inner;
    int64_t q_tokens, kv_tokens;
    int heads, head_dim;
    float scale;
    bool causal; /* query t sees keys 0..t */
    vd_attention_strides q, k, v, out;
} vd_attention_desc;

/* Pointers are the first element; all of the exec's dtype. */
vd_status vd_attention(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                       const vd_attention_desc *desc);

/* dst[n, ..., c1 + c2] = act(norm(concat(src1[n, ..., c1], src2[n, ..., c2])) * scale + shift):
 * statistics for each item of axis 0 and each of `groups` equal runs of channels, over all axes
 * between. src2 NULL: one source. act: NONE or SILU. The reference's biased variance. */
vd_status vd_group_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src1, const vd_tensor *src2,
                        const vd_weight *scale, const vd_weight *shift, int groups, float eps,
                        vd_activation act);

/* For a norm over an image that is at hand only piece by piece: what is known of a group of an
 * item. */
typedef struct vd_group_stats {
    double mean, variance; /* biased */
} vd_group_stats;

/* stats: host memory, [n, groups], of src [n, ..., c]; there when the op returns. */
vd_status vd_group_measure(vd_exec *x, vd_group_stats *stats, const vd_tensor *src, int groups);

/* vd_group_norm with statistics that are given: host memory, [n, groups]. dst may be src. */
vd_status vd_group_normalize(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                             const vd_group_stats *stats, const vd_weight *scale,
                             const vd_weight *shift, int groups, float eps, vd_activation act);

/* Over the last axis. src and dst may be the same. */
vd_status vd_layer_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *scale,
                        const vd_weight *shift, float eps);

/* dst = act(src), dst = src converted (act NONE): any of the exec's dtype and F32. Same shape. */
vd_status vd_activate(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_activation act);

/* Nearest: index floor(i * in / out). [n, h, w, c] -> [n, h', w', c]. */
vd_status vd_resize_nearest(vd_exec *x, vd_tensor *dst, const vd_tensor *src);

/* Bilinear, half-pixel centres, no antialias (PyTorch's align_corners = false). Equal sizes copy.
 */
vd_status vd_resize_bilinear(vd_exec *x, vd_tensor *dst, const vd_tensor *src);

/* dst[b, p, c] = src[b, c, p], converting dtype: planes to channels-last (p = frames * pixels).
 * With the roles of c and p swapped it is its own inverse. src, dst: exec dtype or F32. */
vd_status vd_transpose(vd_exec *x, vd_tensor *dst, const vd_tensor *src);

/* A rectangle of src's pixels onto dst, both F32 [n, h, w, c]. With a fade along an axis of the
 * rectangle's `e` rows or columns, pixel i becomes src * (1 - i / e) + dst * (i / e). */
typedef enum vd_fade { VD_FADE_NONE, VD_FADE_DOWN, VD_FADE_ACROSS } vd_fade;

typedef struct vd_paste_desc {
    int64_t rows, columns;
    int64_t dst_y, dst_x, src_y, src_x;
    vd_fade fade;
} vd_paste_desc;

vd_status vd_paste(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_paste_desc *desc);

/* dst[i] = sum over k of coefficient[k] * src[k][i], float32 in, float64 sum of at most 8 terms,
 * float32 out. dst may be one of the sources. */
vd_status vd_combine(vd_exec *x, vd_tensor *dst, int terms, const double *coefficient,
                     const vd_tensor *const *src);

/* t[..., 0 .. channels - 1] *= factor, in place. */
vd_status vd_scale_channels(vd_exec *x, vd_tensor *t, int64_t channels, double factor);

/* t [n, h, w, c] = Re ifft(mask * fft(t)) over h and w, in place: the mask is `factor` at the
 * frequencies 0 and -1 along both axes (an axis of 1 has only 0), else 1. Computed in float32 or
 * better. */
vd_status vd_scale_low_frequencies(vd_exec *x, vd_tensor *t, double factor);

/* Runs a program on buffer[0 .. count - 1] (1 to VD_SAMPLER_BUFFERS), F32 tensors of one shape.
 * `program` and `bad` are device memory, read and written when the op runs; the program names only
 * buffers that are there. *bad becomes 1 if the first two buffers (or the one) then hold a NaN or
 * an infinity, and is left alone otherwise; NULL: nobody asks. */
vd_status vd_sampler_run(vd_exec *x, const vd_tensor *const *buffer, int count,
                         const vd_sampler_program *program, int32_t *bad);

/* dst = (phi * s(like) / s(dst) + 1 - phi) * dst, in place, where s is the standard deviation (n -
 * 1, in float64) over all values: F32 tensors of one shape. A dst of equal values is left as it is.
 * VD_ERR_USAGE: phi outside [0, 1], fewer than 2 values. */
vd_status vd_match_deviation(vd_exec *x, vd_tensor *dst, const vd_tensor *like, double phi);

#endif

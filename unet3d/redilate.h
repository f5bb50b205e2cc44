/* Re-dilated convolution: a kernel trained at one size, its taps spread for a larger one.
 *
 * Along each axis a factor d >= 1, whole or not, gives the spacing of taps D = ceil(d). The input
 * is enlarged by D / d first (bilinear), convolved with spacing D and as much padding as keeps the
 * size, and brought back. With d whole and stride 1 nothing is resized; with d = 1 as well it is
 * the plain layer. The result has floor(size / stride), so at stride 2 an odd side loses the row
 * that the plain layer keeps.
 */
#ifndef VD_UNET3D_REDILATE_H
#define VD_UNET3D_REDILATE_H

#include "backend/layers.h"
#include "backend/ops.h"

/* Factors along height and width. Settings hold 1 and more; a dispersed layer runs half of it. */
typedef struct vd_redilation {
    double h, w;
} vd_redilation;

typedef struct vd_redilate_axis {
    int dilation;  /* spacing of taps, 1 = dense */
    int64_t inner; /* size that is convolved: size * (dilation / factor), half to even */
    int64_t raw;   /* size that the convolution gives */
    int64_t out;   /* size of the result; 0 if nothing is left */
} vd_redilate_axis;

/* factor above 0, at most 2^15, size and stride at least 1. */
vd_redilate_axis vd_redilate_sizes(int64_t size, double factor, int stride);

/* Allocates the result for an input [n, h, w, in] in the exec's arena. VD_ERR_INPUT if the stride
 * leaves nothing of it. */
vd_status vd_redilate_alloc(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            const vd_conv_layer *conv, int stride, vd_redilation factor);

/* dst [n, floor(h/stride), floor(w/stride), out] = re-dilated conv(src [n, h, w, in]) + add +
 * residual; the kernel is odd. map: the kernel is that of the layer (3x3), enlarged (dispersed
 * convolution); NULL: the layer's own. add and residual (NULL: none) as in vd_conv2d. Scratch comes
 * from the arena and is given back. */
vd_status vd_redilate_conv(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                           const vd_conv_layer *conv, const vd_tensor *add,
                           const vd_tensor *residual, int stride, vd_redilation factor,
                           const vd_kernel_map *map);

#endif

/* Dispersed convolution: R turns a small kernel into a larger one that does on an enlarged map what
 * the small one does on the map itself.
 *
 *     double r[25 * 9];
 *     vd_disperse_solve(3, 5, 3, 2, 0.05, r);
 *     vd_disperse_kernel(w5, w3, out_channels * in_channels, 3, 5, r);
 */
#ifndef VD_UNET3D_DISPERSE_H
#define VD_UNET3D_DISPERSE_H

#include <stdint.h>

#include "core/status.h"

enum { VD_DISPERSE_MAX_KERNEL = 31, VD_DISPERSE_MAX_SIZE = 1024, VD_DISPERSE_MAX_SCALE = 64 };
#define VD_DISPERSE_MAX_ETA 1e6

/* The R that minimises structure error + eta^2 * pixel error over all inputs of size x size and all
 * small kernels: the enlarged map convolved with the large kernel is to be the enlarged result of
 * the small one (structure), and both kernels are to agree on the map itself (pixel). `R` is
 * [large * large, small * small] row-major and the caller's; undefined after a failure. The same
 * bits every time.
 *
 * small, large: taps along an axis, odd, small < large <= 31; size: 1 to 1024; scale: how many
 * times the map is enlarged (bilinear, corners aligned), 1 to 64; eta: 0 to 1e6.
 * VD_ERR_USAGE: out of these ranges. VD_ERR_INPUT: the equations do not determine R. */
vd_status vd_disperse_solve(int64_t small, int64_t large, int64_t size, int64_t scale, double eta,
                            double *R);

typedef struct vd_disperse_info {
    int64_t unknowns;  /* large^2, for each of small^2 right-hand sides */
    int64_t equations; /* rows of the least-squares problem */
    double condition;  /* of its matrix, estimated: largest by smallest singular value */
} vd_disperse_info;

/* What vd_disperse_solve solves; the same parameters and errors. */
vd_status vd_disperse_describe(int64_t small, int64_t large, int64_t size, int64_t scale,
                               double eta, vd_disperse_info *info);

/* dst [pairs, large, large] = R times src [pairs, small, small], a pair being one output with one
 * input channel; summed in float64, rounded to float32 once. */
void vd_disperse_kernel(float *dst, const float *src, int64_t pairs, int64_t small, int64_t large,
                        const double *R);

#endif

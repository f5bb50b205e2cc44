/* Kernels that are the same combination of a 3x3 weight for every pair of channels: K = R w. The
 * combination is done on the input instead: for each position, nine sums of the input's taps, and
 * what remains is a product of the size that the 3x3 weight has. */
#ifndef VD_BACKEND_CPU_CONV_TAPS_H
#define VD_BACKEND_CPU_CONV_TAPS_H

#include "backend/cpu/cpu.h"

typedef struct vd_cpu_taps {
    const vd_cpu_kernels *kernels;
    const vd_tensor *src;
    const vd_conv2d_desc *desc;
    const void *zeros; /* as many as there are channels, in the source's dtype: behind the edges */
    vd_cpu_tap_mix mix;
} vd_cpu_taps;

/* desc->map is not NULL. VD_ERR_BACKEND if it has not the symmetry of vd_cpu_tap_mix. */
vd_status vd_cpu_taps_init(vd_cpu_taps *taps, const vd_cpu_kernels *kernels, const vd_tensor *src,
                           const vd_conv2d_desc *desc);

/* The nine sums of the position (y, x) of the result: `across` elements of `dtype` from one to the
 * next, `down` from three to the next three. */
void vd_cpu_taps_at(const vd_cpu_taps *taps, int64_t image, int64_t y, int64_t x, void *dst,
                    vd_dtype dtype, size_t across, size_t down);

#endif

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
    int64_t raw_h, dst_h, dst_w;
    vd_sample *sample; /* [dst_w] */
    vd_cpu_tap_mix mix;
} vd_cpu_taps;

/* desc->map is not NULL. The samples are scratch of the exec, for the caller to give back.
 * VD_ERR_BACKEND if the map has not the symmetry of vd_cpu_tap_mix. */
vd_status vd_cpu_taps_init(vd_cpu_taps *taps, vd_exec *x, const vd_tensor *dst,
                           const vd_tensor *src, const vd_conv2d_desc *desc);

/* A run of positions in the order of dst's pixels, and the channels that are wanted of them. */
typedef struct vd_cpu_taps_run {
    int64_t position, positions;
    int64_t channel, channels;
} vd_cpu_taps_run;

/* Their nine sums: elements of `dtype`, `step` from one position to the next, `across` from one sum
 * to the next, `down` from three to the next three. */
void vd_cpu_taps_sum(const vd_cpu_taps *taps, const vd_cpu_taps_run *run, void *dst, vd_dtype dtype,
                     size_t step, size_t across, size_t down);

#endif

/* Inner loops that are compiled once for each instruction set (kernels.c with different -march
 * flags) and chosen when the backend opens. Single-threaded: the callers divide the work, always
 * the same way whatever the thread count, so that results do not depend on it. */
#ifndef VD_BACKEND_CPU_KERNELS_H
#define VD_BACKEND_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "backend/ops.h"

typedef struct vd_cpu_kernels {
    const char *isa; /* "avx512", "avx2", "baseline" */

    /* Rows of an activation to and from float32. */
    void (*load)(float *dst, const void *src, vd_dtype dtype, size_t count);
    void (*store)(void *dst, vd_dtype dtype, const float *src, size_t count);

    /* x = act(x) in place; VD_ACT_NONE, SILU, GELU, QUICK_GELU. */
    void (*activate)(float *x, vd_activation act, size_t count);

    /* dst[i] = a[i] * gelu(g[i]) */
    void (*geglu)(float *dst, const float *a, const float *g, size_t count);
} vd_cpu_kernels;

extern const vd_cpu_kernels vd_cpu_kernels_baseline;
extern const vd_cpu_kernels vd_cpu_kernels_avx2;
extern const vd_cpu_kernels vd_cpu_kernels_avx512;

#endif

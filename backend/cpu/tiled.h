/* Linear layers and convolutions of bf16 on AMX tiles: one loop for all of them.
 *
 * A task takes a chunk of positions and some blocks of 32 output channels. It copies what the chunk
 * reads, zero padding included, to a place in its cache where tiles are loaded fast: rows as they
 * are, or a window of an image that all taps share, whatever their dilation; or, where lines of an
 * image are too short for tiles, the taps one by one; or, with a map, the nine sums of taps. Then
 * block after block of channels is summed and finished (bias, activation, residual, rounding) while
 * it is in the cache.
 */
#ifndef VD_BACKEND_CPU_TILED_H
#define VD_BACKEND_CPU_TILED_H

#include "backend/cpu/conv_taps.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/weights.h"

typedef struct vd_cpu_tiled {
    vd_tensor *dst;
    const vd_tensor *src, *residual; /* residual: or NULL, or dst */
    vd_cpu_weight *w;
    const float *bias; /* [runs, out] or NULL: positions are split into `runs` equal runs */
    int64_t runs;
    vd_activation act;
    const vd_conv2d_desc *conv; /* NULL: rows of src by rows of dst */
    const vd_cpu_taps *taps;    /* NULL: no map */
} vd_cpu_tiled;

/* False where this path is not there, or does the shape badly. */
bool vd_cpu_tiled_takes(const vd_exec *x, const vd_cpu_tiled *p);

vd_status vd_cpu_tiled_run(vd_exec *x, const vd_cpu_tiled *p);

#endif

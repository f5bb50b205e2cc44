/* Weights of the CPU backend: where their values are, and what has been packed of them. A matrix is
 * packed in panels of columns, so that a task's result stays in cache; a kernel in the layouts that
 * oneDNN's convolutions ask for, or as a matrix [out, taps * in]. */
#ifndef VD_BACKEND_CPU_WEIGHTS_H
#define VD_BACKEND_CPU_WEIGHTS_H

#include "backend/backend_impl.h"
#include "backend/cpu/dnnl_util.h"

typedef struct vd_cpu_kernel_pack vd_cpu_kernel_pack;

typedef struct vd_cpu_weight {
    vd_weight head; /* first: a vd_weight * of this backend points here */
    vd_weight_part *part;
    int part_count;
    float *values; /* of a vector */
    int64_t k;     /* columns as a matrix: taps * in, the input channel fastest */
    int panels;    /* 0 until packed as a matrix */
    vd_dnnl_panel **panel;
    unsigned char *tiles; /* NULL until packed for AMX */
    size_t tile_bytes;
    vd_cpu_kernel_pack *kernels;
} vd_cpu_weight;

/* Packing later for another plan does not change what a weight is: const for the ops. */
static inline vd_cpu_weight *vd_cpu_weight_of(const vd_weight *w) {
    return (vd_cpu_weight *)w;
}

vd_status vd_cpu_create_linear(vd_backend *be, const vd_weight_part *parts, int part_count,
                               vd_dtype dtype, vd_weight **out);
vd_status vd_cpu_create_conv(vd_backend *be, const vd_weight_part *part, vd_dtype dtype,
                             vd_weight **out);
vd_status vd_cpu_create_vector(vd_backend *be, const vd_tensor *parts, int part_count,
                               vd_weight **out);
void vd_cpu_destroy_weight(vd_backend *be, vd_weight *w);

/* Where row `row` of all parts begins, [in, taps], and the dtype it is stored in. */
const void *vd_cpu_weight_row(const vd_cpu_weight *w, int64_t row, vd_dtype *dtype);

/* Packs the weight as a matrix unless it is. Not in a real run's first use: plan in the dry one. */
vd_status vd_cpu_pack_matrix(vd_backend *be, vd_cpu_weight *w);

/* Packs the weight for vd_amx_block unless it is: blocks of 32 rows, in each [tap, tile of K]; what
 * pads rows and K is zero. */
vd_status vd_cpu_pack_tiles(vd_backend *be, vd_cpu_weight *w);

/* The weight as a kernel in this format, packed unless it is. */
vd_status vd_cpu_pack_kernel(vd_backend *be, vd_cpu_weight *w, const vd_dnnl_format *format,
                             const vd_dnnl_panel **out);

/* Whether AMX is there and the weight's K fills its tiles. */
bool vd_cpu_wants_tiles(const vd_backend *be, const vd_weight *w);

/* How a matrix of `out` rows is cut in panels. Where `out` is even and takes several panels, each
 * half is cut alike, so that GEGLU finds a and g at the same place. */
typedef struct vd_cpu_panels {
    int count, per_section;
    int64_t section, width;
} vd_cpu_panels;
vd_cpu_panels vd_cpu_panels_of(int64_t out);

/* First row of the panel; its width in *width. */
int64_t vd_cpu_panel_first(const vd_cpu_panels *p, int panel, int64_t *width);

#endif

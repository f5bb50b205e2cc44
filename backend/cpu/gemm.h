/* The matrix product that vd_linear and vd_conv2d share: rows cut in chunks of a size that does not
 * depend on the thread count, and what follows the product done while a chunk is in cache. */
#ifndef VD_BACKEND_CPU_GEMM_H
#define VD_BACKEND_CPU_GEMM_H

#include "backend/cpu/cpu.h"
#include "backend/cpu/weights.h"

/* dst[rows, out] = act(a[rows, k] w^T + bias) + residual */
typedef struct vd_cpu_product {
    vd_tensor *dst;
    const vd_tensor *residual; /* or NULL */
    vd_cpu_weight *w;
    int64_t rows;
    const float *bias; /* [runs, out] or NULL: rows are split into `runs` equal runs */
    int64_t runs;
    vd_activation act;

    /* Rows of a: `a` dense in a_dtype, or written by `gather` in the weight's dtype. */
    const void *a;
    vd_dtype a_dtype;
    void (*gather)(const void *user, int64_t first, int64_t count, void *a);
    const void *user;
    const char *name; /* for messages */
} vd_cpu_product;

vd_status vd_cpu_product_run(vd_exec *x, const vd_cpu_product *p);

/* Finishes `count` float32 results that belong at element `at` of dst: act, residual, store. dst
 * may be where the results are. */
void vd_cpu_finish(const vd_cpu_kernels *kernels, float *results, int64_t count, vd_activation act,
                   const vd_tensor *residual, const vd_tensor *dst, int64_t at);

/* Address of element `at`. */
static inline void *vd_cpu_at(const vd_tensor *t, int64_t at) {
    return (unsigned char *)t->data + (size_t)at * vd_dtype_bytes(t->dtype);
}

#endif

/* cuBLASLt behind one small interface. Included by backend/cuda only. */
#ifndef VD_BACKEND_CUDA_BLAS_H
#define VD_BACKEND_CUDA_BLAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/ops.h"

typedef struct vd_blas vd_blas;
typedef struct vd_blas_plan vd_blas_plan;

/* stream: a cudaStream_t. */
vd_status vd_blas_create(void *stream, vd_blas **out);
void vd_blas_destroy(vd_blas *b);

/* d[rows, out] = a[rows, k] w[out, k]^T + bias[out] + c[rows, out], summed in float32 (never in
 * TF32), rounded once. a and w have `dtype`; c and d have `d_dtype`, the same or F32. */
typedef struct vd_blas_product {
    int64_t rows, out, k;
    vd_dtype dtype, d_dtype;
    bool bias, residual;
    int align_bytes; /* of all addresses, at least; at most 64 */
} vd_blas_product;

/* The cached plan, made on first use (so: in a dry run). It lives as long as `b`. Always the first
 * of cuBLASLt's proposals: which one is fastest may change from run to run, results must not. */
vd_status vd_blas_plan_product(vd_blas *b, const vd_blas_product *key, vd_blas_plan **out);
size_t vd_blas_workspace_bytes(const vd_blas_plan *plan);

/* Device memory. The bias has d_dtype, the only one that cuBLASLt reads there; the workspace is
 * at a multiple of 256; c may be d. */
typedef struct vd_blas_args {
    const void *a, *w, *bias, *c;
    void *d, *workspace;
} vd_blas_args;
vd_status vd_blas_run(vd_blas *b, const vd_blas_plan *plan, const vd_blas_args *args);

#endif

/* The matrix product that vd_linear and vd_conv2d share. */
#ifndef VD_BACKEND_CUDA_GEMM_H
#define VD_BACKEND_CUDA_GEMM_H

#include "backend/cuda/cuda.h"

/* dst[rows, out] = act(a[rows, k] w[out, k]^T + bias) + residual */
typedef struct vd_cuda_product {
    vd_tensor *dst;
    const vd_tensor *residual; /* or NULL */
    const vd_weight *w;
    int64_t rows, k;
    const vd_weight *bias;  /* [out], or NULL, */
    const float *bias_rows; /* or [runs, out]: rows are split into `runs` equal runs; or NULL */
    int64_t runs;
    bool has_rows; /* bias_rows is there, in a dry run too */
    vd_activation act;

    /* Rows of a: dense in a_dtype, or written by `gather` in the weight's dtype. */
    const void *a;
    vd_dtype a_dtype;
    cudaError_t (*gather)(cudaStream_t stream, const void *user, int64_t first, int64_t count,
                          void *a);
    const void *user;
} vd_cuda_product;

vd_status vd_cuda_product_run(vd_exec *x, const vd_cuda_product *p);

#endif

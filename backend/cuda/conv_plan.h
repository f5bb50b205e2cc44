/* How a convolution is computed, decided once for each shape. */
#ifndef VD_BACKEND_CUDA_CONV_PLAN_H
#define VD_BACKEND_CUDA_CONV_PLAN_H

#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"

typedef enum vd_cuda_conv_way {
    VD_CUDA_TAPS,   /* taps gathered for a matrix product: always possible */
    VD_CUDA_WHOLE,  /* one graph of cuDNN */
    VD_CUDA_PHASES, /* split, an ordinary convolution of cuDNN, join */
} vd_cuda_conv_way;

typedef struct vd_cuda_conv_key {
    vd_cuda_conv shape;
    vd_dtype dtype, dst_dtype;
    int64_t bias_rows; /* 0, 1 or n */
    bool residual;
} vd_cuda_conv_key;

typedef struct vd_cuda_conv_plan {
    vd_cuda_conv_key key;
    vd_cuda_conv_way way;
    vd_dnn_graph *graph; /* NULL with VD_CUDA_TAPS */
    int index;           /* plan of the graph */
    struct vd_cuda_conv_plan *next;
} vd_cuda_conv_plan;

/* Made on first use (so: in a dry run). `w`: a kernel of that shape, to try with. */
vd_status vd_cuda_plan_conv(vd_cuda_device *cuda, const vd_cuda_conv_key *key, const void *w,
                            vd_cuda_conv_plan **out);

/* What a run needs, in this order, each part a multiple of 256: the phases of src, those of the
 * result (both 0 unless VD_CUDA_PHASES), workspace. */
typedef struct vd_cuda_conv_scratch {
    size_t split_bytes, join_bytes, workspace_bytes;
} vd_cuda_conv_scratch;
vd_cuda_conv_scratch vd_cuda_conv_scratch_of(const vd_cuda_conv_plan *plan);

typedef struct vd_cuda_conv_args {
    const void *src, *w, *residual;
    const float *bias;
    int64_t bias_run_images; /* images that share a row of bias */
    void *dst;
    unsigned char *scratch;
} vd_cuda_conv_args;
vd_status vd_cuda_conv_run(vd_cuda_device *cuda, const vd_cuda_conv_plan *plan,
                           const vd_cuda_conv_args *args);

#endif

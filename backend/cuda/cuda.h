/* The CUDA backend's own state and entries. Included by backend/cuda only.
 *
 * All work goes to one stream, in order: an op may use memory that an op before it has written, and
 * scratch may be given back as soon as the launch has been made.
 */
#ifndef VD_BACKEND_CUDA_H
#define VD_BACKEND_CUDA_H

#include <cuda_runtime_api.h>

#include "backend/backend_impl.h"
#include "backend/cuda/blas.h"
#include "backend/cuda/cache.h"
#include "backend/cuda/dnn.h"

enum { VD_CUDA_STAGING_BYTES = 8 * 1024 * 1024, VD_CUDA_STAGINGS = 2 };

/* A pinned buffer on its way to the device; `done` is recorded behind the copy. */
typedef struct vd_cuda_staging {
    void *memory;
    cudaEvent_t done;
} vd_cuda_staging;

/* vd_backend.device points here. */
typedef struct vd_cuda_device {
    cudaStream_t stream;
    int capability; /* 90 */
    vd_blas *blas;
    vd_dnn *dnn;                           /* NULL: convolutions and attention are our own */
    struct vd_cuda_conv_plan *convs;       /* every shape that has been planned: conv_plan.c */
    struct vd_cuda_attention_plan *attend; /* attention.c */
    struct vd_cuda_map *maps;              /* conv.c */
    vd_cuda_cache *cache;
    struct vd_cuda_offload *offload;           /* offload.c; NULL: never asked for */
    vd_cuda_staging staging[VD_CUDA_STAGINGS]; /* made when first needed */
    int turn;                                  /* of these: the one that is filled next */
} vd_cuda_device;

typedef struct vd_cuda_weight {
    vd_weight head; /* first: a vd_weight * of this backend points here */
    void *memory; /* matrix [out, k], kernel [out, taps, in], or float32 values; NULL: in `host` */
    void *host;   /* the same, pinned; the values come to the device to be used (offload.h) */
    int number, next;
    void *rounded; /* a vector's values in `rounded_dtype`, for products that want them so */
    vd_dtype rounded_dtype;
    size_t bytes;
} vd_cuda_weight;

static inline vd_cuda_device *vd_cuda(const vd_exec *x) {
    return x->be->device;
}

static inline vd_cuda_weight *vd_cuda_weight_of(const vd_weight *w) {
    return (vd_cuda_weight *)w;
}

/* The float32 values of a VD_WEIGHT_VECTOR; NULL for NULL. */
static inline const float *vd_cuda_vector(const vd_weight *w) {
    return w == NULL ? NULL : vd_cuda_weight_of(w)->memory;
}

/* A status of CUDA as ours: VD_ERR_MEMORY or VD_ERR_BACKEND with CUDA's reason after `doing`. */
vd_status vd_cuda_status(cudaError_t error, const char *doing);

/* What cudaMalloc says, with the figures. */
vd_status vd_cuda_take(size_t bytes, void **out);

/* Scratch that begins at a multiple of VD_CUDA_ALIGN_BYTES, which the arena does not promise and
 * cuBLASLt's workspaces must be at. vd_exec_scratch_free takes *taken. */
enum { VD_CUDA_ALIGN_BYTES = 256 };
static inline vd_status vd_cuda_scratch(vd_exec *x, size_t bytes, void **taken,
                                        unsigned char **out) {
    const size_t align = VD_CUDA_ALIGN_BYTES;
    const vd_status st = vd_exec_scratch(x, bytes + align - VD_ARENA_ALIGN_BYTES, taken);
    *out =
        st == VD_OK ? (unsigned char *)*taken + (align - (uintptr_t)*taken % align) % align : NULL;
    return st;
}

static inline size_t vd_cuda_aligned(size_t bytes) {
    return (bytes + VD_CUDA_ALIGN_BYTES - 1) / VD_CUDA_ALIGN_BYTES * VD_CUDA_ALIGN_BYTES;
}

/* ---- weights.c ------------------------------------------------------------------------------ */

vd_status vd_cuda_create_linear(vd_backend *be, const vd_weight_part *parts, int part_count,
                                vd_dtype dtype, vd_weight **out);
vd_status vd_cuda_create_conv(vd_backend *be, const vd_weight_part *part, vd_dtype dtype,
                              vd_weight **out);
vd_status vd_cuda_create_vector(vd_backend *be, const vd_tensor *parts, int part_count,
                                vd_weight **out);
void vd_cuda_destroy_weight(vd_backend *be, vd_weight *w);

/* Copies to the device behind what its stream does, through pinned memory: `data` is free again
 * when this returns, which does not wait for the stream unless more than the pinned memory is on
 * its way.
 */
vd_status vd_cuda_send(vd_cuda_device *cuda, void *to, const void *data, size_t bytes);

/* A vector's values in `dtype`, made once. Not in a real run's first use: plan in the dry one. */
vd_status vd_cuda_round_vector(vd_backend *be, const vd_weight *w, vd_dtype dtype,
                               const void **out);

/* ---- ops ------------------------------------------------------------------------------------ */

vd_status vd_cuda_conv2d(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                         const vd_weight *bias, const vd_tensor *add, const vd_tensor *residual,
                         const vd_conv2d_desc *desc);
vd_status vd_cuda_linear(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                         const vd_weight *bias, const vd_tensor *residual, vd_activation act);
vd_status vd_cuda_attention(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                            const vd_attention_desc *desc);
vd_status vd_cuda_group_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src1,
                             const vd_tensor *src2, const vd_weight *scale, const vd_weight *shift,
                             int groups, float eps, vd_activation act);
vd_status vd_cuda_layer_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                             const vd_weight *scale, const vd_weight *shift, float eps);
vd_status vd_cuda_activate(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_activation act);
vd_status vd_cuda_resize_nearest(vd_exec *x, vd_tensor *dst, const vd_tensor *src);
vd_status vd_cuda_resize_bilinear(vd_exec *x, vd_tensor *dst, const vd_tensor *src);
vd_status vd_cuda_transpose(vd_exec *x, vd_tensor *dst, const vd_tensor *src);
vd_status vd_cuda_combine(vd_exec *x, vd_tensor *dst, int terms, const double *coefficient,
                          const vd_tensor *const *src);

vd_status vd_cuda_scale_channels(vd_exec *x, vd_tensor *t, int64_t channels, double factor);
vd_status vd_cuda_scale_low_frequencies(vd_exec *x, vd_tensor *t, double factor);
vd_status vd_cuda_sampler_run(vd_exec *x, float *const *buffer, int count, int64_t elements,
                              const vd_sampler_program *program, int32_t *bad);
vd_status vd_cuda_match_deviation(vd_exec *x, vd_tensor *dst, const vd_tensor *like, double phi);

vd_status vd_cuda_group_measure(vd_exec *x, vd_group_stats *stats, const vd_tensor *src,
                                int groups);
vd_status vd_cuda_group_normalize(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                                  const vd_group_stats *stats, const vd_weight *scale,
                                  const vd_weight *shift, int groups, float eps, vd_activation act);
vd_status vd_cuda_paste(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                        const vd_paste_desc *desc);

/* ---- graph.c -------------------------------------------------------------------------------- */

vd_status vd_cuda_record(vd_backend *be, vd_status (*body)(void *user), void *user, void **out);
vd_status vd_cuda_replay(vd_backend *be, void *recording);
void vd_cuda_forget(vd_backend *be, void *recording);

/* Frees the plans of the device. */
void vd_cuda_conv_plans_destroy(vd_cuda_device *cuda);
void vd_cuda_maps_destroy(vd_cuda_device *cuda);
void vd_cuda_attention_plans_destroy(vd_cuda_device *cuda);

#endif

/* The CPU backend's own state and entries. Included by backend/cpu only. */
#ifndef VD_BACKEND_CPU_H
#define VD_BACKEND_CPU_H

#include "backend/backend_impl.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/pool.h"

/* vd_backend.device points here. Plan caches live here and die with the backend. */
typedef struct vd_cpu_device {
    struct vd_cpu_dnnl *dnnl;      /* engine, stream and primitive cache: dnnl_util.c */
    vd_cpu_pool *pool;             /* runs the tasks of an op */
    const vd_cpu_kernels *kernels; /* element-wise code for this machine's instruction set */
    bool amx;                      /* tiles may be used: amx.h */
} vd_cpu_device;

static inline vd_cpu_device *vd_cpu(const vd_exec *x) {
    return x->be->device;
}

vd_status vd_cpu_conv2d(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                        const vd_weight *bias, const vd_tensor *add, const vd_tensor *residual,
                        const vd_conv2d_desc *desc);
vd_status vd_cpu_linear(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                        const vd_weight *bias, const vd_tensor *residual, vd_activation act);
vd_status vd_cpu_attention(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                           const vd_attention_desc *desc);
vd_status vd_cpu_group_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src1,
                            const vd_tensor *src2, const vd_weight *scale, const vd_weight *shift,
                            int groups, float eps, vd_activation act);
vd_status vd_cpu_group_measure(vd_exec *x, vd_group_stats *stats, const vd_tensor *src, int groups);
vd_status vd_cpu_group_normalize(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                                 const vd_group_stats *stats, const vd_weight *scale,
                                 const vd_weight *shift, int groups, float eps, vd_activation act);
vd_status vd_cpu_layer_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            const vd_weight *scale, const vd_weight *shift, float eps);
vd_status vd_cpu_activate(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_activation act);
vd_status vd_cpu_resize_nearest(vd_exec *x, vd_tensor *dst, const vd_tensor *src);
vd_status vd_cpu_resize_bilinear(vd_exec *x, vd_tensor *dst, const vd_tensor *src);
vd_status vd_cpu_transpose(vd_exec *x, vd_tensor *dst, const vd_tensor *src);
vd_status vd_cpu_paste(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_paste_desc *desc);
vd_status vd_cpu_combine(vd_exec *x, vd_tensor *dst, int terms, const double *coefficient,
                         const vd_tensor *const *src);
vd_status vd_cpu_scale_channels(vd_exec *x, vd_tensor *t, int64_t channels, double factor);
vd_status vd_cpu_scale_low_frequencies(vd_exec *x, vd_tensor *t, double factor);
vd_status vd_cpu_sampler_run(vd_exec *x, float *const *buffer, int count, int64_t elements,
                             const vd_sampler_program *program, int32_t *bad);
vd_status vd_cpu_match_deviation(vd_exec *x, vd_tensor *dst, const vd_tensor *like, double phi);

/* The float32 values of a VD_WEIGHT_VECTOR. */
const float *vd_cpu_vector(const vd_weight *vector);

#endif

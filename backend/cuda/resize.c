/* Resizing of channels-last images. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"

static vd_cuda_resize job_of(const vd_tensor *dst, const vd_tensor *src) {
    return (vd_cuda_resize){.dst = dst->data,
                            .src = src->data,
                            .dtype = src->dtype,
                            .images = src->dim[0],
                            .h = src->dim[1],
                            .w = src->dim[2],
                            .dst_h = dst->dim[1],
                            .dst_w = dst->dim[2],
                            .channels = src->dim[3]};
}

vd_status vd_cuda_resize_nearest(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    const vd_cuda_resize job = job_of(dst, src);
    if (x->dry)
        return VD_OK;
    return vd_cuda_status(vd_launch_nearest(vd_cuda(x)->stream, &job), "in a resizing");
}

vd_status vd_cuda_resize_bilinear(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    const vd_cuda_resize job = job_of(dst, src);
    if (x->dry)
        return VD_OK;
    /* Equal sizes copy, bit by bit. */
    const bool copies = job.h == job.dst_h && job.w == job.dst_w;
    return vd_cuda_status(
        (copies ? vd_launch_nearest : vd_launch_bilinear)(vd_cuda(x)->stream, &job),
        "in a resizing");
}

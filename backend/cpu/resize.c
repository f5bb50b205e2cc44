/* Resizing of channels-last images, one row of the result as a task. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl_util.h"

typedef struct resize_job {
    const vd_cpu_kernels *kernels;
    unsigned char *dst;
    const unsigned char *src;
    vd_dtype dtype;
    int64_t h, w, oh, ow, channels;
    size_t pixel_bytes;
} resize_job;

static resize_job resize_job_of(const vd_exec *x, const vd_tensor *dst, const vd_tensor *src) {
    return (resize_job){.kernels = vd_cpu(x)->kernels,
                        .dst = dst->data,
                        .src = src->data,
                        .dtype = src->dtype,
                        .h = src->dim[1],
                        .w = src->dim[2],
                        .oh = dst->dim[1],
                        .ow = dst->dim[2],
                        .channels = src->dim[3],
                        .pixel_bytes = (size_t)src->dim[3] * vd_dtype_bytes(src->dtype)};
}

static int nearest_row(void *user, int64_t task, int thread) {
    const resize_job *job = user;
    (void)thread;
    const int64_t from = task / job->oh * job->h + task % job->oh * job->h / job->oh;
    const unsigned char *src = job->src + (size_t)(from * job->w) * job->pixel_bytes;
    unsigned char *dst = job->dst + (size_t)(task * job->ow) * job->pixel_bytes;
    for (int64_t i = 0; i < job->ow; i++)
        memcpy(dst + (size_t)i * job->pixel_bytes,
               src + (size_t)(i * job->w / job->ow) * job->pixel_bytes, job->pixel_bytes);
    return 0;
}

vd_status vd_cpu_resize_nearest(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    resize_job job = resize_job_of(x, dst, src);
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, dst->dim[0] * job.oh, nearest_row, &job);
    return VD_OK;
}

static int bilinear_row(void *user, int64_t task, int thread) {
    const resize_job *job = user;
    (void)thread;
    const vd_sample y = vd_sample_at(task % job->oh, job->h, job->oh);
    const unsigned char *image =
        job->src + (size_t)(task / job->oh * job->h * job->w) * job->pixel_bytes;
    const unsigned char *above = image + (size_t)(y.first * job->w) * job->pixel_bytes;
    const unsigned char *below = image + (size_t)(y.second * job->w) * job->pixel_bytes;
    unsigned char *dst = job->dst + (size_t)(task * job->ow) * job->pixel_bytes;
    for (int64_t i = 0; i < job->ow; i++) {
        const vd_sample x = vd_sample_at(i, job->w, job->ow);
        const size_t left = (size_t)x.first * job->pixel_bytes;
        const size_t right = (size_t)x.second * job->pixel_bytes;
        const void *const corner[4] = {above + left, above + right, below + left, below + right};
        job->kernels->blend(dst + (size_t)i * job->pixel_bytes, corner, job->dtype, x.weight,
                            y.weight, (size_t)job->channels);
    }
    return 0;
}

vd_status vd_cpu_resize_bilinear(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    resize_job job = resize_job_of(x, dst, src);
    if (x->dry)
        return VD_OK;
    /* Nearest with equal sizes copies; so must this, bit by bit. */
    const bool copies = job.h == job.oh && job.w == job.ow;
    vd_cpu_parallel(vd_cpu(x)->pool, dst->dim[0] * job.oh, copies ? nearest_row : bilinear_row,
                    &job);
    return VD_OK;
}

/* Convolutions: cuDNN where it has a plan, else the taps of each position gathered to a row of a
 * matrix product. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/conv_plan.h"
#include "backend/cuda/gemm.h"
#include "backend/cuda/offload.h"

typedef struct conv_job {
    vd_tensor *dst;
    const vd_tensor *src, *add, *residual;
    const vd_weight *w, *bias;
    vd_activation act;
    vd_cuda_conv shape; /* of K, with a map */
    const float *map;   /* on the device, or NULL */
} conv_job;

/* bias + add, one row for `rows` equal runs of images, in scratch; *out NULL without add. */
static vd_status sum_biases(vd_exec *x, const conv_job *job, int64_t rows, void **out) {
    *out = NULL;
    if (job->add == NULL)
        return VD_OK;
    vd_status st = vd_exec_scratch(x, (size_t)(rows * job->w->out) * sizeof(float), out);
    if (st != VD_OK || x->dry)
        return st;
    return vd_cuda_status(vd_launch_bias_rows(vd_cuda(x)->stream, *out, job->add->data,
                                              vd_cuda_vector(job->bias), rows, job->add->dim[0],
                                              job->w->out),
                          "in a convolution");
}

/* ---- maps ----------------------------------------------------------------------------------- */

enum { SMALL_TAPS = 9 };

/* One that has been seen, and its float32 copy on the device. */
typedef struct vd_cuda_map {
    int taps;
    double *values;
    void *memory;
    struct vd_cuda_map *next;
} vd_cuda_map;

static size_t values_of(int taps) {
    return (size_t)taps * (size_t)taps * SMALL_TAPS;
}

static vd_status copy_map(const vd_cuda_device *cuda, vd_cuda_map *m, const double *values) {
    const size_t count = values_of(m->taps);
    float *rounded = malloc(count * sizeof *rounded);
    vd_status st;
    m->values = malloc(count * sizeof *m->values);
    if (rounded == NULL || m->values == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for the map of a kernel");
        goto done;
    }
    memcpy(m->values, values, count * sizeof *values);
    vd_convert_values(rounded, VD_F32, values, VD_F64, count);
    VD_TRY(vd_cuda_take(count * sizeof *rounded, &m->memory));
    VD_TRY(vd_cuda_status(cudaMemcpyAsync(m->memory, rounded, count * sizeof *rounded,
                                          cudaMemcpyHostToDevice, cuda->stream),
                          "copying a map"));
    VD_TRY(vd_cuda_status(cudaStreamSynchronize(cuda->stream), "copying a map"));
done:
    free(rounded);
    return st;
}

static void map_free(vd_cuda_map *m) {
    (void)cudaFree(m->memory);
    free(m->values);
    free(m);
}

/* Copied at its first use, which is in a dry run. */
static vd_status map_of(const vd_backend *be, const vd_kernel_map *map, const float **out) {
    vd_cuda_device *cuda = be->device;
    for (const vd_cuda_map *m = cuda->maps; m != NULL; m = m->next)
        if (m->taps == map->taps &&
            memcmp(m->values, map->values, values_of(map->taps) * sizeof(double)) == 0) {
            *out = m->memory;
            return VD_OK;
        }
    if (!vd_kernel_map_is_symmetric(map))
        return vd_fail(VD_ERR_BACKEND, VD_KERNEL_MAP_MESSAGE);
    vd_cuda_map *m = calloc(1, sizeof *m);
    if (m == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the map of a kernel");
    m->taps = map->taps;
    vd_status st = copy_map(cuda, m, map->values);
    if (st != VD_OK) {
        map_free(m);
        return st;
    }
    m->next = cuda->maps;
    cuda->maps = m;
    *out = m->memory;
    return VD_OK;
}

void vd_cuda_maps_destroy(vd_cuda_device *cuda) {
    for (vd_cuda_map *m = cuda->maps, *next; m != NULL; m = next) {
        next = m->next;
        map_free(m);
    }
    cuda->maps = NULL;
}

/* ---- taps ----------------------------------------------------------------------------------- */

static cudaError_t gather(cudaStream_t stream, const void *user, int64_t first, int64_t count,
                          void *a) {
    const conv_job *job = user;
    if (job->map != NULL)
        return vd_launch_mixed_taps(stream, a, job->w->dtype, job->src->data, job->src->dtype,
                                    &job->shape, job->map, first, count);
    return vd_launch_taps(stream, a, job->w->dtype, job->src->data, job->src->dtype, &job->shape,
                          first, count);
}

static bool is_pointwise(const vd_cuda_conv *s) {
    return s->kernel_h == 1 && s->kernel_w == 1 && s->stride_h == 1 && s->stride_w == 1 &&
           s->pad_top == 0 && s->pad_left == 0 && s->src_h == s->dst_h && s->src_w == s->dst_w;
}

static vd_status run_taps(vd_exec *x, const conv_job *job) {
    const vd_cuda_conv *s = &job->shape;
    void *rows;
    vd_status st;
    VD_TRY(sum_biases(x, job, job->add == NULL ? 0 : job->add->dim[0], &rows));
    const vd_cuda_product p = {.dst = job->dst,
                               .residual = job->residual,
                               .w = job->w,
                               .rows = s->n * s->dst_h * s->dst_w,
                               .k = s->in * job->w->kernel_h * job->w->kernel_w,
                               .bias = job->bias,
                               .bias_rows = rows,
                               .runs = job->add == NULL ? 1 : job->add->dim[0],
                               .has_rows = job->add != NULL,
                               .act = job->act,
                               .a = job->src->data,
                               .a_dtype = job->src->dtype,
                               .gather = is_pointwise(s) ? NULL : gather,
                               .user = job};
    st = vd_cuda_product_run(x, &p);
done:
    vd_exec_scratch_free(x, rows);
    return st;
}

/* ---- cuDNN ---------------------------------------------------------------------------------- */

static bool is_aligned(const vd_tensor *t) {
    return t == NULL || (uintptr_t)t->data % VD_DNN_ALIGN_BYTES == 0;
}

/* Rows of a picture may begin anywhere. */
static bool suits_dnn(const vd_exec *x, const conv_job *job) {
    const vd_dtype dtype = job->w->dtype, dst = job->dst->dtype;
    return vd_cuda(x)->dnn != NULL && dtype != VD_F32 && job->src->dtype == dtype &&
           (dst == dtype || dst == VD_F32) &&
           (job->residual == NULL || job->residual->dtype == dst) && job->act == VD_ACT_NONE &&
           job->map == NULL && !is_pointwise(&job->shape) && is_aligned(job->src) &&
           is_aligned(job->dst) && is_aligned(job->residual);
}

/* cuDNN has one row of biases for all images or one for each. */
static vd_status run_plan(vd_exec *x, const conv_job *job, const vd_cuda_conv_plan *plan,
                          const void *w, int64_t bias_rows) {
    const vd_cuda_conv_scratch s = vd_cuda_conv_scratch_of(plan);
    void *rows = NULL, *taken = NULL;
    unsigned char *scratch;
    vd_status st;
    VD_TRY(sum_biases(x, job, bias_rows, &rows));
    VD_TRY(vd_cuda_scratch(x, s.split_bytes + s.join_bytes + s.workspace_bytes, &taken, &scratch));
    if (x->dry)
        goto done;
    const vd_cuda_conv_args args = {.src = job->src->data,
                                    .w = w,
                                    .residual = job->residual == NULL ? NULL : job->residual->data,
                                    .bias = job->add != NULL ? rows : vd_cuda_vector(job->bias),
                                    .bias_run_images = bias_rows > 1 ? 1 : job->shape.n,
                                    .dst = job->dst->data,
                                    .scratch = scratch};
    st = vd_cuda_conv_run(vd_cuda(x), plan, &args);
done:
    vd_exec_scratch_free(x, taken);
    vd_exec_scratch_free(x, rows);
    return st;
}

vd_status vd_cuda_conv2d(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                         const vd_weight *bias, const vd_tensor *add, const vd_tensor *residual,
                         const vd_conv2d_desc *desc) {
    conv_job job = {.dst = dst,
                    .src = src,
                    .add = add,
                    .residual = residual,
                    .w = w,
                    .bias = bias,
                    .act = desc->act,
                    .shape = {.n = src->dim[0],
                              .in = w->in,
                              .out = w->out,
                              .src_h = src->dim[1],
                              .src_w = src->dim[2],
                              .dst_h = dst->dim[1],
                              .dst_w = dst->dim[2],
                              .kernel_h = w->kernel_h,
                              .kernel_w = w->kernel_w,
                              .stride_h = desc->stride_h,
                              .stride_w = desc->stride_w,
                              .dilation_h = desc->dilation_h,
                              .dilation_w = desc->dilation_w,
                              .pad_top = desc->pad_top,
                              .pad_left = desc->pad_left,
                              .raw_h = desc->raw_h,
                              .raw_w = desc->raw_w}};
    if (desc->map != NULL) {
        vd_status st = map_of(x->be, desc->map, &job.map);
        if (st != VD_OK)
            return st;
        job.shape.kernel_h = job.shape.kernel_w = desc->map->taps;
    }
    if (!suits_dnn(x, &job))
        return run_taps(x, &job);
    const int64_t bias_rows = add == NULL ? bias != NULL : add->dim[0] == 1 ? 1 : src->dim[0];
    const vd_cuda_conv_key key = {.shape = job.shape,
                                  .dtype = w->dtype,
                                  .dst_dtype = dst->dtype,
                                  .bias_rows = bias_rows,
                                  .residual = residual != NULL};
    vd_cuda_conv_plan *plan;
    const void *memory;
    vd_status st;
    VD_TRY(vd_cuda_weight_acquire(x->be, w, &memory));
    VD_TRY(vd_cuda_plan_conv(vd_cuda(x), &key, memory, &plan));
    if (plan->way == VD_CUDA_TAPS)
        return run_taps(x, &job);
    VD_TRY(run_plan(x, &job, plan, memory, bias_rows));
    VD_TRY(vd_cuda_weight_release(x->be, w));
done:
    return st;
}

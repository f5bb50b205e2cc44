/* Group and layer norms. */
#include <math.h>
#include <stdlib.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"

enum {
    ENOUGH_BLOCKS = 1024,  /* that measure, over all items */
    LEAST_ROWS = 32,       /* of a chunk */
    BLOCK_CHANNELS = 2048, /* that a block of the measuring kernel sees with vectors */
};

/* Chunks depend on the shape alone, so that sums do. */
static void choose_chunks(vd_cuda_moments *job) {
    const int64_t channels = job->channels[0] + job->channels[1];
    const int64_t tiles = (channels + BLOCK_CHANNELS - 1) / BLOCK_CHANNELS;
    int64_t chunks = ENOUGH_BLOCKS / (job->items * tiles);
    const int64_t most = (job->rows + LEAST_ROWS - 1) / LEAST_ROWS;
    chunks = chunks < 1 ? 1 : chunks > most ? most : chunks;
    job->chunk_rows = (job->rows + chunks - 1) / chunks;
    job->chunks = (job->rows + job->chunk_rows - 1) / job->chunk_rows;
}

static vd_cuda_moments job_of(const vd_tensor *src1, const vd_tensor *src2, int groups) {
    const int last = src1->rank - 1;
    vd_cuda_moments job = {.src = {src1->data, src2 == NULL ? NULL : src2->data},
                           .src_dtype = {src1->dtype, src2 == NULL ? src1->dtype : src2->dtype},
                           .channels = {src1->dim[last], src2 == NULL ? 0 : src2->dim[last]},
                           .items = src1->dim[0],
                           .rows = vd_tensor_elements(src1) / src1->dim[0] / src1->dim[last],
                           .groups = groups};
    choose_chunks(&job);
    return job;
}

/* Scratch: what the measuring kernel leaves, the factors, and room for statistics. */
static vd_status take_scratch(vd_exec *x, vd_cuda_moments *job, void **out) {
    const int64_t groups = job->items * job->groups;
    const size_t part = vd_cuda_aligned(
        (size_t)(job->items * job->chunks * (job->channels[0] + job->channels[1]) * 2) *
        sizeof(double));
    const size_t stats = vd_cuda_aligned((size_t)(groups * 2) * sizeof(double));
    vd_status st =
        vd_exec_scratch(x, part + stats + (size_t)(groups * VD_CUDA_FACTORS) * sizeof(float), out);
    if (st != VD_OK || x->dry)
        return st;
    job->part = *out;
    job->stats = (double *)(void *)((unsigned char *)*out + part);
    job->factors = (float *)(void *)((unsigned char *)*out + part + stats);
    return VD_OK;
}

static void apply_with(vd_cuda_moments *job, vd_tensor *dst, const vd_weight *scale,
                       const vd_weight *shift, float eps, vd_activation act) {
    job->scale = vd_cuda_vector(scale);
    job->shift = vd_cuda_vector(shift);
    job->eps = eps;
    job->act = act;
    job->dst = dst->data;
    job->dst_dtype = dst->dtype;
}

vd_status vd_cuda_group_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src1,
                             const vd_tensor *src2, const vd_weight *scale, const vd_weight *shift,
                             int groups, float eps, vd_activation act) {
    vd_cuda_moments job = job_of(src1, src2, groups);
    void *scratch;
    vd_status st = take_scratch(x, &job, &scratch);
    if (st != VD_OK)
        return st;
    if (!x->dry) {
        apply_with(&job, dst, scale, shift, eps, act);
        cudaError_t error = vd_launch_group_measure(vd_cuda(x)->stream, &job);
        if (error == cudaSuccess)
            error = vd_launch_group_apply(vd_cuda(x)->stream, &job);
        st = vd_cuda_status(error, "in a group norm");
    }
    vd_exec_scratch_free(x, scratch);
    return st;
}

vd_status vd_cuda_group_measure(vd_exec *x, vd_group_stats *stats, const vd_tensor *src,
                                int groups) {
    _Static_assert(sizeof(vd_group_stats) == 2 * sizeof(double), "as the kernel writes it");
    const cudaStream_t stream = vd_cuda(x)->stream;
    vd_cuda_moments job = job_of(src, NULL, groups);
    void *scratch;
    vd_status st = take_scratch(x, &job, &scratch);
    if (st != VD_OK)
        return st;
    if (x->dry)
        goto done;
    VD_TRY(vd_cuda_status(vd_launch_group_measure(stream, &job), "in a group norm"));
    VD_TRY(vd_cuda_status(cudaMemcpyAsync(stats, job.stats,
                                          (size_t)(job.items * groups) * sizeof *stats,
                                          cudaMemcpyDeviceToHost, stream),
                          "in a group norm"));
    VD_TRY(vd_cuda_status(cudaStreamSynchronize(stream), "in a group norm"));
done:
    vd_exec_scratch_free(x, scratch);
    return st;
}

vd_status vd_cuda_group_normalize(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                                  const vd_group_stats *stats, const vd_weight *scale,
                                  const vd_weight *shift, int groups, float eps,
                                  vd_activation act) {
    const cudaStream_t stream = vd_cuda(x)->stream;
    vd_cuda_moments job = job_of(src, NULL, groups);
    const size_t count = (size_t)(job.items * groups);
    float *factors = malloc(count * VD_CUDA_FACTORS * sizeof *factors);
    void *scratch = NULL;
    vd_status st;
    if (factors == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a group norm");
    VD_TRY(take_scratch(x, &job, &scratch));
    if (x->dry)
        goto done;
    for (size_t i = 0; i < count; i++) {
        float *f = factors + i * VD_CUDA_FACTORS;
        f[0] = (float)stats[i].mean;
        f[1] = (float)(stats[i].mean - (double)f[0]);
        f[2] = (float)(1.0 / sqrt(stats[i].variance + (double)eps));
    }
    apply_with(&job, dst, scale, shift, eps, act);
    VD_TRY(vd_cuda_status(cudaMemcpyAsync(job.factors, factors,
                                          count * VD_CUDA_FACTORS * sizeof *factors,
                                          cudaMemcpyHostToDevice, stream),
                          "in a group norm"));
    VD_TRY(vd_cuda_status(vd_launch_group_apply(stream, &job), "in a group norm"));
    VD_TRY(vd_cuda_status(cudaStreamSynchronize(stream), "in a group norm"));
done:
    vd_exec_scratch_free(x, scratch);
    free(factors);
    return st;
}

vd_status vd_cuda_layer_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                             const vd_weight *scale, const vd_weight *shift, float eps) {
    const int64_t columns = dst->dim[dst->rank - 1];
    if (x->dry)
        return VD_OK;
    return vd_cuda_status(vd_launch_layer_norm(vd_cuda(x)->stream, dst->data, dst->dtype, src->data,
                                               src->dtype, vd_cuda_vector(scale),
                                               vd_cuda_vector(shift), eps,
                                               vd_tensor_elements(dst) / columns, columns),
                          "in a layer norm");
}

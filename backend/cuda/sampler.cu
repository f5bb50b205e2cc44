/* A sampling step: elementwise programs that are read from device memory, so that a recorded step
 * takes other numbers each time; the guidance's deviation. */
#include "backend/cuda/device.cuh"

__global__ void run_program(vd_cuda_sampler job) {
    for (int64_t i = vd_first(); i < job.elements; i += vd_stride()) {
        for (int k = 0; k < job.program->ops; k++) {
            const vd_sampler_op *op = &job.program->op[k];
            job.buffer[op->dst][i] = vd_sampler_value(op, job.buffer, i);
        }
        const float second = job.buffer[job.count > 1][i];
        if (job.bad != NULL && !(isfinite(job.buffer[0][i]) && isfinite(second)))
            *job.bad = 1; /* whoever comes first */
    }
}

cudaError_t vd_launch_sampler(cudaStream_t stream, const vd_cuda_sampler *job) {
    VD_LAUNCH(run_program, vd_blocks(job->elements), VD_BLOCK, stream, *job);
    return cudaGetLastError();
}

/* ---- deviation ------------------------------------------------------------------------------ */

/* One block: sums in a fixed order, and nothing to wait for between the passes. The latents are
 * small beside what a network reads. */
enum { MATCH_THREADS = 512 };

/* The same for all threads. */
__device__ inline double block_sum(double v, double *shared) {
    shared[threadIdx.x] = v;
    VD_SYNC();
    for (unsigned half = MATCH_THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            shared[threadIdx.x] += shared[threadIdx.x + half];
        VD_SYNC();
    }
    const double sum = shared[0];
    VD_SYNC();
    return sum;
}

__device__ inline double deviation(const float *values, int64_t count, double *shared) {
    double sum = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < count; i += MATCH_THREADS)
        sum += (double)values[i];
    const double mean = block_sum(sum, shared) / (double)count;
    for (int64_t i = threadIdx.x; i < count; i += MATCH_THREADS)
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    return sqrt(block_sum(squares, shared) / (double)(count - 1));
}

__global__ void match_deviation(float *dst, const float *like, double phi, int64_t count) {
    VD_SHARED(double, shared, MATCH_THREADS);
    const double own = deviation(dst, count, shared), other = deviation(like, count, shared);
    if (own == 0)
        return;
    const double factor = phi * (other / own) + (1 - phi);
    for (int64_t i = threadIdx.x; i < count; i += MATCH_THREADS)
        dst[i] = (float)(factor * (double)dst[i]);
}

cudaError_t vd_launch_match_deviation(cudaStream_t stream, float *dst, const float *like,
                                      double phi, int64_t count) {
    VD_LAUNCH_TOGETHER(match_deviation, 1, MATCH_THREADS, 0, stream, dst, like, phi, count);
    return cudaGetLastError();
}

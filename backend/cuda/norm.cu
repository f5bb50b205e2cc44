/* Group and layer norms. Moments of a channel are taken about a value of its own, so that nothing
 * cancels where a mean is far from zero, and put together in double in a fixed order. */
#include <type_traits>

#include "backend/cuda/device.cuh"

/* ---- moments of channels -------------------------------------------------------------------- */

/* count, mean and the sum of squares of the differences from it */
struct moments {
    double count, mean, squares;
};

__device__ inline void join(moments *a, double count, double mean, double squares) {
    if (count == 0)
        return;
    const double all = a->count + count, d = mean - a->mean;
    a->mean += d * count / all;
    a->squares += squares + d * d * a->count * count / all;
    a->count = all;
}

/* A block sees a chunk of rows and up to VD_BLOCK packs of V channels; `lanes` threads share a
 * pack's rows. */
template <int V, typename S>
__global__ void measure(vd_cuda_moments job, int which, int64_t first_channel) {
    VD_SHARED(float, shared, VD_BLOCK * 3 * V);
    const int64_t packs = job.channels[which] / V, channels = job.channels[0] + job.channels[1];
    const int64_t first_pack = (int64_t)blockIdx.y * VD_BLOCK;
    const int64_t most = VD_BLOCK, left_packs = packs - first_pack;
    const int wide = (int)(left_packs < most ? left_packs : most);
    const int lanes = VD_BLOCK / wide, lane = threadIdx.x / wide, pack = threadIdx.x % wide;
    const int64_t item = blockIdx.x / job.chunks, chunk = blockIdx.x % job.chunks;
    const int64_t begin = chunk * job.chunk_rows;
    const int64_t end = begin + job.chunk_rows < job.rows ? begin + job.chunk_rows : job.rows;
    const S *src =
        (const S *)job.src[which] + item * job.rows * job.channels[which] + (first_pack + pack) * V;
    float about[V], sum[V], squares[V];
    for (int k = 0; k < V; k++)
        about[k] = sum[k] = squares[k] = 0;
    int64_t count = 0;
    for (int64_t r = begin + lane; lane < lanes && r < end; r += lanes, count++) {
        float v[V];
        vd_load<V>(v, src, r * job.channels[which]);
        for (int k = 0; k < V; k++) {
            if (count == 0)
                about[k] = v[k];
            const float d = v[k] - about[k];
            sum[k] += d;
            squares[k] += d * d;
        }
    }
    for (int k = 0; k < V; k++) {
        const float shift = count == 0 ? 0 : sum[k] / (float)count;
        float *own = shared + (threadIdx.x * V + k) * 3;
        own[0] = about[k];
        own[1] = shift;
        own[2] = squares[k] - sum[k] * shift;
    }
    VD_SYNC();
    for (int c = threadIdx.x; c < wide * V; c += VD_BLOCK) {
        moments all = {0, 0, 0};
        for (int l = 0; l < lanes; l++) {
            const float *of = shared + ((l * wide + c / V) * V + c % V) * 3;
            const int64_t left = end - begin - l;
            join(&all, left <= 0 ? 0 : (double)((left + lanes - 1) / lanes),
                 (double)of[0] + (double)of[1], of[2]);
        }
        double *to =
            job.part +
            ((item * job.chunks + chunk) * channels + first_channel + first_pack * V + c) * 2;
        to[0] = all.mean;
        to[1] = all.squares;
    }
}

/* A block joins a group of an item: each thread some of its chunks' channels, then one all. */
enum { JOIN_BLOCK = 64 };

__global__ void join_group(vd_cuda_moments job) {
    VD_SHARED(double, shared, JOIN_BLOCK * 3);
    const int64_t channels = job.channels[0] + job.channels[1], run = channels / job.groups;
    const int64_t item = blockIdx.x / job.groups, group = blockIdx.x % job.groups;
    moments all = {0, 0, 0};
    for (int64_t i = threadIdx.x; i < job.chunks * run; i += JOIN_BLOCK) {
        const int64_t chunk = i / run, left = job.rows - chunk * job.chunk_rows;
        const double *part =
            job.part + ((item * job.chunks + chunk) * channels + group * run + i % run) * 2;
        join(&all, (double)(left < job.chunk_rows ? left : job.chunk_rows), part[0], part[1]);
    }
    shared[threadIdx.x * 3] = all.count;
    shared[threadIdx.x * 3 + 1] = all.mean;
    shared[threadIdx.x * 3 + 2] = all.squares;
    VD_SYNC();
    if (threadIdx.x != 0)
        return;
    for (int i = 1; i < JOIN_BLOCK; i++)
        join(&all, shared[i * 3], shared[i * 3 + 1], shared[i * 3 + 2]);
    const double variance = all.squares / all.count;
    float *to = job.factors + (item * job.groups + group) * VD_CUDA_FACTORS;
    to[0] = (float)all.mean;
    to[1] = (float)(all.mean - (double)to[0]);
    to[2] = (float)(1.0 / sqrt(variance + (double)job.eps));
    if (job.stats != NULL) {
        double *stats = job.stats + (item * job.groups + group) * 2;
        stats[0] = all.mean;
        stats[1] = variance;
    }
}

static bool is_wide(const vd_cuda_moments *job) {
    for (int i = 0; i < 2; i++)
        if (job->channels[i] % VD_VECTOR != 0 || !vd_is_aligned(job->src[i]))
            return false;
    return true;
}

cudaError_t vd_launch_group_measure(cudaStream_t stream, const vd_cuda_moments *job) {
    const int v = is_wide(job) ? VD_VECTOR : 1;
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < 2 && error == cudaSuccess; i++) {
        if (job->src[i] == NULL)
            continue;
        const int64_t packs = job->channels[i] / v, first = i == 0 ? 0 : job->channels[0];
        const dim3 grid((unsigned)(job->items * job->chunks),
                        (unsigned)((packs + VD_BLOCK - 1) / VD_BLOCK));
        error = vd_for_type(job->src_dtype[i], [&](auto *s) {
            typedef VD_TYPE(s) S;
            if (v == VD_VECTOR)
                VD_LAUNCH_TOGETHER((measure<VD_VECTOR, S>), grid, VD_BLOCK, 0, stream, *job, i,
                                   first);
            else
                VD_LAUNCH_TOGETHER((measure<1, S>), grid, VD_BLOCK, 0, stream, *job, i, first);
            return cudaGetLastError();
        });
    }
    if (error != cudaSuccess)
        return error;
    VD_LAUNCH_TOGETHER(join_group, (unsigned)(job->items * job->groups), JOIN_BLOCK, 0, stream,
                       *job);
    return cudaGetLastError();
}

/* ---- applying them -------------------------------------------------------------------------- */

template <int V, typename D, typename S>
__global__ void apply(vd_cuda_moments job, int which, int64_t first_channel) {
    const int64_t channels = job.channels[0] + job.channels[1], run = channels / job.groups;
    const int64_t packs = job.channels[which] / V, rows = job.items * job.rows;
    for (int64_t i = vd_first(); i < rows * packs; i += vd_stride()) {
        const int64_t row = i / packs, c = first_channel + i % packs * V;
        const float *factors = job.factors + row / job.rows * job.groups * VD_CUDA_FACTORS;
        float v[V], scale[V], shift[V];
        vd_load<V>(v, (const S *)job.src[which], i * V);
        vd_load<V>(scale, job.scale, c);
        vd_load<V>(shift, job.shift, c);
        for (int k = 0; k < V; k++) {
            const float *f = factors + (c + k) / run * VD_CUDA_FACTORS;
            v[k] = vd_act((v[k] - f[0] - f[1]) * (f[2] * scale[k]) + shift[k], job.act);
        }
        vd_store<V>((D *)job.dst, row * channels + c, v);
    }
}

cudaError_t vd_launch_group_apply(cudaStream_t stream, const vd_cuda_moments *job) {
    const bool wide = is_wide(job) && vd_is_aligned(job->dst) && vd_is_aligned(job->scale) &&
                      vd_is_aligned(job->shift);
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < 2 && error == cudaSuccess; i++) {
        if (job->src[i] == NULL)
            continue;
        const int64_t first = i == 0 ? 0 : job->channels[0];
        const int64_t count = job->items * job->rows * job->channels[i];
        error = vd_for_types(job->dst_dtype, job->src_dtype[i], [&](auto *d, auto *s) {
            typedef VD_TYPE(d) D;
            typedef VD_TYPE(s) S;
            if (wide)
                VD_LAUNCH((apply<VD_VECTOR, D, S>), vd_blocks(count / VD_VECTOR), VD_BLOCK, stream,
                          *job, i, first);
            else
                VD_LAUNCH((apply<1, D, S>), vd_blocks(count), VD_BLOCK, stream, *job, i, first);
            return cudaGetLastError();
        });
    }
    return error;
}

/* ---- layer norm ----------------------------------------------------------------------------- */

/* A block is a row. What a thread has read it reads again from the cache. */
enum { LAYER_BLOCK = 128 };

__device__ inline float block_sum(float v, float *shared) {
    shared[threadIdx.x] = v;
    VD_SYNC();
    for (int half = LAYER_BLOCK / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half)
            shared[threadIdx.x] += shared[threadIdx.x + half];
        VD_SYNC();
    }
    const float sum = shared[0];
    VD_SYNC();
    return sum;
}

template <int V, typename D, typename S>
__global__ void layer_norm(D *dst, const S *src, const float *scale, const float *shift, float eps,
                           int64_t columns) {
    VD_SHARED(float, shared, LAYER_BLOCK);
    const int64_t row = (int64_t)blockIdx.x * columns, packs = columns / V;
    const float about = vd_to_float(src[row]);
    float sum = 0;
    for (int64_t i = threadIdx.x; i < packs; i += LAYER_BLOCK) {
        float v[V];
        vd_load<V>(v, src, row + i * V);
        for (int k = 0; k < V; k++)
            sum += v[k] - about;
    }
    /* Every thread has `about` before the first result is written where it was. The mean is about +
     * rest, which have more digits than their sum. */
    const float rest = block_sum(sum, shared) / (float)columns;
    float squares = 0;
    for (int64_t i = threadIdx.x; i < packs; i += LAYER_BLOCK) {
        float v[V];
        vd_load<V>(v, src, row + i * V);
        for (int k = 0; k < V; k++)
            squares += (v[k] - about - rest) * (v[k] - about - rest);
    }
    const float variance = block_sum(squares, shared) / (float)columns;
    const float factor = 1.0F / sqrtf(variance + eps);
    for (int64_t i = threadIdx.x; i < packs; i += LAYER_BLOCK) {
        float v[V], a[V], b[V];
        vd_load<V>(v, src, row + i * V);
        vd_load<V>(a, scale, i * V);
        vd_load<V>(b, shift, i * V);
        for (int k = 0; k < V; k++)
            v[k] = (v[k] - about - rest) * factor * a[k] + b[k];
        vd_store<V>(dst, row + i * V, v);
    }
}

cudaError_t vd_launch_layer_norm(cudaStream_t stream, void *dst, vd_dtype dst_dtype,
                                 const void *src, vd_dtype src_dtype, const float *scale,
                                 const float *shift, float eps, int64_t rows, int64_t columns) {
    const bool wide = columns % VD_VECTOR == 0 && vd_is_aligned(dst) && vd_is_aligned(src) &&
                      vd_is_aligned(scale) && vd_is_aligned(shift);
    return vd_for_types(dst_dtype, src_dtype, [&](auto *d, auto *s) {
        typedef VD_TYPE(d) D;
        typedef VD_TYPE(s) S;
        if (wide)
            VD_LAUNCH_TOGETHER((layer_norm<VD_VECTOR, D, S>), (unsigned)rows, LAYER_BLOCK, 0,
                               stream, (D *)dst, (const S *)src, scale, shift, eps, columns);
        else
            VD_LAUNCH_TOGETHER((layer_norm<1, D, S>), (unsigned)rows, LAYER_BLOCK, 0, stream,
                               (D *)dst, (const S *)src, scale, shift, eps, columns);
        return cudaGetLastError();
    });
}

/* Taps gathered to a matrix; pictures split in phases and put together again. */
#include <type_traits>

#include "backend/cuda/device.cuh"

/* V channels of a pixel of src; zeros in the padding. */
template <int V, typename S>
__device__ inline void load_padded(float *v, const S *src, const vd_cuda_conv &c, int64_t image,
                                   int64_t y, int64_t x, int64_t channel) {
    for (int k = 0; k < V; k++)
        v[k] = 0;
    if (y >= 0 && y < c.src_h && x >= 0 && x < c.src_w)
        vd_load<V>(v, src, ((image * c.src_h + y) * c.src_w + x) * c.in + channel);
}

/* ---- taps ----------------------------------------------------------------------------------- */

template <int V, typename D, typename S>
__global__ void taps(D *dst, const S *src, vd_cuda_conv c, int64_t first, int64_t count) {
    const int64_t packs = c.in / V, row_packs = c.kernel_h * c.kernel_w * packs;
    for (int64_t i = vd_first(); i < count * row_packs; i += vd_stride()) {
        const int64_t position = first + i / row_packs, tap = i % row_packs / packs;
        const int64_t image = position / (c.dst_h * c.dst_w);
        const int64_t y =
            position / c.dst_w % c.dst_h * c.stride_h - c.pad_top + tap / c.kernel_w * c.dilation_h;
        const int64_t x =
            position % c.dst_w * c.stride_w - c.pad_left + tap % c.kernel_w * c.dilation_w;
        float v[V];
        load_padded<V>(v, src, c, image, y, x, i % packs * V);
        vd_store<V>(dst, i * V, v);
    }
}

cudaError_t vd_launch_taps(cudaStream_t stream, void *dst, vd_dtype dst_dtype, const void *src,
                           vd_dtype src_dtype, const vd_cuda_conv *conv, int64_t first,
                           int64_t count) {
    const int64_t values = count * conv->kernel_h * conv->kernel_w * conv->in;
    const bool wide = conv->in % VD_VECTOR == 0 && vd_is_aligned(dst) && vd_is_aligned(src);
    return vd_for_types(dst_dtype, src_dtype, [&](auto *d, auto *s) {
        typedef VD_TYPE(d) D;
        typedef VD_TYPE(s) S;
        if (wide)
            VD_LAUNCH((taps<VD_VECTOR, D, S>), vd_blocks(values / VD_VECTOR), VD_BLOCK, stream,
                      (D *)dst, (const S *)src, *conv, first, count);
        else
            VD_LAUNCH((taps<1, D, S>), vd_blocks(values), VD_BLOCK, stream, (D *)dst,
                      (const S *)src, *conv, first, count);
        return cudaGetLastError();
    });
}

/* ---- taps of a mapped kernel ---------------------------------------------------------------- */

enum { SMALL_TAPS = 9 };

/* sum += share * the nine sums of the taps of a kernel whose first tap is at (top, left). */
template <int V, typename S>
__device__ inline void add_taps(float sum[][V], const S *src, const vd_cuda_conv &c,
                                const float *map, int64_t image, int64_t top, int64_t left,
                                int64_t channel, float share) {
    for (int tap = 0; tap < c.kernel_h * c.kernel_w; tap++) {
        const int64_t y = top + (int64_t)(tap / c.kernel_w) * c.dilation_h;
        const int64_t x = left + (int64_t)(tap % c.kernel_w) * c.dilation_w;
        if (y < 0 || y >= c.src_h || x < 0 || x >= c.src_w)
            continue;
        float v[V];
        vd_load<V>(v, src, ((image * c.src_h + y) * c.src_w + x) * c.in + channel);
        for (int j = 0; j < SMALL_TAPS; j++)
            for (int k = 0; k < V; k++)
                sum[j][k] += share * map[tap * SMALL_TAPS + j] * v[k];
    }
}

template <int V, typename D, typename S>
__global__ void mixed_taps(D *dst, const S *src, vd_cuda_conv c, const float *map, int64_t first,
                           int64_t count) {
    const int64_t packs = c.in / V;
    for (int64_t i = vd_first(); i < count * packs; i += vd_stride()) {
        const int64_t position = first + i / packs, channel = i % packs * V;
        const int64_t image = position / (c.dst_h * c.dst_w);
        const int64_t raw_h = c.raw_h > 0 ? c.raw_h : c.dst_h;
        const int64_t raw_w = c.raw_w > 0 ? c.raw_w : c.dst_w;
        const vd_sample down = vd_sample_at(position / c.dst_w % c.dst_h, raw_h, c.dst_h);
        const vd_sample across = vd_sample_at(position % c.dst_w, raw_w, c.dst_w);
        float sum[SMALL_TAPS][V];
        for (int j = 0; j < SMALL_TAPS; j++)
            for (int k = 0; k < V; k++)
                sum[j][k] = 0;
        for (int corner = 0; corner < 4; corner++) {
            const bool below = corner / 2 != 0, right = corner % 2 != 0;
            const float share = (below ? down.weight : 1 - down.weight) *
                                (right ? across.weight : 1 - across.weight);
            if (share == 0)
                continue;
            const int64_t row = below ? down.second : down.first;
            const int64_t column = right ? across.second : across.first;
            add_taps<V>(sum, src, c, map, image, row * c.stride_h - c.pad_top,
                        column * c.stride_w - c.pad_left, channel, share);
        }
        for (int j = 0; j < SMALL_TAPS; j++)
            vd_store<V>(dst, (i / packs * SMALL_TAPS + j) * c.in + channel, sum[j]);
    }
}

cudaError_t vd_launch_mixed_taps(cudaStream_t stream, void *dst, vd_dtype dst_dtype,
                                 const void *src, vd_dtype src_dtype, const vd_cuda_conv *conv,
                                 const float *map, int64_t first, int64_t count) {
    const bool wide = conv->in % VD_VECTOR == 0 && vd_is_aligned(dst) && vd_is_aligned(src);
    const int64_t packs = count * conv->in / (wide ? VD_VECTOR : 1);
    return vd_for_types(dst_dtype, src_dtype, [&](auto *d, auto *s) {
        typedef VD_TYPE(d) D;
        typedef VD_TYPE(s) S;
        if (wide)
            VD_LAUNCH((mixed_taps<VD_VECTOR, D, S>), vd_blocks(packs), VD_BLOCK, stream, (D *)dst,
                      (const S *)src, *conv, map, first, count);
        else
            VD_LAUNCH((mixed_taps<1, D, S>), vd_blocks(packs), VD_BLOCK, stream, (D *)dst,
                      (const S *)src, *conv, map, first, count);
        return cudaGetLastError();
    });
}

/* ---- phases --------------------------------------------------------------------------------- */

/* Sizes of a phase of the result. */
__host__ __device__ inline int64_t phase_of(int64_t size, int dilation) {
    return (size + dilation - 1) / dilation;
}

template <int V, typename T> __global__ void split(T *dst, const T *src, vd_cuda_conv c) {
    const int64_t packs = c.in / V;
    const int64_t h = phase_of(c.dst_h, c.dilation_h) + c.kernel_h - 1;
    const int64_t w = phase_of(c.dst_w, c.dilation_w) + c.kernel_w - 1;
    const int64_t count = c.n * c.dilation_h * c.dilation_w * h * w * packs;
    for (int64_t i = vd_first(); i < count; i += vd_stride()) {
        const int64_t column = i / packs % w, row = i / packs / w % h;
        const int64_t phase = i / packs / w / h;
        const int64_t x = column * c.dilation_w + phase % c.dilation_w - c.pad_left;
        const int64_t y = row * c.dilation_h + phase / c.dilation_w % c.dilation_h - c.pad_top;
        const int64_t image = phase / c.dilation_w / c.dilation_h;
        float v[V];
        load_padded<V>(v, src, c, image, y, x, i % packs * V);
        vd_store<V>(dst, i * V, v);
    }
}

cudaError_t vd_launch_split(cudaStream_t stream, void *dst, const void *src, vd_dtype dtype,
                            const vd_cuda_conv *conv) {
    const int64_t count = conv->n * conv->dilation_h * conv->dilation_w *
                          (phase_of(conv->dst_h, conv->dilation_h) + conv->kernel_h - 1) *
                          (phase_of(conv->dst_w, conv->dilation_w) + conv->kernel_w - 1) * conv->in;
    const bool wide = conv->in % VD_VECTOR == 0 && vd_is_aligned(dst) && vd_is_aligned(src);
    return vd_for_type(dtype, [&](auto *t) {
        typedef VD_TYPE(t) T;
        if (wide)
            VD_LAUNCH((split<VD_VECTOR, T>), vd_blocks(count / VD_VECTOR), VD_BLOCK, stream,
                      (T *)dst, (const T *)src, *conv);
        else
            VD_LAUNCH((split<1, T>), vd_blocks(count), VD_BLOCK, stream, (T *)dst, (const T *)src,
                      *conv);
        return cudaGetLastError();
    });
}

template <int V, typename D, typename S> __global__ void join(vd_cuda_join job, vd_cuda_conv c) {
    const int64_t packs = c.out / V;
    const int64_t h = phase_of(c.dst_h, c.dilation_h), w = phase_of(c.dst_w, c.dilation_w);
    const int64_t count = c.n * c.dst_h * c.dst_w * packs;
    for (int64_t i = vd_first(); i < count; i += vd_stride()) {
        const int64_t x = i / packs % c.dst_w, y = i / packs / c.dst_w % c.dst_h;
        const int64_t image = i / packs / c.dst_w / c.dst_h, channel = i % packs * V;
        const int64_t phase =
            (image * c.dilation_h + y % c.dilation_h) * c.dilation_w + x % c.dilation_w;
        const int64_t from = (phase * h + y / c.dilation_h) * w + x / c.dilation_w;
        float v[V], other[V];
        vd_load<V>(v, (const S *)job.src, from * c.out + channel);
        if (job.bias != NULL) {
            vd_load<V>(other, job.bias, image / job.run_images * c.out + channel);
            for (int k = 0; k < V; k++)
                v[k] += other[k];
        }
        for (int k = 0; k < V; k++)
            v[k] = vd_act(v[k], job.act);
        if (job.residual != NULL) {
            vd_load<V>(other, (const D *)job.residual, i * V);
            for (int k = 0; k < V; k++)
                v[k] += other[k];
        }
        vd_store<V>((D *)job.dst, i * V, v);
    }
}

cudaError_t vd_launch_join(cudaStream_t stream, const vd_cuda_join *job, const vd_cuda_conv *conv) {
    const int64_t count = conv->n * conv->dst_h * conv->dst_w * conv->out;
    const bool wide = conv->out % VD_VECTOR == 0 && vd_is_aligned(job->dst) &&
                      vd_is_aligned(job->src) && vd_is_aligned(job->residual) &&
                      vd_is_aligned(job->bias);
    return vd_for_types(job->dtype, job->src_dtype, [&](auto *d, auto *s) {
        typedef VD_TYPE(d) D;
        typedef VD_TYPE(s) S;
        if (wide)
            VD_LAUNCH((join<VD_VECTOR, D, S>), vd_blocks(count / VD_VECTOR), VD_BLOCK, stream, *job,
                      *conv);
        else
            VD_LAUNCH((join<1, D, S>), vd_blocks(count), VD_BLOCK, stream, *job, *conv);
        return cudaGetLastError();
    });
}

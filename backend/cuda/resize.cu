/* Resizing of channels-last images, a few channels of a pixel as a piece of work. */
#include <type_traits>

#include "backend/cuda/device.cuh"

template <int V, typename T> __global__ void nearest(vd_cuda_resize job) {
    const int64_t packs = job.channels / V;
    const int64_t count = job.images * job.dst_h * job.dst_w * packs;
    for (int64_t i = vd_first(); i < count; i += vd_stride()) {
        const int64_t x = i / packs % job.dst_w, y = i / packs / job.dst_w % job.dst_h;
        const int64_t image = i / packs / job.dst_w / job.dst_h;
        const int64_t from =
            (image * job.h + y * job.h / job.dst_h) * job.w + x * job.w / job.dst_w;
        ((vd_pack<T, V> *)job.dst)[i] = ((const vd_pack<T, V> *)job.src)[from * packs + i % packs];
    }
}

template <int V, typename T> __global__ void bilinear(vd_cuda_resize job) {
    const int64_t packs = job.channels / V;
    const int64_t count = job.images * job.dst_h * job.dst_w * packs;
    for (int64_t i = vd_first(); i < count; i += vd_stride()) {
        const vd_sample x = vd_sample_at(i / packs % job.dst_w, job.w, job.dst_w);
        const vd_sample y = vd_sample_at(i / packs / job.dst_w % job.dst_h, job.h, job.dst_h);
        const T *image =
            (const T *)job.src + i / packs / job.dst_w / job.dst_h * job.h * job.w * job.channels;
        const int64_t c = i % packs * V;
        float a0[V], a1[V], b0[V], b1[V];
        vd_load<V>(a0, image, (y.first * job.w + x.first) * job.channels + c);
        vd_load<V>(a1, image, (y.first * job.w + x.second) * job.channels + c);
        vd_load<V>(b0, image, (y.second * job.w + x.first) * job.channels + c);
        vd_load<V>(b1, image, (y.second * job.w + x.second) * job.channels + c);
        for (int k = 0; k < V; k++) {
            const float above = (1 - x.weight) * a0[k] + x.weight * a1[k];
            const float below = (1 - x.weight) * b0[k] + x.weight * b1[k];
            a0[k] = (1 - y.weight) * above + y.weight * below;
        }
        vd_store<V>((T *)job.dst, i * V, a0);
    }
}

static bool is_wide(const vd_cuda_resize *job) {
    return job->channels % VD_VECTOR == 0 && vd_is_aligned(job->dst) && vd_is_aligned(job->src);
}

static int64_t packs_of(const vd_cuda_resize *job, int width) {
    return job->images * job->dst_h * job->dst_w * (job->channels / width);
}

cudaError_t vd_launch_nearest(cudaStream_t stream, const vd_cuda_resize *job) {
    return vd_for_type(job->dtype, [&](auto *t) {
        typedef VD_TYPE(t) T;
        if (is_wide(job))
            VD_LAUNCH((nearest<VD_VECTOR, T>), vd_blocks(packs_of(job, VD_VECTOR)), VD_BLOCK,
                      stream, *job);
        else
            VD_LAUNCH((nearest<1, T>), vd_blocks(packs_of(job, 1)), VD_BLOCK, stream, *job);
        return cudaGetLastError();
    });
}

cudaError_t vd_launch_bilinear(cudaStream_t stream, const vd_cuda_resize *job) {
    return vd_for_type(job->dtype, [&](auto *t) {
        typedef VD_TYPE(t) T;
        if (is_wide(job))
            VD_LAUNCH((bilinear<VD_VECTOR, T>), vd_blocks(packs_of(job, VD_VECTOR)), VD_BLOCK,
                      stream, *job);
        else
            VD_LAUNCH((bilinear<1, T>), vd_blocks(packs_of(job, 1)), VD_BLOCK, stream, *job);
        return cudaGetLastError();
    });
}

/* Where a pixel of a bilinearly resized image lies in the source: the one arithmetic of all
 * backends, so also for a device. */
#ifndef VD_BACKEND_SAMPLE_H
#define VD_BACKEND_SAMPLE_H

#include <stdint.h>

#ifdef __CUDACC__
#define VD_HOST_DEVICE __host__ __device__
#else
#define VD_HOST_DEVICE
#endif

/* The two positions between which a resized one lies along an axis, and the second one's weight. */
typedef struct vd_sample {
    int64_t first, second;
    float weight;
} vd_sample;

/* Position `at` of an axis that is resized from `in` to `out`. In float32 with one rounding of
 * scale * (at + 1/2) - 1/2, as PyTorch's builds for x86 have it. The product of two float32 is
 * exact in double. */
VD_HOST_DEVICE static inline vd_sample vd_sample_at(int64_t at, int64_t in, int64_t out) {
    const float scale = (float)in / (float)out;
    float source = (float)((double)scale * (double)((float)at + 0.5F) - 0.5);
    vd_sample s;
    if (source < 0)
        source = 0;
    s.first = (int64_t)source;
    if (s.first > in - 1)
        s.first = in - 1;
    s.second = s.first + 1 < in ? s.first + 1 : s.first;
    s.weight = source - (float)s.first;
    return s;
}

#endif

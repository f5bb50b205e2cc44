/* Low frequencies of an image, as backend/cpu/spectrum.c has them. Of each channel there are seven
 * sums over the pixels: plain, and times exp(i y), exp(i x) and exp(i (x + y)), where y and x make
 * one turn over the image. */
#include <type_traits>

#include "backend/cuda/device.cuh"

enum { SUMS = 7, SUM_CHANNELS = 32, SUM_LINES = 8 };

/* Cosines and sines of the rows, then of the columns; zeros along an axis of 1. */
__global__ void fill_waves(double *wave, int64_t h, int64_t w) {
    for (int64_t i = vd_first(); i < h + w; i += vd_stride()) {
        const int64_t at = i < h ? i : i - h, size = i < h ? h : w;
        const double turn = 6.283185307179586 * (double)at / (double)size;
        wave[2 * i] = size > 1 ? cos(turn) : 0;
        wave[2 * i + 1] = size > 1 ? sin(turn) : 0;
    }
}

template <typename T>
__global__ void sum_waves(double *sums, const T *t, const double *wave, int64_t h, int64_t w,
                          int64_t channels) {
    VD_SHARED(double, shared, SUM_LINES *SUM_CHANNELS *SUMS);
    const int64_t tiles = (channels + SUM_CHANNELS - 1) / SUM_CHANNELS;
    const int64_t image = blockIdx.x / tiles;
    const int64_t c = blockIdx.x % tiles * SUM_CHANNELS + threadIdx.x;
    double sum[SUMS] = {0, 0, 0, 0, 0, 0, 0};
    for (int64_t p = threadIdx.y; c < channels && p < h * w; p += SUM_LINES) {
        const double v = (double)vd_to_float(t[(image * h * w + p) * channels + c]);
        const double *y = wave + p / w * 2, *x = wave + (h + p % w) * 2;
        sum[0] += v;
        sum[1] += v * y[0];
        sum[2] += v * y[1];
        sum[3] += v * x[0];
        sum[4] += v * x[1];
        sum[5] += v * (y[0] * x[0] - y[1] * x[1]);
        sum[6] += v * (y[0] * x[1] + y[1] * x[0]);
    }
    double *own = shared + (threadIdx.y * SUM_CHANNELS + threadIdx.x) * SUMS;
    for (int k = 0; k < SUMS; k++)
        own[k] = sum[k];
    VD_SYNC();
    if (threadIdx.y != 0 || c >= channels)
        return;
    for (int k = 0; k < SUMS; k++) {
        double all = 0;
        for (int line = 0; line < SUM_LINES; line++)
            all += shared[(line * SUM_CHANNELS + threadIdx.x) * SUMS + k];
        sums[(image * SUMS + k) * channels + c] = all;
    }
}

template <typename T>
__global__ void add_waves(T *t, const double *sums, const double *wave, double change, int64_t n,
                          int64_t h, int64_t w, int64_t channels) {
    for (int64_t i = vd_first(); i < n * h * w * channels; i += vd_stride()) {
        const int64_t c = i % channels, p = i / channels % (h * w), image = i / channels / (h * w);
        const double *y = wave + p / w * 2, *x = wave + (h + p % w) * 2;
        const double *s = sums + image * SUMS * channels + c;
        const double add = s[0] + s[channels] * y[0] + s[2 * channels] * y[1] +
                           s[3 * channels] * x[0] + s[4 * channels] * x[1] +
                           s[5 * channels] * (y[0] * x[0] - y[1] * x[1]) +
                           s[6 * channels] * (y[0] * x[1] + y[1] * x[0]);
        t[i] = vd_from_float<T>((float)((double)vd_to_float(t[i]) + change * add));
    }
}

size_t vd_spectrum_doubles(int64_t n, int64_t h, int64_t w, int64_t channels) {
    return (size_t)(2 * (h + w) + n * SUMS * channels);
}

cudaError_t vd_launch_low_frequencies(cudaStream_t stream, const vd_cuda_spectrum *job) {
    double *wave = job->scratch, *sums = wave + 2 * (job->h + job->w);
    const int64_t tiles = (job->channels + SUM_CHANNELS - 1) / SUM_CHANNELS;
    const int64_t values = job->n * job->h * job->w * job->channels;
    VD_LAUNCH(fill_waves, vd_blocks(job->h + job->w), VD_BLOCK, stream, wave, job->h, job->w);
    cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess)
        return error;
    return vd_for_type(job->dtype, [&](auto *type) {
        typedef VD_TYPE(type) T;
        VD_LAUNCH_TOGETHER((sum_waves<T>), (unsigned)(job->n * tiles),
                           dim3(SUM_CHANNELS, SUM_LINES), 0, stream, sums, (const T *)job->t, wave,
                           job->h, job->w, job->channels);
        cudaError_t first = cudaGetLastError();
        if (first != cudaSuccess)
            return first;
        VD_LAUNCH((add_waves<T>), vd_blocks(values), VD_BLOCK, stream, (T *)job->t, sums, wave,
                  job->change, job->n, job->h, job->w, job->channels);
        return cudaGetLastError();
    });
}

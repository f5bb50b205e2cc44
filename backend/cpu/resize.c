/* Nearest and bilinear enlargement and reduction of channels-last pictures. */
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl_util.h"
#include "backend/cpu/gemm.h"

enum { PIECE = 256 };

typedef struct resize_job {
    const vd_cpu_kernels *kernels;
    vd_tensor *dst;
    const vd_tensor *src;
} resize_job;

/* One row of dst. */
static int nearest_row(void *user, int64_t task, int thread) {
    const resize_job *j = user;
    const int64_t in_h = j->src->dim[1];
    const int64_t in_w = j->src->dim[2];
    const int64_t out_h = j->dst->dim[1];
    const int64_t out_w = j->dst->dim[2];
    const int64_t channels = j->dst->dim[3];
    const int64_t from = task / out_h * in_h + task % out_h * in_h / out_h;
    const size_t bytes = (size_t)channels * vd_dtype_bytes(j->dst->dtype);
    (void)thread;
    for (int64_t x = 0; x < out_w; x++)
        memcpy(vd_cpu_at(j->dst, (task * out_w + x) * channels),
               vd_cpu_at(j->src, (from * in_w + x * in_w / out_w) * channels), bytes);
    return 0;
}

/* Where an output index reads: two inputs and the weight of the second. float32 as PyTorch has it.
 */
typedef struct tap {
    int64_t low, high;
    float weight;
} tap;

static tap tap_of(int64_t index, int64_t in, int64_t out) {
    const float scale = (float)in / (float)out;
    const float at = scale * ((float)index + 0.5F) - 0.5F;
    const float clamped = at > 0 ? at : 0;
    int64_t low = (int64_t)clamped;
    if (low > in - 1)
        low = in - 1;
    return (tap){low, low + 1 < in ? low + 1 : low, clamped - (float)low};
}

static int bilinear_row(void *user, int64_t task, int thread) {
    const resize_job *j = user;
    float upper[PIECE];
    float lower[PIECE];
    float other[PIECE];
    const int64_t in_h = j->src->dim[1];
    const int64_t in_w = j->src->dim[2];
    const int64_t out_h = j->dst->dim[1];
    const int64_t out_w = j->dst->dim[2];
    const int64_t channels = j->dst->dim[3];
    const tap y = tap_of(task % out_h, in_h, out_h);
    const int64_t picture = task / out_h * in_h;
    (void)thread;
    for (int64_t i = 0; i < out_w; i++) {
        const tap x = tap_of(i, in_w, out_w);
        for (int64_t c = 0; c < channels; c += PIECE) {
            const size_t n = (size_t)(channels - c < PIECE ? channels - c : PIECE);
            const int64_t rows[2] = {picture + y.low, picture + y.high};
            float *const mixed[2] = {upper, lower};
            for (int k = 0; k < 2; k++) {
                const int64_t row = rows[k] * in_w;
                j->kernels->load(mixed[k], vd_cpu_at(j->src, (row + x.low) * channels + c),
                                 j->src->dtype, n);
                j->kernels->load(other, vd_cpu_at(j->src, (row + x.high) * channels + c),
                                 j->src->dtype, n);
                j->kernels->lerp(mixed[k], mixed[k], other, x.weight, n);
            }
            j->kernels->lerp(upper, upper, lower, y.weight, n);
            j->kernels->store(vd_cpu_at(j->dst, (task * out_w + i) * channels + c), j->dst->dtype,
                              upper, n);
        }
    }
    return 0;
}

static vd_status run(const vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_cpu_task row,
                     const char *doing) {
    resize_job j = {.kernels = vd_cpu(x)->kernels, .dst = dst, .src = src};
    if (x->dry)
        return VD_OK;
    return vd_dnnl_status(vd_cpu_parallel(x->be->threads, dst->dim[0] * dst->dim[1], row, &j),
                          doing);
}

vd_status vd_cpu_resize_nearest(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    return run(x, dst, src, nearest_row, "computing resize_nearest");
}

vd_status vd_cpu_resize_bilinear(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    return run(x, dst, src, bilinear_row, "computing resize_bilinear");
}

#include "backend/cpu/conv_taps.h"

#include <math.h>

static const double LEAST = 1e-12;

/* The share of a large kernel's tap (+-d, +-k) in a filter of both axes, found from the map: the
 * filter's weights of the small taps along an axis, and whether it takes sums or differences. */
typedef struct filter {
    double weight[3];
    bool differs;
} filter;

static const filter side = {{0.5, 0, 0.5}, false};
static const filter centre = {{0, 1, 0}, false};
static const filter slope = {{-0.5, 0, 0.5}, true};

/* The mean over the four mirror images of the tap, each with its sign. What rounding left of a zero
 * is one: as a denormal float32 it would cost more than all else. */
static double coefficient(const vd_kernel_map *map, filter down, filter across, int d, int k) {
    const int half = map->taps / 2;
    double sum = 0;
    for (int mirror = 0; mirror < 4; mirror++) {
        const bool up = mirror / 2 != 0, left = mirror % 2 != 0;
        const int tap = (half + (up ? -d : d)) * map->taps + half + (left ? -k : k);
        const double sign = (up && down.differs ? -1 : 1) * (left && across.differs ? -1 : 1);
        for (int j = 0; j < 9; j++)
            sum += sign * down.weight[j / 3] * across.weight[j % 3] * map->values[tap * 9 + j];
    }
    return fabs(sum) > LEAST ? sum / 4 : 0;
}

static void fill_coefficients(vd_cpu_tap_mix *mix, const vd_kernel_map *map) {
    const filter both[9][2] = {{side, side},     {side, centre},  {centre, side},
                               {centre, centre}, {side, slope},   {centre, slope},
                               {slope, side},    {slope, centre}, {slope, slope}};
    mix->half = map->taps / 2;
    for (int d = 0; d <= mix->half; d++)
        for (int k = 0; k <= mix->half; k++)
            for (int i = 0; i < 9; i++)
                mix->coefficient[d * (mix->half + 1) + k][i] =
                    (float)coefficient(map, both[i][0], both[i][1], d, k);
}

vd_status vd_cpu_taps_init(vd_cpu_taps *taps, vd_exec *x, const vd_tensor *dst,
                           const vd_tensor *src, const vd_conv2d_desc *desc) {
    if (!vd_kernel_map_is_symmetric(desc->map))
        return vd_fail(VD_ERR_BACKEND, VD_KERNEL_MAP_MESSAGE);
    const int64_t width = dst->dim[2], raw_w = desc->raw_w > 0 ? desc->raw_w : width;
    void *sample;
    vd_status st = vd_exec_scratch(x, (size_t)width * sizeof(vd_sample), &sample);
    if (st != VD_OK)
        return st;
    *taps = (vd_cpu_taps){.kernels = vd_cpu(x)->kernels,
                          .src = src,
                          .desc = desc,
                          .raw_h = desc->raw_h > 0 ? desc->raw_h : dst->dim[1],
                          .dst_h = dst->dim[1],
                          .dst_w = width,
                          .sample = sample};
    fill_coefficients(&taps->mix, desc->map);
    for (int64_t i = 0; i < width && !x->dry; i++)
        taps->sample[i] = vd_sample_at(i, raw_w, width);
    return VD_OK;
}

/* Lines of src that hold the taps of a raw line, at a channel. */
static void find_lines(const vd_cpu_taps *taps, int64_t image, int64_t raw, int64_t channel,
                       const void **line) {
    const vd_conv2d_desc *d = taps->desc;
    const int64_t *dim = taps->src->dim;
    for (int i = 0; i < d->map->taps; i++) {
        const int64_t y = raw * d->stride_h - d->pad_top + (int64_t)i * d->dilation_h;
        const int64_t at = (image * dim[1] + y) * dim[2] * dim[3] + channel;
        line[i] = y >= 0 && y < dim[1] ? (const unsigned char *)taps->src->data +
                                             (size_t)at * vd_dtype_bytes(taps->src->dtype)
                                       : NULL;
    }
}

void vd_cpu_taps_sum(const vd_cpu_taps *taps, const vd_cpu_taps_run *run, void *dst, vd_dtype dtype,
                     size_t step, size_t across, size_t down) {
    const vd_conv2d_desc *d = taps->desc;
    const int64_t end = run->position + run->positions;
    unsigned char *to = dst;
    for (int64_t p = run->position, next; p < end; p = next) {
        const int64_t line = p / taps->dst_w, column = p % taps->dst_w;
        const int64_t image = line / taps->dst_h;
        const vd_sample y = vd_sample_at(line % taps->dst_h, taps->raw_h, taps->dst_h);
        next = (line + 1) * taps->dst_w < end ? (line + 1) * taps->dst_w : end;
        vd_cpu_mix_run r = {.weight = y.weight,
                            .src_dtype = taps->src->dtype,
                            .dst_dtype = dtype,
                            .pixel = (size_t)taps->src->dim[3],
                            .width = taps->src->dim[2],
                            .ahead = (size_t)run->channels * vd_dtype_bytes(taps->src->dtype),
                            .stride = d->stride_w,
                            .pad = d->pad_left,
                            .dilation = d->dilation_w,
                            .sample = taps->sample + column,
                            .count = next - p,
                            .dst = to,
                            .position = step,
                            .across = across,
                            .down = down};
        find_lines(taps, image, y.first, run->channel, r.line[0]);
        find_lines(taps, image, y.second, run->channel, r.line[1]);
        taps->kernels->mix_taps(&r, &taps->mix, (size_t)run->channels);
        to += (size_t)(next - p) * step * vd_dtype_bytes(dtype);
    }
}

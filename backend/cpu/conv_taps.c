#include "backend/cpu/conv_taps.h"

/* The share of a large kernel's tap (+-d, +-k) in a filter of both axes, found from the map: the
 * filter's weights of the small taps along an axis, and whether it takes sums or differences. */
typedef struct filter {
    double weight[3];
    bool differs;
} filter;

static const filter side = {{0.5, 0, 0.5}, false};
static const filter centre = {{0, 1, 0}, false};
static const filter slope = {{-0.5, 0, 0.5}, true};

/* The mean over the four mirror images of the tap, each with its sign. */
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
    return sum / 4;
}

vd_status vd_cpu_taps_init(vd_cpu_taps *taps, const vd_cpu_kernels *kernels, const vd_tensor *src,
                           const vd_conv2d_desc *desc) {
    const filter both[9][2] = {{side, side},     {side, centre},  {centre, side},
                               {centre, centre}, {side, slope},   {centre, slope},
                               {slope, side},    {slope, centre}, {slope, slope}};
    const vd_kernel_map *map = desc->map;
    const int half = map->taps / 2;
    if (!vd_kernel_map_is_symmetric(map))
        return vd_fail(VD_ERR_BACKEND, VD_KERNEL_MAP_MESSAGE);
    *taps = (vd_cpu_taps){.kernels = kernels, .src = src, .desc = desc};
    taps->mix.half = half;
    for (int d = 0; d <= half; d++)
        for (int k = 0; k <= half; k++)
            for (int i = 0; i < 9; i++)
                taps->mix.coefficient[d * (half + 1) + k][i] =
                    (float)coefficient(map, both[i][0], both[i][1], d, k);
    return VD_OK;
}

void vd_cpu_taps_at(const vd_cpu_taps *taps, int64_t image, int64_t y, int64_t x, void *dst,
                    vd_dtype dtype, size_t across, size_t down) {
    const void *from[VD_CPU_MIX_MAX_TAPS * VD_CPU_MIX_MAX_TAPS];
    const vd_conv2d_desc *d = taps->desc;
    const int64_t *dim = taps->src->dim;
    const int side_taps = d->map->taps;
    const size_t pixel_bytes = (size_t)dim[3] * vd_dtype_bytes(taps->src->dtype);
    for (int i = 0; i < side_taps; i++) {
        const int64_t row = y * d->stride_h - d->pad_top + (int64_t)i * d->dilation_h;
        const bool inside = row >= 0 && row < dim[1];
        const int64_t first = (image * dim[1] + row) * dim[2];
        for (int k = 0; k < side_taps; k++) {
            const int64_t column = x * d->stride_w - d->pad_left + (int64_t)k * d->dilation_w;
            from[i * side_taps + k] = inside && column >= 0 && column < dim[2]
                                          ? (const unsigned char *)taps->src->data +
                                                (size_t)(first + column) * pixel_bytes
                                          : taps->zeros;
        }
    }
    taps->kernels->mix_taps(dst, dtype, across, down, from, taps->src->dtype, &taps->mix,
                            (size_t)dim[3]);
}

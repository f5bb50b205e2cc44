#include "video/low_res.h"

#include <math.h>

bool vd_low_res_size(const vd_model_info *info, int64_t width_px, int64_t height_px,
                     int64_t *small_width_px, int64_t *small_height_px) {
    const double multiple = (double)info->size_multiple_px;
    const double shrink = sqrt((double)info->width_px * (double)info->height_px /
                               ((double)width_px * (double)height_px));
    *small_width_px = (int64_t)(fmax(round((double)width_px * shrink / multiple), 1) * multiple);
    *small_height_px = (int64_t)(fmax(round((double)height_px * shrink / multiple), 1) * multiple);
    return shrink < 1 && *small_width_px <= width_px && *small_height_px <= height_px;
}

/* Two neighbours along one axis and the second's weight. */
typedef struct tap {
    int64_t first, second;
    float weight;
} tap;

static tap tap_at(int64_t i, int64_t size, int64_t src_size) {
    const double place = fmax(((double)i + 0.5) * (double)src_size / (double)size - 0.5, 0);
    const int64_t first = (int64_t)place;
    return (tap){first, first + 1 < src_size ? first + 1 : first, (float)(place - (double)first)};
}

static float between(const float *row, tap x) {
    return row[x.first] + (row[x.second] - row[x.first]) * x.weight;
}

void vd_low_res_enlarge(float *dst, int64_t h, int64_t w, const float *src, int64_t src_h,
                        int64_t src_w, int64_t planes) {
    for (int64_t p = 0; p < planes; p++)
        for (int64_t y = 0; y < h; y++) {
            const tap row = tap_at(y, h, src_h);
            const float *upper = src + (p * src_h + row.first) * src_w;
            const float *lower = src + (p * src_h + row.second) * src_w;
            for (int64_t x = 0; x < w; x++) {
                const tap column = tap_at(x, w, src_w);
                const float a = between(upper, column), b = between(lower, column);
                *dst++ = a + (b - a) * row.weight;
            }
        }
}

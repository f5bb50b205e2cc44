#include "video/noise.h"

#include <string.h>

void vd_noise_initial(vd_rng *rng, float *dst, int64_t channels, int64_t frames, int64_t pixels) {
    vd_rng_normal_f32(rng, dst, (size_t)(channels * frames * pixels));
}

void vd_noise_step(vd_rng *rng, float *dst, float *scratch, int64_t channels, int64_t frames,
                   int64_t pixels) {
    vd_rng_normal_f32(rng, scratch, (size_t)(channels * frames * pixels));
    for (int64_t f = 0; f < frames; f++)
        for (int64_t c = 0; c < channels; c++)
            memcpy(dst + (c * frames + f) * pixels, scratch + (f * channels + c) * pixels,
                   (size_t)pixels * sizeof *dst);
}

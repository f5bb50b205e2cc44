#include "video/guidance.h"

#include <math.h>

void vd_guidance_mix(float *dst, const float *base_uncond, const float *strong_uncond,
                     const float *strong_text, double scale, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double direction = (double)strong_text[i] - (double)strong_uncond[i];
        dst[i] = (float)((double)base_uncond[i] + scale * direction);
    }
}

/* In two passes: the difference of two large sums would lose what is left. */
static double deviation(const float *x, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)x[i];
    double mean = sum / (double)count;
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sqrt(squares / (double)(count - 1));
}

vd_status vd_guidance_rescale(float *eps, const float *strong_text, double phi, size_t batch,
                              size_t item) {
    if (!(phi >= 0 && phi <= 1))
        return vd_fail(VD_ERR_USAGE, "guidance rescale %g: must be 0 to 1", phi);
    if (item < 2)
        return vd_fail(VD_ERR_USAGE, "guidance rescale needs items of 2 values or more, not %zu",
                       item);
    for (size_t b = 0; b < batch; b++) {
        float *e = eps + b * item;
        double own = deviation(e, item);
        if (own == 0)
            continue;
        double factor = phi * (deviation(strong_text + b * item, item) / own) + (1 - phi);
        for (size_t i = 0; i < item; i++)
            e[i] = (float)(factor * (double)e[i]);
    }
    return VD_OK;
}

/* Classifier-free and noise-damped guidance on host arrays.
 *
 * With u_s, t_s the predictions of the strong UNet for the negative and the positive prompt, and
 * u_b that of the base UNet for the negative one: eps = u_b + w * (t_s - u_s). Plain guidance has
 * u_b = u_s.
 */
#ifndef VD_VIDEO_GUIDANCE_H
#define VD_VIDEO_GUIDANCE_H

#include <stddef.h>

#include "core/status.h"

/* dst = base_uncond + scale * (strong_text - strong_uncond), element by element, float32[count].
 * base_uncond may be strong_uncond, and dst may be any of the three. */
void vd_guidance_mix(float *dst, const float *base_uncond, const float *strong_uncond,
                     const float *strong_text, double scale, size_t count);

/* eps = phi * eps * (std(strong_text) / std(eps)) + (1 - phi) * eps, in place, with the standard
 * deviation (n - 1, in float64) over each of the `batch` items by itself; float32[batch * item].
 * VD_ERR_USAGE: phi outside [0, 1], an item of fewer than 2 values. An item of eps without any
 * deviation is left as it is. */
vd_status vd_guidance_rescale(float *eps, const float *strong_text, double phi, size_t batch,
                              size_t item);

#endif

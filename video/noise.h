/* Noise as TextToVideoSDPipeline draws it from a CPU generator. */
#ifndef VD_VIDEO_NOISE_H
#define VD_VIDEO_NOISE_H

#include "core/rng.h"
#include "core/status.h"

/* Initial latents: torch.randn(1, channels, frames, h, w), pixels = h * w. */
void vd_noise_initial(vd_rng *rng, float *dst, int64_t channels, int64_t frames, int64_t pixels);

/* The noise of a stochastic scheduler's step. The pipeline folds frames into the batch before the
 * scheduler, so the generator is drawn as (frames, channels, h, w); dst is [channels, frames, h,
 * w]. scratch: as many values as dst. */
void vd_noise_step(vd_rng *rng, float *dst, float *scratch, int64_t channels, int64_t frames,
                   int64_t pixels);

#endif

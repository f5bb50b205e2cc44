/* Low-resolution guidance: a render at the model's own size says what the large one shows.
 *
 * The exact form that ScaleCrafter's authors measured was never published. Here the finished small
 * latents are enlarged, noised to a middle step, and the large render goes on from there. Noised by
 * the scheduler itself: in the steps before, the prediction is the one whose x0 is the enlarged
 * clip, and no network is asked. So every scheduler works, its history and its noise included.
 */
#ifndef VD_VIDEO_LOW_RES_H
#define VD_VIDEO_LOW_RES_H

#include <stdint.h>

#include "video/vidilate.h"

/* The small render's size: the large one's shape and about as many pixels as the model was trained
 * at, in the model's multiples. False if the large one is not larger. */
bool vd_low_res_size(const vd_model_info *info, int64_t width_px, int64_t height_px,
                     int64_t *small_width_px, int64_t *small_height_px);

/* dst [planes, h, w] = src [planes, src_h, src_w], bilinear as PyTorch does without aligned
 * corners.
 */
void vd_low_res_enlarge(float *dst, int64_t h, int64_t w, const float *src, int64_t src_h,
                        int64_t src_w, int64_t planes);

#endif

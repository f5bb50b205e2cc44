/* Pictures of one channel, and what the scores do with them; for review/ only. */
#ifndef VD_REVIEW_LUMA_H
#define VD_REVIEW_LUMA_H

#include <stddef.h>
#include <stdint.h>

/* [height, width] bytes. */
typedef struct vd_luma {
    uint8_t *y;
    int width, height;
} vd_luma;

/* Box filter of `from` into `to`, whose size is not larger. */
void vd_luma_reduce(const vd_luma *to, const vd_luma *from);

/* Root of the mean square of the 4-neighbour Laplacian about its mean; 0 below 3x3. */
double vd_luma_laplacian_deviation(const vd_luma *picture);

/* Largest mean absolute difference of an 8x8 block; of the whole picture if it is smaller. */
double vd_luma_largest_block_change(const vd_luma *a, const vd_luma *b);

/* Sum over the 8x8 blocks of `now` of the length in pixels of their vectors to `before`, and their
 * number. */
void vd_luma_motion(const vd_luma *now, const vd_luma *before, double *length_sum, int64_t *blocks);

/* Mean over the pixels of `now` of the change that comes and goes, see vd_clip_scores.flicker. */
double vd_luma_flicker(const vd_luma *before, const vd_luma *now, const vd_luma *after);

/* See vd_clip_scores.repetition; lags in pixels of this picture, 0 where unknown. NaN if none fits.
 */
double vd_luma_repetition(const vd_luma *picture, double own_width, double own_height);

#endif

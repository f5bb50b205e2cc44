/* What can be told of a clip from its pixels alone, frame by frame, with no model's help.
 *
 *     VD_TRY(vd_scorer_create(512, 320, 256, 160, &scorer));
 *     for each frame: VD_TRY(vd_scorer_add(scorer, rgb));
 *     vd_scorer_finish(scorer, &scores);
 *
 * All are measured on luma Y (BT.709 weights of the R'G'B' bytes, 0..255). They order clips of one
 * size; between sizes and against people's taste they prove nothing. */
#ifndef VD_REVIEW_SCORES_H
#define VD_REVIEW_SCORES_H

#include <stdint.h>

#include "core/status.h"

typedef struct vd_clip_scores {
    /* Change that comes and goes, in levels of 255; 0 for a still, a steadily moving or a steadily
     * fading picture. For a pixel of frame t, d1 and d2 are its differences to frames t-1 and t+1
     * at the places where block matching finds it; if they have opposite signs about the pixel (it
     * is above both or below both), min(|d1|, |d2|), else 0; the mean of that. */
    double flicker;
    /* Mean length of the blocks' motion vectors, in percent of the longer side, a frame. Exhaustive
     * block matching (Jain and Jain 1981) by absolute differences less their mean, 8x8 blocks, +-8
     * pixels, on the picture reduced to at most 256. A vector counts only where standing still
     * leaves 2 levels a pixel and the vector halves them: noise has no motion. */
    double motion;
    /* Standard deviation of the 4-neighbour Laplacian, in levels: "variance of Laplacian" (LAPV) of
     * Pech-Pacheco et al. 2000 and Pertuz et al. 2013, as its root. Low is blurred; noise is high.
     */
    double sharpness;
    /* Repeated structure, 0..1: how much the picture repeats itself at a distance of the model's
     * own size, which is what a network drawn beyond its training does (He et al. 2023,
     * ScaleCrafter). Peaks of the normalized autocorrelation of the gradient's magnitude, on the
     * picture reduced to 64 pixels, over its neighbourhood (so that a long straight edge does not
     * count), within 10% of the own width, height and both; where the own size is unknown, at any
     * lag from a quarter to three quarters of the picture. Mean over every fourth frame. NaN: the
     * picture is less than a third larger than the model's own, nothing can repeat at that
     * distance. */
    double repetition;
    int64_t frames;
    int64_t black_frames;  /* no pixel above 24 */
    int64_t flat_frames;   /* one colour, black included: what NaN leaves when it becomes bytes */
    int64_t frozen_frames; /* no 8x8 block differs by 1 or more from the frame before */
} vd_clip_scores;

typedef struct vd_scorer vd_scorer;

/* Sizes in px, 1..16384; own size 0 where it is unknown. NULL on failure; VD_ERR_MEMORY. */
vd_status vd_scorer_create(int64_t width_px, int64_t height_px, int64_t own_width_px,
                           int64_t own_height_px, vd_scorer **out);

/* One that only counts black, flat and frozen frames, which costs next to nothing; the other scores
 * stay 0. */
vd_status vd_scorer_create_for_faults(int64_t width_px, int64_t height_px, vd_scorer **out);

/* One frame: [height, width, 3] bytes, RGB. */
void vd_scorer_add(vd_scorer *scorer, const uint8_t *rgb);

/* The scores of all frames so far. */
void vd_scorer_finish(const vd_scorer *scorer, vd_clip_scores *out);

/* What a whole clip is: "black" or "flat" if all its frames are, "frozen" if it has several and all
 * but the first are; NULL: nothing of it. */
const char *vd_clip_fault(const vd_clip_scores *scores);

/* NULL is legal. */
void vd_scorer_destroy(vd_scorer *scorer);

#endif

#include "review/scores.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "review/luma.h"

enum {
    MOTION_SIDE = 256,
    REPETITION_SIDE = 64,
    REPETITION_EVERY = 4,
    BLACK_BELOW = 24,
    FLAT_RANGE = 4,
    KEPT = 3, /* reduced frames: before, now, after */
};

struct vd_scorer {
    bool faults_only;
    vd_luma full, tiny;
    vd_luma reduced[KEPT];        /* frame t is in [t % KEPT] */
    double own_width, own_height; /* in pixels of `tiny`; 0: unknown */
    int64_t frames, black, flat, frozen;
    int64_t motion_blocks, flicker_frames, repetition_frames;
    double motion_sum, flicker_sum, sharpness_sum, repetition_sum;
};

static bool make(vd_luma *picture, int64_t width, int64_t height) {
    picture->width = (int)width;
    picture->height = (int)height;
    picture->y = malloc((size_t)width * (size_t)height);
    return picture->y != NULL;
}

/* Whole factors only: a moving picture then keeps its steps. */
static int64_t reduced_side(int64_t side, int64_t longer, int64_t limit) {
    const int64_t factor = (longer + limit - 1) / limit;
    return side > factor ? side / factor : 1;
}

vd_status vd_scorer_create(int64_t width_px, int64_t height_px, int64_t own_width_px,
                           int64_t own_height_px, vd_scorer **out) {
    const int64_t longer = width_px > height_px ? width_px : height_px;
    *out = NULL;
    vd_scorer *s = calloc(1, sizeof *s);
    if (s == NULL)
        return vd_fail(VD_ERR_MEMORY, "not enough memory for scores");
    bool made = make(&s->full, width_px, height_px) &&
                make(&s->tiny, reduced_side(width_px, longer, REPETITION_SIDE),
                     reduced_side(height_px, longer, REPETITION_SIDE));
    for (int i = 0; i < KEPT && made; i++)
        made = make(&s->reduced[i], reduced_side(width_px, longer, MOTION_SIDE),
                    reduced_side(height_px, longer, MOTION_SIDE));
    if (!made) {
        vd_scorer_destroy(s);
        return vd_fail(VD_ERR_MEMORY, "not enough memory for scores");
    }
    s->own_width = (double)own_width_px * s->tiny.width / (double)width_px;
    s->own_height = (double)own_height_px * s->tiny.height / (double)height_px;
    *out = s;
    return VD_OK;
}

vd_status vd_scorer_create_for_faults(int64_t width_px, int64_t height_px, vd_scorer **out) {
    const vd_status st = vd_scorer_create(width_px, height_px, 0, 0, out);
    if (*out != NULL)
        (*out)->faults_only = true;
    return st;
}

static void take_luma(const vd_luma *to, const uint8_t *rgb) {
    const size_t count = (size_t)to->width * (size_t)to->height;
    /* 0.2126, 0.7152, 0.0722 in 1/65536; the sum is 65536. */
    for (size_t i = 0; i < count; i++)
        to->y[i] = (uint8_t)((13933U * rgb[3 * i] + 46871U * rgb[3 * i + 1] +
                              4732U * rgb[3 * i + 2] + 32768U) >>
                             16);
}

/* `before` NULL: the first frame. */
static void look_for_faults(vd_scorer *s, const vd_luma *picture, const vd_luma *before) {
    const size_t count = (size_t)picture->width * (size_t)picture->height;
    int low = 255, high = 0;
    for (size_t i = 0; i < count; i++) {
        const int y = picture->y[i];
        low = y < low ? y : low;
        high = y > high ? y : high;
    }
    s->black += high <= BLACK_BELOW;
    s->flat += high <= BLACK_BELOW || high - low <= FLAT_RANGE;
    s->frozen += before != NULL && vd_luma_largest_block_change(picture, before) < 1;
}

/* All that is not a fault; `full` and `now` are of the same frame. */
static void add_scores(vd_scorer *s, const vd_luma *now, const vd_luma *before) {
    s->sharpness_sum += vd_luma_laplacian_deviation(&s->full);
    if (s->frames > 0) {
        double length_sum = 0;
        int64_t blocks = 0;
        vd_luma_motion(now, before, &length_sum, &blocks);
        s->motion_sum += length_sum;
        s->motion_blocks += blocks;
    }
    if (s->frames > 1) {
        s->flicker_sum += vd_luma_flicker(&s->reduced[(s->frames + 1) % KEPT], before, now);
        s->flicker_frames++;
    }
    if (s->frames % REPETITION_EVERY == 0) {
        vd_luma_reduce(&s->tiny, &s->full);
        s->repetition_sum += vd_luma_repetition(&s->tiny, s->own_width, s->own_height);
        s->repetition_frames++;
    }
}

void vd_scorer_add(vd_scorer *s, const uint8_t *rgb) {
    const vd_luma *now = &s->reduced[s->frames % KEPT];
    const vd_luma *before = &s->reduced[(s->frames + KEPT - 1) % KEPT];
    take_luma(&s->full, rgb);
    vd_luma_reduce(now, &s->full);
    look_for_faults(s, now, s->frames > 0 ? before : NULL);
    if (!s->faults_only)
        add_scores(s, now, before);
    s->frames++;
}

static double mean(double sum, int64_t count) {
    return count > 0 ? sum / (double)count : 0;
}

void vd_scorer_finish(const vd_scorer *s, vd_clip_scores *out) {
    const int longer =
        s->reduced[0].width > s->reduced[0].height ? s->reduced[0].width : s->reduced[0].height;
    *out = (vd_clip_scores){
        .flicker = mean(s->flicker_sum, s->flicker_frames),
        .motion = mean(s->motion_sum, s->motion_blocks) * 100 / longer,
        .sharpness = mean(s->sharpness_sum, s->frames),
        .repetition = s->frames > 0 ? mean(s->repetition_sum, s->repetition_frames) : NAN,
        .frames = s->frames,
        .black_frames = s->black,
        .flat_frames = s->flat,
        .frozen_frames = s->frozen,
    };
}

const char *vd_clip_fault(const vd_clip_scores *s) {
    if (s->frames > 0 && s->black_frames == s->frames)
        return "black";
    if (s->frames > 0 && s->flat_frames == s->frames)
        return "flat";
    return s->frames > 1 && s->frozen_frames == s->frames - 1 ? "frozen" : NULL;
}

void vd_scorer_destroy(vd_scorer *s) {
    if (s == NULL)
        return;
    free(s->full.y);
    free(s->tiny.y);
    for (int i = 0; i < KEPT; i++)
        free(s->reduced[i].y);
    free(s);
}

/* The worst clips: what is broken by itself, and what stands out among clips of one size. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "review/parts.h"

enum { FEWEST = 3 }; /* clips of one size that can be compared */

/* A picture that repeats itself, whatever the others do: where half of the clips do, none stands
 * out. Tiles score above 0.8, a thing drawn twice above 0.5, one drawn once below 0.25. */
static const double REPEATS = 0.5;

/* A score that is bad at one end. `least` is the smallest distance from the middle that counts. */
typedef struct criterion {
    size_t offset; /* of the score */
    double least;
    vd_review_mark mark;
    int bad_end; /* 1: high, -1: low */
} criterion;

static const criterion criteria[] = {
    {offsetof(vd_clip_scores, flicker), 0.5, VD_MARK_FLICKER, 1},
    {offsetof(vd_clip_scores, repetition), 0.15, VD_MARK_REPETITION, 1},
    {offsetof(vd_clip_scores, sharpness), 1, VD_MARK_BLUR, -1},
    {offsetof(vd_clip_scores, motion), 0.1, VD_MARK_STILL, -1},
};

const char *vd_review_mark_name(vd_review_mark mark) {
    static const char *const names[VD_MARK_COUNT] = {
        [VD_MARK_BLACK] = "black",           [VD_MARK_FLAT] = "flat",
        [VD_MARK_FROZEN] = "frozen",         [VD_MARK_FLICKER] = "flicker",
        [VD_MARK_REPETITION] = "repetition", [VD_MARK_BLUR] = "blur",
        [VD_MARK_STILL] = "still",
    };
    return names[mark];
}

static double value_of(const vd_review_clip *clip, const criterion *c) {
    double v;
    memcpy(&v, (const char *)&clip->scores + c->offset, sizeof v);
    return v;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, by_value);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static bool same_size(const vd_review_clip *a, const vd_review_clip *b) {
    return a->width_px == b->width_px && a->height_px == b->height_px;
}

/* Marks the clip if its score lies among the tenth (one at least) at the bad end of those of its
 * size, and further from their median than three times what their median deviation would be for
 * normal values (Iglewicz and Hoaglin 1993 advise 3.5). */
static void judge(const vd_review *r, vd_review_clip *clip, const criterion *c, double *values) {
    const double own = value_of(clip, c);
    size_t count = 0, worse = 0;
    if (isnan(own))
        return;
    for (size_t i = 0; i < r->clip_count; i++) {
        const double v = value_of(&r->clips[i], c);
        if (!same_size(&r->clips[i], clip) || isnan(v))
            continue;
        worse += c->bad_end * (v - own) > 0;
        values[count++] = v;
    }
    if (count < FEWEST || worse >= (count + 9) / 10)
        return;
    const double middle = median(values, count);
    for (size_t i = 0; i < count; i++)
        values[i] = fabs(values[i] - middle);
    const double spread = 3 * 1.4826 * median(values, count);
    if (c->bad_end * (own - middle) > fmax(spread, c->least))
        clip->marks |= 1U << c->mark;
}

vd_status vd_review_set_marks(vd_review *r) {
    double *values = malloc((r->clip_count + 1) * sizeof *values);
    if (values == NULL)
        return vd_fail(VD_ERR_MEMORY, "not enough memory for the marks");
    for (size_t i = 0; i < r->clip_count; i++) {
        vd_review_clip *clip = &r->clips[i];
        const vd_clip_scores *s = &clip->scores;
        clip->marks = 0;
        if (s->black_frames > 0)
            clip->marks |= 1U << VD_MARK_BLACK;
        if (s->flat_frames > s->black_frames)
            clip->marks |= 1U << VD_MARK_FLAT;
        if (s->frozen_frames > 0 && 2 * s->frozen_frames >= s->frames - 1)
            clip->marks |= 1U << VD_MARK_FROZEN;
        if (s->repetition >= REPEATS)
            clip->marks |= 1U << VD_MARK_REPETITION;
        for (size_t k = 0; k < sizeof criteria / sizeof criteria[0]; k++)
            judge(r, clip, &criteria[k], values);
    }
    free(values);
    return VD_OK;
}

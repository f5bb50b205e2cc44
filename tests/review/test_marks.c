/* Which clips are marked, from scores that are given. */
#include <stdlib.h>

#include "review/parts.h"
#include "tests/check.h"

enum { CLIPS = 12 };

/* Clips of one size whose scores are alike. */
static void fill(vd_review *r, vd_review_clip clips[CLIPS]) {
    *r = (vd_review){.clips = clips, .clip_count = CLIPS};
    for (int i = 0; i < CLIPS; i++)
        clips[i] = (vd_review_clip){.width_px = 64,
                                    .height_px = 64,
                                    .scores = {.flicker = 1 + 0.05 * i,
                                               .motion = 1 + 0.02 * i,
                                               .sharpness = 10 + 0.3 * i,
                                               .repetition = 0.05 + 0.005 * i,
                                               .frames = 8}};
}

static int count(const vd_review *r, vd_review_mark mark) {
    int sum = 0;
    for (size_t i = 0; i < r->clip_count; i++)
        sum += (r->clips[i].marks >> mark & 1) != 0;
    return sum;
}

static void test_alike(void) {
    vd_review r;
    vd_review_clip clips[CLIPS];
    fill(&r, clips);
    CHECK_OK(vd_review_set_marks(&r));
    for (int m = 0; m < VD_MARK_COUNT; m++)
        CHECK_MSG(count(&r, (vd_review_mark)m) == 0, "%s", vd_review_mark_name((vd_review_mark)m));
}

/* One that stands out is marked for that alone; the better end is no reason. */
static void test_outliers(void) {
    vd_review r;
    vd_review_clip clips[CLIPS];
    fill(&r, clips);
    clips[3].scores.flicker = 9;
    clips[4].scores.flicker = 0;
    clips[5].scores.sharpness = 1;
    clips[6].scores.sharpness = 90;
    clips[7].scores.motion = 0;
    clips[8].scores.repetition = 0.45;
    CHECK_OK(vd_review_set_marks(&r));
    CHECK(clips[3].marks == 1U << VD_MARK_FLICKER && count(&r, VD_MARK_FLICKER) == 1);
    CHECK(clips[5].marks == 1U << VD_MARK_BLUR && count(&r, VD_MARK_BLUR) == 1);
    CHECK(clips[7].marks == 1U << VD_MARK_STILL && count(&r, VD_MARK_STILL) == 1);
    CHECK(clips[8].marks == 1U << VD_MARK_REPETITION && count(&r, VD_MARK_REPETITION) == 1);
    CHECK(clips[4].marks == 0 && clips[6].marks == 0);
    /* Among clips of another size there is nothing to compare it with. */
    clips[3].width_px = 128;
    CHECK_OK(vd_review_set_marks(&r));
    CHECK(clips[3].marks == 0);
}

/* Half of the clips repeat themselves: none stands out, all of them are marked. */
static void test_broken(void) {
    vd_review r;
    vd_review_clip clips[CLIPS];
    fill(&r, clips);
    for (int i = 0; i < CLIPS / 2; i++)
        clips[i].scores.repetition = 0.6 + 0.01 * i;
    clips[CLIPS - 1].scores.repetition = NAN;
    clips[6].scores.black_frames = clips[6].scores.flat_frames = 1;
    clips[7].scores.flat_frames = 2;
    clips[8].scores.frozen_frames = 4;
    clips[9].scores.frozen_frames = 3;
    CHECK_OK(vd_review_set_marks(&r));
    CHECK(count(&r, VD_MARK_REPETITION) == CLIPS / 2);
    CHECK(clips[6].marks == 1U << VD_MARK_BLACK);
    CHECK(clips[7].marks == 1U << VD_MARK_FLAT);
    CHECK(clips[8].marks == 1U << VD_MARK_FROZEN && clips[9].marks == 0);
}

int main(void) {
    test_alike();
    test_outliers();
    test_broken();
    return CHECK_DONE();
}

/* Scores of synthetic clips whose values or order are known beforehand. */
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "review/scores.h"
#include "tests/check.h"

enum { SIDE = 128, OWN = 64, FRAMES = 6 };

/* Gray level of a pixel of frame t. */
typedef int (*picture_fn)(int x, int y, int t);

static vd_clip_scores score(picture_fn fn, int width, int height, int own) {
    vd_scorer *scorer = NULL, *faults = NULL;
    vd_clip_scores scores = {0}, counts = {0};
    uint8_t *rgb = malloc(3 * (size_t)width * (size_t)height);
    CHECK_OK(vd_scorer_create(width, height, own, own, &scorer));
    CHECK_OK(vd_scorer_create_for_faults(width, height, &faults));
    for (int t = 0; rgb != NULL && scorer != NULL && faults != NULL && t < FRAMES; t++) {
        for (int i = 0; i < width * height; i++) {
            uint8_t *pixel = rgb + 3 * (ptrdiff_t)i;
            pixel[0] = pixel[1] = pixel[2] = (uint8_t)fn(i % width, i / width, t);
        }
        vd_scorer_add(scorer, rgb);
        vd_scorer_add(faults, rgb);
    }
    CHECK(rgb != NULL && scorer != NULL && faults != NULL);
    if (scorer != NULL)
        vd_scorer_finish(scorer, &scores);
    if (faults != NULL)
        vd_scorer_finish(faults, &counts);
    CHECK(counts.frames == scores.frames && counts.black_frames == scores.black_frames &&
          counts.flat_frames == scores.flat_frames && counts.frozen_frames == scores.frozen_frames);
    vd_scorer_destroy(scorer);
    vd_scorer_destroy(faults);
    free(rgb);
    return scores;
}

/* A fixed random level for three whole numbers (the finalizer of SplitMix64). */
static int hash(int x, int y, int z) {
    uint64_t v = (uint64_t)(x + 1000) * 0x9e3779b97f4a7c15U +
                 (uint64_t)(y + 1000) * 0xbf58476d1ce4e5b9U +
                 (uint64_t)(z + 1000) * 0x94d049bb133111ebU;
    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9U;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebU;
    return (int)((v ^ (v >> 31)) & 0xff);
}

/* Random levels at every 8th pixel, bilinear between them. */
static int texture(int x, int y, int z) {
    const int u = x >> 3, v = y >> 3, fx = x & 7, fy = y & 7;
    const int top = hash(u, v, z) * (8 - fx) + hash(u + 1, v, z) * fx;
    const int bottom = hash(u, v + 1, z) * (8 - fx) + hash(u + 1, v + 1, z) * fx;
    return (top * (8 - fy) + bottom * fy) / 64;
}

static bool in_disk(int x, int y, int cx, int cy) {
    return (x - cx) * (x - cx) + (y - cy) * (y - cy) < 14 * 14;
}

static int still(int x, int y, int t) {
    (void)t;
    return texture(x, y, 0);
}
static int moving(int x, int y, int t) {
    return texture(x + 3 * t + 400, y + 4 * t + 400, 0);
}
static int noise(int x, int y, int t) {
    return hash(x, y, t);
}
static int alternating(int x, int y, int t) {
    return texture(x, y, 0) / 2 + (t % 2) * 20;
}
static int fading(int x, int y, int t) {
    return texture(x, y, 0) / 2 + t * 20;
}
static int columns(int x, int y, int t) {
    (void)y, (void)t;
    return x % 2 * 255;
}
static int black(int x, int y, int t) {
    (void)t;
    return (x + y) % 16;
}
static int flashing(int x, int y, int t) {
    (void)x, (void)y;
    return t % 2 * 255;
}
static int one_white_frame(int x, int y, int t) {
    return t == 2 ? 255 : moving(x, y, t);
}
static int tiled(int x, int y, int t) {
    return texture(x % OWN + 8 * t, y % OWN, 0);
}
static int one_disk(int x, int y, int t) {
    return in_disk(x, y, 40 + t, 50) ? 200 : 30;
}
static int two_disks(int x, int y, int t) {
    return in_disk(x, y, 30 + t, 50) || in_disk(x, y, 30 + OWN + t, 50) ? 200 : 30;
}
static int two_disks_elsewhere(int x, int y, int t) {
    return in_disk(x, y, 30 + t, 50) || in_disk(x, y, 30 + 44 + t, 90) ? 200 : 30;
}
static int horizon(int x, int y, int t) {
    (void)t;
    return y < 50 ? 200 + hash(x, y, 0) / 32 : 60 + hash(x, y, 0) / 32;
}

static void test_time(void) {
    const vd_clip_scores s = score(still, SIDE, SIDE, OWN), m = score(moving, SIDE, SIDE, OWN);
    const vd_clip_scores n = score(noise, SIDE, SIDE, OWN), f = score(fading, SIDE, SIDE, OWN);
    const vd_clip_scores a = score(alternating, SIDE, SIDE, OWN);
    CHECK(s.flicker == 0 && s.motion == 0 && s.frozen_frames == FRAMES - 1);
    CHECK(s.frames == FRAMES && s.black_frames == 0 && s.flat_frames == 0);
    /* 5 pixels a frame of 128; blocks at two borders see what was not there before. */
    CHECK_MSG(m.motion > 3.4 && m.motion < 4.1, "motion %g", m.motion);
    CHECK_MSG(m.flicker < 2, "flicker %g of a moving picture", m.flicker);
    CHECK(m.frozen_frames == 0);
    CHECK_MSG(a.flicker == 20 && a.motion == 0, "flicker %g, motion %g", a.flicker, a.motion);
    CHECK_MSG(f.flicker == 0 && f.frozen_frames == 0, "flicker %g of a fade", f.flicker);
    CHECK_MSG(n.flicker > 20 && n.motion < 0.1, "noise: flicker %g, motion %g", n.flicker,
              n.motion);
}

static void test_sharpness(void) {
    const double sharp = score(noise, SIDE, SIDE, OWN).sharpness;
    const double soft = score(still, SIDE, SIDE, OWN).sharpness;
    CHECK(score(columns, SIDE, SIDE, OWN).sharpness == 510);
    CHECK_MSG(sharp > 10 * soft && soft > 0, "%g, %g", sharp, soft);
    CHECK(score(black, 2, 2, OWN).sharpness == 0);
}

static void test_blank(void) {
    const vd_clip_scores b = score(black, SIDE, SIDE, OWN);
    const vd_clip_scores w = score(one_white_frame, SIDE, SIDE, OWN);
    CHECK(b.black_frames == FRAMES && b.flat_frames == FRAMES);
    CHECK(w.black_frames == 0 && w.flat_frames == 1 && w.frozen_frames == 0);
}

static bool is_fault(const char *expected, picture_fn fn) {
    const vd_clip_scores s = score(fn, SIDE, SIDE, OWN);
    const char *fault = vd_clip_fault(&s);
    return expected == NULL || fault == NULL ? fault == expected : strcmp(fault, expected) == 0;
}

static void test_faults(void) {
    CHECK(is_fault("black", black) && is_fault("flat", flashing) && is_fault("frozen", still));
    CHECK(is_fault(NULL, moving) && is_fault(NULL, one_white_frame));
    const vd_clip_scores picture = {.frames = 1};
    CHECK(vd_clip_fault(&picture) == NULL);
}

static void test_repetition(void) {
    /* With the own size told, and without. */
    for (int own = 0; own <= OWN; own += OWN) {
        const double tile = score(tiled, SIDE, SIDE, own).repetition;
        const double twice = score(two_disks, SIDE, SIDE, own).repetition;
        const double once = score(one_disk, SIDE, SIDE, own).repetition;
        const double random = score(noise, SIDE, SIDE, own).repetition;
        const double line = score(horizon, SIDE, SIDE, own).repetition;
        CHECK_MSG(tile > 0.8, "own %d: tiles %g", own, tile);
        CHECK_MSG(twice > 0.5, "own %d: two disks %g", own, twice);
        CHECK_MSG(once < 0.25, "own %d: one disk %g", own, once);
        CHECK_MSG(random < 0.5, "own %d: noise %g", own, random);
        CHECK_MSG(line < 0.25, "own %d: horizon %g", own, line);
    }
    const double elsewhere = score(two_disks_elsewhere, SIDE, SIDE, OWN).repetition;
    CHECK_MSG(elsewhere < 0.25, "two disks at another distance %g", elsewhere);
    CHECK(isnan(score(tiled, OWN, OWN, OWN).repetition));
    CHECK(isnan(score(tiled, OWN + 16, OWN, OWN).repetition));
    CHECK(score(tiled, SIDE, OWN, OWN).repetition > 0.8);
}

/* Any size works, down to one pixel. */
static void test_sizes(void) {
    static const int sizes[][2] = {{1, 1}, {1, 300},  {300, 1},  {7, 9},
                                   {8, 8}, {257, 33}, {1000, 70}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const vd_clip_scores s = score(noise, sizes[i][0], sizes[i][1], i % 2 ? 0 : 5);
        CHECK(s.frames == FRAMES && isfinite(s.flicker) && isfinite(s.motion) &&
              isfinite(s.sharpness));
        CHECK(isnan(s.repetition) || (s.repetition >= 0 && s.repetition <= 1));
    }
}

int main(void) {
    test_time();
    test_sharpness();
    test_blank();
    test_faults();
    test_repetition();
    test_sizes();
    return CHECK_DONE();
}

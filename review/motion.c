/* Block matching, and what changes along it. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "review/luma.h"

enum {
    BLOCK = 8,
    RANGE = 8,
    LEAST = 2 * BLOCK * BLOCK, /* a smaller difference is noise, which fits anywhere */
};

/* Where a block's pixels lie in another frame. */
typedef struct offset {
    int x, y;
} offset;

static const uint8_t *at(const vd_luma *p, int x, int y) {
    return p->y + (ptrdiff_t)y * p->width + x;
}

/* Sum of absolute differences beyond the mean one: a change of brightness is no motion. */
static int difference(const uint8_t *a, const uint8_t *b, ptrdiff_t stride) {
    int shift = 0, sum = 0;
    for (int y = 0; y < BLOCK; y++)
        for (int x = 0; x < BLOCK; x++)
            shift += a[y * stride + x] - b[y * stride + x];
    shift /= BLOCK * BLOCK;
    for (int y = 0; y < BLOCK; y++)
        for (int x = 0; x < BLOCK; x++)
            sum += abs(a[y * stride + x] - b[y * stride + x] - shift);
    return sum;
}

/* The nearest of equally good ones; {0, 0} unless it halves what standing still leaves, and that is
 * more than noise. */
static offset match(const vd_luma *now, const vd_luma *other, int x, int y) {
    const uint8_t *block = at(now, x, y);
    const int still = difference(block, at(other, x, y), now->width);
    offset best = {0, 0};
    int best_difference = still / 2 + 1;
    for (int v = -RANGE; v <= RANGE && still >= LEAST; v++) {
        if (y + v < 0 || y + v + BLOCK > other->height)
            continue;
        for (int u = -RANGE; u <= RANGE; u++) {
            if (x + u < 0 || x + u + BLOCK > other->width)
                continue;
            const int d = difference(block, at(other, x + u, y + v), now->width);
            const bool nearer = u * u + v * v < best.x * best.x + best.y * best.y;
            if (d < best_difference || (d == best_difference && nearer)) {
                best_difference = d;
                best = (offset){u, v};
            }
        }
    }
    return best;
}

void vd_luma_motion(const vd_luma *now, const vd_luma *before, double *length_sum,
                    int64_t *blocks) {
    *length_sum = 0;
    *blocks = 0;
    for (int y = 0; y + BLOCK <= now->height; y += BLOCK) {
        for (int x = 0; x + BLOCK <= now->width; x += BLOCK) {
            const offset o = match(now, before, x, y);
            *length_sum += sqrt((double)(o.x * o.x + o.y * o.y));
            (*blocks)++;
        }
    }
}

static int64_t block_flicker(const uint8_t *before, const uint8_t *now, const uint8_t *after,
                             ptrdiff_t stride) {
    int64_t sum = 0;
    for (int y = 0; y < BLOCK; y++) {
        for (int x = 0; x < BLOCK; x++) {
            const ptrdiff_t i = y * stride + x;
            const int d1 = now[i] - before[i], d2 = now[i] - after[i];
            if ((d1 > 0 && d2 > 0) || (d1 < 0 && d2 < 0))
                sum += abs(d1) < abs(d2) ? abs(d1) : abs(d2);
        }
    }
    return sum;
}

double vd_luma_flicker(const vd_luma *before, const vd_luma *now, const vd_luma *after) {
    int64_t sum = 0, pixels = 0;
    for (int y = 0; y + BLOCK <= now->height; y += BLOCK) {
        for (int x = 0; x + BLOCK <= now->width; x += BLOCK) {
            const offset b = match(now, before, x, y), a = match(now, after, x, y);
            sum += block_flicker(at(before, x + b.x, y + b.y), at(now, x, y),
                                 at(after, x + a.x, y + a.y), now->width);
            pixels += (int64_t)BLOCK * BLOCK;
        }
    }
    return pixels > 0 ? (double)sum / (double)pixels : 0;
}

/* Repeated structure: peaks of a picture's autocorrelation far from lag 0. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "review/luma.h"

enum { SIDE_MAX = 64 };

/* Magnitudes of the gradient: what is drawn counts, not how bright the surfaces are. */
typedef struct edge_map {
    float v[SIDE_MAX * SIDE_MAX];
    int width, height;
    double deviation; /* of all values */
} edge_map;

static void take_edges(const vd_luma *p, edge_map *e) {
    double sum = 0, squares = 0;
    e->width = p->width;
    e->height = p->height;
    for (int y = 0; y < p->height; y++) {
        for (int x = 0; x < p->width; x++) {
            const int left = x > 0 ? x - 1 : x, right = x + 1 < p->width ? x + 1 : x;
            const int up = y > 0 ? y - 1 : y, down = y + 1 < p->height ? y + 1 : y;
            const int dx = p->y[y * p->width + right] - p->y[y * p->width + left];
            const int dy = p->y[down * p->width + x] - p->y[up * p->width + x];
            const double v = sqrt((double)(dx * dx + dy * dy));
            e->v[y * p->width + x] = (float)v;
            sum += v;
            squares += v * v;
        }
    }
    const double count = (double)p->width * p->height;
    e->deviation = sqrt(fmax(0, squares / count - sum / count * (sum / count)));
}

/* Normalized correlation of the map with itself shifted by (dx, dy), over the overlap. 0 where one
 * of the two parts holds nearly nothing: emptiness is no structure. */
static double correlation(const edge_map *e, int dx, int dy) {
    const int x0 = dx > 0 ? 0 : -dx, x1 = dx > 0 ? e->width - dx : e->width;
    const int y0 = dy > 0 ? 0 : -dy, y1 = dy > 0 ? e->height - dy : e->height;
    const double count = (double)(x1 - x0) * (y1 - y0);
    double sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0;
    if (x1 <= x0 || y1 <= y0)
        return 0;
    for (int y = y0; y < y1; y++) {
        const float *a = e->v + (ptrdiff_t)y * e->width;
        const float *b = e->v + (ptrdiff_t)(y + dy) * e->width + dx;
        float ra = 0, rb = 0, raa = 0, rbb = 0, rab = 0;
        for (int x = x0; x < x1; x++) {
            ra += a[x];
            rb += b[x];
            raa += a[x] * a[x];
            rbb += b[x] * b[x];
            rab += a[x] * b[x];
        }
        sa += ra, sb += rb, saa += raa, sbb += rbb, sab += rab;
    }
    const double va = saa / count - sa / count * (sa / count);
    const double vb = sbb / count - sb / count * (sb / count);
    const double least = 0.1 * e->deviation * e->deviation;
    if (!(va > least && vb > least))
        return 0;
    return (sab / count - sa / count * (sb / count)) / sqrt(va * vb);
}

/* How far the correlation at a lag stands above a ridge through it: a straight edge correlates with
 * itself all along its direction, a repeated thing only at its distance. 0 if not above `least`. */
static double peak(const edge_map *e, int dx, int dy, double least) {
    static const int direction[4][2] = {{1, 0}, {0, 1}, {1, 1}, {1, -1}};
    const double here = correlation(e, dx, dy);
    const int step = (e->width > e->height ? e->width : e->height) / 8;
    double ridge = 0;
    if (!(here > least))
        return 0;
    for (int i = 0; i < 4; i++) {
        const int u = direction[i][0] * step, v = direction[i][1] * step;
        const double along = (correlation(e, dx + u, dy + v) + correlation(e, dx - u, dy - v)) / 2;
        ridge = along > ridge ? along : ridge;
    }
    return here > ridge ? here - ridge : 0;
}

typedef struct lag_range {
    int x0, x1, y0, y1;
} lag_range;

/* Lags within a tenth of (x, y), at least one pixel to each side where it is not 0, as far as a
 * quarter of the picture overlaps. */
static lag_range around(double x, double y, const edge_map *e) {
    const int margin_x = (int)fmax(1, 0.1 * x), margin_y = (int)fmax(1, 0.1 * fabs(y));
    const int cx = (int)lround(x), cy = (int)lround(y);
    const int most_x = e->width * 3 / 4, most_y = e->height * 3 / 4;
    lag_range r = {cx - margin_x, cx + margin_x, cy - margin_y, cy + margin_y};
    r.x0 = r.x0 < 0 ? 0 : r.x0;
    r.x1 = r.x1 > most_x ? most_x : r.x1;
    r.y0 = r.y0 < -most_y ? -most_y : r.y0;
    r.y1 = r.y1 > most_y ? most_y : r.y1;
    return r;
}

static bool is_far(const edge_map *e, int dx, int dy) {
    return 4 * dx >= e->width || 4 * abs(dy) >= e->height;
}

/* Raises *best to the highest peak in the range; *any tells that there was a lag to look at. */
static void search(const edge_map *e, lag_range r, double *best, bool *any) {
    for (int dy = r.y0; dy <= r.y1; dy++) {
        for (int dx = r.x0; dx <= r.x1; dx++) {
            if (!is_far(e, dx, dy))
                continue;
            const double p = peak(e, dx, dy, *best);
            *best = p > *best ? p : *best;
            *any = true;
        }
    }
}

double vd_luma_repetition(const vd_luma *picture, double own_width, double own_height) {
    edge_map e = {0};
    double best = 0;
    bool any = false;
    take_edges(picture, &e);
    const int most_x = e.width * 3 / 4, most_y = e.height * 3 / 4;
    if (own_width > 0 && own_height > 0) {
        const bool wider = own_width <= most_x, higher = own_height <= most_y;
        if (wider)
            search(&e, around(own_width, 0, &e), &best, &any);
        if (higher)
            search(&e, around(0, own_height, &e), &best, &any);
        if (wider && higher) {
            search(&e, around(own_width, own_height, &e), &best, &any);
            search(&e, around(own_width, -own_height, &e), &best, &any);
        }
    } else {
        search(&e, (lag_range){0, most_x, -most_y, most_y}, &best, &any);
    }
    return any ? best : NAN;
}

#include "review/luma.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 8 };

void vd_luma_reduce(const vd_luma *to, const vd_luma *from) {
    for (int y = 0; y < to->height; y++) {
        const int top = (int)((int64_t)y * from->height / to->height);
        const int bottom = (int)((int64_t)(y + 1) * from->height / to->height);
        for (int x = 0; x < to->width; x++) {
            const int left = (int)((int64_t)x * from->width / to->width);
            const int right = (int)((int64_t)(x + 1) * from->width / to->width);
            const int64_t count = (int64_t)(bottom - top) * (right - left);
            int64_t sum = 0;
            for (int v = top; v < bottom; v++)
                for (int u = left; u < right; u++)
                    sum += from->y[(int64_t)v * from->width + u];
            to->y[(int64_t)y * to->width + x] = (uint8_t)((sum + count / 2) / count);
        }
    }
}

double vd_luma_laplacian_deviation(const vd_luma *p) {
    const ptrdiff_t stride = p->width;
    int64_t sum = 0, squares = 0;
    for (int y = 1; y + 1 < p->height; y++) {
        const uint8_t *row = p->y + y * stride;
        for (int x = 1; x + 1 < p->width; x++) {
            const int v = 4 * row[x] - row[x - 1] - row[x + 1] - row[x - stride] - row[x + stride];
            sum += v;
            squares += (int64_t)v * v;
        }
    }
    const double count = (double)(p->width - 2) * (p->height - 2);
    if (p->width < 3 || p->height < 3)
        return 0;
    const double average = (double)sum / count;
    return sqrt(fmax(0, (double)squares / count - average * average));
}

double vd_luma_largest_block_change(const vd_luma *a, const vd_luma *b) {
    const int side_x = a->width < BLOCK ? a->width : BLOCK;
    const int side_y = a->height < BLOCK ? a->height : BLOCK;
    int largest = 0;
    for (int y = 0; y + side_y <= a->height; y += side_y) {
        for (int x = 0; x + side_x <= a->width; x += side_x) {
            int sum = 0;
            for (int v = y; v < y + side_y; v++)
                for (int u = x; u < x + side_x; u++)
                    sum += abs(a->y[(int64_t)v * a->width + u] - b->y[(int64_t)v * b->width + u]);
            largest = sum > largest ? sum : largest;
        }
    }
    return (double)largest / (side_x * side_y);
}

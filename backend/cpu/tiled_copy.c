#include <string.h>

#include "backend/cpu/gemm.h"
#include "backend/cpu/tiled_impl.h"

/* `depth` tiles of channels of one pixel, a tile's 64 bytes `step` apart; NULL is zero padding. */
static void copy_pixel(const tiled_job *job, unsigned char *to, size_t step, const void *pixel,
                       int64_t first, int64_t depth) {
    const int64_t channels = job->p->w->head.in;
    const vd_dtype dtype = job->p->src->dtype;
    const unsigned char *from = pixel;
    for (int64_t k = 0; k < depth; k++, to += step) {
        const int64_t at = (first + k) * VD_AMX_DEPTH, left = channels - at;
        if (from == NULL) {
            memset(to, 0, LINE);
            continue;
        }
        if (left < VD_AMX_DEPTH)
            memset(to, 0, LINE);
        if (dtype != VD_BF16)
            job->kernels->store(to, VD_BF16, (const float *)(const void *)from + at,
                                (size_t)(left < VD_AMX_DEPTH ? left : VD_AMX_DEPTH));
        else if (left >= VD_AMX_DEPTH)
            memcpy(to, from + at * 2, LINE);
        else
            memcpy(to, from + at * 2, (size_t)left * 2);
    }
}

/* The pixel that a tap reads, or NULL in the padding. */
static const void *pixel_at(const tiled_job *job, int64_t image, int64_t y, int64_t x) {
    const int64_t *dim = job->src_dim;
    if (y < 0 || y >= dim[1] || x < 0 || x >= dim[2])
        return NULL;
    return vd_cpu_at(job->p->src, ((image * dim[1] + y) * dim[2] + x) * dim[3]);
}

typedef struct position {
    int64_t image, y, x;
} position;

static position position_of(const tiled_job *job, int64_t index) {
    const int64_t *dim = job->dst_dim;
    return (position){index / dim[2] / dim[1], index / dim[2] % dim[1], index % dim[2]};
}

static void go_on(const tiled_job *job, position *at) {
    if (++at->x < job->dst_dim[2])
        return;
    at->x = 0;
    if (++at->y < job->dst_dim[1])
        return;
    at->y = 0;
    at->image++;
}

static void copy_gathered(const tiled_job *job, const chunk *c, const slab *s) {
    const vd_conv2d_desc *d = &job->conv;
    const int64_t kernel_w = job->p->w->head.kernel_w;
    const int64_t dy = s->tap / kernel_w * d->dilation_h - d->pad_top;
    const int64_t dx = s->tap % kernel_w * d->dilation_w - d->pad_left;
    position at = position_of(job, c->first);
    for (int64_t i = 0; i < c->count; i++) {
        unsigned char *to = c->copy + c->tile[i / VD_AMX_ROWS] + i % VD_AMX_ROWS * LINE;
        copy_pixel(job, to, VD_AMX_TILE_BYTES,
                   pixel_at(job, at.image, at.y * d->stride_h + dy, at.x * d->stride_w + dx),
                   s->first, s->depth);
        go_on(job, &at);
    }
}

static void copy_window(const tiled_job *job, const chunk *c, const slab *s) {
    const vd_conv2d_desc *d = &job->conv;
    const ptrdiff_t pitch = vd_tiled_pitch(s->depth);
    const bool shared = job->tap_lines == d->dilation_h; /* kernel rows share lines */
    const int64_t each = shared ? job->copy_lines : job->tap_lines;
    unsigned char *to = c->copy;
    for (int64_t line = 0; line < job->copy_lines; line++) {
        const int64_t y =
            c->y * d->stride_h - d->pad_top + line / each * d->dilation_h + line % each;
        for (int64_t column = 0; column < job->copy_columns; column++, to += pitch)
            copy_pixel(job, to, LINE,
                       pixel_at(job, c->image, y, c->x * d->stride_w - d->pad_left + column),
                       s->first, s->depth);
    }
}

static void copy_mixed(const tiled_job *job, const chunk *c, const slab *s) {
    const ptrdiff_t pitch = vd_tiled_pitch(s->depth), plane = vd_tiled_plane(job, s->depth);
    const int64_t begin = s->first * VD_AMX_DEPTH, left = job->p->w->head.in - begin;
    const int64_t wanted = s->depth * VD_AMX_DEPTH, count = left < wanted ? left : wanted;
    const size_t across = (size_t)plane / sizeof(uint16_t);
    const vd_cpu_taps_run run = {c->first, c->count, begin, count};
    for (int tap = 0; tap < 9 && count < wanted; tap++)
        for (int64_t i = 0; i < c->count; i++)
            memset(c->copy + tap * plane + i * pitch + count * 2, 0, (size_t)(wanted - count) * 2);
    vd_cpu_taps_sum(job->p->taps, &run, c->copy, VD_BF16, (size_t)pitch / sizeof(uint16_t), across,
                    3 * across);
}

void vd_tiled_copy(const tiled_job *job, const chunk *c, const slab *s) {
    switch (job->layout) {
    case GATHERED:
        copy_gathered(job, c, s);
        break;
    case WINDOW:
        copy_window(job, c, s);
        break;
    case MIXED:
        copy_mixed(job, c, s);
        break;
    }
}

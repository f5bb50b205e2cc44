/* Decoding in overlapping tiles, as diffusers and ScaleCrafter stitch them. */
#include <stdlib.h>

#include "encode/vae_impl.h"

/* Tiles begin at multiples of the stride and are cut at the border; of each, `limit` pixels go into
 * the picture after its first `blend` were faded from its neighbours. */
typedef struct tile_grid {
    int64_t h, w, side;            /* latents */
    int64_t rows, columns, stride; /* tiles; latents between them */
    int64_t scale, blend, limit;   /* pixels */
} tile_grid;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static vd_status lay_grid(const vd_vae *vae, const vd_vae_tiling *t, const vd_tensor *src,
                          tile_grid *g) {
    *g = (tile_grid){.h = src->dim[1],
                     .w = src->dim[2],
                     .side = t->tile_latents,
                     .rows = 1,
                     .columns = 1,
                     .scale = vd_vae_scale(&vae->config)};
    if (!(t->overlap >= 0 && t->overlap <= 0.5) || t->tile_latents < 1)
        return vd_fail(VD_ERR_INPUT,
                       "tiles of %lld latents that overlap by %g: the overlap must be "
                       "from 0 to 0.5",
                       (long long)t->tile_latents, t->overlap);
    g->stride = (int64_t)((double)t->tile_latents * (1 - t->overlap));
    g->blend = (int64_t)((double)t->tile_px * t->overlap);
    g->limit = t->tile_px - g->blend;
    if (g->stride < 1 || g->limit != g->stride * g->scale)
        return vd_fail(VD_ERR_INPUT,
                       "tiles of %lld latents and %lld pixels that overlap by %g do not fit "
                       "together: %lld latents apart, they would be %lld pixels apart",
                       (long long)t->tile_latents, (long long)t->tile_px, t->overlap,
                       (long long)g->stride, (long long)g->limit);
    if (g->h <= g->side && g->w <= g->side) { /* one tile, all of which counts */
        g->side = g->h > g->w ? g->h : g->w;
        g->limit = g->side * g->scale;
        return VD_OK;
    }
    g->rows = (g->h + g->stride - 1) / g->stride;
    g->columns = (g->w + g->stride - 1) / g->stride;
    return VD_OK;
}

static vd_status cut(vd_exec *x, const tile_grid *g, const vd_tensor *src, int64_t row,
                     int64_t column, vd_tensor *tile) {
    const int64_t y = row * g->stride, left = column * g->stride;
    const vd_paste_desc d = {.rows = smaller(g->side, g->h - y),
                             .columns = smaller(g->side, g->w - left),
                             .src_y = y,
                             .src_x = left};
    vd_status st = VD_ALLOC(x, VD_F32, tile, src->dim[0], d.rows, d.columns, src->dim[3]);
    return st == VD_OK ? vd_paste(x, tile, src, &d) : st;
}

/* Fades the neighbour's last rows (columns) into the tile's first. */
static vd_status fade(vd_exec *x, const tile_grid *g, vd_tensor *tile, const vd_tensor *neighbour,
                      vd_fade direction) {
    const int axis = direction == VD_FADE_DOWN ? 1 : 2;
    const int64_t extent = smaller(smaller(neighbour->dim[axis], tile->dim[axis]), g->blend);
    vd_paste_desc d = {.rows = tile->dim[1], .columns = tile->dim[2], .fade = direction};
    if (extent < 1)
        return VD_OK;
    if (axis == 1) {
        d.rows = extent;
        d.src_y = neighbour->dim[1] - extent;
    } else {
        d.columns = extent;
        d.src_x = neighbour->dim[2] - extent;
    }
    return vd_paste(x, tile, neighbour, &d);
}

/* A row of pictures into dst; `above` is the row before it, blended but not cropped, or NULL. */
static vd_status stitch_row(vd_exec *x, const tile_grid *g, vd_tensor *dst, int64_t row,
                            vd_tensor *tile, const vd_tensor *above) {
    vd_status st = VD_OK;
    for (int64_t i = 0; i < g->columns; i++) {
        if (above)
            VD_TRY(fade(x, g, &tile[i], &above[i], VD_FADE_DOWN));
        if (i > 0)
            VD_TRY(fade(x, g, &tile[i], &tile[i - 1], VD_FADE_ACROSS));
        const vd_paste_desc d = {.rows = smaller(g->limit, tile[i].dim[1]),
                                 .columns = smaller(g->limit, tile[i].dim[2]),
                                 .dst_y = row * g->limit,
                                 .dst_x = i * g->limit};
        VD_TRY(vd_paste(x, dst, &tile[i], &d));
    }
done:
    return st;
}

static void drop_row(vd_exec *x, const tile_grid *g, vd_tensor *tile) {
    for (int64_t i = 0; i < g->columns; i++)
        vd_exec_free(x, &tile[i]);
}

static vd_status decode_tile(vd_vae *vae, vd_exec *x, vd_tensor *tile) {
    vd_status st = VD_OK;
    vd_tensor picture = {0};
    const int64_t scale = vd_vae_scale(&vae->config);
    VD_TRY(VD_ALLOC(x, VD_F32, &picture, tile->dim[0], scale * tile->dim[1], scale * tile->dim[2],
                    vae->config.image_channels));
    VD_TRY(vd_vae_decode(vae, x, &picture, tile));
    vd_exec_free(x, tile);
    *tile = picture;
    picture.data = NULL;
done:
    vd_exec_free(x, &picture);
    return st;
}

vd_status vd_vae_decode_tiles(vd_vae *vae, vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                              const vd_vae_tiling *tiling) {
    vd_status st = VD_OK;
    tile_grid g;
    const bool in_step = tiling->mode == VD_VAE_SYNC_TILES;
    vd_tensor *tile = NULL;
    VD_TRY(lay_grid(vae, tiling, src, &g));
    const size_t count = (size_t)(g.rows * g.columns);
    tile = calloc(count, sizeof *tile);
    if (!tile)
        return vd_fail(VD_ERR_MEMORY, "no memory for %zu tiles", count);
    for (size_t t = 0; in_step && t < count; t++)
        VD_TRY(cut(x, &g, src, (int64_t)t / g.columns, (int64_t)t % g.columns, &tile[t]));
    if (in_step)
        VD_TRY(vd_vae_decode_in_step(vae, x, tile, count));
    for (int64_t row = 0; row < g.rows; row++) {
        vd_tensor *now = tile + row * g.columns, *above = row > 0 ? now - g.columns : NULL;
        for (int64_t i = 0; !in_step && i < g.columns; i++) {
            VD_TRY(cut(x, &g, src, row, i, &now[i]));
            VD_TRY(decode_tile(vae, x, &now[i]));
        }
        VD_TRY(stitch_row(x, &g, dst, row, now, above));
        if (above)
            drop_row(x, &g, above);
    }
done:
    for (size_t t = 0; tile && t < (size_t)(g.rows * g.columns); t++)
        vd_exec_free(x, &tile[t]);
    free(tile);
    return st;
}

#include "encode/vae_bands.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"

/* An activation that is kept whole. It has two rows more than the picture, so that a resnet's
 * result can be written over its input: two rows away, where nothing is read any more. */
typedef struct kept {
    vd_tensor store;
    int64_t at; /* row of the store where the picture begins */
} kept;

typedef struct decoding {
    vd_exec *x;
    const vd_band_chain *chain;
    int groups;
    vd_group_stats *stats; /* host [units, 2, groups]: before a unit's convolutions */
    vd_group_stats *part;  /* host [groups]: of a band */
    /* What is kept lies in one block, a segment's input at one end and its result at the other, so
     * that no gap is lost between them. */
    vd_tensor block;
    bool base_on_top;
    kept base;          /* the segment's input */
    vd_tensor middle;   /* a resnet's kept first convolution; data NULL: none */
    vd_tensor *outside; /* F32 [1, H, W, c]: where the chain ends; or NULL */
} decoding;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t height(const decoding *d, int index) {
    return d->chain->h * vd_band_scale(d->chain, index);
}

static int64_t width(const decoding *d, int index) {
    return d->chain->w * vd_band_scale(d->chain, index);
}

static vd_rows clamp(vd_rows r, int64_t h) {
    return (vd_rows){r.first > 0 ? r.first : 0, smaller(r.end, h)};
}

/* Rows `want` of a picture of which t [1, rows, w, c] begins at row `at`. */
static vd_tensor rows_of(const vd_tensor *t, int64_t at, vd_rows want) {
    const size_t row_bytes = (size_t)(t->dim[2] * t->dim[3]) * vd_dtype_bytes(t->dtype);
    return VD_VIEW((char *)t->data + (size_t)(want.first - at) * row_bytes, t->dtype, 1,
                   want.end - want.first, t->dim[2], t->dim[3]);
}

static vd_tensor base_rows(const decoding *d, vd_rows want) {
    return rows_of(&d->base.store, -d->base.at, want);
}

/* Room for the input of unit `index` at an end of the block, `skip` bytes from it. */
static vd_tensor room(const decoding *d, bool on_top, size_t skip, int index) {
    const vd_band_chain *c = d->chain;
    const int64_t channels = index == c->count ? c->unit[index - 1].out : c->unit[index].in;
    const size_t end = vd_tensor_bytes(&d->block), bytes = vd_band_kept_bytes(c, index);
    return VD_VIEW((char *)d->block.data + (on_top ? end - skip - bytes : skip), d->block.dtype, 1,
                   height(d, index) + VD_BAND_SPARE_ROWS, width(d, index), channels);
}

static vd_group_stats *stats_of(const decoding *d, int unit, bool second) {
    return d->stats + (size_t)(2 * unit + second) * (size_t)d->groups;
}

static vd_status normalize(const decoding *d, const vd_norm_layer *n, const vd_group_stats *stats,
                           vd_tensor *dst, const vd_tensor *src) {
    vd_status st = dst->data ? VD_OK : vd_vae_like(d->x, src, src->dim[3], dst);
    return st == VD_OK ? vd_group_normalize(d->x, dst, src, stats, n->scale, n->shift, n->groups,
                                            n->eps, VD_ACT_SILU)
                       : st;
}

/* dst, rows `out` of a picture of h rows, from src, which begins at row `at` and has what is
 * needed. dst is taken from the arena if it is empty. */
static vd_status convolve(const decoding *d, const vd_conv_layer *c, vd_tensor *dst, vd_rows out,
                          const vd_tensor *src, int64_t at, int64_t h, const vd_tensor *residual) {
    const vd_tensor read = rows_of(src, at, clamp((vd_rows){out.first - 1, out.end + 1}, h));
    const vd_conv2d_desc desc = {.stride_h = 1,
                                 .stride_w = 1,
                                 .pad_top = out.first == 0,
                                 .pad_left = 1,
                                 .dilation_h = 1,
                                 .dilation_w = 1};
    vd_status st = VD_OK;
    if (!dst->data)
        st = VD_ALLOC(d->x, vd_exec_dtype(d->x), dst, 1, out.end - out.first, src->dim[2], c->out);
    return st == VD_OK ? vd_conv2d(d->x, dst, &read, c->w, c->bias, NULL, residual, &desc) : st;
}

/* ---- a band through one unit ---------------------------------------------------------------- */

/* A band on its way; `borrowed` ones lie in what is kept. */
typedef struct band {
    vd_tensor t;
    vd_rows rows;
    bool borrowed;
} band;

static void drop(const decoding *d, band *b) {
    if (!b->borrowed)
        vd_exec_free(d->x, &b->t);
    b->t.data = NULL;
}

/* Up to the first convolution's result, on rows `out`. */
static vd_status resnet_begin(const decoding *d, int index, const band *b, vd_rows out,
                              vd_tensor *middle) {
    vd_status st = VD_OK;
    const vd_vae_resnet *r = d->chain->unit[index].resnet;
    vd_tensor normed = {0};
    VD_TRY(normalize(d, &r->norm1, stats_of(d, index, false), &normed, &b->t));
    VD_TRY(convolve(d, &r->conv1, middle, out, &normed, b->rows.first, height(d, index), NULL));
done:
    vd_exec_free(d->x, &normed);
    return st;
}

/* From the first convolution's result, rows `have`, to rows `out`. */
static vd_status resnet_end(const decoding *d, int index, const band *b, const vd_tensor *middle,
                            vd_rows have, vd_rows out, vd_tensor *result) {
    vd_status st = VD_OK;
    const vd_vae_resnet *r = d->chain->unit[index].resnet;
    const vd_tensor input = rows_of(&b->t, b->rows.first, out);
    vd_tensor normed = {0};
    VD_TRY(normalize(d, &r->norm2, stats_of(d, index, true), &normed, middle));
    VD_TRY(vd_vae_like(d->x, &input, r->out, result));
    if (r->shortcut.w)
        VD_TRY(vd_linear(d->x, result, &input, r->shortcut.w, r->shortcut.bias, NULL, VD_ACT_NONE));
    VD_TRY(convolve(d, &r->conv2, result, out, &normed, have.first, height(d, index),
                    r->shortcut.w ? result : &input));
done:
    vd_exec_free(d->x, &normed);
    return st;
}

static vd_status resnet(const decoding *d, int index, const band *b, vd_rows out,
                        vd_tensor *result) {
    vd_status st = VD_OK;
    const vd_rows have = clamp((vd_rows){out.first - 1, out.end + 1}, height(d, index));
    vd_tensor middle = {0};
    if (d->middle.data) {
        middle = rows_of(&d->middle, 0, have);
        return resnet_end(d, index, b, &middle, have, out, result);
    }
    VD_TRY(resnet_begin(d, index, b, have, &middle));
    VD_TRY(resnet_end(d, index, b, &middle, have, out, result));
done:
    vd_exec_free(d->x, &middle);
    return st;
}

static vd_status upsample(const decoding *d, int index, const band *b, vd_rows out,
                          vd_tensor *result) {
    vd_status st = VD_OK;
    vd_tensor large = {0};
    VD_TRY(VD_ALLOC(d->x, vd_exec_dtype(d->x), &large, 1, 2 * b->t.dim[1], 2 * b->t.dim[2],
                    b->t.dim[3]));
    VD_TRY(vd_resize_nearest(d->x, &large, &b->t));
    VD_TRY(convolve(d, d->chain->unit[index].conv, result, out, &large, 2 * b->rows.first,
                    height(d, index + 1), NULL));
done:
    vd_exec_free(d->x, &large);
    return st;
}

static vd_status output(const decoding *d, int index, const band *b, vd_rows out,
                        vd_tensor *result) {
    vd_status st = VD_OK;
    const vd_vae_unit *u = &d->chain->unit[index];
    vd_tensor normed = {0};
    VD_TRY(normalize(d, u->norm, stats_of(d, index, false), &normed, &b->t));
    VD_TRY(convolve(d, u->conv, result, out, &normed, b->rows.first, height(d, index), NULL));
done:
    vd_exec_free(d->x, &normed);
    return st;
}

static vd_status run_unit(const decoding *d, int index, const band *b, vd_rows out, bool half,
                          vd_tensor *result) {
    switch (d->chain->unit[index].kind) {
    case VD_VAE_RESNET:
        return half ? resnet_begin(d, index, b, out, result) : resnet(d, index, b, out, result);
    case VD_VAE_UPSAMPLE:
        return upsample(d, index, b, out, result);
    case VD_VAE_OUTPUT:
        return output(d, index, b, out, result);
    default:
        return convolve(d, d->chain->unit[index].conv, result, out, &b->t, b->rows.first,
                        height(d, index), NULL);
    }
}

/* Rows `out` of what units first..last make of the base. */
static vd_status run_units(const decoding *d, int first, int last, bool half, vd_rows out,
                           vd_tensor *result) {
    vd_status st = VD_OK;
    vd_rows rows[VD_VAE_MAX_UNITS + 1];
    vd_tensor next = {0};
    rows[last + 1] = out;
    for (int u = last; u >= first; u--)
        rows[u] =
            clamp(vd_band_reach(&d->chain->unit[u], rows[u + 1], half && u == last), height(d, u));
    band b = {base_rows(d, rows[first]), rows[first], true};
    for (int u = first; u <= last; u++) {
        VD_TRY(run_unit(d, u, &b, rows[u + 1], half && u == last, &next));
        drop(d, &b);
        b = (band){next, rows[u + 1], false};
        next.data = NULL;
    }
    *result = b.t;
    b.t.data = NULL;
done:
    vd_exec_free(d->x, &next);
    drop(d, &b);
    return st;
}

/* ---- passes over all bands ------------------------------------------------------------------ */

/* Adds a part of `count` values a group to a sum of `total`. */
static void join(vd_group_stats *sum, double total, const vd_group_stats *part, double count,
                 int groups) {
    for (int g = 0; g < groups; g++) {
        const double all = total + count, off = part[g].mean - sum[g].mean;
        const double squares =
            sum[g].variance * total + part[g].variance * count + off * off * total * count / all;
        sum[g].mean += off * count / all;
        sum[g].variance = squares / all;
    }
}

/* The statistics of what units first..last make, which is kept in d->middle if that is there. */
static vd_status measure(decoding *d, int first, int last, bool half, int64_t rows,
                         vd_group_stats *stats) {
    vd_status st = VD_OK;
    const int64_t h = height(d, last + 1);
    double total = 0;
    vd_tensor t = {0};
    memset(stats, 0, (size_t)d->groups * sizeof *stats);
    for (int64_t row = 0; row < h; row += rows) {
        const vd_rows out = {row, smaller(row + rows, h)};
        VD_TRY(run_units(d, first, last, half, out, &t));
        VD_TRY(vd_group_measure(d->x, d->part, &t, d->groups));
        const int64_t count = vd_tensor_elements(&t) / d->groups;
        join(stats, total, d->part, (double)count, d->groups);
        total += (double)count;
        if (d->middle.data) {
            vd_tensor to = rows_of(&d->middle, 0, out);
            VD_TRY(vd_activate(d->x, &to, &t, VD_ACT_NONE));
        }
        vd_exec_free(d->x, &t);
    }
done:
    vd_exec_free(d->x, &t);
    return st;
}

static vd_status measure_segment(decoding *d, const vd_band_segment *s) {
    vd_status st = VD_OK;
    for (int u = s->first; u < s->end; u++) {
        const vd_tensor base = base_rows(d, (vd_rows){0, height(d, s->first)});
        if (u == s->first && vd_vae_unit_norm(&d->chain->unit[u]))
            VD_TRY(vd_group_measure(d->x, stats_of(d, u, false), &base, d->groups));
        if (u > s->first && vd_vae_unit_norm(&d->chain->unit[u]))
            VD_TRY(measure(d, s->first, u - 1, false, s->rows, stats_of(d, u, false)));
        if (d->chain->unit[u].kind != VD_VAE_RESNET)
            continue;
        if (s->keep)
            d->middle = room(d, d->base_on_top, vd_band_kept_bytes(d->chain, u), u + 1);
        VD_TRY(measure(d, s->first, u, true, s->rows, stats_of(d, u, true)));
    }
done:
    return st;
}

/* Where the rows of a segment's result go. */
static vd_status write_segment(const decoding *d, const vd_band_segment *s, bool upwards,
                               vd_tensor *to, int64_t at) {
    vd_status st = VD_OK;
    const int64_t h = height(d, s->end), bands = (h + s->rows - 1) / s->rows;
    vd_tensor t = {0};
    for (int64_t i = 0; i < bands; i++) {
        const int64_t row = (upwards ? bands - 1 - i : i) * s->rows;
        const vd_rows out = {row, smaller(row + s->rows, h)};
        VD_TRY(run_units(d, s->first, s->end - 1, false, out, &t));
        vd_tensor place = rows_of(to, -at, out);
        VD_TRY(vd_activate(d->x, &place, &t, VD_ACT_NONE));
        vd_exec_free(d->x, &t);
    }
done:
    vd_exec_free(d->x, &t);
    return st;
}

static vd_status run_segment(decoding *d, const vd_band_segment *s) {
    vd_status st = VD_OK;
    VD_TRY(measure_segment(d, s));
    if (d->outside && s->end == d->chain->count) {
        VD_TRY(write_segment(d, s, false, d->outside, 0));
    } else if (vd_band_in_place(d->chain, s)) {
        /* Downwards to a place above, or upwards to one below: either way what is overwritten has
         * been read. */
        const bool upwards = d->base.at == 0;
        const int64_t at = upwards ? VD_BAND_SPARE_ROWS : 0;
        VD_TRY(write_segment(d, s, upwards, &d->base.store, at));
        d->base.at = at;
    } else {
        kept next = {room(d, !d->base_on_top, 0, s->end), 0};
        VD_TRY(write_segment(d, s, false, &next.store, 0));
        d->base = next;
        d->base_on_top = !d->base_on_top;
    }
done:
    d->middle.data = NULL;
    return st;
}

/* ---- one picture ---------------------------------------------------------------------------- */

/* The units before and after the middle block's attention. */
typedef struct plan {
    vd_band_chain chain[2];
    vd_band_segment segment[2][VD_VAE_MAX_UNITS];
    int count[2];
    size_t kept_bytes, kv_bytes;
} plan;

static void make_plan(const vd_vae *vae, const vd_vae_unit *unit, int units, const vd_tensor *src,
                      size_t value_bytes, size_t memory_bytes, plan *p) {
    const int first[2] = {0, VD_VAE_ATTENTION_UNIT}, end[2] = {VD_VAE_ATTENTION_UNIT, units};
    p->kept_bytes = 0;
    for (int i = 0; i < 2; i++) {
        p->chain[i] = (vd_band_chain){.unit = unit + first[i],
                                      .count = end[i] - first[i],
                                      .h = src->dim[1],
                                      .w = src->dim[2],
                                      .value_bytes = value_bytes,
                                      .ends_outside = i == 1};
        p->count[i] = vd_band_plan(&p->chain[i], memory_bytes, p->segment[i]);
        const size_t most = vd_band_most_kept(&p->chain[i], p->segment[i], p->count[i]);
        p->kept_bytes = most > p->kept_bytes ? most : p->kept_bytes;
    }
    p->kv_bytes =
        (size_t)(src->dim[1] * src->dim[2] * 2 * vae->decoder.mid_attention.channels) * value_bytes;
    const size_t attention = vd_band_kept_bytes(&p->chain[1], 0) + p->kv_bytes;
    p->kept_bytes = attention > p->kept_bytes ? attention : p->kept_bytes;
    const size_t align = VD_ARENA_ALIGN_BYTES;
    p->kept_bytes = (p->kept_bytes + align - 1) / align * align;
}

static vd_status run_chain(decoding *d, const plan *p, int index) {
    vd_status st = VD_OK;
    d->chain = &p->chain[index];
    for (int i = 0; i < p->count[index]; i++)
        VD_TRY(run_segment(d, &p->segment[index][i]));
done:
    return st;
}

static vd_status attend(const vd_vae *vae, decoding *d, const plan *p) {
    const vd_band_chain *c = d->chain = &p->chain[1];
    const vd_vae_attention *a = &vae->decoder.mid_attention;
    vd_tensor state = base_rows(d, (vd_rows){0, c->h});
    char *block = d->block.data;
    const size_t from = d->base_on_top ? 0 : vd_tensor_bytes(&d->block) - p->kv_bytes;
    const vd_tensor kv = VD_VIEW(block + from, d->block.dtype, 1, c->h * c->w, 2 * a->channels);
    return vd_vae_attention_forward(d->x, a, &state, &kv);
}

static vd_status decode_picture(vd_vae *vae, decoding *d, const plan *p, const vd_tensor *src,
                                vd_tensor *dst) {
    vd_status st = VD_OK;
    const vd_dtype dtype = vd_exec_dtype(d->x);
    vd_tensor latents = {0};
    VD_TRY(VD_ALLOC(d->x, dtype, &d->block, (int64_t)(p->kept_bytes / vd_dtype_bytes(dtype))));
    d->chain = &p->chain[0];
    d->base_on_top = false;
    d->base = (kept){room(d, false, 0, 0), 0};
    d->outside = NULL;
    VD_TRY(vd_vae_unquantize(vae, d->x, src, &latents));
    vd_tensor place = base_rows(d, (vd_rows){0, src->dim[1]});
    VD_TRY(vd_activate(d->x, &place, &latents, VD_ACT_NONE));
    vd_exec_free(d->x, &latents);
    VD_TRY(run_chain(d, p, 0));
    if (vae->config.mid_attention)
        VD_TRY(attend(vae, d, p));
    d->outside = dst;
    VD_TRY(run_chain(d, p, 1));
done:
    vd_exec_free(d->x, &latents);
    vd_exec_free(d->x, &d->block);
    return st;
}

vd_status vd_vae_decode_bands(vd_vae *vae, vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                              size_t memory_bytes) {
    vd_status st = VD_OK;
    vd_vae_unit unit[VD_VAE_MAX_UNITS];
    const int units = vd_vae_decoder_units(vae, unit);
    decoding d = {.x = x, .groups = vae->config.groups};
    plan p;
    make_plan(vae, unit, units, src, vd_dtype_bytes(vd_exec_dtype(x)), memory_bytes, &p);
    d.stats = calloc((size_t)(2 * units + 1) * (size_t)d.groups, sizeof *d.stats);
    if (!d.stats)
        return vd_fail(VD_ERR_MEMORY, "no memory for %d groups' statistics", d.groups);
    d.part = d.stats + (size_t)(2 * units) * (size_t)d.groups;
    for (int64_t i = 0; i < src->dim[0]; i++) {
        const vd_rows all = {0, src->dim[1]}, high = {0, dst->dim[1]};
        const size_t from = (size_t)i * vd_tensor_bytes(src) / (size_t)src->dim[0];
        const size_t to = (size_t)i * vd_tensor_bytes(dst) / (size_t)dst->dim[0];
        vd_tensor one = rows_of(src, 0, all), picture = rows_of(dst, 0, high);
        one.data = (char *)one.data + from;
        picture.data = (char *)picture.data + to;
        VD_TRY(decode_picture(vae, &d, &p, &one, &picture));
    }
done:
    free(d.stats);
    return st;
}

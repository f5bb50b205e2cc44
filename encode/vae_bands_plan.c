#include "encode/vae_bands.h"

#include <float.h>

#include "core/arena.h"

/* Bands higher than the first gain next to nothing: a resnet's halo is two rows. */
static const int64_t HEIGHTS[] = {128, 64, 32, 16, 8};
enum { HEIGHT_COUNT = sizeof HEIGHTS / sizeof HEIGHTS[0] };

static int64_t floor_half(int64_t a) {
    return a >= 0 ? a / 2 : -((1 - a) / 2);
}

vd_rows vd_band_reach(const vd_vae_unit *unit, vd_rows out, bool half) {
    switch (unit->kind) {
    case VD_VAE_UPSAMPLE:
        return (vd_rows){floor_half(out.first - 1), floor_half(out.end) + 1};
    case VD_VAE_RESNET:
        return half ? (vd_rows){out.first - 1, out.end + 1} : (vd_rows){out.first - 2, out.end + 2};
    default:
        return (vd_rows){out.first - 1, out.end + 1};
    }
}

bool vd_band_in_place(const vd_band_chain *chain, const vd_band_segment *s) {
    const vd_vae_unit *unit = &chain->unit[s->first];
    return s->end == s->first + 1 && unit->kind == VD_VAE_RESNET && unit->in == unit->out;
}

int64_t vd_band_scale(const vd_band_chain *chain, int index) {
    int64_t scale = 1;
    for (int u = 0; u < index; u++)
        scale *= chain->unit[u].kind == VD_VAE_UPSAMPLE ? 2 : 1;
    return scale;
}

/* ---- what is kept --------------------------------------------------------------------------- */

size_t vd_band_kept_bytes(const vd_band_chain *c, int index) {
    const int64_t scale = vd_band_scale(c, index);
    const int64_t channels = index == c->count ? c->unit[index - 1].out : c->unit[index].in;
    const int64_t values = (c->h * scale + VD_BAND_SPARE_ROWS) * c->w * scale * channels;
    const size_t align = VD_ARENA_ALIGN_BYTES;
    return ((size_t)values * c->value_bytes + align - 1) / align * align;
}

static size_t segment_kept(const vd_band_chain *c, const vd_band_segment *s) {
    size_t bytes = vd_band_kept_bytes(c, s->first);
    if (!vd_band_in_place(c, s) && !(c->ends_outside && s->end == c->count))
        bytes += vd_band_kept_bytes(c, s->end);
    return bytes + (s->keep ? vd_band_kept_bytes(c, s->end) : 0);
}

size_t vd_band_most_kept(const vd_band_chain *c, const vd_band_segment *segment, int count) {
    size_t most = 0;
    for (int i = 0; i < count; i++) {
        const size_t bytes = segment_kept(c, &segment[i]);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* ---- what a pass costs ---------------------------------------------------------------------- */

typedef struct cost {
    double work;  /* multiplications */
    double bytes; /* of bands at once */
} cost;

static double area(const vd_band_chain *c, int index, double rows, int64_t channels) {
    return rows * (double)(c->w * vd_band_scale(c, index)) * (double)channels;
}

static int64_t length(vd_rows r) {
    return r.end - r.first;
}

/* A band of `out` through one unit. `borrowed`: its input is the kept activation. */
static cost unit_cost(const vd_band_chain *c, int index, vd_rows out, bool half, bool borrowed) {
    const vd_vae_unit *u = &c->unit[index];
    const double rows = (double)length(out), read = (double)length(vd_band_reach(u, out, half));
    const double input = area(c, index, read, u->in);
    const double result = area(c, index + 1, rows, u->out);
    cost all = {.work = 9 * result * (double)u->in, .bytes = result + (borrowed ? 0 : input)};
    if (u->kind == VD_VAE_UPSAMPLE)
        all.bytes += 4 * input;
    else if (u->kind == VD_VAE_OUTPUT)
        all.bytes += input;
    else if (u->kind == VD_VAE_RESNET) {
        const double middle = area(c, index, half ? rows : rows + 2, u->out);
        all.work = 9 * middle * (double)u->in;
        all.bytes = (borrowed ? 0 : input) + middle + (input > result ? input : result);
        if (!half)
            all.work += result * (double)(9 * u->out + (u->in == u->out ? 0 : u->in));
    }
    all.bytes *= (double)c->value_bytes;
    return all;
}

static cost pass_cost(const vd_band_chain *c, int first, int last, bool half, int64_t rows) {
    const double bands = (double)(c->h * vd_band_scale(c, last + 1)) / (double)rows;
    vd_rows out = {0, rows};
    cost all = {0, 0};
    for (int u = last; u >= first; u--) {
        const bool stops = half && u == last;
        const cost one = unit_cost(c, u, out, stops, u == first);
        all.work += bands * one.work;
        all.bytes = one.bytes > all.bytes ? one.bytes : all.bytes;
        out = vd_band_reach(&c->unit[u], out, stops);
    }
    return all;
}

static void add_pass(cost *all, const vd_band_chain *c, int first, int last, bool half,
                     int64_t rows) {
    const cost pass = pass_cost(c, first, last, half, rows);
    all->work += pass.work;
    all->bytes = pass.bytes > all->bytes ? pass.bytes : all->bytes;
}

static cost segment_cost(const vd_band_chain *c, const vd_band_segment *s) {
    cost all = {0, 0};
    for (int u = s->first; u < s->end; u++) {
        if (u > s->first && vd_vae_unit_norm(&c->unit[u]))
            add_pass(&all, c, s->first, u - 1, false, s->rows);
        if (c->unit[u].kind == VD_VAE_RESNET)
            add_pass(&all, c, s->first, u, true, s->rows);
    }
    cost final = pass_cost(c, s->first, s->end - 1, false, s->rows);
    if (s->keep)
        final.work -= pass_cost(c, s->first, s->first, true, s->rows).work;
    all.work += final.work;
    all.bytes = final.bytes > all.bytes ? final.bytes : all.bytes;
    all.bytes += (double)segment_kept(c, s);
    return all;
}

/* ---- the cheapest way ----------------------------------------------------------------------- */

typedef struct way {
    double work; /* up to a unit; DBL_MAX: there is none */
    vd_band_segment last;
} way;

static void try_segment(const vd_band_chain *c, double memory, way *best, vd_band_segment s) {
    const cost one = segment_cost(c, &s);
    const double work = best[s.first].work + one.work;
    if (one.bytes <= memory && work < best[s.end].work)
        best[s.end] = (way){work, s};
}

/* best[i]: the cheapest way to have unit i's input kept. */
static void find_ways(const vd_band_chain *c, double memory, way *best) {
    for (int i = 0; i <= VD_VAE_MAX_UNITS; i++)
        best[i] = (way){i == 0 ? 0 : DBL_MAX, {0, 0, false, 0}};
    for (int end = 1; end <= c->count; end++)
        for (int first = 0; first < end; first++)
            for (int i = 0; i < HEIGHT_COUNT && best[first].work < DBL_MAX; i++) {
                vd_band_segment s = {first, end, false, HEIGHTS[i]};
                try_segment(c, memory, best, s);
                s.keep = end == first + 1 && c->unit[first].kind == VD_VAE_RESNET;
                if (s.keep)
                    try_segment(c, memory, best, s);
            }
}

int vd_band_plan(const vd_band_chain *chain, size_t memory_bytes,
                 vd_band_segment segment[VD_VAE_MAX_UNITS]) {
    way best[VD_VAE_MAX_UNITS + 1];
    int count = 0;
    for (double memory = (double)memory_bytes + 1;; memory *= 1.1) {
        find_ways(chain, memory, best);
        if (best[chain->count].work < DBL_MAX)
            break;
    }
    for (int at = chain->count; at > 0; at = best[at].last.first)
        segment[count++] = best[at].last;
    for (int i = 0; i < count / 2; i++) {
        const vd_band_segment swap = segment[i];
        segment[i] = segment[count - 1 - i];
        segment[count - 1 - i] = swap;
    }
    return count;
}

/* All tiles of a picture through the decoder in step, so that group norms see every tile. */
#include <stdlib.h>

#include "encode/vae_impl.h"

typedef struct tile_set {
    vd_exec *x;
    size_t count;
    vd_tensor *state, *temp; /* [count] */
} tile_set;

/* Elements of a group in one item of a tile. */
static double group_elements(const vd_tensor *tile, int64_t groups) {
    const int64_t n = vd_tensor_elements(tile) / tile->dim[0] / groups;
    return (double)n;
}

/* sum gets the statistics of all tiles from those of each, part [count, items * groups]. */
static void join(vd_group_stats *sum, const vd_group_stats *part, const vd_tensor *tile,
                 size_t count, size_t rows, int64_t groups) {
    double total = 0;
    for (size_t t = 0; t < count; t++)
        total += group_elements(&tile[t], groups);
    for (size_t r = 0; r < rows; r++) {
        vd_group_stats all = {0, 0};
        for (size_t t = 0; t < count; t++) {
            const double n = group_elements(&tile[t], groups);
            all.mean += n / total * part[t * rows + r].mean;
        }
        for (size_t t = 0; t < count; t++) {
            const double n = group_elements(&tile[t], groups);
            const double off = part[t * rows + r].mean - all.mean;
            /* A lone element has no unbiased variance; the reference would divide by zero. */
            const double unbiased = n > 1 ? n / (n - 1) : 1;
            all.variance += n / total * unbiased * (part[t * rows + r].variance + off * off);
        }
        sum[r] = all;
    }
}

vd_status vd_vae_sync_norm(vd_exec *x, const vd_norm_layer *norm, vd_tensor *dst,
                           const vd_tensor *src, size_t count, vd_activation act) {
    vd_status st = VD_OK;
    const size_t rows = (size_t)src[0].dim[0] * (size_t)norm->groups;
    vd_group_stats *stats = calloc((count + 1) * rows, sizeof *stats);
    if (!stats)
        return vd_fail(VD_ERR_MEMORY, "no memory for the statistics of %zu tiles", count);
    for (size_t t = 0; t < count; t++)
        VD_TRY(vd_group_measure(x, stats + (t + 1) * rows, &src[t], norm->groups));
    join(stats, stats + rows, src, count, rows, norm->groups);
    for (size_t t = 0; t < count; t++)
        VD_TRY(vd_group_normalize(x, &dst[t], &src[t], stats, norm->scale, norm->shift,
                                  norm->groups, norm->eps, act));
done:
    free(stats);
    return st;
}

/* state[t] becomes temp[t], which is empty then. */
static void advance(tile_set *s, size_t t) {
    vd_exec_free(s->x, &s->state[t]);
    s->state[t] = s->temp[t];
    s->temp[t].data = NULL;
}

static vd_status resnet(tile_set *s, const vd_vae_resnet *r) {
    vd_status st = VD_OK;
    vd_tensor next = {0};
    for (size_t t = 0; t < s->count; t++)
        VD_TRY(vd_vae_like(s->x, &s->state[t], r->in, &s->temp[t]));
    VD_TRY(vd_vae_sync_norm(s->x, &r->norm1, s->temp, s->state, s->count, VD_ACT_SILU));
    for (size_t t = 0; t < s->count; t++) {
        VD_TRY(vd_vae_conv3x3(s->x, &r->conv1, &s->temp[t], &next, NULL));
        vd_exec_free(s->x, &s->temp[t]);
        s->temp[t] = next;
        next.data = NULL;
    }
    VD_TRY(vd_vae_sync_norm(s->x, &r->norm2, s->temp, s->temp, s->count, VD_ACT_SILU));
    for (size_t t = 0; t < s->count; t++) {
        vd_tensor *state = &s->state[t];
        if (r->shortcut.w) {
            VD_TRY(vd_vae_like(s->x, state, r->out, &next));
            VD_TRY(
                vd_linear(s->x, &next, state, r->shortcut.w, r->shortcut.bias, NULL, VD_ACT_NONE));
            vd_exec_free(s->x, state);
            *state = next;
            next.data = NULL;
        }
        VD_TRY(vd_vae_conv3x3(s->x, &r->conv2, &s->temp[t], state, state));
        vd_exec_free(s->x, &s->temp[t]);
    }
done:
    vd_exec_free(s->x, &next);
    return st;
}

static vd_status output(tile_set *s, const vd_vae_unit *unit) {
    vd_status st = VD_OK;
    vd_tensor picture = {0};
    VD_TRY(vd_vae_sync_norm(s->x, unit->norm, s->state, s->state, s->count, VD_ACT_SILU));
    for (size_t t = 0; t < s->count; t++) {
        const int64_t *dim = s->state[t].dim;
        VD_TRY(vd_vae_conv3x3(s->x, unit->conv, &s->state[t], &picture, NULL));
        VD_TRY(VD_ALLOC(s->x, VD_F32, &s->temp[t], dim[0], dim[1], dim[2], unit->out));
        VD_TRY(vd_activate(s->x, &s->temp[t], &picture, VD_ACT_NONE));
        vd_exec_free(s->x, &picture);
        advance(s, t);
    }
done:
    vd_exec_free(s->x, &picture);
    return st;
}

static vd_status run_unit(tile_set *s, const vd_vae_unit *unit) {
    vd_status st = VD_OK;
    if (unit->kind == VD_VAE_RESNET)
        return resnet(s, unit->resnet);
    if (unit->kind == VD_VAE_OUTPUT)
        return output(s, unit);
    for (size_t t = 0; t < s->count; t++) {
        if (unit->kind == VD_VAE_UPSAMPLE) {
            VD_TRY(vd_vae_upsample_forward(s->x, unit->conv, &s->state[t]));
            continue;
        }
        VD_TRY(vd_vae_conv3x3(s->x, unit->conv, &s->state[t], &s->temp[t], NULL));
        advance(s, t);
    }
done:
    return st;
}

vd_status vd_vae_decode_in_step(vd_vae *vae, vd_exec *x, vd_tensor *tile, size_t count) {
    vd_status st = VD_OK;
    vd_vae_unit unit[VD_VAE_MAX_UNITS];
    const int units = vd_vae_decoder_units(vae, unit);
    tile_set s = {x, count, tile, calloc(count, sizeof *s.temp)};
    if (!s.temp)
        return vd_fail(VD_ERR_MEMORY, "no memory for %zu tiles", count);
    for (size_t t = 0; t < count; t++) {
        VD_TRY(vd_vae_unquantize(vae, x, &tile[t], &s.temp[t]));
        advance(&s, t);
    }
    for (int u = 0; u < units; u++) {
        if (u == VD_VAE_ATTENTION_UNIT && vae->config.mid_attention)
            for (size_t t = 0; t < count; t++)
                VD_TRY(vd_vae_attention_forward(x, &vae->decoder.mid_attention, &tile[t], NULL));
        VD_TRY(run_unit(&s, &unit[u]));
    }
done:
    for (size_t t = 0; t < count; t++)
        vd_exec_free(x, &s.temp[t]);
    free(s.temp);
    return st;
}

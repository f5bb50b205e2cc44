#include "unet3d/unet3d.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "unet3d/unet3d_impl.h"

const vd_unet_config *vd_unet_get_config(const vd_unet *u) {
    return &u->config;
}

const char *const *vd_unet_spatial_paths(const vd_unet *u) {
    return u->spatial_paths.list;
}

/* ---- text ----------------------------------------------------------------------------------- */

static size_t round_up(size_t bytes) {
    return (bytes + VD_ARENA_ALIGN_BYTES - 1) / VD_ARENA_ALIGN_BYTES * VD_ARENA_ALIGN_BYTES;
}

/* The text attention number `index` in the order of computation; NULL past the last. */
static vd_cross_attention *cross_attention_at(vd_unet *u, int index) {
    for (int b = 0; b < u->block_count; b++)
        for (int i = 0; i < u->blocks[b].layer_count; i++) {
            vd_spatial_transformer *attention = &u->blocks[b].layers[i].attention;
            if (index < attention->block_count)
                return &attention->blocks[index].cross;
            index -= attention->block_count;
        }
    return NULL;
}

static vd_status reserve_context(vd_unet *u, size_t bytes) {
    if (u->context != NULL && u->context_bytes == bytes)
        return VD_OK;
    vd_backend_free(u->be, u->context);
    u->context = NULL;
    u->context_items = 0;
    const vd_status st = vd_backend_alloc(u->be, bytes, &u->context);
    if (st != VD_OK)
        return vd_fail_in(st, "keys and values of the prompt");
    u->context_bytes = bytes;
    return VD_OK;
}

vd_status vd_unet_set_context(vd_unet *u, vd_exec *x, const vd_tensor *states) {
    vd_status st;
    const vd_dtype dtype = u->dtype;
    if (states->rank != 3 || states->dim[0] < 1 || states->dim[1] < 1 ||
        states->dim[2] != u->config.cross_attention_dim || vd_exec_dtype(x) != dtype) {
        char shape[128];
        return vd_fail(VD_ERR_BACKEND,
                       "the UNet takes text states [batch, tokens, %lld] and an exec in %s, not %s "
                       "in %s",
                       (long long)u->config.cross_attention_dim, vd_dtype_name(dtype),
                       vd_tensor_describe(states, shape, sizeof shape),
                       vd_dtype_name(vd_exec_dtype(x)));
    }
    size_t bytes = 0;
    vd_cross_attention *cross;
    for (int i = 0; (cross = cross_attention_at(u, i)) != NULL; i++)
        bytes +=
            round_up(vd_cross_attention_text_bytes(cross, states->dim[0], states->dim[1], dtype));
    VD_TRY(reserve_context(u, bytes));

    size_t offset = 0;
    for (int i = 0; (cross = cross_attention_at(u, i)) != NULL; i++) {
        VD_TRY(vd_cross_attention_set_text(x, cross, states, (char *)u->context + offset));
        offset += round_up(vd_tensor_bytes(&cross->text));
    }
    u->context_items = states->dim[0];
done:
    return st;
}

/* ---- time ----------------------------------------------------------------------------------- */

void vd_timestep_embedding(float *dst, int64_t width, double timestep) {
    const int64_t half = width / 2;
    const float scale = (float)-log(10000.0);
    for (int64_t i = 0; i < half; i++) {
        const float angle = (float)timestep * expf(scale * (float)i / (float)half);
        dst[i] = cosf(angle);
        dst[half + i] = sinf(angle);
    }
    if (width % 2 != 0)
        dst[width - 1] = 0.0f;
}

vd_status vd_unet_set_added(vd_unet *u, int64_t items, const float *pooled, int ids,
                            const double *time_ids) {
    const int64_t width = u->config.added_width;
    const int64_t each = u->config.added_time_dim;
    const int64_t pooled_width = width - ids * each;
    float *rows = NULL;
    vd_status st;
    if (items < 1 || pooled_width < 1)
        return vd_fail(VD_ERR_BACKEND,
                       "the UNet's added embedding is %lld wide: not for %d time ids of %lld each",
                       (long long)width, ids, (long long)each);
    vd_backend_free(u->be, u->added.data);
    u->added = VD_VIEW(NULL, VD_F32, items, width);
    rows = malloc(vd_tensor_bytes(&u->added));
    if (rows == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the added embedding");
    for (int64_t i = 0; i < items; i++) {
        float *row = rows + i * width;
        memcpy(row, pooled + i * pooled_width, (size_t)pooled_width * sizeof *row);
        for (int k = 0; k < ids; k++)
            vd_timestep_embedding(row + pooled_width + k * each, each, time_ids[i * ids + k]);
    }
    VD_TRY(vd_backend_alloc(u->be, vd_tensor_bytes(&u->added), &u->added.data));
    VD_TRY(vd_backend_upload(u->be, u->added.data, rows, vd_tensor_bytes(&u->added)));
done:
    free(rows);
    return st;
}

/* pass->time += add_embedding(pooled text, time ids) */
static vd_status add_embedding(const vd_unet *u, vd_unet_pass *pass) {
    static const double both[] = {1, 1};
    vd_status st;
    vd_exec *x = pass->x;
    const int64_t width = 4 * u->config.channels[0];
    const vd_tensor rows = VD_VIEW(u->added.data, VD_F32, pass->batch, u->config.added_width);
    vd_tensor hidden = {0};
    vd_tensor added = {0};
    VD_TRY(VD_ALLOC(x, VD_F32, &hidden, pass->batch, width));
    VD_TRY(vd_linear(x, &hidden, &rows, u->added1.w, u->added1.bias, NULL, VD_ACT_SILU));
    VD_TRY(VD_ALLOC(x, VD_F32, &added, pass->batch, width));
    VD_TRY(vd_linear(x, &added, &hidden, u->added2.w, u->added2.bias, NULL, VD_ACT_NONE));
    VD_TRY(vd_unet_tap(pass, &added, "", "add_embedding"));
    const vd_tensor *terms[] = {&pass->time, &added};
    VD_TRY(vd_combine(x, &pass->time, 2, both, terms));
done:
    vd_exec_free(x, &hidden);
    vd_exec_free(x, &added);
    return st;
}

/* Allocates `waves`: the sinusoids of the first `rows` timesteps. */
static vd_status send_waves(vd_unet *u, vd_exec *x, int64_t rows, const double *timestep,
                            vd_tensor *waves) {
    vd_status st;
    const int64_t width = u->config.channels[0];
    const size_t row_bytes = (size_t)width * sizeof(float);
    VD_TRY(VD_ALLOC(x, VD_F32, waves, rows, width));
    for (int64_t i = 0; i < rows && !vd_exec_dry(x); i++) {
        vd_timestep_embedding(u->sinusoids, width, timestep[i]);
        VD_TRY(vd_backend_upload(u->be, (char *)waves->data + (size_t)i * row_bytes, u->sinusoids,
                                 row_bytes));
    }
done:
    return st;
}

/* pass->time = SiLU(time_embedding(timesteps) + what is added), one row if all are equal. */
static vd_status embed_time(vd_unet *u, vd_unet_pass *pass, const double *timestep) {
    vd_status st;
    vd_exec *x = pass->x;
    const int64_t width = u->config.channels[0];
    const vd_tensor *given = pass->hooks != NULL ? pass->hooks->waves : NULL;
    vd_tensor sent = {0};
    vd_tensor hidden = {0};
    int64_t rows = u->config.added_width > 0 ? pass->batch : 1;
    for (int64_t i = 1; i < pass->batch; i++)
        if (timestep[i] != timestep[0])
            rows = pass->batch;

    if (given == NULL)
        VD_TRY(send_waves(u, x, rows, timestep, &sent));
    const vd_tensor waves = VD_VIEW(given != NULL ? given->data : sent.data, VD_F32, rows, width);
    VD_TRY(VD_ALLOC(x, VD_F32, &hidden, rows, 4 * width));
    VD_TRY(vd_linear(x, &hidden, &waves, u->time1.w, u->time1.bias, NULL, VD_ACT_SILU));
    VD_TRY(VD_ALLOC(x, VD_F32, &pass->time, rows, 4 * width));
    VD_TRY(vd_linear(x, &pass->time, &hidden, u->time2.w, u->time2.bias, NULL, VD_ACT_NONE));
    VD_TRY(vd_unet_tap(pass, &pass->time, "", "time_embedding"));
    if (u->config.added_width > 0)
        VD_TRY(add_embedding(u, pass));
    VD_TRY(vd_activate(x, &pass->time, &pass->time, VD_ACT_SILU));
done:
    vd_exec_free(x, &sent);
    vd_exec_free(x, &hidden);
    return st;
}

/* ---- first and last layers ------------------------------------------------------------------ */

static const vd_conv2d_desc plain_3x3 = {
    .stride_h = 1, .stride_w = 1, .pad_top = 1, .pad_left = 1, .dilation_h = 1, .dilation_w = 1};

/* Allocates h: the sample, channels last, through conv_in and transformer_in. */
static vd_status enter(const vd_unet *u, const vd_unet_pass *pass, vd_tensor *h,
                       const vd_tensor *sample) {
    vd_status st;
    vd_exec *x = pass->x;
    const int64_t images = pass->batch * pass->frames;
    const int64_t height = sample->dim[3];
    const int64_t width = sample->dim[4];
    const int64_t in = sample->dim[1];
    const int64_t points = pass->frames * height * width;
    const vd_tensor planes = VD_VIEW(sample->data, VD_F32, pass->batch, in, points);
    vd_tensor last = {0};

    VD_TRY(VD_ALLOC(x, u->dtype, &last, images, height, width, in));
    vd_tensor last_points = VD_VIEW(last.data, u->dtype, pass->batch, points, in);
    VD_TRY(vd_transpose(x, &last_points, &planes));
    VD_TRY(VD_ALLOC(x, u->dtype, h, images, height, width, u->config.channels[0]));
    VD_TRY(vd_conv2d(x, h, &last, u->conv_in.w, u->conv_in.bias, NULL, NULL, &plain_3x3));
    vd_exec_free(x, &last);
    VD_TRY(vd_unet_tap(pass, h, "", "conv_in"));
    if (u->config.temporal) {
        VD_TRY(vd_temporal_transformer_forward(x, h, &u->transformer_in, pass->frames));
        VD_TRY(vd_unet_tap(pass, h, "", "transformer_in"));
    }
done:
    vd_exec_free(x, &last);
    return st;
}

/* Frees h. dst = conv_out(SiLU(norm(h))), in planes. */
static vd_status leave(const vd_unet *u, const vd_unet_pass *pass, vd_tensor *dst, vd_tensor *h) {
    vd_status st;
    vd_exec *x = pass->x;
    const vd_norm_layer *norm = &u->norm_out;
    const int64_t out = u->config.out_channels;
    const int64_t points = pass->frames * h->dim[1] * h->dim[2];
    const bool tapped = vd_unet_is_tapped(pass);
    vd_tensor planes = VD_VIEW(dst->data, VD_F32, pass->batch, out, points);
    vd_tensor normed = {0};
    vd_tensor last = {0};

    VD_TRY(vd_exec_alloc(x, h->dtype, h->rank, h->dim, &normed));
    VD_TRY(vd_group_norm(x, &normed, h, NULL, norm->scale, norm->shift, norm->groups, norm->eps,
                         tapped ? VD_ACT_NONE : VD_ACT_SILU));
    VD_TRY(vd_unet_tap(pass, &normed, "", "conv_norm_out"));
    if (tapped)
        VD_TRY(vd_activate(x, &normed, &normed, VD_ACT_SILU));
    VD_TRY(VD_ALLOC(x, VD_F32, &last, h->dim[0], h->dim[1], h->dim[2], out));
    vd_exec_free(x, h);
    VD_TRY(vd_conv2d(x, &last, &normed, u->conv_out.w, u->conv_out.bias, NULL, NULL, &plain_3x3));
    const vd_tensor last_points = VD_VIEW(last.data, VD_F32, pass->batch, points, out);
    VD_TRY(vd_transpose(x, &planes, &last_points));
done:
    vd_exec_free(x, &normed);
    vd_exec_free(x, &last);
    return st;
}

/* ---- forward -------------------------------------------------------------------------------- */

static vd_status check_call(const vd_unet *u, vd_exec *x, const vd_tensor *dst,
                            const vd_tensor *sample, const double *timestep,
                            const vd_unet_hooks *hooks) {
    char in[128];
    char out[128];
    bool fits = sample->dtype == VD_F32 && sample->rank == 5 &&
                sample->dim[1] == u->config.in_channels && dst->dtype == VD_F32 && dst->rank == 5 &&
                dst->dim[1] == u->config.out_channels && vd_exec_dtype(x) == u->dtype;
    for (int i = 0; i < 5 && fits; i++)
        fits = sample->dim[i] >= 1 && (i == 1 || dst->dim[i] == sample->dim[i]);
    if (!fits)
        return vd_fail(VD_ERR_BACKEND,
                       "UNet %s <- %s in %s; it takes F32 [batch, %lld, frames, height, width] in "
                       "%s and gives %lld channels",
                       vd_tensor_describe(dst, out, sizeof out),
                       vd_tensor_describe(sample, in, sizeof in), vd_dtype_name(vd_exec_dtype(x)),
                       (long long)u->config.in_channels, vd_dtype_name(u->dtype),
                       (long long)u->config.out_channels);
    if (sample->dim[0] > u->context_items)
        return vd_fail(VD_ERR_BACKEND,
                       "the UNet has text states for %lld items and a sample of %lld; set the "
                       "context first",
                       (long long)u->context_items, (long long)sample->dim[0]);
    if (u->config.added_width > 0 && (u->added.data == NULL || sample->dim[0] > u->added.dim[0]))
        return vd_fail(VD_ERR_BACKEND,
                       "the UNet takes pooled text and time ids for %lld items; set them first",
                       (long long)sample->dim[0]);
    if (hooks != NULL && hooks->waves != NULL &&
        (hooks->waves->dtype != VD_F32 || hooks->waves->rank != 2 ||
         hooks->waves->dim[0] < sample->dim[0] || hooks->waves->dim[1] != u->config.channels[0]))
        return vd_fail(VD_ERR_BACKEND, "the UNet takes sinusoids F32 [%lld, %lld], not %s",
                       (long long)sample->dim[0], (long long)u->config.channels[0],
                       vd_tensor_describe(hooks->waves, in, sizeof in));
    for (int64_t i = 0; i < sample->dim[0]; i++)
        if (!isfinite(timestep[i]))
            return vd_fail(VD_ERR_BACKEND, "timestep %lld is not a number", (long long)i);
    return VD_OK;
}

vd_status vd_unet_forward(vd_unet *u, vd_exec *x, vd_tensor *dst, const vd_tensor *sample,
                          const double *timestep, const vd_unet_hooks *hooks) {
    vd_status st = check_call(u, x, dst, sample, timestep, hooks);
    if (st != VD_OK)
        return st;
    vd_unet_pass pass = {.x = x, .hooks = hooks, .batch = sample->dim[0], .frames = sample->dim[2]};
    const int64_t factor = (int64_t)1 << (u->config.levels - 1);
    const bool fit = sample->dim[3] % factor != 0 || sample->dim[4] % factor != 0;
    vd_skip_stack *skips = &u->skips;
    vd_tensor h = {0};

    VD_TRY(embed_time(u, &pass, timestep));
    VD_TRY(enter(u, &pass, &h, sample));
    VD_TRY(vd_skip_push(skips, &h));
    for (int i = 0; i < u->block_count; i++)
        VD_TRY(vd_unet_block_forward(&pass, &h, skips, &u->blocks[i], fit));
    VD_TRY(leave(u, &pass, dst, &h));
done:
    vd_skip_release(x, skips, &h);
    while (skips->count > 0)
        vd_exec_free(x, &skips->items[--skips->count]);
    vd_exec_free(x, &pass.time);
    return st;
}

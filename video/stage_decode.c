/* Latents -> frames, one at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "core/clock.h"
#include "video/preflight.h"
#include "video/request.h"
#include "video/stage.h"

typedef struct decoder {
    vd_exec *x;
    vd_vae_tiling tiling;
    void *latents_memory, *picture_memory;
    vd_tensor planes, latents; /* device: [1, C, F*h*w] and, channels-last, [F*h*w, C] */
    vd_tensor picture;         /* device: [1, H, W, 3] */
    float *image;              /* host, one frame */
    uint8_t *rgb;
} decoder;

/* Latents as the autoencoder wants them: channels-last, divided by the scaling factor. */
static vd_status prepare_latents(const vd_render_job *j, decoder *d) {
    vd_status st = VD_OK;
    double factor = 1 / j->m->vae_config.scaling_factor;
    vd_tensor channels_last =
        VD_VIEW(d->latents.data, VD_F32, 1, j->r->frames * j->pixels, j->m->info.latent_channels);
    const vd_tensor *source = &d->planes;
    VD_TRY(vd_combine(d->x, &d->planes, 1, &factor, &source));
    VD_TRY(vd_transpose(d->x, &channels_last, &d->planes));
done:
    return st;
}

static vd_status decode_frame(const vd_render_job *j, decoder *d, int64_t index) {
    int64_t c = j->m->info.latent_channels;
    float *first = (float *)d->latents.data + index * j->pixels * c;
    vd_tensor frame = VD_VIEW(first, VD_F32, 1, j->h, j->w, c);
    return vd_vae_decode_tiled(j->m->vae, d->x, &d->picture, &frame, &d->tiling);
}

typedef struct past_frame {
    const vd_render_job *j;
    decoder *d;
    int64_t index;
} past_frame;

static vd_status decode_again(void *user) {
    const past_frame *p = user;
    return decode_frame(p->j, p->d, p->index);
}

/* NaN would become black without a word. */
static vd_status check_finite(const vd_render_job *j, decoder *d, int64_t index, size_t values) {
    past_frame past = {j, d, index};
    char what[64];
    if (vd_stage_finite(d->image, values))
        return VD_OK;
    snprintf(what, sizeof what, "decoding of frame %lld of %lld", (long long)index + 1,
             (long long)j->r->frames);
    return vd_stage_blame(d->x, decode_again, &past, what);
}

/* Values of a picture. */
static size_t picture_values(const vd_render_job *j) {
    return (size_t)(j->r->width_px * j->r->height_px * 3);
}

/* Shapes, for the dry pass. */
static void shape_decoder(const vd_render_job *j, decoder *d) {
    const int64_t c = j->m->info.latent_channels, pixels = j->r->frames * j->pixels;
    d->planes = VD_VIEW(vd_stage_nowhere(0), VD_F32, 1, c, pixels);
    d->latents = VD_VIEW(vd_stage_nowhere(1), VD_F32, pixels, c);
    d->picture = VD_VIEW(vd_stage_nowhere(2), VD_F32, 1, j->r->height_px, j->r->width_px, 3);
}

static vd_status decoder_memory(const vd_render_job *j, decoder *d) {
    vd_status st = VD_OK;
    vd_backend *be = j->m->be;
    size_t bytes = j->count * sizeof(float);
    size_t values = picture_values(j);
    VD_TRY(vd_backend_alloc(be, 2 * bytes, &d->latents_memory));
    VD_TRY(vd_backend_alloc(be, values * sizeof(float), &d->picture_memory));
    d->planes.data = d->latents_memory;
    d->latents.data = (char *)d->latents_memory + bytes;
    d->picture.data = d->picture_memory;
    VD_TRY(vd_backend_upload(be, d->planes.data, j->latents, bytes));
    VD_TRY(vd_stage_floats(values, &d->image));
    d->rgb = malloc(values);
    if (!d->rgb)
        st = vd_fail(VD_ERR_MEMORY, "no memory for a frame");
done:
    return st;
}

/* "auto" begins whole. */
static const char *const TILING_NAMES[] = {"auto", "off", "exact", "plain", "sync", NULL};
static const vd_vae_mode TILING_MODES[] = {VD_VAE_WHOLE, VD_VAE_WHOLE, VD_VAE_EXACT, VD_VAE_TILES,
                                           VD_VAE_SYNC_TILES};

const char *const *vd_vae_tiling_names(void) {
    return TILING_NAMES;
}

/* The dry pass, in the mode that the request asks for. "auto" looks at what the whole decode would
 * take, never at what the machine has: the same seed gives the same frames everywhere. */
static vd_status plan_decode(const vd_render_job *j, decoder *d) {
    vd_status st = VD_OK;
    const size_t most = (size_t)(j->r->vae_memory_gb * 1e9);
    const char *name = j->r->vae_tiling ? j->r->vae_tiling : "auto";
    vd_vae_mode mode = VD_VAE_WHOLE;
    for (size_t i = 0; TILING_NAMES[i] != NULL; i++)
        if (strcmp(name, TILING_NAMES[i]) == 0)
            mode = TILING_MODES[i];
    d->tiling = vd_vae_tiling_defaults(&j->m->vae_config, mode);
    d->tiling.memory_bytes = most;
    VD_TRY(prepare_latents(j, d));
    VD_TRY(decode_frame(j, d, 0));
    if (strcmp(name, "auto") == 0 && vd_exec_peak_bytes(d->x) > most) {
        vd_exec_reset(d->x);
        d->tiling.mode = VD_VAE_EXACT;
        VD_TRY(prepare_latents(j, d));
        VD_TRY(decode_frame(j, d, 0));
    }
done:
    return st;
}

/* Loads the network and plans. */
static vd_status begin(vd_render_job *j, decoder *d) {
    vd_status st = VD_OK;
    const size_t latents = 2 * j->count * sizeof(float);
    const size_t picture = picture_values(j) * (2 * sizeof(float) + 1);
    VD_TRY(vd_model_need_vae(j->m));
    VD_TRY(vd_stage_exec(j, j->m->dtype, &d->x));
    shape_decoder(j, d);
    VD_TRY(plan_decode(j, d));
    vd_vae_drop_pages(j->m->vae);
    VD_TRY(vd_stage_fits(j, VD_STAGE_DECODE, d->x, latents + picture, 0));
done:
    return st;
}

static void end(vd_render_job *j, decoder *d) {
    vd_exec_destroy(d->x);
    vd_backend_free(j->m->be, d->latents_memory);
    vd_backend_free(j->m->be, d->picture_memory);
    free(d->image);
    free(d->rgb);
    vd_model_release_vae(j->m);
}

vd_status vd_stage_plan_decode(vd_render_job *j) {
    decoder d = {0};
    const vd_status st = begin(j, &d);
    end(j, &d);
    return st;
}

vd_status vd_stage_decode(vd_render_job *j) {
    vd_status st = VD_OK;
    decoder d = {0};
    const size_t values = picture_values(j);
    VD_TRY(vd_stage_report(j, VD_STAGE_DECODE, 0, j->r->frames));
    VD_TRY(begin(j, &d));
    VD_TRY(decoder_memory(j, &d));
    VD_TRY(vd_exec_commit(d.x));
    VD_TRY(prepare_latents(j, &d));
    for (int64_t f = 0; f < j->r->frames; f++) {
        const double start_s = vd_now_s();
        VD_TRY(vd_stage_check_stop(j));
        VD_TRY(decode_frame(j, &d, f));
        VD_TRY(vd_backend_download(j->m->be, d.image, d.picture.data, values * sizeof(float)));
        VD_TRY(check_finite(j, &d, f, values));
        vd_vae_to_bytes(d.rgb, d.image, values);
        if (j->consume)
            VD_TRY(j->consume(j->consume_user, d.rgb));
        if (j->ev->frame)
            VD_TRY(j->ev->frame(j->ev->user, f, d.image, d.rgb));
        VD_TRY(vd_stage_report(j, VD_STAGE_DECODE, f + 1, j->r->frames));
        if (j->preflight && vd_preflight_frame(j->preflight, vd_now_s() - start_s))
            break;
    }
done:
    end(j, &d);
    return st;
}

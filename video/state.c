#include "video/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/safetensors.h"
#include "core/sha256.h"
#include "video/request.h"

enum { RNG_WORDS = 624, FACTS = 5 };

/* SHA-256 of everything that the latents depend on. */
static vd_status fingerprint(const vd_render_job *j, uint8_t digest[VD_SHA256_BYTES]) {
    vd_status st = VD_OK;
    vd_render_request r = *j->r;
    const vd_output no_output = {0};
    char *settings = NULL;
    vd_sha256_state sha;
    r.fps = 0;
    VD_TRY(vd_request_describe(j->m, &r, &no_output, &settings));
    vd_sha256_begin(&sha);
    vd_sha256_add(&sha, settings, strlen(settings));
    if (r.latents)
        vd_sha256_add(&sha, r.latents, j->count * sizeof *r.latents);
    vd_sha256_end(&sha, digest);
done:
    free(settings);
    return st;
}

static vd_tensor latents_view(const vd_render_job *j, float *data) {
    return VD_VIEW(data, VD_F32, 1, j->m->info.latent_channels, j->r->frames, j->h, j->w);
}

/* ---- writing ------------------------------------------------------------------------------- */

vd_status vd_state_write(const vd_render_job *j, const vd_render_state *s) {
    static const char *const names[] = {"latents",         "rng",         "facts",
                                        "rng.next_normal", "fingerprint", "history"};
    uint8_t digest[VD_SHA256_BYTES];
    uint32_t words[RNG_WORDS];
    int64_t facts[FACTS] = {s->next, s->calls, s->rng.left, s->rng.next, s->rng.has_next_normal};
    double next_normal = s->rng.next_normal;
    memcpy(words, s->rng.state, sizeof words);
    vd_status st = fingerprint(j, digest);
    if (st != VD_OK)
        return st;
    const vd_tensor tensors[] = {
        latents_view(j, s->latents),
        VD_VIEW(words, VD_I32, RNG_WORDS),
        VD_VIEW(facts, VD_I64, FACTS),
        VD_VIEW(&next_normal, VD_F64, 1),
        VD_VIEW(digest, VD_U8, VD_SHA256_BYTES),
        VD_VIEW(s->history, VD_F32, (int64_t)s->history_count),
    };
    return vd_safetensors_write(j->r->state_path, names, tensors, s->history_count > 0 ? 6 : 5,
                                NULL);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Copies a tensor of this type and shape to `dst`. */
static bool take(const vd_checkpoint *ck, const char *name, const vd_tensor *shape, void *dst) {
    vd_tensor t;
    if (!vd_checkpoint_find(ck, name, &t) || t.dtype != shape->dtype ||
        !vd_tensor_same_shape(&t, shape))
        return false;
    memcpy(dst, t.data, vd_tensor_bytes(&t));
    return true;
}

static bool take_rng(const vd_checkpoint *ck, const int64_t facts[FACTS], vd_rng *rng) {
    const vd_tensor words = VD_VIEW(NULL, VD_I32, RNG_WORDS), one = VD_VIEW(NULL, VD_F64, 1);
    rng->left = (int)facts[2];
    rng->next = (int)facts[3];
    rng->has_next_normal = facts[4] != 0;
    return take(ck, "rng", &words, rng->state) &&
           take(ck, "rng.next_normal", &one, &rng->next_normal) && facts[2] >= 0 &&
           facts[2] <= RNG_WORDS && facts[3] >= 0 && facts[3] <= RNG_WORDS;
}

/* False for a file that is none of ours. */
static bool take_all(const vd_render_job *j, const vd_checkpoint *ck, vd_render_state *s) {
    const vd_tensor latents = latents_view(j, NULL), five = VD_VIEW(NULL, VD_I64, FACTS);
    int64_t facts[FACTS];
    vd_tensor history;
    if (!take(ck, "facts", &five, facts) || facts[0] < 1 || facts[0] > facts[1] ||
        !take_rng(ck, facts, &s->rng) || !take(ck, "latents", &latents, s->latents))
        return false;
    s->next = facts[0];
    s->calls = facts[1];
    if (!vd_checkpoint_find(ck, "history", &history))
        return true;
    s->history_count = (size_t)vd_tensor_elements(&history);
    const vd_tensor shape = VD_VIEW(NULL, VD_F32, (int64_t)s->history_count);
    s->history = malloc(vd_tensor_bytes(&shape));
    return s->history && take(ck, "history", &shape, s->history);
}

static void warn(const vd_render_job *j, const char *what) {
    char message[512];
    snprintf(message, sizeof message, "%.400s: %s: this render begins anew", j->r->state_path,
             what);
    if (j->ev->warning)
        j->ev->warning(j->ev->user, message);
}

vd_status vd_state_read(const vd_render_job *j, vd_render_state **out) {
    vd_status st = VD_OK;
    vd_checkpoint *ck = NULL;
    vd_render_state *s = NULL;
    const vd_tensor digest = VD_VIEW(NULL, VD_U8, VD_SHA256_BYTES);
    uint8_t here[VD_SHA256_BYTES], there[VD_SHA256_BYTES];
    *out = NULL;
    if (!j->r->state_path || access(j->r->state_path, F_OK) != 0)
        return VD_OK;
    VD_TRY(fingerprint(j, here));
    s = calloc(1, sizeof *s);
    if (!s) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a state");
        goto done;
    }
    VD_TRY(vd_stage_floats(j->count, &s->latents));
    if (vd_checkpoint_open_file(j->r->state_path, &ck) != VD_OK ||
        !take(ck, "fingerprint", &digest, there)) {
        warn(j, "is no state of a render");
    } else if (memcmp(here, there, sizeof here) != 0) {
        warn(j, "is of a render with other settings, model or device");
    } else if (!take_all(j, ck, s)) {
        warn(j, "is damaged");
    } else {
        *out = s;
        s = NULL;
    }
done:
    vd_checkpoint_destroy(ck);
    vd_state_free(s);
    return st;
}

void vd_state_free(vd_render_state *state) {
    if (!state)
        return;
    free(state->latents);
    free(state->history);
    free(state);
}

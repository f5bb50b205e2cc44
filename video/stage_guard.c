/* NaN and infinity: noticed in what a network gives, and followed to the layer that they begin in.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "video/stage.h"

enum { LAYER_BYTES = 256, CHUNK = 1024 };

typedef struct search {
    vd_backend *be;
    bool found, is_nan;
    char layer[LAYER_BYTES];
} search;

bool vd_stage_finite(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

/* Looks through a layer's result; VD_ERR_BACKEND ends the run where it holds what is sought. */
static vd_status on_result(void *user, const char *layer, const vd_tensor *result) {
    search *s = user;
    const size_t bytes = vd_tensor_bytes(result), size = vd_dtype_bytes(result->dtype);
    float chunk[CHUNK];
    char *host = malloc(bytes);
    if (!host)
        return vd_fail(VD_ERR_MEMORY, "no memory to look at %zu bytes of a layer", bytes);
    vd_status st = vd_backend_download(s->be, host, result->data, bytes);
    for (size_t at = 0; at < bytes && st == VD_OK && !s->found; at += CHUNK * size) {
        const size_t count = bytes - at < CHUNK * size ? (bytes - at) / size : CHUNK;
        vd_convert_values(chunk, VD_F32, host + at, result->dtype, count);
        for (size_t i = 0; i < count && !s->found; i++) {
            s->found = !isfinite(chunk[i]);
            s->is_nan = isnan(chunk[i]);
        }
    }
    free(host);
    if (s->found) {
        snprintf(s->layer, sizeof s->layer, "%s", layer);
        st = VD_ERR_BACKEND;
    }
    return st;
}

vd_status vd_stage_blame(vd_exec *x, vd_status (*again)(void *user), void *user, const char *what) {
    search s = {.be = vd_exec_backend(x)};
    vd_exec_watch(x, on_result, &s);
    const vd_status st = again(user);
    vd_exec_watch(x, NULL, NULL);
    if (!s.found && st != VD_OK)
        return st;
    if (!s.found)
        return vd_fail(
            VD_ERR_BACKEND,
            "%s: NaN or infinity, though each layer of the network gives numbers: they "
            "are too large for the sampler; lower --guidance or take another --scheduler",
            what);
    return vd_fail(VD_ERR_BACKEND, "%s: NaN or infinity; the first bad layer is %s (gives %s); %s",
                   what, s.layer, s.is_nan ? "NaN" : "infinity",
                   vd_exec_dtype(x) == VD_F32
                       ? "that is in f32: look at its weights"
                       : "render again with --dtype f32; if that fails too, look at its weights");
}

/* What a render keeps on the disk so that it can be killed at any moment: the latents and all that
 * the sampler remembers, written beside and renamed. */
#ifndef VD_VIDEO_STATE_H
#define VD_VIDEO_STATE_H

#include "core/rng.h"
#include "video/stage.h"

typedef struct vd_render_state {
    int64_t next, calls; /* scheduler calls; next == calls: the latents are final */
    vd_rng rng;
    float *latents; /* [1, C, frames, h, w] */
    float *history; /* of the scheduler; NULL where it has none */
    size_t history_count;
} vd_render_state;

/* The state in the request's file, if it is there and of this very render (same settings, model,
 * dtype and program); else *out is NULL, with a warning if the file is of another one or damaged.
 * VD_ERR_MEMORY. */
vd_status vd_state_read(const vd_render_job *j, vd_render_state **out);
void vd_state_free(vd_render_state *state);

/* Replaces the file. `state` borrows. */
vd_status vd_state_write(const vd_render_job *j, const vd_render_state *state);

#endif

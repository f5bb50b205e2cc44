/* The three stages of a render and what they share. Each loads its network, plans its memory with a
 * dry pass, and lets go of both before the next begins. Included by video/ only. */
#ifndef VD_VIDEO_STAGE_H
#define VD_VIDEO_STAGE_H

#include "video/model.h"

typedef struct vd_render_job {
    vd_model *m;
    const vd_render_request *r;
    const vd_render_events *ev;
    int64_t h, w, pixels; /* of a latent frame */
    size_t count;         /* latent values: channels * frames * pixels */
    int branches;         /* 2 with guidance: negative, prompt */
    float *context;       /* host [branches, tokens, width]; from vd_stage_text */
    int64_t tokens, width;
    float *pooled; /* host [branches, pooled_width]: of the second encoder; NULL without one */
    int64_t pooled_width;
    float *latents;                 /* host [1, channels, frames, h, w]; from vd_stage_denoise */
    struct vd_render_state *resume; /* to go on from; or NULL */
    /* UNet calls of renders that this one is made of, before and after its own (low_res.h). */
    int64_t calls_before, calls_after;
    vd_status (*consume)(void *user, const uint8_t *rgb);
    void *consume_user;
    /* Not a render: denoising and decoding only try what they would do, and fill this in. NULL: a
     * render. */
    struct vd_preflight *preflight;
} vd_render_job;

/* Fills h, w, pixels, count and branches from the request. */
void vd_stage_shape(vd_render_job *j);

/* Each fills its member of the job, or passes frames to the job's consumer and events. */
vd_status vd_stage_text(vd_render_job *j);
vd_status vd_stage_denoise(vd_render_job *j);
vd_status vd_stage_decode(vd_render_job *j);

/* The job's latents: a copy of those that are there, or by vd_stage_text and vd_stage_denoise. */
vd_status vd_stage_latents(vd_render_job *j, const float *there);

/* Only plans the decoding, so that a render which would end there is not begun. VD_ERR_MEMORY. */
vd_status vd_stage_plan_decode(vd_render_job *j);

/* Tells the progress event, if there is one. */
vd_status vd_stage_report(const vd_render_job *j, vd_stage stage, int64_t done, int64_t total);

/* VD_ERR_INTERRUPTED when the events say that the render should stop. */
vd_status vd_stage_check_stop(const vd_render_job *j);

/* An exec on the model's device that asks the events whether to stop. */
vd_status vd_stage_exec(const vd_render_job *j, vd_dtype dtype, vd_exec **out);

/* ---- stage_guard.c ---- */

/* False if one of them is NaN or infinity. */
bool vd_stage_finite(const float *values, size_t count);

/* For a forward whose result is not finite: computes it once more with `again`, looks at each
 * layer's result, and fails with VD_ERR_BACKEND, naming the first bad layer and what to try. `x` is
 * the committed exec that `again` computes in; `what` says where in the render this is. */
vd_status vd_stage_blame(vd_exec *x, vd_status (*again)(void *user), void *user, const char *what);

/* Host memory for `count` floats, freed with free(). */
vd_status vd_stage_floats(size_t count, float **out);

/* ---- stage_plan.c ---- */

/* Before a commit: what the process will have in memory, with the exec's, `more` bytes of the host
 * and `device_more` of the device beside it, goes to the preflight if there is one. VD_ERR_MEMORY,
 * with the figures, if it cannot be had.
 */
vd_status vd_stage_fits(const vd_render_job *j, vd_stage stage, const vd_exec *x, size_t more,
                        size_t device_more);

/* For tensors of a dry run that have no memory yet: one of four different addresses, of which
 * nothing is read or written. */
void *vd_stage_nowhere(int index);

#endif

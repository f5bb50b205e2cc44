/* The denoising loop's data on the device, and one of its calls: what the network gets, the
 * networks, guidance, the sampler's step. A call waits for nothing; what differs between two calls
 * of the same networks lies in device memory, so that the device can repeat a recorded one.
 *
 *     vd_denoiser_shape(&d);
 *     vd_denoiser_pass(&d, method, damped, 0);        // dry: once for each network
 *     vd_denoiser_take(&d);
 *     vd_exec_commit(d.x);
 *     vd_backend_upload(be, d.latents.data, ...);
 *     for (int call = 0; call < calls; call++) {
 *         vd_denoiser_call(&d, call);
 *         vd_denoiser_finite(&d, &finite);            // waits
 *     }
 *     vd_denoiser_free(&d);
 */
#ifndef VD_VIDEO_DENOISER_H
#define VD_VIDEO_DENOISER_H

#include "unet3d/method_plan.h"
#include "video/scheduler.h"
#include "video/stage.h"

typedef struct vd_denoiser {
    const vd_render_job *j;
    /* Owned; set by who makes it. */
    vd_exec *x;
    vd_scheduler *scheduler;
    vd_method_plan *plan; /* NULL: the plain network */

    /* On the device, all in one piece. */
    void *memory;
    vd_tensor states;                 /* [branches, tokens, width] */
    vd_tensor latents, guided, noise; /* [1, C, frames, h, w] */
    vd_tensor damped;                 /* like these: the noise-damped network's prediction */
    vd_tensor sample, output;         /* [branches, C, frames, h, w] */
    vd_tensor history;                /* [history buffers, C, frames, h, w]; data NULL: none */
    vd_tensor waves;                  /* of the call's timestep, in `row` */
    unsigned char *rows, *row;        /* numbers of each call; those of the running one */
    size_t row_bytes;
    int32_t *bad; /* a prediction or the latents were not finite */
} vd_denoiser;

/* Shapes, for dry passes; j, x, scheduler and plan are set. Returns the bytes that vd_denoiser_take
 * will ask for. */
size_t vd_denoiser_shape(vd_denoiser *d);

/* Takes the memory, sends the texts' states and the numbers of all calls. VD_ERR_MEMORY. */
vd_status vd_denoiser_take(vd_denoiser *d);
void vd_denoiser_free(vd_denoiser *d);

/* Whether any call draws noise. */
bool vd_denoiser_is_noisy(const vd_denoiser *d);

/* A pass of a network alone, for dry passes and for looking at layers: on all branches, or `damped`
 * on the negative prompt. `t` is checked only: the timestep is the row's. */
vd_status vd_denoiser_pass(vd_denoiser *d, const vd_step_method *method, bool damped, double t);

/* The networks of a call on the sample that is there. */
vd_status vd_denoiser_networks(vd_denoiser *d, int call);

/* The network that the negative prompt's prediction is taken from besides; NULL: none. */
const vd_step_method *vd_denoiser_damped(const vd_denoiser *d, int call);

/* Latents of the call after `call`, with the noise that is there. One that is stopped or fails on
 * the host has not touched the latents. */
vd_status vd_denoiser_call(vd_denoiser *d, int call);

/* The same, with a guided prediction (host, [1, C, frames, h, w]) instead of the networks. */
vd_status vd_denoiser_call_with(vd_denoiser *d, int call, const float *guided);

/* Waits for the calls so far. *out: their guided predictions and latents are finite. */
vd_status vd_denoiser_finite(vd_denoiser *d, bool *out);

#endif

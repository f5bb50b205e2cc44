/* What one forward pass carries through its modules. */
#ifndef VD_UNET3D_PASS_H
#define VD_UNET3D_PASS_H

#include "backend/backend.h"
#include "unet3d/method.h"

/* What a caller may change or watch in a forward pass. NULL members do nothing. The same hooks
 * must be given to the dry and to the real pass. */
typedef struct vd_unet_hooks {
    void *user;
    /* Any may be given to a real pass that some dry pass of the same batch had. */
    const vd_step_method *method;
    /* vd_timestep_embedding of each item's timestep, F32 [batch, channels[0]] in device memory, for
     * a pass that is recorded (vd_exec_repeat); NULL: the pass computes them and sends them. */
    const vd_tensor *waves;
    /* Called after each module with its diffusers path ("down_blocks.0.resnets.1") and output:
     * a device view [batch * frames, h, w, c], or F32 [g, c] for "time_embedding" (g = 1 when all
     * timesteps are equal, else the batch), valid during the call. Not called in a dry pass.
     * Anything but VD_OK ends the pass with that status. */
    vd_status (*tap)(void *user, const char *path, const vd_tensor *output);
} vd_unet_hooks;

typedef struct vd_unet_pass {
    vd_exec *x;
    const vd_unet_hooks *hooks; /* NULL: none */
    int64_t batch, frames;
    vd_tensor time; /* SiLU of the time embedding, F32 [g, width], batch * frames a multiple of g */
} vd_unet_pass;

/* What this pass runs; all zero if nothing is changed. */
const vd_step_method *vd_unet_method(const vd_unet_pass *pass);

/* Is somebody watching? Then modules whose last step is fused into the next do it separately. */
bool vd_unet_is_tapped(const vd_unet_pass *pass);

/* Shows the output of module "PREFIX.rest" (see vd_path_join) to the tap. */
vd_status vd_unet_tap(const vd_unet_pass *pass, const vd_tensor *output, const char *prefix,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif

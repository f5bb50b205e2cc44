/* Runs a UNet, or one of its modules, on host data: dry pass, commit, real pass. */
#ifndef VD_TESTS_UNET3D_RUN_H
#define VD_TESTS_UNET3D_RUN_H

#include "unet3d/unet3d_impl.h"

typedef struct unet_run {
    vd_backend *be;
    vd_exec *x;
    vd_unet *u;
} unet_run;

/* With VD_TEST_OFFLOAD the weights stay on the host. NULL-safe in the other calls' sense: after a
 * failure (reported on stderr) u is NULL. */
bool run_open(unet_run *run, const char *dir, vd_dtype dtype, int threads);
void run_close(unet_run *run);

/* A copy on the device; its data must be given back with vd_backend_free. data NULL on failure. */
vd_tensor run_upload(const unet_run *run, const vd_tensor *shape, const void *data);

/* sample and text: shapes, with F32 host data beside. Returns the malloc'ed prediction, NULL after
 * a failure (vd_error_message). `peak_bytes` of the arena may be NULL. Fails too if the forward
 * left something in the arena or asked for more than the dry pass did. */
float *run_forward(unet_run *run, const vd_tensor *sample_shape, const float *sample,
                   const vd_tensor *text_shape, const float *text, const double *timestep,
                   const vd_unet_hooks *hooks, size_t *peak_bytes);

/* The body of one module: reads and replaces *h, which is of the exec's dtype. */
typedef vd_status (*run_module_fn)(void *user, vd_unet_pass *pass, vd_tensor *h);

/* Runs `module` on x [images, c, h, w] (host); returns the output in the same order of axes. `out`
 * gets its shape. */
float *run_module(unet_run *run, const vd_tensor *x_shape, const float *x, int64_t frames,
                  run_module_fn module, void *user, vd_tensor *out);

#endif

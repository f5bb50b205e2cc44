/* UNet3DConditionModel, the denoiser of text-to-video models of the ms-1.7b kind, and
 * UNet2DConditionModel, that of Stable Diffusion: load, forward. The second is the first without
 * what looks along the frames.
 *
 *     vd_unet *u;
 *     vd_unet_open(be, "model/unet", VD_BF16, &u);
 *     for (int dry = 1; dry >= 0; dry--) {            // plans, then computes
 *         vd_unet_set_context(u, x, &text_states);
 *         vd_unet_forward(u, x, &noise, &latents, timesteps, NULL);
 *         if (dry)
 *             vd_exec_commit(x);
 *     }
 *     vd_unet_destroy(u);
 *
 * With settings that change from step to step (unet3d/method_plan.h), everything that the loop will
 * run goes through a dry forward of the same batch before the one commit, so that the arena has
 * room for the largest and all plans are made:
 *
 *     vd_unet_set_context(u, x, &text_states);
 *     for (int i = 0; i < vd_method_plan_count(plan); i++) {
 *         const vd_unet_hooks hooks = {.method = vd_method_plan_distinct(plan, i, NULL)};
 *         vd_unet_forward(u, x, &noise, &latents, timesteps, &hooks);
 *     }
 *     vd_exec_commit(x);
 *     vd_unet_set_context(u, x, &text_states);
 *     for (int step = 0; step < steps; step++) {
 *         const vd_unet_hooks hooks = {.method = vd_method_plan_at(plan, step)};
 *         vd_unet_forward(u, x, &noise, &latents, timesteps, &hooks);
 *         ...
 *     }
 */
#ifndef VD_UNET3D_UNET3D_H
#define VD_UNET3D_UNET3D_H

#include "core/safetensors.h"
#include "unet3d/config.h"
#include "unet3d/pass.h"

typedef struct vd_unet vd_unet;

/* Loads DIR/config.json and DIR/diffusion_pytorch_model*.safetensors; weights are packed in `dtype`
 * (VD_ERR_BACKEND if the device does not compute in it). VD_ERR_INPUT: see vd_unet_config_parse,
 * vd_checkpoint_open and vd_checkpoint_finish. */
vd_status vd_unet_open(vd_backend *be, const char *dir, vd_dtype dtype, vd_unet **out);
void vd_unet_destroy(vd_unet *u);

/* Lets go of pages of the weights' file that dry forwards read to pack for their plans. */
void vd_unet_drop_pages(vd_unet *u);

const vd_unet_config *vd_unet_get_config(const vd_unet *u);

/* vd_spatial_paths_of the config: NULL-terminated, borrowed from the UNet. vd_step_method
 * has an entry for each. */
const char *const *vd_unet_spatial_paths(const vd_unet *u);

/* Computes the text's keys and values for all later forwards: states [B, T, cross_attention_dim],
 * device memory, F32 or the exec's dtype. Takes device memory of its own when B * T grows or
 * shrinks, so call it once while the exec is dry and again, with the same shape, after the commit:
 * a dry call only plans. */
vd_status vd_unet_set_context(vd_unet *u, vd_exec *x, const vd_tensor *states);

/* What a network with an added embedding (config.added_width > 0: SD XL) takes beside the text:
 * pooled text states [items, added_width - ids * added_time_dim] and `ids` time ids for each item
 * (SD XL's 6: original height and width, crop's top and left, target height and width), both host
 * memory and copied. Call it before the first forward. VD_ERR_BACKEND for another network. */
vd_status vd_unet_set_added(vd_unet *u, int64_t items, const float *pooled, int ids,
                            const double *time_ids);

/* Predicts dst [B, out_channels, F, H, W] from sample [B, in_channels, F, H, W], both F32 device
 * memory. B may be smaller than the context's: its first B items are used. The frames of a 2D
 * network's item are pictures that share the text and do not see each other. timestep: B values.
 * hooks: NULL for none. The exec has the dtype that the weights were packed in. All that is taken
 * from the arena is given back, also after a failure. */
vd_status vd_unet_forward(vd_unet *u, vd_exec *x, vd_tensor *dst, const vd_tensor *sample,
                          const double *timestep, const vd_unet_hooks *hooks);

/* The sinusoids of a timestep, in float32 as diffusers computes them: `width` values, cosines
 * first; an odd width ends in a zero. */
void vd_timestep_embedding(float *dst, int64_t width, double timestep);

#endif

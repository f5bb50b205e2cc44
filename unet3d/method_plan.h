/* Settings and a number of steps, resolved: what the network runs at each step.
 *
 *     vd_method_plan *plan;
 *     vd_method_plan_create(s, vd_unet_spatial_paths(u), steps, &plan);
 *     vd_unet_hooks hooks = {.method = vd_method_plan_at(plan, step)};   // see unet3d.h
 *     vd_unet_forward(u, x, &both, &sample, timesteps, &hooks);
 *     hooks.method = vd_method_plan_damped_at(plan, step);
 *     if (hooks.method != NULL)
 *         vd_unet_forward(u, x, &negative, &first_item, timesteps, &hooks);
 */
#ifndef VD_UNET3D_METHOD_PLAN_H
#define VD_UNET3D_METHOD_PLAN_H

#include "unet3d/settings.h"

/* The progressive rule: max(ceil(d * ((tau - step) / tau)), 2), for each axis by itself. tau >= 1.
 */
double vd_progressive_factor(double d, int tau, int step);

/* What layer `path` runs at `step` (0 = the noisiest) in the network that guides, and in the
 * noise-damped one. They compare names: make a plan for a loop. */
vd_layer_method vd_settings_at(const vd_settings *s, const char *path, int step);
vd_layer_method vd_settings_damped_at(const vd_settings *s, const char *path, int step);

/* Steps that run the same share one vd_step_method. */
typedef struct vd_method_plan vd_method_plan;

/* Layers have the order of `paths`. VD_ERR_INPUT: see vd_settings_check_names. Borrows nothing. */
vd_status vd_method_plan_create(const vd_settings *s, const char *const *paths, int steps,
                                vd_method_plan **out);
void vd_method_plan_destroy(vd_method_plan *plan);

/* Of a step in 0 .. steps - 1. Borrowed from the plan. */
const vd_step_method *vd_method_plan_at(const vd_method_plan *plan, int step);

/* Of the network whose prediction for the negative prompt replaces the other's. NULL where noise
 * damping is off or would run the same network again. */
const vd_step_method *vd_method_plan_damped_at(const vd_method_plan *plan, int step);

/* The distinct ones, in the order of their first step, for dry runs; *damped says of which network
 * (NULL: not asked). Index 0 .. count - 1. */
int vd_method_plan_count(const vd_method_plan *plan);
const vd_step_method *vd_method_plan_distinct(const vd_method_plan *plan, int index, bool *damped);

#endif

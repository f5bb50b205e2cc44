/* The settings of the method: which convolution each layer runs at each step.
 *
 *     vd_settings *s;
 *     vd_settings_read("settings.json", &s);      // {"dilate": {"mid_block": 2.5}, "dilate_tau":
 * 30} vd_settings_check_steps(s, steps); vd_method_plan *plan; vd_method_plan_create(s,
 * vd_unet_spatial_paths(u), steps, &plan); vd_unet_hooks hooks = {.methods =
 * vd_method_plan_at(plan, step)};   // see unet3d.h
 */
#ifndef VD_UNET3D_SETTINGS_H
#define VD_UNET3D_SETTINGS_H

#include "core/json.h"
#include "unet3d/pass.h"

enum { VD_ALL_STEPS = 1 << 30 };

/* A layer ("mid_block.resnets.0.conv1") or all below a prefix of whole names
 * ("down_blocks.1.resnets", "mid_block"). */
typedef struct vd_dilate_entry {
    char *name;
    vd_redilation factor;
} vd_dilate_entry;

typedef struct vd_settings {
    char *origin; /* for messages: the file */
    vd_dilate_entry *dilate;
    size_t dilate_count;
    int dilate_tau; /* steps 0 .. dilate_tau - 1 are re-dilated; VD_ALL_STEPS: all */
    bool progressive;
} vd_settings;

/* Reads the members of a JSON object:
 *   dilate       {name: factor or [factor of the height, of the width]}, factors in [1, 16]
 *   dilate_tau   whole number of steps, 0 to 1000; all steps if missing
 *   progressive  true: see vd_progressive_factor; needs dilate_tau
 * VD_ERR_INPUT with the JSON path: another key that is not in `others` (NULL-terminated; NULL:
 * none), a wrong type or range, no layer at all. `origin` names the source in later messages. */
vd_status vd_settings_parse(const vd_json *doc, const vd_json_value *object,
                            const char *const *others, const char *origin, vd_settings **out);

/* The same for a file that holds nothing else. */
VD_API vd_status vd_settings_read(const char *path, vd_settings **out);
VD_API void vd_settings_destroy(vd_settings *s);

/* Writes an object that vd_settings_parse reads back the same. key: as in vd_json_begin_object. */
void vd_settings_put(vd_json_writer *w, const char *key, const vd_settings *s);

/* paths: the layers that may be named, NULL-terminated. VD_ERR_INPUT for a name that is none of
 * them nor a prefix (it says why, or suggests the nearest), or two names that cover one layer. */
vd_status vd_settings_check_names(const vd_settings *s, const char *const *paths);

/* VD_ERR_INPUT if a window of steps is longer than a run of `steps` steps. */
vd_status vd_settings_check_steps(const vd_settings *s, int steps);

/* The progressive rule: max(ceil(d * ((tau - step) / tau)), 2), for each axis by itself. tau >= 1.
 */
double vd_progressive_factor(double d, int tau, int step);

/* What layer `path` runs at `step` (0 = the noisiest). Compares names: make a plan for a loop. */
vd_layer_method vd_settings_at(const vd_settings *s, const char *path, int step);

/* The settings of a run, resolved: for each step one table with an entry for each layer. Steps
 * with the same table share it. */
typedef struct vd_method_plan vd_method_plan;

/* Tables have the order of `paths`. VD_ERR_INPUT: see vd_settings_check_names. Borrows nothing. */
vd_status vd_method_plan_create(const vd_settings *s, const char *const *paths, int steps,
                                vd_method_plan **out);
void vd_method_plan_destroy(vd_method_plan *plan);

/* The table of a step in 0 .. steps - 1. Borrowed from the plan. */
const vd_layer_method *vd_method_plan_at(const vd_method_plan *plan, int step);

/* The distinct tables, in the order of their first step. */
int vd_method_plan_table_count(const vd_method_plan *plan);
const vd_layer_method *vd_method_plan_table(const vd_method_plan *plan, int index);

#endif

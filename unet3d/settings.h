/* The settings of the method, as a file has them and as a clip carries them.
 *
 *     vd_settings *s;
 *     vd_settings_read("settings.json", &s);      // {"dilate": {"mid_block": 2}, "dilate_tau": 30}
 *     vd_settings_check_steps(s, steps);
 *     vd_settings_check_names(s, vd_unet_spatial_paths(u));
 *     vd_method_plan *plan;                       // unet3d/method_plan.h
 *     vd_method_plan_create(s, vd_unet_spatial_paths(u), steps, &plan);
 */
#ifndef VD_UNET3D_SETTINGS_H
#define VD_UNET3D_SETTINGS_H

#include "core/json.h"
#include "unet3d/dispersion.h"
#include "unet3d/method.h"

enum { VD_ALL_STEPS = 1 << 30 };

/* A layer ("mid_block.resnets.0.conv1") or all below a prefix of whole names
 * ("down_blocks.1.resnets", "mid_block"). */
typedef struct vd_dilate_entry {
    char *name;
    vd_redilation factor;
} vd_dilate_entry;

typedef struct vd_settings {
    char *origin; /* for messages: the file */
    bool is_list; /* from vd_settings_parse_list */
    bool progressive;

    /* Steps 0 .. dilate_tau - 1 are re-dilated; VD_ALL_STEPS: all. */
    vd_dilate_entry *dilate;
    size_t dilate_count;
    int dilate_tau;

    /* Steps 0 .. ndcfg_tau - 1 take the negative prompt's prediction from a network with these
     * factors (none: the plain network) beside the re-dilated one. */
    vd_dilate_entry *ndcfg_dilate;
    size_t ndcfg_count;
    int ndcfg_tau;

    /* Layers whose kernels are enlarged by R at steps 0 .. inflate_tau - 1, at half the dilation
     * (whatever R's scale), in both networks. */
    char **disperse;
    size_t disperse_count;
    int inflate_tau;
    vd_dispersion dispersion;

    vd_freeu freeu;
    double attention_ratio; /* 0: off */

    /* Steps 0 .. low_res_tau - 1 are those of a render at the model's size (video/low_res.h). */
    int low_res_tau;
} vd_settings;

/* Reads the members of a JSON object:
 *   dilate           {name: factor or [factor of the height, of the width]}, factors in [1, 16]
 *   dilate_tau       whole number of steps, 0 to 1000; all steps if missing
 *   progressive      true: see vd_progressive_factor; needs dilate_tau
 *   ndcfg_dilate     like dilate, may be empty
 *   ndcfg_tau        like dilate_tau; if missing, dilate_tau where there is an ndcfg_dilate, else 0
 *   disperse         list of names, all of which are in dilate, and in ndcfg_dilate where both
 *                    windows overlap; needs R
 *   inflate_tau      like dilate_tau and at most that; if missing, dilate_tau where there is a
 *                    disperse, else 0; without a disperse it has no effect
 *   R                [3, large, size, scale, eta]: see vd_disperse_solve
 *   freeu            {"b1", "b2", "s1", "s2": 0 to 16, "rule": "up_block_index" or "channels",
 *                     "c1": 1280, "c2": 640}
 *   attention_scale  {"ratio": above 0, at most 65536}
 * VD_ERR_INPUT with the JSON path: another key that is not in `others` (NULL-terminated; NULL:
 * none), a wrong type or range, nothing that changes the network. `origin` names the source in
 * later messages. */
vd_status vd_settings_parse(const vd_json *doc, const vd_json_value *object,
                            const char *const *others, const char *origin, vd_settings **out);

/* The keys by which the rows of a configs folder say what they are for (configs/README.md), for
 * `others`. */
extern const char *const vd_settings_row_keys[];

/* The same for a file: JSON, a row of a configs folder included, or a list (below). */
VD_API vd_status vd_settings_read(const char *path, vd_settings **out);
VD_API void vd_settings_destroy(vd_settings *s);

/* Whether an object has any of the keys that vd_settings_parse reads. */
bool vd_settings_present(const vd_json_value *object);

/* Writes an object that vd_settings_parse reads back the same. key: as in vd_json_begin_object. */
void vd_settings_put(vd_json_writer *w, const char *key, const vd_settings *s);

/* paths: the layers that may be named, NULL-terminated. VD_ERR_INPUT for a name that is none of
 * them nor a prefix (it says why, or suggests the nearest), two names of one table that cover one
 * layer, a dispersed layer that a network does not re-dilate. */
vd_status vd_settings_check_names(const vd_settings *s, const char *const *paths);

/* VD_ERR_INPUT if a window of steps is longer than a run of `steps` steps. */
vd_status vd_settings_check_steps(const vd_settings *s, int steps);

/* ScaleCrafter's own form, one "module.path:factor" a line: all steps are re-dilated. Changes
 * `text`. VD_ERR_INPUT with the line. */
vd_status vd_settings_parse_list(char *text, const char *origin, vd_settings **out);

/* Such lists name layers of other models too: leaves out what is none of `paths` nor a prefix, but
 * keeps what no model lets be named, for vd_settings_check_names to refuse. *warning says what was
 * left out; NULL: nothing. VD_ERR_INPUT if nothing remains. */
vd_status vd_settings_drop_missing(vd_settings *s, const char *const *paths, char **warning);

/* Why a layer that a UNet has, or a part of it, cannot be named; NULL: no reason known. */
const char *vd_settings_why_never(const char *name);

/* Is `name` the path itself or a prefix of it that ends before a dot? */
bool vd_settings_name_covers(const char *name, const char *path);

#endif

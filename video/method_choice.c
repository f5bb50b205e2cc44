#include "video/method_choice.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "unet3d/settings.h"
#include "video/model.h"

const char *const *vd_method_names(void) {
    static const char *const names[] = {"auto",    "direct",   "redilate", "attn-scale", "freeu",
                                        "low-res", "disperse", "ndcfg",    NULL};
    return names;
}

static vd_status no_memory(void) {
    return vd_fail(VD_ERR_MEMORY, "no memory to choose settings");
}

/* For a network that no row was made for: what the published rows for twice the size have in
 * common, as text of a row's file. */
static vd_status general_row(const vd_model *model, char **out) {
    vd_status st;
    vd_json_writer *w = NULL;
    const vd_unet_config *c = &model->unet_config;
    const int64_t trained[2] = {model->info.width_px, model->info.height_px};
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    vd_json_begin_object(w, "for");
    vd_json_put_string(w, "class", vd_config_row_class(c));
    vd_json_begin_array(w, "block_out_channels");
    for (int i = 0; i < c->levels; i++)
        vd_json_put_int(w, NULL, c->channels[i]);
    vd_json_end(w);
    for (int size = 0; size < 2; size++) {
        vd_json_begin_array(w, size ? "size" : "trained");
        for (int axis = 0; axis < 2; axis++)
            vd_json_put_int(w, NULL, trained[axis] * (size ? 2 : 1));
        vd_json_end(w);
    }
    vd_json_end(w);
    vd_json_begin_object(w, "dilate");
    for (int i = 1; i < c->levels; i++)
        vd_json_put_double(w, vd_path_join("down_blocks", "%d", i).text, 2);
    if (c->mid_layers > 0)
        vd_json_put_double(w, "mid_block", 2);
    for (int i = 0; i < c->levels - 1; i++)
        vd_json_put_double(w, vd_path_join("up_blocks", "%d", i).text, 2);
    vd_json_end(w);
    vd_json_put_int(w, "dilate_tau", 30);
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, false, out));
done:
    vd_json_writer_destroy(w);
    return st;
}

/* Finds a row for `fit`, or makes one, which `own` then holds. */
static vd_status find_row(const vd_model *model, const vd_config_rows *rows, vd_method_fit *fit,
                          vd_config_row *own) {
    vd_status st = VD_OK;
    char *text = NULL;
    vd_json *doc = NULL;
    const int64_t trained[2] = {model->info.width_px, model->info.height_px};
    if (vd_method_nearest_row(rows, &model->unet_config, trained, fit))
        return VD_OK;
    VD_TRY(general_row(model, &text));
    VD_TRY(vd_json_parse(text, strlen(text), "general", &doc));
    VD_TRY(vd_config_row_parse(doc, "general", own));
    fit->row = own;
    fit->exact = fit->ratio[0] == 2 && fit->ratio[1] == 2;
done:
    free(text);
    return st;
}

static char *why_fitted(const vd_method_fit *fit, const char *method, bool general,
                        const vd_settings *settings) {
    const char *name = fit->row->name;
    const char *missing = strcmp(method, "disperse") == 0 && settings->disperse_count == 0
                              ? "; nothing is dispersed, for that takes factors of 2 and more"
                              : "";
    if (strcmp(method, "attn-scale") == 0)
        return vd_format("attention's logits are scaled for %g times the pixels",
                         fit->ratio[0] * fit->ratio[1]);
    if (strcmp(method, "freeu") == 0)
        return general || vd_json_get(vd_json_root(fit->row->doc), "freeu") == NULL
                   ? vd_format("FreeU's values for Stable Diffusion 2.1: there are none for this "
                               "network")
                   : vd_format("FreeU's values of %s", name);
    if (general)
        return vd_format("no settings were made for this network: all levels but the finest, by "
                         "the ratio of the sizes, in the noisier 3 of 5 steps%s",
                         missing);
    return vd_format(fit->exact ? "%s: made for this network and size%s%s"
                                : "%s is nearest: its factors are fitted to this size%s%s",
                     name, fit->turned ? ", turned" : "", missing);
}

static vd_status fit_settings(const vd_method_fit *fit, const char *method, vd_method_choice *out) {
    vd_status st;
    vd_json_writer *w = NULL;
    vd_json *doc = NULL;
    char *text = NULL;
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    vd_method_put(w, fit, method);
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, false, &text));
    VD_TRY(vd_json_parse(text, strlen(text), fit->row->name, &doc));
    VD_TRY(vd_settings_parse(doc, vd_json_root(doc), NULL, fit->row->name, &out->settings));
done:
    vd_json_destroy(doc);
    vd_json_writer_destroy(w);
    free(text);
    return st;
}

/* NULL if the method has something to do at this ratio. */
static const char *why_plain(const char *method, const double ratio[2]) {
    const double most = fmax(ratio[0], ratio[1]);
    if (strcmp(method, "direct") == 0)
        return "the plain network, as asked";
    if (strcmp(method, "freeu") == 0)
        return NULL;
    if (strcmp(method, "attn-scale") == 0 && ratio[0] * ratio[1] <= 1)
        return "the plain network: not more pixels than the model was trained at";
    if (most <= 1)
        return "the plain network: not larger than the model was trained at";
    if (strcmp(method, "auto") == 0 && most < VD_METHOD_MIN_RATIO)
        return "the plain network: hardly larger than the model was trained at";
    return NULL;
}

static vd_status check_name(const char *method) {
    for (const char *const *name = vd_method_names(); *name != NULL; name++)
        if (strcmp(*name, method) == 0)
            return VD_OK;
    return vd_fail(VD_ERR_USAGE, "there is no method \"%s\"", method);
}

vd_status vd_method_choose(const vd_model *model, const vd_render_request *r, const char *method,
                           const char *configs, vd_method_choice *out) {
    vd_status st = VD_OK;
    vd_config_rows rows = {0};
    vd_config_row own = {0};
    vd_scheduler *scheduler = NULL;
    vd_method_fit fit = {.ratio = {(double)r->width_px / (double)model->info.width_px,
                                   (double)r->height_px / (double)model->info.height_px}};
    const char *plain = why_plain(method, fit.ratio);
    *out = (vd_method_choice){0};
    VD_TRY(check_name(method));
    if (plain != NULL) {
        out->why = vd_format("%s", plain);
        return out->why ? VD_OK : no_memory();
    }
    VD_TRY(vd_model_schedule(model, r, 1, &scheduler));
    fit.scheduler = scheduler;
    if (configs != NULL)
        VD_TRY(vd_config_rows_read(configs, &rows));
    VD_TRY(find_row(model, &rows, &fit, &own));
    VD_TRY(fit_settings(&fit, method, out));
    out->why = why_fitted(&fit, method, fit.row == &own, out->settings);
    if (fit.row != &own)
        out->row = vd_format("%s", fit.row->name);
    if (out->why == NULL || (out->row == NULL && fit.row != &own))
        st = no_memory();
done:
    vd_scheduler_destroy(scheduler);
    vd_config_rows_free(&rows);
    vd_config_row_free(&own);
    if (st != VD_OK)
        vd_method_choice_free(out);
    return st;
}

vd_status vd_method_read(const vd_model *model, const char *path, vd_method_choice *out) {
    vd_status st;
    vd_spatial_paths paths = {0};
    *out = (vd_method_choice){0};
    VD_TRY(vd_settings_read(path, &out->settings));
    if (out->settings->is_list) {
        VD_TRY(vd_spatial_paths_of(&model->unet_config, &paths));
        VD_TRY(vd_settings_drop_missing(out->settings, paths.list, &out->warning));
    }
    out->why = vd_format("%s", path);
    if (out->why == NULL)
        st = no_memory();
done:
    vd_spatial_paths_free(&paths);
    if (st != VD_OK)
        vd_method_choice_free(out);
    return st;
}

void vd_method_choice_free(vd_method_choice *choice) {
    vd_settings_destroy(choice->settings);
    free(choice->row);
    free(choice->why);
    free(choice->warning);
    *choice = (vd_method_choice){0};
}

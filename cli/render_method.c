/* --method, --settings and --explain: which settings a render has, and their account. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/render.h"
#include "core/text.h"
#include "unet3d/settings.h"
#include "video/explain.h"

/* Does the run that a clip records have this request's size, steps and scheduler? */
static vd_status same_run(const vd_json *clip, const vd_render_request *r, bool *out) {
    vd_status st;
    const vd_json_value *root = vd_json_root(clip);
    int64_t width = 0, height = 0, steps = 0;
    const char *scheduler = NULL;
    VD_TRY(vd_json_int(clip, root, "width", 1, INT32_MAX, r->width_px, &width));
    VD_TRY(vd_json_int(clip, root, "height", 1, INT32_MAX, r->height_px, &height));
    VD_TRY(vd_json_int(clip, root, "steps", 1, INT32_MAX, r->steps, &steps));
    VD_TRY(vd_json_text(clip, root, "scheduler", NULL, &scheduler));
    const bool named = scheduler != NULL && r->scheduler != NULL;
    *out = width == r->width_px && height == r->height_px && steps == r->steps &&
           (named ? strcmp(scheduler, r->scheduler) == 0 : scheduler == r->scheduler);
done:
    return st;
}

/* What a clip was rendered with, or the settings that a job holds; not found if the method was
 * chosen by its name and the run is another now, or the command line names a method. */
static vd_status from_record(const cli_render_args *a, const vd_json *clip, vd_render_request *r,
                             bool *found, vd_method_choice *out) {
    vd_status st = VD_OK;
    bool same = true;
    const char *method = NULL;
    const vd_json_value *root = vd_json_root(clip);
    const vd_json_value *settings = vd_json_get(root, "settings");
    const bool whole_run = vd_json_get(root, "width") != NULL;
    *found = false;
    VD_TRY(vd_json_text(clip, root, "method", NULL, &method));
    if (method != NULL)
        VD_TRY(same_run(clip, r, &same));
    if (whole_run && (a->has.method || !same))
        goto done;
    *found = true;
    if (settings != NULL)
        VD_TRY(
            vd_settings_parse(clip, settings, NULL, a->from ? a->from : "the job", &out->settings));
    out->why = vd_format(whole_run ? "as the clip was rendered" : "as the job says");
    if (out->why == NULL)
        st = vd_fail(VD_ERR_MEMORY, "no memory for settings");
    else if (whole_run)
        r->method = method != NULL ? a->method : NULL;
done:
    return st;
}

vd_status cli_render_method(const cli_render_args *a, const vd_json *clip, const vd_model *model,
                            vd_render_request *r, vd_method_choice *out) {
    vd_status st = VD_OK;
    bool found = false;
    char *shipped = NULL;
    if (a->settings) {
        VD_TRY(vd_method_read(model, a->settings, out));
        goto done;
    }
    if (clip)
        VD_TRY(from_record(a, clip, r, &found, out));
    /* A method fits a request that can be; what is wrong with another is for its own check. */
    if (found || vd_render_check(model, r) != VD_OK)
        goto done;
    if (!a->configs && strcmp(a->method, "direct") != 0)
        VD_TRY(cli_shipped_configs(&shipped));
    VD_TRY(vd_method_choose(model, r, a->method, a->configs ? a->configs : shipped, out));
    r->method = a->method;
done:
    r->settings = out->settings;
    free(shipped);
    return st;
}

vd_status cli_render_explain(const cli_render_args *a, const vd_model *model,
                             const cli_render_work *work) {
    char *text = NULL;
    if (work->method.warning)
        fprintf(stderr, "vidilate: warning: %s\n", work->method.warning);
    vd_status st =
        vd_explain(model, &work->request, work->method.why, work->method.row, a->json, &text);
    if (st == VD_OK && (fputs(text, stdout) < 0 || fflush(stdout) != 0))
        st = vd_fail(VD_ERR_OUTPUT, "cannot write to the standard output");
    free(text);
    return st;
}

/* Settings out of a rendered file: --from. */
#include <stdio.h>
#include <string.h>

#include "cli/render.h"
#include "encode/probe.h"

static const char SHIPPED_MODEL[] = "shapes";

static bool is_in(const char *const *list, const char *key) {
    while (*list && strcmp(key, *list) != 0)
        list++;
    return *list != NULL;
}

static vd_status apply_member(cli_command *command, const vd_json *doc, const vd_json_value *v) {
    /* What the file records about itself; --model is a folder, and only its name is known. The
     * settings are no option's text: cli_render_method takes them. */
    static const char *const facts[] = {"model",   "model-hash",   "model-size", "version",
                                        "backend", "from-latents", "settings",   NULL};
    /* What vd_request_describe records, and no more: a clip that somebody sent names no file to
     * read or to write. */
    static const char *const options[] = {
        "prompt", "negative-prompt", "width",      "height",     "frames",
        "fps",    "steps",           "guidance",   "eta",        "guidance-rescale",
        "seed",   "scheduler",       "codec",      "pix-fmt",    "crf",
        "dtype",  "method",          "vae-tiling", "vae-memory", NULL};
    const char *key = vd_json_key(v);
    char number[40];
    if (is_in(facts, key))
        return VD_OK;
    if (!is_in(options, key))
        return vd_json_fail(doc, v, "is nothing that a clip records of its render");
    switch (vd_json_type_of(v)) {
    case VD_JSON_STRING:
        return cli_set_recorded(command, key, vd_json_string(v));
    case VD_JSON_NUMBER:
        snprintf(number, sizeof number, "%.17g", vd_json_number(v));
        return cli_set_recorded(command, key, number);
    default:
        return vd_json_fail(doc, v, "expected a text or a number");
    }
}

/* The file knows its model by name and hash, not by folder. */
static vd_status check_clip_model(const cli_render_args *a, const vd_json *doc) {
    vd_status st = VD_OK;
    const char *name = NULL;
    bool from_latents = false;
    const vd_json_value *root = vd_json_root(doc);
    VD_TRY(vd_json_text(doc, root, "model", SHIPPED_MODEL, &name));
    VD_TRY(vd_json_flag(doc, root, "from-latents", false, &from_latents));
    if (!a->model && strcmp(name, SHIPPED_MODEL) != 0)
        st = vd_fail(VD_ERR_USAGE, "%s was rendered with the model \"%s\": give --model DIR",
                     a->from, name);
    else if (!a->latents && from_latents)
        st = vd_fail(VD_ERR_USAGE, "%s was rendered from saved latents: give --latents FILE",
                     a->from);
done:
    return st;
}

vd_status cli_replay_use(cli_command *command, cli_render_args *a, const vd_json *doc) {
    vd_status st = VD_OK;
    const vd_json_value *root = vd_json_root(doc);
    if (vd_json_type_of(root) != VD_JSON_OBJECT)
        return vd_json_fail(doc, root, "the settings in the file are not an object");
    VD_TRY(check_clip_model(a, doc));
    for (const vd_json_value *v = vd_json_first(root); v; v = vd_json_next(v))
        VD_TRY(apply_member(command, doc, v));
    a->size_from_clip = a->has.width && a->has.height;
    a->has.width = a->has.height = a->has.method = a->has.seed = false;
done:
    return st;
}

vd_status cli_replay_apply(cli_command *command, cli_render_args *a, vd_json **doc) {
    vd_status st = VD_OK;
    vd_media_info *info = NULL;
    const char *settings = NULL;
    VD_TRY(vd_probe(a->from, VD_PROBE_HEADERS, 1, &info));
    settings = vd_media_info_get(info, "vidilate");
    if (!settings) {
        st = vd_fail(VD_ERR_INPUT, "%s: holds no settings: it was not rendered by vidilate",
                     a->from);
        goto done;
    }
    VD_TRY(vd_json_parse(settings, strlen(settings), a->from, doc));
    VD_TRY(cli_replay_use(command, a, *doc));
done:
    vd_media_info_destroy(info);
    return st;
}

vd_status cli_replay_compare(const cli_render_args *a, vd_model *model, const vd_json *clip) {
    vd_status st = VD_OK;
    const char *recorded = NULL;
    char hash[72];
    VD_TRY(vd_json_text(clip, vd_json_root(clip), "model-hash", NULL, &recorded));
    VD_TRY(vd_model_hash(model, hash));
    if (recorded && strcmp(recorded, hash) != 0)
        fprintf(stderr,
                "vidilate: warning: %s was rendered with other weights (%.19s...) than these "
                "(%.19s...): the frames will differ\n",
                a->from, recorded, hash);
done:
    return st;
}

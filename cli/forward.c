#include "cli/forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "core/clock.h"
#include "core/text.h"

typedef struct forward_group {
    const char *name;
    vd_status (*run)(forward_case *c);
} forward_group;

static const forward_group groups[] = {
    {"tokenizer", forward_tokenizer},
    {"text_encoder", forward_text_encoder},
    {"unet", forward_unet},
    {"vae", forward_vae},
    {"guidance", forward_guidance},
    {"scheduler", forward_scheduler},
    {"pipeline", forward_pipeline},
    {"redilate", forward_method},
    {"disperse", forward_disperse},
    {"freeu", forward_method},
    {"attention_scale", forward_method},
};

enum { GROUP_COUNT = sizeof groups / sizeof groups[0] };

char *forward_path(const forward_case *c, const char *relative) {
    char *path = vd_format("%s/%s", c->folder, relative);
    if (!path)
        vd_fail(VD_ERR_MEMORY, "no memory for a path");
    return path;
}

/* The case's entry in `models`; NULL if it names none. */
static const vd_json_value *model_entry(const forward_case *c) {
    const char *model = NULL;
    const vd_json_value *models = vd_json_get(vd_json_root(c->doc), "models");
    if (!models || vd_json_text(c->doc, c->entry, "model", NULL, &model) != VD_OK || !model)
        return NULL;
    const vd_json_value *entry = vd_json_get(models, model);
    return entry && vd_json_type_of(entry) == VD_JSON_OBJECT ? entry : NULL;
}

bool forward_has_component(const forward_case *c, const char *component) {
    const vd_json_value *entry = model_entry(c);
    return entry && vd_json_get(entry, component) != NULL;
}

vd_status forward_component(const forward_case *c, const char *component, char **out) {
    vd_status st = VD_OK;
    const char *folder = NULL;
    const vd_json_value *entry = model_entry(c);
    *out = NULL;
    if (!entry) {
        st = vd_json_fail(c->doc, c->entry, "case \"%s\" names no model of `models`", c->name);
        goto done;
    }
    VD_TRY(vd_json_text(c->doc, entry, component, NULL, &folder));
    if (!folder) {
        st = vd_json_fail(c->doc, entry, "the model has no \"%s\"", component);
        goto done;
    }
    *out = forward_path(c, folder);
    if (!*out)
        st = VD_ERR_MEMORY;
done:
    return st;
}

static bool has_file(const char *folder, const char *file) {
    char *path = vd_format("%s/%s", folder, file);
    bool found = path && access(path, R_OK) == 0;
    free(path);
    return found;
}

vd_status forward_vocabulary(const forward_case *c, const char *tokenizer_folder, char **out) {
    vd_status st = VD_OK;
    const vd_json_value *models = vd_json_get(vd_json_root(c->doc), "models");
    *out = NULL;
    if (has_file(tokenizer_folder, "vocab.json"))
        return VD_OK;
    for (const vd_json_value *m = models ? vd_json_first(models) : NULL; m; m = vd_json_next(m)) {
        const char *folder = NULL;
        if (vd_json_type_of(m) != VD_JSON_OBJECT)
            continue;
        VD_TRY(vd_json_text(c->doc, m, "tokenizer", NULL, &folder));
        char *path = folder ? forward_path(c, folder) : NULL;
        if (path && has_file(path, "vocab.json")) {
            *out = path;
            return VD_OK;
        }
        free(path);
    }
done:
    return st;
}

bool forward_has_input(const forward_case *c, const char *name) {
    vd_tensor t;
    char key[128];
    snprintf(key, sizeof key, "in.%s", name);
    return c->inputs && vd_checkpoint_find(c->inputs, key, &t);
}

vd_status forward_floats(size_t count, float **out) {
    *out = malloc((count ? count : 1) * sizeof **out);
    return *out ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for %zu values", count);
}

vd_status forward_input(const forward_case *c, const char *name, float **out, vd_tensor *shape) {
    vd_tensor t;
    char key[128];
    snprintf(key, sizeof key, "in.%s", name);
    *out = NULL;
    if (!c->inputs)
        return vd_json_fail(c->doc, c->entry, "case \"%s\" has no file of inputs", c->name);
    if (!vd_checkpoint_find(c->inputs, key, &t))
        return vd_fail(VD_ERR_INPUT, "%s: holds no tensor \"%s\"", vd_checkpoint_path(c->inputs),
                       key);
    size_t count = (size_t)vd_tensor_elements(&t);
    vd_status st = forward_floats(count, out);
    if (st != VD_OK)
        return st;
    vd_convert_values(*out, VD_F32, t.data, t.dtype, count);
    *shape = t;
    shape->data = NULL;
    return VD_OK;
}

bool forward_wants(const forward_case *c, const char *name) {
    const vd_json_value *outputs = vd_json_get(c->entry, "outputs");
    return !outputs || vd_json_get(outputs, name);
}

vd_status forward_add_values(forward_case *c, const char *name, void *values, vd_dtype dtype,
                             int rank, const int64_t *dim) {
    char *copy = vd_format("%s", name);
    if (!copy || c->output_count == FORWARD_MAX_OUTPUTS) {
        free(copy);
        free(values);
        return vd_fail(VD_ERR_MEMORY, "no room for output \"%s\"", name);
    }
    c->output_name[c->output_count] = copy;
    c->output[c->output_count++] = vd_tensor_view(values, dtype, rank, dim);
    return VD_OK;
}

vd_status forward_add(forward_case *c, const char *name, float *values, int rank,
                      const int64_t *dim) {
    return forward_add_values(c, name, values, VD_F32, rank, dim);
}

vd_status forward_refuse_settings(const forward_case *c, const char *const *keys) {
    for (; *keys; keys++) {
        const vd_json_value *v = vd_json_get(c->settings, *keys);
        if (v && vd_json_type_of(v) != VD_JSON_NULL)
            return vd_fail(VD_ERR_USAGE, "forward: %s: setting \"%s\" is not implemented", c->name,
                           *keys);
    }
    return VD_OK;
}

vd_status forward_open(const forward_case *c, vd_backend **be, vd_exec **x, vd_dtype *dtype) {
    vd_status st = VD_OK;
    *x = NULL;
    *dtype = strcmp(c->dtype_name, "bf16") == 0  ? VD_BF16
             : strcmp(c->dtype_name, "f16") == 0 ? VD_F16
                                                 : VD_F32;
    VD_TRY(vd_backend_open(c->backend, 0, be));
    if (!vd_backend_has_dtype(*be, *dtype)) {
        st = vd_fail(VD_ERR_BACKEND, "the %s backend on this machine does not compute in %s",
                     vd_backend_name(*be), c->dtype_name);
        goto done;
    }
    VD_TRY(vd_exec_create(*be, *dtype, x));
    vd_exec_set_interrupt(*x, cli_interrupted, NULL);
done:
    return st;
}

static vd_status open_case(forward_case *c, const char *case_name) {
    vd_status st = VD_OK;
    const char *file = NULL;
    char *path = NULL;
    VD_TRY(vd_json_read(c->manifest_path, "parity manifest", &c->doc));
    const vd_json_value *root = vd_json_root(c->doc), *cases = vd_json_get(root, "cases");
    if (!cases || vd_json_type_of(cases) != VD_JSON_ARRAY) {
        st = vd_json_fail(c->doc, root, "a manifest has a list `cases`");
        goto done;
    }
    for (const vd_json_value *v = vd_json_first(cases); v && !c->entry; v = vd_json_next(v)) {
        const vd_json_value *name =
            vd_json_type_of(v) == VD_JSON_OBJECT ? vd_json_get(v, "name") : NULL;
        if (name && vd_json_type_of(name) == VD_JSON_STRING &&
            strcmp(vd_json_string(name), case_name) == 0)
            c->entry = v;
    }
    if (!c->entry) {
        st = vd_fail(VD_ERR_INPUT, "%s: has no case \"%s\"", c->manifest_path, case_name);
        goto done;
    }
    c->name = case_name;
    VD_TRY(vd_json_text(c->doc, c->entry, "group", "", &c->group));
    VD_TRY(vd_json_text(c->doc, c->entry, "module", "", &c->module));
    c->settings = vd_json_get(c->entry, "settings");
    if (!c->settings || vd_json_type_of(c->settings) != VD_JSON_OBJECT) {
        st = vd_json_fail(c->doc, c->entry, "the case has no object `settings`");
        goto done;
    }
    VD_TRY(vd_json_text(c->doc, c->entry, "file", NULL, &file));
    if (file) {
        path = forward_path(c, file);
        if (!path) {
            st = VD_ERR_MEMORY;
            goto done;
        }
        VD_TRY(vd_checkpoint_open_file(path, &c->inputs));
    }
done:
    free(path);
    return st;
}

static vd_status run_case(forward_case *c, const char *output) {
    vd_status st = VD_OK;
    char known[256] = "";
    double start_s = vd_now_s();
    for (int i = 0; i < GROUP_COUNT; i++) {
        if (strcmp(c->group, groups[i].name) == 0) {
            VD_TRY(groups[i].run(c));
            VD_TRY(vd_safetensors_write(output, c->output_name, c->output, c->output_count, NULL));
            printf("%s: %s%s%s on %s in %s, %zu outputs, %.2f s -> %s\n", c->name, c->group,
                   c->module[0] ? " " : "", c->module, c->backend, c->dtype_name, c->output_count,
                   vd_now_s() - start_s, output);
            goto done;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", groups[i].name);
    }
    st = vd_fail(VD_ERR_USAGE, "forward: cannot run group \"%s\" of case \"%s\": only %s", c->group,
                 c->name, known);
done:
    return st;
}

static void close_case(forward_case *c) {
    for (size_t i = 0; i < c->output_count; i++) {
        free((char *)c->output_name[i]);
        free(c->output[i].data);
    }
    vd_checkpoint_destroy(c->inputs);
    vd_json_destroy(c->doc);
    free(c->folder);
}

int cli_forward(int argc, char **argv) {
    static const char *const backends[] = {"auto", "cpu", "cuda", NULL};
    static const char *const dtypes[] = {"auto", "f32", "bf16", "f16", NULL};
    vd_status st = VD_OK;
    bool done_early = false;
    const char *case_name = NULL, *output = NULL;
    forward_case c = {.backend = "auto", .dtype_name = "f32"};
    const cli_option options[] = {
        {"manifest", 0, CLI_TEXT, &c.manifest_path, "M.json", "the manifest", NULL, NULL},
        {"case", 0, CLI_TEXT, &case_name, "NAME", "which of its cases", NULL, NULL},
        {"output", 'o', CLI_TEXT, &output, "FILE", "where the outputs go: a .safetensors file",
         NULL, NULL},
        {"backend", 0, CLI_CHOICE, &c.backend, "NAME", "auto, cpu or cuda (auto)", backends, NULL},
        {"dtype", 0, CLI_CHOICE, &c.dtype_name, "TYPE", "f32, bf16 or f16 (auto: f32)", dtypes,
         NULL},
    };
    cli_command command = {.name = "forward",
                           .usage = "--manifest M.json --case NAME -o FILE",
                           .summary = "Runs one case of a parity manifest on its in.* tensors and "
                                      "writes the outputs in\nPyTorch's layout, float32 (R: "
                                      "float64).",
                           .options = options,
                           .option_count = sizeof options / sizeof options[0]};
    VD_TRY(cli_parse(&command, argc, argv, &done_early));
    if (done_early)
        goto done;
    if (!c.manifest_path || !case_name || !output) {
        st = vd_fail(VD_ERR_USAGE, "forward: give --manifest, --case and -o");
        goto done;
    }
    const char *slash = strrchr(c.manifest_path, '/');
    c.folder =
        slash ? vd_format("%.*s", (int)(slash - c.manifest_path), c.manifest_path) : vd_format(".");
    if (!c.folder) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a path");
        goto done;
    }
    VD_TRY(open_case(&c, case_name));
    VD_TRY(run_case(&c, output));
done:
    close_case(&c);
    cli_command_free(&command);
    return cli_report(st);
}

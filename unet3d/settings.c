#include "unet3d/settings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "temporal/path.h"

static const double min_factor = 1;
static const double max_factor = 16;
enum { MAX_TAU = 1000, MAX_KEYS = 64 };

/* ---- reading -------------------------------------------------------------------------------- */

static vd_status no_memory(void) {
    return vd_fail(VD_ERR_MEMORY, "no memory for settings");
}

static vd_status read_factor(const vd_json *doc, const vd_json_value *v, double *out) {
    if (vd_json_type_of(v) != VD_JSON_NUMBER)
        return vd_json_fail(doc, v, "a dilation is a number or [height, width]");
    *out = vd_json_number(v);
    if (!(*out >= min_factor && *out <= max_factor))
        return vd_json_fail(doc, v, "the dilation %g is outside %g to %g (1 is the plain spacing)",
                            *out, min_factor, max_factor);
    return VD_OK;
}

static vd_status read_factors(const vd_json *doc, const vd_json_value *v, vd_redilation *out) {
    vd_status st;
    const bool pair = vd_json_type_of(v) == VD_JSON_ARRAY;
    if (pair && vd_json_size(v) != 2)
        return vd_json_fail(doc, v, "a dilation is a number or [height, width]");
    const vd_json_value *h = pair ? vd_json_first(v) : v;
    VD_TRY(read_factor(doc, h, &out->h));
    VD_TRY(read_factor(doc, pair ? vd_json_next(h) : v, &out->w));
done:
    return st;
}

static vd_status read_dilate(const vd_json *doc, const vd_json_value *object, vd_settings *s) {
    vd_status st = VD_OK;
    const vd_json_value *table = vd_json_get(object, "dilate");
    if (table == NULL)
        return vd_json_fail(doc, object,
                            "has no \"dilate\": name at least one layer, {\"mid_block\": 2}");
    if (vd_json_type_of(table) != VD_JSON_OBJECT || vd_json_size(table) == 0)
        return vd_json_fail(doc, table, "name at least one layer, {\"mid_block\": 2}");
    s->dilate = calloc(vd_json_size(table), sizeof *s->dilate);
    if (s->dilate == NULL)
        return no_memory();
    for (const vd_json_value *v = vd_json_first(table); v != NULL; v = vd_json_next(v)) {
        vd_dilate_entry *entry = &s->dilate[s->dilate_count];
        VD_TRY(read_factors(doc, v, &entry->factor));
        entry->name = strdup(vd_json_key(v));
        if (entry->name == NULL)
            return no_memory();
        s->dilate_count++;
    }
done:
    return st;
}

static vd_status check_keys(const vd_json *doc, const vd_json_value *object,
                            const char *const *others) {
    const char *keys[MAX_KEYS] = {"dilate", "dilate_tau", "progressive"};
    for (int i = 3; others != NULL && *others != NULL && i < MAX_KEYS - 1; i++)
        keys[i] = *others++;
    return vd_json_only_keys(doc, object, keys);
}

vd_status vd_settings_parse(const vd_json *doc, const vd_json_value *object,
                            const char *const *others, const char *origin, vd_settings **out) {
    vd_status st;
    int64_t tau = 0;
    vd_settings *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL || (s->origin = strdup(origin)) == NULL) {
        st = no_memory();
        goto done;
    }
    VD_TRY(check_keys(doc, object, others));
    VD_TRY(read_dilate(doc, object, s));
    VD_TRY(vd_json_int(doc, object, "dilate_tau", 0, MAX_TAU, VD_ALL_STEPS, &tau));
    VD_TRY(vd_json_flag(doc, object, "progressive", false, &s->progressive));
    s->dilate_tau = (int)tau;
    if (s->progressive && s->dilate_tau == VD_ALL_STEPS) {
        st = vd_json_fail(doc, object,
                          "\"progressive\" needs \"dilate_tau\", the steps that the "
                          "dilation takes to fall");
        goto done;
    }
    *out = s;
    s = NULL;
done:
    vd_settings_destroy(s);
    return st;
}

vd_status vd_settings_read(const char *path, vd_settings **out) {
    vd_status st;
    vd_json *doc = NULL;
    *out = NULL;
    VD_TRY(vd_json_read(path, "settings", &doc));
    VD_TRY(vd_settings_parse(doc, vd_json_root(doc), NULL, path, out));
done:
    vd_json_destroy(doc);
    return st;
}

void vd_settings_destroy(vd_settings *s) {
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->dilate_count; i++)
        free(s->dilate[i].name);
    free(s->dilate);
    free(s->origin);
    free(s);
}

void vd_settings_put(vd_json_writer *w, const char *key, const vd_settings *s) {
    vd_json_begin_object(w, key);
    vd_json_begin_object(w, "dilate");
    for (size_t i = 0; i < s->dilate_count; i++) {
        const vd_dilate_entry *entry = &s->dilate[i];
        if (entry->factor.h == entry->factor.w) {
            vd_json_put_double(w, entry->name, entry->factor.h);
            continue;
        }
        vd_json_begin_array(w, entry->name);
        vd_json_put_double(w, NULL, entry->factor.h);
        vd_json_put_double(w, NULL, entry->factor.w);
        vd_json_end(w);
    }
    vd_json_end(w);
    if (s->dilate_tau != VD_ALL_STEPS)
        vd_json_put_int(w, "dilate_tau", s->dilate_tau);
    vd_json_put_bool(w, "progressive", s->progressive);
    vd_json_end(w);
}

vd_status vd_settings_check_steps(const vd_settings *s, int steps) {
    if (s->dilate_tau != VD_ALL_STEPS && s->dilate_tau > steps)
        return vd_fail(VD_ERR_INPUT,
                       "%s: dilate_tau is %d and the run has %d steps; lower it or take more steps",
                       s->origin, s->dilate_tau, steps);
    return VD_OK;
}

/* ---- the rules ------------------------------------------------------------------------------ */

double vd_progressive_factor(double d, int tau, int step) {
    return fmax(ceil(d * ((double)(tau - step) / (double)tau)), 2);
}

/* Is `name` the path itself or a prefix of it that ends before a dot? */
static bool covers(const char *name, const char *path) {
    const size_t length = strlen(name);
    return length > 0 && strncmp(name, path, length) == 0 &&
           (path[length] == '\0' || path[length] == '.');
}

vd_layer_method vd_settings_at(const vd_settings *s, const char *path, int step) {
    vd_layer_method method = {0};
    if (step >= s->dilate_tau)
        return method;
    for (size_t i = 0; i < s->dilate_count && !method.redilated; i++)
        if (covers(s->dilate[i].name, path)) {
            method.redilated = true;
            method.factor = s->dilate[i].factor;
        }
    if (method.redilated && s->progressive) {
        method.factor.h = vd_progressive_factor(method.factor.h, s->dilate_tau, step);
        method.factor.w = vd_progressive_factor(method.factor.w, s->dilate_tau, step);
    }
    return method;
}

/* ---- names ---------------------------------------------------------------------------------- */

/* Why a layer that a UNet has, or a part of it, cannot be named; NULL: no reason known. */
static const char *why_never(const char *name) {
    static const struct {
        const char *part, *why;
    } never[] = {
        {"temp_convs", "is temporal"},
        {"temp_attentions", "is temporal"},
        {"motion_modules", "is temporal"},
        {"transformer_in", "is temporal"},
        {"conv_in", "is the first convolution"},
        {"conv_out", "is the last convolution"},
        {"conv_shortcut", "is a 1x1 convolution"},
        {"attentions", "is attention"},
        {"time_emb_proj", "is no convolution"},
        {"time_embedding", "is no convolution"},
        {"norm1", "is a norm"},
        {"norm2", "is a norm"},
        {"conv_norm_out", "is a norm"},
    };
    while (name != NULL) {
        const size_t length = strcspn(name, ".");
        for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
            if (strlen(never[i].part) == length && strncmp(name, never[i].part, length) == 0)
                return never[i].why;
        name = strchr(name, '.');
        if (name != NULL)
            name++;
    }
    return NULL;
}

/* The nearest layer or prefix of one, into `out`; false if none is near. */
static bool nearest_name(const char *name, const char *const *paths, vd_path *out) {
    size_t best = SIZE_MAX;
    for (; *paths != NULL; paths++) {
        vd_path prefix = vd_path_join("", "%s", *paths);
        for (char *end = prefix.text; end != NULL; end = strrchr(prefix.text, '.')) {
            if (end != prefix.text)
                *end = '\0';
            const char *const one[2] = {prefix.text, NULL};
            const size_t distance = vd_edit_distance(name, prefix.text);
            if (distance < best && vd_nearest(name, one) != NULL) {
                best = distance;
                *out = prefix;
            }
        }
    }
    return best != SIZE_MAX;
}

static vd_status unknown_name(const vd_settings *s, const char *name, const char *const *paths) {
    vd_path near;
    const char *why = why_never(name);
    if (why != NULL)
        return vd_fail(VD_ERR_INPUT,
                       "%s: dilate: \"%s\" %s; only the spatial 3x3 convolutions of resnets, "
                       "downsamplers and upsamplers can be re-dilated",
                       s->origin, name, why);
    if (nearest_name(name, paths, &near))
        return vd_fail(VD_ERR_INPUT,
                       "%s: dilate: the model has no layer \"%s\"; did you mean \"%s\"?", s->origin,
                       name, near.text);
    return vd_fail(VD_ERR_INPUT,
                   "%s: dilate: the model has no layer \"%s\"; names are such as \"%s\" or "
                   "\"mid_block\"",
                   s->origin, name, paths[0]);
}

static size_t count_paths(const char *const *paths) {
    size_t count = 0;
    while (paths[count] != NULL)
        count++;
    return count;
}

vd_status vd_settings_check_names(const vd_settings *s, const char *const *paths) {
    vd_status st = VD_OK;
    const size_t layers = count_paths(paths);
    const char **named_by = calloc(layers + 1, sizeof *named_by);
    if (named_by == NULL)
        return no_memory();
    for (size_t i = 0; i < s->dilate_count; i++) {
        const char *name = s->dilate[i].name;
        bool found = false;
        for (size_t k = 0; k < layers; k++) {
            if (!covers(name, paths[k]))
                continue;
            found = true;
            if (named_by[k] != NULL) {
                st = vd_fail(VD_ERR_INPUT,
                             "%s: dilate: \"%s\" and \"%s\" both name layer \"%s\"; keep one",
                             s->origin, named_by[k], name, paths[k]);
                goto done;
            }
            named_by[k] = name;
        }
        if (!found) {
            st = unknown_name(s, name, paths);
            goto done;
        }
    }
done:
    free(named_by);
    return st;
}

/* ---- plans ---------------------------------------------------------------------------------- */

struct vd_method_plan {
    size_t layers;
    int table_count;
    int *table_of_step;
    vd_layer_method *tables; /* one after the other */
};

static vd_layer_method *table_at(const vd_method_plan *plan, int index) {
    return plan->tables + (size_t)index * plan->layers;
}

static bool same_table(const vd_layer_method *a, const vd_layer_method *b, size_t layers) {
    for (size_t i = 0; i < layers; i++)
        if (a[i].redilated != b[i].redilated || a[i].factor.h != b[i].factor.h ||
            a[i].factor.w != b[i].factor.w)
            return false;
    return true;
}

/* Adds the table of a step unless there is an equal one. */
static void add_step(vd_method_plan *plan, const vd_settings *s, const char *const *paths,
                     int step) {
    vd_layer_method *table = table_at(plan, plan->table_count);
    for (size_t i = 0; i < plan->layers; i++)
        table[i] = vd_settings_at(s, paths[i], step);
    int index = 0;
    while (!same_table(table_at(plan, index), table, plan->layers))
        index++;
    plan->table_of_step[step] = index;
    if (index == plan->table_count)
        plan->table_count++;
}

vd_status vd_method_plan_create(const vd_settings *s, const char *const *paths, int steps,
                                vd_method_plan **out) {
    vd_status st;
    vd_method_plan *plan = calloc(1, sizeof *plan);
    *out = NULL;
    if (plan == NULL)
        return no_memory();
    plan->layers = count_paths(paths);
    plan->table_of_step = calloc((size_t)steps + 1, sizeof *plan->table_of_step);
    plan->tables = calloc(((size_t)steps + 1) * (plan->layers + 1), sizeof *plan->tables);
    if (plan->table_of_step == NULL || plan->tables == NULL) {
        st = no_memory();
        goto done;
    }
    VD_TRY(vd_settings_check_names(s, paths));
    for (int i = 0; i < steps; i++)
        add_step(plan, s, paths, i);
    *out = plan;
    plan = NULL;
done:
    vd_method_plan_destroy(plan);
    return st;
}

void vd_method_plan_destroy(vd_method_plan *plan) {
    if (plan == NULL)
        return;
    free(plan->tables);
    free(plan->table_of_step);
    free(plan);
}

const vd_layer_method *vd_method_plan_at(const vd_method_plan *plan, int step) {
    return table_at(plan, plan->table_of_step[step]);
}

int vd_method_plan_table_count(const vd_method_plan *plan) {
    return plan->table_count;
}

const vd_layer_method *vd_method_plan_table(const vd_method_plan *plan, int index) {
    return table_at(plan, index);
}

#include "unet3d/method_plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the rules ------------------------------------------------------------------------------ */

double vd_progressive_factor(double d, int tau, int step) {
    return fmax(ceil(d * ((double)(tau - step) / (double)tau)), 2);
}

static vd_layer_method layer_at(const vd_settings *s, bool damped, const char *path, int step) {
    const vd_dilate_entry *entries = damped ? s->ndcfg_dilate : s->dilate;
    const size_t count = damped ? s->ndcfg_count : s->dilate_count;
    const int tau = damped ? s->ndcfg_tau : s->dilate_tau;
    vd_layer_method method = {0};
    if (step >= tau)
        return method;
    for (size_t i = 0; i < count && !method.redilated; i++)
        if (vd_settings_name_covers(entries[i].name, path)) {
            method.redilated = true;
            method.factor = entries[i].factor;
        }
    for (size_t i = 0; i < s->disperse_count && method.redilated && !method.dispersed; i++)
        method.dispersed = step < s->inflate_tau && vd_settings_name_covers(s->disperse[i], path);
    if (method.redilated && s->progressive) {
        method.factor.h = vd_progressive_factor(method.factor.h, tau, step);
        method.factor.w = vd_progressive_factor(method.factor.w, tau, step);
    }
    if (method.dispersed) {
        method.factor.h /= 2;
        method.factor.w /= 2;
    }
    return method;
}

vd_layer_method vd_settings_at(const vd_settings *s, const char *path, int step) {
    return layer_at(s, false, path, step);
}

vd_layer_method vd_settings_damped_at(const vd_settings *s, const char *path, int step) {
    return layer_at(s, true, path, step);
}

/* ---- plans ---------------------------------------------------------------------------------- */

/* Something that some step runs. */
typedef struct distinct {
    vd_step_method method;
    bool damped;
} distinct;

enum { NONE = -1 };

struct vd_method_plan {
    size_t layers;
    int count;
    int *at, *damped_at;      /* of each step: an index in `distinct`, or NONE */
    distinct *distinct;       /* room for two each step */
    vd_layer_method *tables;  /* theirs, one after the other */
    vd_kernel_map dispersion; /* a copy of the settings' */
};

static bool same_table(const vd_layer_method *a, const vd_layer_method *b, size_t layers) {
    for (size_t i = 0; i < layers; i++)
        if (a[i].redilated != b[i].redilated || a[i].dispersed != b[i].dispersed ||
            a[i].factor.h != b[i].factor.h || a[i].factor.w != b[i].factor.w)
            return false;
    return true;
}

/* The index of what a network runs at a step; a new one unless there is an equal one. */
static int add(vd_method_plan *plan, const vd_settings *s, const char *const *paths, int step,
               bool damped) {
    vd_layer_method *table = plan->tables + (size_t)plan->count * plan->layers;
    for (size_t i = 0; i < plan->layers; i++)
        table[i] = layer_at(s, damped, paths[i], step);
    for (int i = 0; i < plan->count; i++)
        if (plan->distinct[i].damped == damped &&
            same_table(plan->distinct[i].method.layers, table, plan->layers))
            return i;
    plan->distinct[plan->count] = (distinct){.method = {.layers = table,
                                                        .dispersion = plan->dispersion,
                                                        .freeu = s->freeu,
                                                        .attention_ratio = s->attention_ratio},
                                             .damped = damped};
    return plan->count++;
}

static void add_step(vd_method_plan *plan, const vd_settings *s, const char *const *paths,
                     int step) {
    plan->at[step] = add(plan, s, paths, step, false);
    plan->damped_at[step] = NONE;
    if (step >= s->ndcfg_tau)
        return;
    const int before = plan->count;
    const int damped = add(plan, s, paths, step, true);
    if (!same_table(plan->distinct[damped].method.layers,
                    plan->distinct[plan->at[step]].method.layers, plan->layers))
        plan->damped_at[step] = damped;
    else
        plan->count = before; /* the same network: its prediction is there already */
}

static vd_status copy_matrix(vd_method_plan *plan, const vd_dispersion *d) {
    const size_t bytes = (size_t)(d->large * d->large * d->small * d->small) * sizeof *d->R;
    if (d->R == NULL)
        return VD_OK;
    double *values = malloc(bytes);
    if (values == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a dispersion matrix");
    memcpy(values, d->R, bytes);
    plan->dispersion = (vd_kernel_map){.taps = (int)d->large, .values = values};
    return VD_OK;
}

static size_t count_paths(const char *const *paths) {
    size_t count = 0;
    while (paths[count] != NULL)
        count++;
    return count;
}

vd_status vd_method_plan_create(const vd_settings *s, const char *const *paths, int steps,
                                vd_method_plan **out) {
    vd_status st;
    vd_method_plan *plan = calloc(1, sizeof *plan);
    const size_t most = 2 * (size_t)steps + 1;
    *out = NULL;
    if (plan == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for settings");
    plan->layers = count_paths(paths);
    plan->at = calloc(most, sizeof *plan->at);
    plan->distinct = calloc(most, sizeof *plan->distinct);
    plan->tables = calloc(most * (plan->layers + 1), sizeof *plan->tables);
    if (plan->at == NULL || plan->distinct == NULL || plan->tables == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for settings");
        goto done;
    }
    plan->damped_at = plan->at + steps;
    VD_TRY(vd_settings_check_names(s, paths));
    VD_TRY(copy_matrix(plan, &s->dispersion));
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
    free((double *)plan->dispersion.values);
    free(plan->tables);
    free(plan->distinct);
    free(plan->at);
    free(plan);
}

const vd_step_method *vd_method_plan_at(const vd_method_plan *plan, int step) {
    return &plan->distinct[plan->at[step]].method;
}

const vd_step_method *vd_method_plan_damped_at(const vd_method_plan *plan, int step) {
    const int index = plan->damped_at[step];
    return index == NONE ? NULL : &plan->distinct[index].method;
}

int vd_method_plan_count(const vd_method_plan *plan) {
    return plan->count;
}

const vd_step_method *vd_method_plan_distinct(const vd_method_plan *plan, int index, bool *damped) {
    if (damped != NULL)
        *damped = plan->distinct[index].damped;
    return &plan->distinct[index].method;
}

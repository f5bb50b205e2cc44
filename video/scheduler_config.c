/* scheduler_config.json, with the defaults and the refusals of each class. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "video/scheduler_impl.h"

enum {
    DDIM = 1 << VD_SCHEDULER_DDIM,
    DPMPP = 1 << VD_SCHEDULER_DPMPP,
    EULER = 1 << VD_SCHEDULER_EULER,
    EULER_A = 1 << VD_SCHEDULER_EULER_A,
    UNIPC = 1 << VD_SCHEDULER_UNIPC,
    PNDM = 1 << VD_SCHEDULER_PNDM,
    LCM = 1 << VD_SCHEDULER_LCM,
};

/* Values that a class's own implementation would act on and ours would not. `only` is the one
 * accepted text; without one, the key must be absent, null, false or an empty list. */
static const struct refusal {
    int classes;
    const char *key;
    const char *only;
} refusals[] = {
    {DDIM | DPMPP | UNIPC | LCM, "thresholding", NULL},
    {EULER | DPMPP | UNIPC, "use_exponential_sigmas", NULL},
    {EULER | DPMPP | UNIPC, "use_beta_sigmas", NULL},
    {DPMPP | UNIPC, "use_flow_sigmas", NULL},
    {DPMPP | UNIPC, "use_dynamic_shifting", NULL},
    {DPMPP, "use_lu_lambdas", NULL},
    {DPMPP, "algorithm_type", "dpmsolver++"},
    {DPMPP, "variance_type", NULL},
    {UNIPC, "disable_corrector", NULL},
    {UNIPC, "solver_p", NULL},
    {UNIPC, "shift_terminal", NULL},
    {EULER, "interpolation_type", "linear"},
    {EULER, "timestep_type", "discrete"},
};

typedef struct choice {
    const char *text;
    int value;
} choice;

static const choice spacings[] = {{"leading", VD_SPACING_LEADING},
                                  {"linspace", VD_SPACING_LINSPACE},
                                  {"trailing", VD_SPACING_TRAILING},
                                  {NULL, 0}};
static const choice schedules[] = {{"linear", VD_BETAS_LINEAR},
                                   {"scaled_linear", VD_BETAS_SCALED_LINEAR},
                                   {"squaredcos_cap_v2", VD_BETAS_COSINE},
                                   {NULL, 0}};
static const choice predictions[] = {{"epsilon", VD_PREDICT_EPSILON},
                                     {"v_prediction", VD_PREDICT_V},
                                     {"sample", VD_PREDICT_SAMPLE},
                                     {NULL, 0}};
static const choice predictions_no_sample[] = {
    {"epsilon", VD_PREDICT_EPSILON}, {"v_prediction", VD_PREDICT_V}, {NULL, 0}};
static const choice final_sigmas[] = {{"zero", false}, {"sigma_min", true}, {NULL, 0}};
/* Each of the two takes the other's names for its own default, as the reference does. */
static const choice dpmpp_solvers[] = {
    {"midpoint", VD_SOLVER_MIDPOINT}, {"heun", VD_SOLVER_HEUN},       {"bh1", VD_SOLVER_MIDPOINT},
    {"bh2", VD_SOLVER_MIDPOINT},      {"logrho", VD_SOLVER_MIDPOINT}, {NULL, 0}};
static const choice unipc_solvers[] = {{"bh1", VD_SOLVER_BH1},      {"bh2", VD_SOLVER_BH2},
                                       {"midpoint", VD_SOLVER_BH2}, {"heun", VD_SOLVER_BH2},
                                       {"logrho", VD_SOLVER_BH2},   {NULL, 0}};

static const char *const names[] = {"ddim",    "dpmpp2m", "dpmpp2m-karras", "euler", "euler-karras",
                                    "euler-a", "unipc",   "pndm",           "lcm",   NULL};

const char *const *vd_scheduler_names(void) {
    return names;
}

/* A reader of one object: what every helper below needs. */
typedef struct reader {
    const vd_json *doc;
    const vd_json_value *object;
} reader;

static vd_status read_choice(reader in, const char *key, const choice *choices,
                             const char *fallback, int *out) {
    const char *text;
    vd_status st = vd_json_text(in.doc, in.object, key, fallback, &text);
    if (st != VD_OK)
        return st;
    char allowed[160] = "";
    for (const choice *c = choices; c->text != NULL; c++) {
        if (strcmp(c->text, text) == 0) {
            *out = c->value;
            return VD_OK;
        }
        size_t used = strlen(allowed);
        snprintf(allowed + used, sizeof allowed - used, "%s%s", used == 0 ? "" : ", ", c->text);
    }
    return vd_json_fail(in.doc, vd_json_get(in.object, key),
                        "\"%s\" is not supported here; it can be %s", text, allowed);
}

static vd_status read_int(reader in, const char *key, int min, int max, int fallback, int *out) {
    int64_t v = 0;
    vd_status st = vd_json_int(in.doc, in.object, key, min, max, fallback, &v);
    *out = (int)v;
    return st;
}

static vd_status read_double(reader in, const char *key, double min, double max, double fallback,
                             double *out) {
    return vd_json_double(in.doc, in.object, key, min, max, fallback, out);
}

static vd_status read_flag(reader in, const char *key, bool fallback, bool *out) {
    return vd_json_flag(in.doc, in.object, key, fallback, out);
}

/* ---- the class ---- */

static bool find_class(const char *name, vd_scheduler_class *out, bool *karras) {
    *karras = strcmp(name, "dpmpp2m-karras") == 0 || strcmp(name, "euler-karras") == 0;
    size_t length = *karras ? strlen(name) - strlen("-karras") : strlen(name);
    for (int c = 0; c < VD_SCHEDULER_CLASSES; c++) {
        const vd_scheduler_entry *e = &vd_scheduler_entries[c];
        if ((strlen(e->short_name) == length && strncmp(e->short_name, name, length) == 0) ||
            strcmp(e->class_name, name) == 0) {
            *out = (vd_scheduler_class)c;
            return true;
        }
    }
    return false;
}

static vd_status read_class(reader in, const char *name, vd_scheduler_class *out, bool *karras) {
    if (name != NULL) {
        if (find_class(name, out, karras))
            return VD_OK;
        const char *near = vd_nearest(name, names);
        return vd_fail(VD_ERR_USAGE,
                       "scheduler \"%s\" is unknown%s%s; it can be ddim, dpmpp2m, dpmpp2m-karras, "
                       "euler, euler-karras, euler-a, unipc, pndm or lcm",
                       name, near == NULL ? "" : ", did you mean ", near == NULL ? "" : near);
    }
    const char *key = vd_json_get(in.object, "_class_name") != NULL ? "_class_name" : "class_name";
    const char *text;
    vd_status st = vd_json_text(in.doc, in.object, key, NULL, &text);
    if (st != VD_OK)
        return st;
    if (text == NULL)
        return vd_json_fail(in.doc, in.object,
                            "names no scheduler: _class_name is missing (\"DDIMScheduler\", say)");
    if (!find_class(text, out, karras))
        return vd_json_fail(in.doc, vd_json_get(in.object, key),
                            "scheduler class \"%s\" is not supported; choose another with "
                            "--scheduler, ddim say",
                            text);
    return VD_OK;
}

/* ---- refusals ---- */

static bool means_no(const vd_json_value *v) {
    switch (vd_json_type_of(v)) {
    case VD_JSON_NULL:
        return true;
    case VD_JSON_BOOL:
        return !vd_json_bool(v);
    case VD_JSON_ARRAY:
        return vd_json_size(v) == 0;
    case VD_JSON_NUMBER:
    case VD_JSON_STRING:
    case VD_JSON_OBJECT:
        break;
    }
    return false;
}

static vd_status refuse(reader in, int bit) {
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        const vd_json_value *v = vd_json_get(in.object, r->key);
        if (v == NULL || (r->classes & bit) == 0 || means_no(v))
            continue;
        if (r->only == NULL)
            return vd_json_fail(in.doc, v,
                                "is not supported; remove it or choose another scheduler");
        if (vd_json_type_of(v) != VD_JSON_STRING || strcmp(vd_json_string(v), r->only) != 0)
            return vd_json_fail(in.doc, v, "only \"%s\" is supported", r->only);
    }
    bool flag;
    vd_status st = read_flag(in, "predict_x0", true, &flag);
    if (st == VD_OK && (bit & UNIPC) != 0 && !flag)
        return vd_json_fail(in.doc, vd_json_get(in.object, "predict_x0"), "only true is supported");
    const vd_json_value *clip = vd_json_get(in.object, "lambda_min_clipped");
    if (st == VD_OK && (bit & DPMPP) != 0 && clip != NULL && !means_no(clip) &&
        !(vd_json_type_of(clip) == VD_JSON_NUMBER && vd_json_number(clip) == -INFINITY))
        return vd_json_fail(in.doc, clip, "only -Infinity is supported");
    return st;
}

/* ---- values ---- */

static vd_status read_trained_betas(reader in, vd_scheduler_config *out) {
    const vd_json_value *list = vd_json_get(in.object, "trained_betas");
    if (list == NULL || vd_json_type_of(list) == VD_JSON_NULL)
        return VD_OK;
    if (vd_json_type_of(list) != VD_JSON_ARRAY || vd_json_size(list) != (size_t)out->train_steps)
        return vd_json_fail(in.doc, list, "must be a list of num_train_timesteps = %d numbers",
                            out->train_steps);
    out->trained_betas = malloc((size_t)out->train_steps * sizeof *out->trained_betas);
    if (out->trained_betas == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for %d betas", out->train_steps);
    float *beta = out->trained_betas;
    for (const vd_json_value *v = vd_json_first(list); v != NULL; v = vd_json_next(v)) {
        double x = vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : NAN;
        if (!(x > 0 && x < 1))
            return vd_json_fail(in.doc, v, "a beta must be a number between 0 and 1");
        *beta++ = (float)x;
    }
    return VD_OK;
}

static vd_status read_betas(reader in, int bit, vd_scheduler_config *out) {
    bool lcm = (bit & LCM) != 0;
    vd_status st;
    int schedule = 0;
    VD_TRY(read_int(in, "num_train_timesteps", 2, VD_SCHEDULER_MAX_TRAIN_STEPS, 1000,
                    &out->train_steps));
    VD_TRY(read_double(in, "beta_start", 1e-7, 0.9999, lcm ? 0.00085 : 0.0001, &out->beta_start));
    VD_TRY(read_double(in, "beta_end", 1e-7, 0.9999, lcm ? 0.012 : 0.02, &out->beta_end));
    VD_TRY(
        read_choice(in, "beta_schedule", schedules, lcm ? "scaled_linear" : "linear", &schedule));
    out->beta_schedule = (vd_beta_schedule)schedule;
    VD_TRY(read_trained_betas(in, out));
    if ((bit & PNDM) == 0)
        VD_TRY(read_flag(in, "rescale_betas_zero_snr", false, &out->rescale_betas_zero_snr));
done:
    return st;
}

/* Keys of the classes that step from one alpha to another. */
static vd_status read_alpha_keys(reader in, int bit, vd_scheduler_config *out) {
    vd_status st = VD_OK;
    if ((bit & (DDIM | PNDM)) != 0)
        VD_TRY(read_flag(in, "set_alpha_to_one", (bit & DDIM) != 0, &out->set_alpha_to_one));
    if ((bit & (DDIM | LCM)) != 0) {
        VD_TRY(read_flag(in, "clip_sample", (bit & DDIM) != 0, &out->clip_sample));
        VD_TRY(read_double(in, "clip_sample_range", 1e-6, 1e6, 1, &out->clip_sample_range));
    }
    if ((bit & PNDM) != 0)
        VD_TRY(read_flag(in, "skip_prk_steps", false, &out->skip_prk_steps));
    if ((bit & LCM) != 0) {
        VD_TRY(read_int(in, "original_inference_steps", 1, out->train_steps,
                        out->train_steps < 50 ? out->train_steps : 50,
                        &out->original_inference_steps));
        VD_TRY(read_double(in, "timestep_scaling", 1e-6, 1e6, 10, &out->timestep_scaling));
    }
done:
    return st;
}

/* Keys of the classes that step from one sigma to another. */
static vd_status read_sigma_keys(reader in, int bit, vd_scheduler_config *out) {
    vd_status st = VD_OK;
    int picked = 0;
    if ((bit & (EULER | DPMPP | UNIPC)) != 0) {
        VD_TRY(read_flag(in, "use_karras_sigmas", false, &out->use_karras_sigmas));
        VD_TRY(read_choice(in, "final_sigmas_type", final_sigmas, "zero", &picked));
        out->final_sigma_min = picked != 0;
    }
    if ((bit & (EULER | UNIPC)) != 0) {
        VD_TRY(read_double(in, "sigma_min", 1e-6, 1e6, 0, &out->sigma_min));
        VD_TRY(read_double(in, "sigma_max", 1e-6, 1e6, 0, &out->sigma_max));
    }
    if ((bit & (DPMPP | UNIPC)) != 0) {
        VD_TRY(read_int(in, "solver_order", 1, 3, 2, &out->solver_order));
        VD_TRY(read_flag(in, "lower_order_final", true, &out->lower_order_final));
        VD_TRY(read_choice(in, "solver_type", (bit & DPMPP) != 0 ? dpmpp_solvers : unipc_solvers,
                           (bit & DPMPP) != 0 ? "midpoint" : "bh2", &picked));
        out->solver_type = (vd_solver_type)picked;
    }
    if ((bit & DPMPP) != 0)
        VD_TRY(read_flag(in, "euler_at_final", false, &out->euler_at_final));
done:
    return st;
}

vd_status vd_scheduler_config_from_json(const vd_json *doc, const vd_json_value *object,
                                        const char *name, vd_scheduler_config *out) {
    memset(out, 0, sizeof *out);
    reader in = {doc, object};
    if (vd_json_type_of(object) != VD_JSON_OBJECT)
        return vd_json_fail(doc, object, "a scheduler config must be an object");
    vd_scheduler_config config = {.clip_sample_range = 1};
    vd_status st;
    bool karras = false;
    int picked = 0;
    VD_TRY(read_class(in, name, &config.class_id, &karras));
    int bit = 1 << config.class_id;
    bool no_sample = (bit & (EULER_A | PNDM)) != 0;
    VD_TRY(refuse(in, bit));
    VD_TRY(read_betas(in, bit, &config));
    VD_TRY(read_choice(in, "prediction_type", no_sample ? predictions_no_sample : predictions,
                       "epsilon", &picked));
    config.prediction = (vd_prediction)picked;
    VD_TRY(read_choice(in, "timestep_spacing", spacings,
                       (bit & (DDIM | PNDM | LCM)) != 0 ? "leading" : "linspace", &picked));
    config.spacing = (vd_spacing)picked;
    VD_TRY(read_int(in, "steps_offset", 0, config.train_steps - 1, 0, &config.steps_offset));
    VD_TRY(read_alpha_keys(in, bit, &config));
    VD_TRY(read_sigma_keys(in, bit, &config));
    config.use_karras_sigmas = config.use_karras_sigmas || karras;
done:
    if (st != VD_OK)
        vd_scheduler_config_clear(&config);
    else
        *out = config;
    return st;
}

vd_status vd_scheduler_config_read(const char *path, const char *name, vd_scheduler_config *out) {
    memset(out, 0, sizeof *out);
    vd_json *doc = NULL;
    vd_status st = vd_json_read(path, "scheduler config", &doc);
    if (st == VD_OK)
        st = vd_scheduler_config_from_json(doc, vd_json_root(doc), name, out);
    vd_json_destroy(doc);
    return st;
}

void vd_scheduler_config_clear(vd_scheduler_config *config) {
    free(config->trained_betas);
    config->trained_betas = NULL;
}

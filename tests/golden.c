#include "tests/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/safetensors.h"

enum { MAX_OUTPUTS = 128, PATH_BYTES = 4096 };

struct golden_case_state {
    golden *from;
    vd_checkpoint *file;
    const vd_json_value *outputs;
    bool seen[MAX_OUTPUTS];
};

struct golden {
    vd_json *doc;
    char folder[PATH_BYTES];
    const vd_json_value *cases;
    const vd_json_value *at; /* the case visited last, NULL before the first */
    golden_case current;
    struct golden_case_state state;
    int visited;
    int problems;
};

static const char *text_or(const vd_json_value *object, const char *key, const char *fallback) {
    const vd_json_value *v = vd_json_get(object, key);
    return v != NULL && vd_json_type_of(v) == VD_JSON_STRING ? vd_json_string(v) : fallback;
}

static double number_or(const vd_json_value *object, const char *key, double fallback) {
    const vd_json_value *v = vd_json_get(object, key);
    return v != NULL && vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : fallback;
}

golden *golden_open(const char *manifest_path) {
    golden *g = calloc(1, sizeof *g);
    if (g == NULL)
        return NULL;
    const char *slash = strrchr(manifest_path, '/');
    int folder = slash == NULL ? 0 : (int)(slash - manifest_path) + 1;
    if (vd_json_read(manifest_path, "golden manifest", &g->doc) != VD_OK) {
        fprintf(stderr, "golden: %s\n", vd_error_message());
        free(g);
        return NULL;
    }
    snprintf(g->folder, sizeof g->folder, "%.*s", folder, manifest_path);
    g->cases = vd_json_get(vd_json_root(g->doc), "cases");
    return g;
}

/* Counts the outputs of the open case that nobody looked at, and closes it. */
static void leave_case(golden *g) {
    if (g->state.outputs == NULL)
        return;
    size_t i = 0;
    for (const vd_json_value *o = vd_json_first(g->state.outputs); o != NULL; o = vd_json_next(o))
        if (!g->state.seen[i++]) {
            fprintf(stderr, "golden: %s: output %s was never compared\n", g->current.name,
                    vd_json_key(o));
            g->problems++;
        }
    vd_checkpoint_destroy(g->state.file);
    memset(&g->state, 0, sizeof g->state);
}

int golden_close(golden *g) {
    if (g == NULL)
        return 1;
    leave_case(g);
    printf("golden: %d cases visited, %d problems\n", g->visited, g->problems);
    int problems = g->problems + (g->visited == 0);
    vd_json_destroy(g->doc);
    free(g);
    return problems;
}

static bool enter_case(golden *g, const vd_json_value *json) {
    golden_case *c = &g->current;
    *c = (golden_case){
        .name = text_or(json, "name", "?"),
        .group = text_or(json, "group", ""),
        .model = text_or(json, "model", ""),
        .module = text_or(json, "module", ""),
        .doc = g->doc,
        .settings = vd_json_get(json, "settings"),
        .state = &g->state,
    };
    char path[PATH_BYTES];
    golden_path(g, text_or(json, "file", "?"), path, sizeof path);
    g->visited++;
    const vd_json_value *outputs = vd_json_get(json, "outputs");
    if (vd_json_size(outputs) > MAX_OUTPUTS ||
        vd_checkpoint_open_file(path, &g->state.file) != VD_OK) {
        fprintf(stderr, "golden: %s: %s\n", c->name, vd_error_message());
        g->problems++;
        return false;
    }
    g->state.from = g;
    g->state.outputs = outputs;
    return true;
}

golden_case *golden_next(golden *g, const char *group, const char *model) {
    if (g == NULL)
        return NULL;
    leave_case(g);
    for (;;) {
        g->at = g->at == NULL ? vd_json_first(g->cases) : vd_json_next(g->at);
        if (g->at == NULL)
            return NULL;
        if ((group == NULL || strcmp(text_or(g->at, "group", ""), group) == 0) &&
            (model == NULL || strcmp(text_or(g->at, "model", ""), model) == 0) &&
            enter_case(g, g->at))
            return &g->current;
    }
}

golden_case *golden_find(golden *g, const char *name) {
    if (g == NULL)
        return NULL;
    leave_case(g);
    for (const vd_json_value *v = vd_json_first(g->cases); v != NULL; v = vd_json_next(v))
        if (strcmp(text_or(v, "name", ""), name) == 0)
            return enter_case(g, v) ? &g->current : NULL;
    fprintf(stderr, "golden: no case %s\n", name);
    g->problems++;
    return NULL;
}

char *golden_path(const golden *g, const char *relative, char *buf, size_t buf_bytes) {
    int length = snprintf(buf, buf_bytes, "%s%s", g->folder, relative);
    if (length < 0 || (size_t)length >= buf_bytes)
        buf[0] = '\0'; /* opens nothing */
    return buf;
}

char *golden_component(const golden *g, const char *model, const char *component, char *buf,
                       size_t buf_bytes) {
    const vd_json_value *models = vd_json_get(vd_json_root(g->doc), "models");
    const vd_json_value *m = models == NULL ? NULL : vd_json_get(models, model);
    const char *relative = m == NULL ? NULL : text_or(m, component, NULL);
    return relative == NULL ? NULL : golden_path(g, relative, buf, buf_bytes);
}

static bool find_tensor(const golden_case *c, const char *side, const char *name, vd_tensor *out) {
    char full[256];
    int length = snprintf(full, sizeof full, "%s.%s", side, name);
    return length > 0 && (size_t)length < sizeof full &&
           vd_checkpoint_find(c->state->file, full, out);
}

bool golden_has_input(const golden_case *c, const char *name) {
    vd_tensor t;
    return find_tensor(c, "in", name, &t);
}

void *golden_input(const golden_case *c, const char *name, vd_dtype dtype, size_t *count,
                   vd_tensor *shape) {
    vd_tensor t;
    if (!find_tensor(c, "in", name, &t)) {
        fprintf(stderr, "golden: %s has no input %s\n", c->name, name);
        c->state->from->problems++;
        return NULL;
    }
    size_t n = (size_t)vd_tensor_elements(&t);
    void *copy = calloc(n == 0 ? 1 : n, vd_dtype_bytes(dtype));
    if (copy == NULL)
        return NULL;
    vd_convert_values(copy, dtype, t.data, t.dtype, n);
    t.data = NULL;
    if (count != NULL)
        *count = n;
    if (shape != NULL)
        *shape = t;
    return copy;
}

const char *golden_output_name(const golden_case *c, size_t index) {
    const vd_json_value *o = vd_json_first(c->state->outputs);
    while (o != NULL && index-- > 0)
        o = vd_json_next(o);
    return o == NULL ? NULL : vd_json_key(o);
}

/* The manifest's entry of an output, marked as looked at. */
static const vd_json_value *output_entry(const golden_case *c, const char *name, bool mark) {
    size_t i = 0;
    for (const vd_json_value *o = vd_json_first(c->state->outputs); o != NULL;
         o = vd_json_next(o), i++)
        if (strcmp(vd_json_key(o), name) == 0) {
            c->state->seen[i] = c->state->seen[i] || mark;
            return o;
        }
    return NULL;
}

bool golden_output_shape(const golden_case *c, const char *name, vd_tensor *shape) {
    if (output_entry(c, name, false) == NULL || !find_tensor(c, "out", name, shape))
        return false;
    shape->data = NULL;
    return true;
}

/* Largest and rms difference and the fraction of values that differ; a NaN gives infinity. */
static void measure(const double *got, const double *want, size_t count, double *worst,
                    size_t *worst_at, double *rms, double *differ) {
    double squares = 0;
    size_t unequal = 0;
    *worst = 0;
    *worst_at = 0;
    for (size_t i = 0; i < count; i++) {
        double error = got[i] == want[i] ? 0 : fabs(got[i] - want[i]);
        if (isnan(error))
            error = INFINITY;
        squares += error * error;
        unequal += error != 0;
        if (error > *worst) {
            *worst = error;
            *worst_at = i;
        }
    }
    *rms = count == 0 ? 0 : sqrt(squares / (double)count);
    *differ = count == 0 ? 0 : (double)unequal / (double)count;
}

static bool judge(const golden_case *c, const char *name, const vd_json_value *entry,
                  const double *got, const double *want, size_t count, golden_bound bound) {
    double worst, rms, differ;
    size_t at;
    measure(got, want, count, &worst, &at, &rms, &differ);
    bool pass;
    if (vd_json_get(entry, "exact") != NULL || bound == GOLDEN_EXACT) {
        bool bytes_of_pipeline =
            strcmp(c->group, "pipeline") == 0 && strcmp(text_or(entry, "dtype", ""), "uint8") == 0;
        pass = bytes_of_pipeline ? worst <= 1 && differ <= 2e-3 : worst == 0;
        printf("%s %s.%s: %zu values, %g%% differ, by at most %g\n", pass ? "ok  " : "FAIL",
               c->name, name, count, 100 * differ, worst);
    } else if (bound == GOLDEN_BF16) {
        double max_bf16 = number_or(entry, "err_bf16_max", -1);
        double rms_bf16 = number_or(entry, "err_bf16_rms", -1);
        pass = worst <= 2 * max_bf16 && rms <= 2 * rms_bf16;
        printf("%s %s.%s: error max %.3g rms %.3g (library in bfloat16: %.3g, %.3g)\n",
               pass ? "ok  " : "FAIL", c->name, name, worst, rms, max_bf16, rms_bf16);
    } else {
        double atol = number_or(entry, "atol", -1);
        pass = worst <= atol;
        printf("%s %s.%s: error max %.3g rms %.3g, atol %.3g (library: %.3g, %.3g)\n",
               pass ? "ok  " : "FAIL", c->name, name, worst, rms, atol,
               number_or(entry, "err_f32_max", NAN), number_or(entry, "err_f32_rms", NAN));
    }
    if (!pass && count > 0)
        fprintf(stderr, "golden: %s.%s[%zu] is %.9g, expected %.9g\n", c->name, name, at, got[at],
                want[at]);
    return pass;
}

bool golden_compare(const golden_case *c, const char *name, vd_dtype dtype, const void *values,
                    size_t count, golden_bound bound) {
    const vd_json_value *entry = output_entry(c, name, true);
    vd_tensor t;
    if (entry == NULL || values == NULL || !find_tensor(c, "out", name, &t)) {
        fprintf(stderr, "golden: %s: %s\n", c->name,
                values == NULL ? "no values to compare" : "no such output");
        return false;
    }
    size_t expected = (size_t)vd_tensor_elements(&t);
    if (expected != count) {
        fprintf(stderr, "golden: %s.%s has %zu values, got %zu\n", c->name, name, expected, count);
        return false;
    }
    double *got = calloc(count + 1, sizeof *got);
    double *want = calloc(count + 1, sizeof *want);
    bool pass = false;
    if (got != NULL && want != NULL) {
        vd_convert_values(got, VD_F64, values, dtype, count);
        vd_convert_values(want, VD_F64, t.data, t.dtype, count);
        pass = judge(c, name, entry, got, want, count, bound);
    }
    free(got);
    free(want);
    return pass;
}

void golden_skip(const golden_case *c, const char *name, const char *why) {
    output_entry(c, name, true);
    printf("skip %s.%s: %s\n", c->name, name, why);
}

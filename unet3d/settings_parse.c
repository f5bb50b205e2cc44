/* Settings out of JSON. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "unet3d/settings.h"

static const double min_factor = 1;
static const double max_factor = 16;
static const double max_freeu = 16;
static const double max_ratio = 65536;
enum { MAX_TAU = 1000, MAX_KEYS = 64, MAX_BYTES = 1 << 22 };

static const char *const keys[] = {"dilate",    "dilate_tau",      "progressive", "ndcfg_dilate",
                                   "ndcfg_tau", "disperse",        "inflate_tau", "R",
                                   "freeu",     "attention_scale", "low_res_tau", NULL};
enum { KEY_COUNT = sizeof keys / sizeof keys[0] - 1 };

static vd_status no_memory(void) {
    return vd_fail(VD_ERR_MEMORY, "no memory for settings");
}

/* The member; NULL if it is missing or null. */
static const vd_json_value *member(const vd_json_value *object, const char *key) {
    const vd_json_value *v = vd_json_get(object, key);
    return v != NULL && vd_json_type_of(v) == VD_JSON_NULL ? NULL : v;
}

bool vd_settings_present(const vd_json_value *object) {
    for (int i = 0; i < KEY_COUNT; i++)
        if (member(object, keys[i]) != NULL)
            return true;
    return false;
}

/* ---- tables of factors ---------------------------------------------------------------------- */

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

static vd_status read_table(const vd_json *doc, const vd_json_value *table, vd_dilate_entry **out,
                            size_t *count) {
    vd_status st = VD_OK;
    *out = calloc(vd_json_size(table) + 1, sizeof **out);
    if (*out == NULL)
        return no_memory();
    for (const vd_json_value *v = vd_json_first(table); v != NULL; v = vd_json_next(v)) {
        vd_dilate_entry *entry = &(*out)[*count];
        VD_TRY(read_factors(doc, v, &entry->factor));
        entry->name = strdup(vd_json_key(v));
        if (entry->name == NULL)
            return no_memory();
        ++*count;
    }
done:
    return st;
}

static vd_status read_tau(const vd_json *doc, const vd_json_value *object, const char *key,
                          int fallback, int *out) {
    int64_t tau = 0;
    const vd_status st = vd_json_int(doc, object, key, 0, MAX_TAU, fallback, &tau);
    *out = (int)tau;
    return st;
}

static vd_status read_dilate(const vd_json *doc, const vd_json_value *object, vd_settings *s) {
    vd_status st;
    const vd_json_value *table = member(object, "dilate");
    if (table != NULL) {
        if (vd_json_type_of(table) != VD_JSON_OBJECT || vd_json_size(table) == 0)
            return vd_json_fail(doc, table, "name at least one layer, {\"mid_block\": 2}");
        VD_TRY(read_table(doc, table, &s->dilate, &s->dilate_count));
    }
    VD_TRY(read_tau(doc, object, "dilate_tau", VD_ALL_STEPS, &s->dilate_tau));
    VD_TRY(vd_json_flag(doc, object, "progressive", false, &s->progressive));
    if (s->progressive && s->dilate_tau == VD_ALL_STEPS)
        st = vd_json_fail(doc, object,
                          "\"progressive\" needs \"dilate_tau\", the steps that the "
                          "dilation takes to fall");
done:
    return st;
}

static vd_status read_ndcfg(const vd_json *doc, const vd_json_value *object, vd_settings *s) {
    vd_status st;
    const vd_json_value *table = member(object, "ndcfg_dilate");
    if (table != NULL) {
        if (vd_json_type_of(table) != VD_JSON_OBJECT)
            return vd_json_fail(doc, table, "must be an object such as {\"mid_block\": 2}");
        VD_TRY(read_table(doc, table, &s->ndcfg_dilate, &s->ndcfg_count));
    }
    VD_TRY(read_tau(doc, object, "ndcfg_tau", table == NULL ? 0 : s->dilate_tau, &s->ndcfg_tau));
done:
    return st;
}

/* ---- dispersion ----------------------------------------------------------------------------- */

static vd_status read_names(const vd_json *doc, const vd_json_value *list, vd_settings *s) {
    if (vd_json_type_of(list) != VD_JSON_ARRAY)
        return vd_json_fail(doc, list, "must be a list of layers, [\"mid_block\"]");
    s->disperse = calloc(vd_json_size(list) + 1, sizeof *s->disperse);
    if (s->disperse == NULL)
        return no_memory();
    for (const vd_json_value *v = vd_json_first(list); v != NULL; v = vd_json_next(v)) {
        if (vd_json_type_of(v) != VD_JSON_STRING)
            return vd_json_fail(doc, v, "a layer's name is text");
        s->disperse[s->disperse_count] = strdup(vd_json_string(v));
        if (s->disperse[s->disperse_count] == NULL)
            return no_memory();
        s->disperse_count++;
    }
    return VD_OK;
}

static vd_status read_matrix(const vd_json *doc, const vd_json_value *v, vd_settings *s) {
    const vd_status st = vd_dispersion_read(doc, v, &s->dispersion);
    if (st == VD_OK && s->dispersion.small != 3)
        return vd_json_fail(doc, v, "the layers' kernels are 3 wide, not %lld",
                            (long long)s->dispersion.small);
    return st;
}

static vd_status read_disperse(const vd_json *doc, const vd_json_value *object, vd_settings *s) {
    vd_status st = VD_OK;
    const vd_json_value *list = member(object, "disperse"), *matrix = member(object, "R");
    if (list != NULL)
        VD_TRY(read_names(doc, list, s));
    if (matrix != NULL)
        VD_TRY(read_matrix(doc, matrix, s));
    const int fallback = s->disperse_count > 0 ? s->dilate_tau : 0;
    VD_TRY(read_tau(doc, object, "inflate_tau", fallback, &s->inflate_tau));
    if (s->disperse_count > 0 && matrix == NULL)
        st = vd_json_fail(doc, object,
                          "\"disperse\" needs \"R\", such as [3, 5, 3, 2, 0.05]: small and large "
                          "kernel, size, scale, eta");
    else if (s->disperse_count > 0 && s->inflate_tau > s->dilate_tau)
        st = vd_json_fail(doc, object,
                          "\"inflate_tau\" is above \"dilate_tau\": only re-dilated layers can be "
                          "dispersed");
done:
    return st;
}

/* ---- companions ----------------------------------------------------------------------------- */

static vd_status read_freeu(const vd_json *doc, const vd_json_value *object, vd_freeu *f) {
    static const char *const allowed[] = {"b1", "b2", "s1", "s2", "rule", "c1", "c2", NULL};
    vd_status st = VD_OK;
    const vd_json_value *v = member(object, "freeu");
    const char *rule = NULL;
    double *const value[4] = {&f->b1, &f->b2, &f->s1, &f->s2};
    if (v == NULL)
        return VD_OK;
    VD_TRY(vd_json_only_keys(doc, v, allowed));
    for (int i = 0; i < 4; i++) {
        if (member(v, allowed[i]) == NULL)
            return vd_json_fail(doc, v, "wants \"b1\", \"b2\", \"s1\" and \"s2\"");
        VD_TRY(vd_json_double(doc, v, allowed[i], 0, max_freeu, 1, value[i]));
    }
    VD_TRY(vd_json_text(doc, v, "rule", "", &rule));
    if (strcmp(rule, "up_block_index") != 0 && strcmp(rule, "channels") != 0)
        return vd_json_fail(doc, v,
                            "\"rule\" is \"up_block_index\" (diffusers: the first two up blocks) "
                            "or \"channels\" (ScaleCrafter: by the hidden state's width)");
    f->rule = strcmp(rule, "channels") == 0 ? VD_FREEU_BY_CHANNELS : VD_FREEU_BY_BLOCK;
    VD_TRY(vd_json_int(doc, v, "c1", 1, INT32_MAX, 1280, &f->c1));
    VD_TRY(vd_json_int(doc, v, "c2", 1, INT32_MAX, 640, &f->c2));
done:
    return st;
}

static vd_status read_attention(const vd_json *doc, const vd_json_value *object, double *ratio) {
    static const char *const allowed[] = {"ratio", NULL};
    vd_status st = VD_OK;
    const vd_json_value *v = member(object, "attention_scale");
    if (v == NULL)
        return VD_OK;
    VD_TRY(vd_json_only_keys(doc, v, allowed));
    VD_TRY(vd_json_double(doc, v, "ratio", 0, max_ratio, 0, ratio));
    if (*ratio == 0)
        st = vd_json_fail(doc, v, "wants \"ratio\" above 0: pixels now by pixels in training");
done:
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static vd_status check_keys(const vd_json *doc, const vd_json_value *object,
                            const char *const *others) {
    const char *allowed[MAX_KEYS] = {0};
    memcpy(allowed, keys, sizeof keys);
    for (int i = KEY_COUNT; others != NULL && *others != NULL && i < MAX_KEYS - 1; i++)
        allowed[i] = *others++;
    return vd_json_only_keys(doc, object, allowed);
}

/* What speaks of re-dilated layers needs some; a file may do without if it has a companion. */
static vd_status check_presence(const vd_json *doc, const vd_json_value *object,
                                const vd_settings *s) {
    const bool companion =
        s->freeu.rule != VD_FREEU_OFF || s->attention_ratio > 0 || s->low_res_tau > 0;
    const bool speaks = s->progressive || s->ndcfg_count > 0 || s->ndcfg_tau > 0 ||
                        s->disperse_count > 0 || member(object, "dilate_tau") != NULL;
    if (s->dilate_count > 0 || (companion && !speaks))
        return VD_OK;
    return vd_json_fail(doc, object,
                        "has no \"dilate\": name at least one layer, {\"mid_block\": 2}");
}

vd_status vd_settings_parse(const vd_json *doc, const vd_json_value *object,
                            const char *const *others, const char *origin, vd_settings **out) {
    vd_status st;
    vd_settings *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL || (s->origin = strdup(origin)) == NULL) {
        st = no_memory();
        goto done;
    }
    VD_TRY(check_keys(doc, object, others));
    VD_TRY(read_dilate(doc, object, s));
    VD_TRY(read_ndcfg(doc, object, s));
    VD_TRY(read_disperse(doc, object, s));
    VD_TRY(read_freeu(doc, object, &s->freeu));
    VD_TRY(read_attention(doc, object, &s->attention_ratio));
    VD_TRY(read_tau(doc, object, "low_res_tau", 0, &s->low_res_tau));
    VD_TRY(check_presence(doc, object, s));
    *out = s;
    s = NULL;
done:
    vd_settings_destroy(s);
    return st;
}

const char *const vd_settings_row_keys[] = {"for", "about", NULL};

vd_status vd_settings_read(const char *path, vd_settings **out) {
    vd_status st;
    vd_json *doc = NULL;
    char *text = NULL;
    size_t bytes = 0;
    *out = NULL;
    VD_TRY(vd_read_file(path, MAX_BYTES, &text, &bytes));
    /* A list begins with a name. */
    if (isalpha((unsigned char)text[strspn(text, " \t\r\n")])) {
        VD_TRY(vd_settings_parse_list(text, path, out));
    } else {
        VD_TRY(vd_json_parse(text, bytes, path, &doc));
        VD_TRY(vd_settings_parse(doc, vd_json_root(doc), vd_settings_row_keys, path, out));
    }
done:
    vd_json_destroy(doc);
    free(text);
    return st;
}

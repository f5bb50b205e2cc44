#include <cjson/cJSON.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/text.h"

enum { MAX_OPEN = 256, NUMBER_BYTES = 32 };

struct vd_json_writer {
    cJSON *root;
    cJSON *open[MAX_OPEN];
    int depth;
    locale_t c_locale;
    bool no_memory;
    bool misused;
};

vd_status vd_json_writer_create(vd_json_writer **out) {
    *out = NULL;
    vd_json_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory to write JSON");
    w->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (w->c_locale == (locale_t)0) {
        free(w);
        return vd_fail(VD_ERR_MEMORY, "no memory to write JSON");
    }
    *out = w;
    return VD_OK;
}

void vd_json_writer_destroy(vd_json_writer *w) {
    if (w == NULL)
        return;
    cJSON_Delete(w->root);
    freelocale(w->c_locale);
    free(w);
}

/* Takes `item` over. True if it became part of the document. */
static bool add(vd_json_writer *w, const char *key, cJSON *item) {
    cJSON *parent = w->depth > 0 ? w->open[w->depth - 1] : NULL;
    bool added = false;
    if (item == NULL) {
        w->no_memory = true;
    } else if (parent == NULL && key == NULL && w->root == NULL) {
        w->root = item;
        added = true;
    } else if (parent != NULL && cJSON_IsObject(parent) == (key != NULL)) {
        added = key != NULL ? cJSON_AddItemToObject(parent, key, item) != 0
                            : cJSON_AddItemToArray(parent, item) != 0;
        w->no_memory = w->no_memory || !added;
    } else {
        w->misused = true;
    }
    if (!added)
        cJSON_Delete(item);
    return added;
}

static void begin(vd_json_writer *w, const char *key, cJSON *container) {
    if (w->depth == MAX_OPEN) {
        w->misused = true;
        cJSON_Delete(container);
        return;
    }
    if (add(w, key, container))
        w->open[w->depth++] = container;
    else
        w->misused = true; /* what follows would land in the wrong container */
}

void vd_json_begin_object(vd_json_writer *w, const char *key) {
    begin(w, key, cJSON_CreateObject());
}

void vd_json_begin_array(vd_json_writer *w, const char *key) {
    begin(w, key, cJSON_CreateArray());
}

void vd_json_end(vd_json_writer *w) {
    if (w->depth > 0)
        w->depth--;
    else
        w->misused = true;
}

static cJSON *create_string(const char *utf8) {
    static const char replacement[] = "\xEF\xBF\xBD";
    size_t left = strlen(utf8);
    if (vd_utf8_valid(utf8, left))
        return cJSON_CreateString(utf8);
    char *clean = left < SIZE_MAX / 3 ? malloc(3 * left + 1) : NULL;
    if (clean == NULL)
        return NULL;
    size_t used = 0;
    while (left > 0) {
        const size_t valid = vd_utf8_valid_prefix(utf8, left);
        memcpy(clean + used, utf8, valid);
        used += valid;
        utf8 += valid;
        left -= valid;
        if (left > 0) {
            memcpy(clean + used, replacement, 3);
            used += 3;
            utf8++;
            left--;
        }
    }
    clean[used] = '\0';
    cJSON *item = cJSON_CreateString(clean);
    free(clean);
    return item;
}

/* cJSON itself prints 15 or 17 digits and takes nearly equal for equal. */
static cJSON *create_number(const vd_json_writer *w, double v) {
    if (!isfinite(v))
        return cJSON_CreateNull();
    char text[NUMBER_BYTES];
    const locale_t previous = uselocale(w->c_locale);
    if (v == floor(v) && fabs(v) < 1e15) {
        snprintf(text, sizeof text, "%.0f", v);
    } else {
        int digits = 1;
        do {
            snprintf(text, sizeof text, "%.*g", digits, v);
        } while (digits++ < 17 && strtod(text, NULL) != v);
    }
    uselocale(previous);
    return cJSON_CreateRaw(text);
}

void vd_json_put_string(vd_json_writer *w, const char *key, const char *utf8) {
    add(w, key, create_string(utf8));
}

void vd_json_put_int(vd_json_writer *w, const char *key, int64_t v) {
    char text[NUMBER_BYTES];
    snprintf(text, sizeof text, "%lld", (long long)v);
    add(w, key, cJSON_CreateRaw(text));
}

void vd_json_put_double(vd_json_writer *w, const char *key, double v) {
    add(w, key, create_number(w, v));
}

void vd_json_put_bool(vd_json_writer *w, const char *key, bool v) {
    add(w, key, cJSON_CreateBool(v));
}

void vd_json_put_null(vd_json_writer *w, const char *key) {
    add(w, key, cJSON_CreateNull());
}

void vd_json_put_value(vd_json_writer *w, const char *key, const vd_json_value *v) {
    const vd_json_type type = vd_json_type_of(v);
    switch (type) {
    case VD_JSON_NULL:
        vd_json_put_null(w, key);
        return;
    case VD_JSON_BOOL:
        vd_json_put_bool(w, key, vd_json_bool(v));
        return;
    case VD_JSON_NUMBER:
        vd_json_put_double(w, key, vd_json_number(v));
        return;
    case VD_JSON_STRING:
        vd_json_put_string(w, key, vd_json_string(v));
        return;
    case VD_JSON_ARRAY:
    case VD_JSON_OBJECT:
        break;
    }
    const int depth = w->depth;
    begin(w, key, type == VD_JSON_OBJECT ? cJSON_CreateObject() : cJSON_CreateArray());
    if (w->depth == depth)
        return;
    for (const vd_json_value *m = vd_json_first(v); m != NULL; m = vd_json_next(m))
        vd_json_put_value(w, vd_json_key(m), m);
    vd_json_end(w);
}

vd_status vd_json_writer_finish(vd_json_writer *w, bool pretty, char **out) {
    *out = NULL;
    if (w->misused && !w->no_memory)
        return vd_fail(VD_ERR_USAGE, "the calls to the JSON writer do not nest");
    if (!w->no_memory && (w->root == NULL || w->depth != 0))
        return vd_fail(VD_ERR_USAGE, "the JSON to write is not complete");
    if (!w->no_memory)
        *out = pretty ? cJSON_Print(w->root) : cJSON_PrintUnformatted(w->root);
    return *out != NULL ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory to write JSON");
}

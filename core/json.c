#include "core/json.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json_scan.h"
#include "core/text.h"

enum { MAX_FILE_BYTES = 256 << 20, MAX_PATH_BYTES = 320, MAX_SHOWN_KEY = 80 };

static const int64_t max_exact_int = INT64_C(1) << 53;

struct vd_json {
    cJSON *root;
    char *origin;
};

static cJSON *node_of(const vd_json_value *v) {
    return (cJSON *)v;
}

static const vd_json_value *value_of(const cJSON *node) {
    return (const vd_json_value *)node;
}

static int compare_keys(const void *a, const void *b) {
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static vd_status check_duplicates(const vd_json *doc, const cJSON *object) {
    const size_t count = vd_json_size(value_of(object));
    if (count < 2)
        return VD_OK;
    const cJSON **members = malloc(count * sizeof(const cJSON *));
    if (members == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: no memory to read it", doc->origin);
    size_t n = 0;
    for (const cJSON *m = object->child; m != NULL; m = m->next)
        members[n++] = m;
    qsort(members, count, sizeof(const cJSON *), compare_keys);
    vd_status st = VD_OK;
    for (size_t i = 1; i < count && st == VD_OK; i++)
        if (compare_keys(&members[i - 1], &members[i]) == 0)
            st = vd_json_fail(doc, value_of(members[i]), "the key occurs twice in one object");
    free(members);
    return st;
}

/* Turns the scanner's mark for NaN into a number and refuses duplicate keys. */
static vd_status settle(const vd_json *doc, cJSON *node) {
    if (cJSON_IsString(node) && strcmp(node->valuestring, VD_JSON_NAN_MARK) == 0) {
        cJSON_free(node->valuestring);
        node->valuestring = NULL;
        node->type = cJSON_Number;
        node->valuedouble = NAN;
        return VD_OK;
    }
    vd_status st = cJSON_IsObject(node) ? check_duplicates(doc, node) : VD_OK;
    for (cJSON *child = node->child; child != NULL && st == VD_OK; child = child->next) {
        if (child->child != NULL || cJSON_IsString(child))
            st = settle(doc, child);
    }
    return st;
}

/* Takes `text` over; it is NUL-terminated beyond its bytes. */
static vd_status parse_owned(char *text, size_t bytes, const char *origin, vd_json **out) {
    *out = NULL;
    vd_json *doc = calloc(1, sizeof *doc);
    vd_status st = VD_OK;
    if (doc == NULL || (doc->origin = strdup(origin)) == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "%s: no memory to read it", origin);
        goto done;
    }
    VD_TRY(vd_json_scan(text, bytes, origin));
    const char *end = text;
    doc->root = cJSON_ParseWithLengthOpts(text, bytes + 1, &end, 1);
    if (doc->root == NULL) {
        st = vd_json_fail_at(text, (size_t)(end - text), origin);
        goto done;
    }
    VD_TRY(settle(doc, doc->root));
    *out = doc;
    doc = NULL;
done:
    vd_json_destroy(doc);
    free(text);
    return st;
}

vd_status vd_json_read(const char *path, const char *what, vd_json **out) {
    *out = NULL;
    char *text = NULL;
    size_t bytes = 0;
    vd_status st = vd_read_file(path, MAX_FILE_BYTES, &text, &bytes);
    if (st == VD_OK)
        st = parse_owned(text, bytes, path, out);
    return st == VD_OK ? st : vd_fail_in(st, "%s", what);
}

vd_status vd_json_parse(const char *text, size_t bytes, const char *origin, vd_json **out) {
    *out = NULL;
    if (bytes > MAX_FILE_BYTES)
        return vd_fail(VD_ERR_INPUT, "%s: %zu bytes of JSON, at most %d are read", origin, bytes,
                       (int)MAX_FILE_BYTES);
    char *copy = malloc(bytes + 1);
    if (copy == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: no memory to read it", origin);
    if (bytes > 0)
        memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return parse_owned(copy, bytes, origin, out);
}

void vd_json_destroy(vd_json *doc) {
    if (doc == NULL)
        return;
    cJSON_Delete(doc->root);
    free(doc->origin);
    free(doc);
}

const vd_json_value *vd_json_root(const vd_json *doc) {
    return value_of(doc->root);
}

vd_json_type vd_json_type_of(const vd_json_value *v) {
    const cJSON *node = node_of(v);
    if (cJSON_IsBool(node))
        return VD_JSON_BOOL;
    if (cJSON_IsNumber(node))
        return VD_JSON_NUMBER;
    if (cJSON_IsString(node))
        return VD_JSON_STRING;
    if (cJSON_IsArray(node))
        return VD_JSON_ARRAY;
    if (cJSON_IsObject(node))
        return VD_JSON_OBJECT;
    return VD_JSON_NULL;
}

static bool is_plain_key(const char *key) {
    const char *c = key;
    while (isalnum((unsigned char)*c) || *c == '_')
        c++;
    return *c == '\0' && c != key;
}

/* The steps from `node` down to `target`, appended to path; false if it is not below. */
static bool append_path(const cJSON *node, const cJSON *target, char *path, size_t at) {
    if (node == target)
        return true;
    size_t index = 0;
    for (const cJSON *child = node->child; child != NULL; child = child->next, index++) {
        if (child != target && child->child == NULL)
            continue;
        const size_t room = MAX_PATH_BYTES - at;
        int n;
        if (cJSON_IsArray(node))
            n = snprintf(path + at, room, "[%zu]", index);
        else if (is_plain_key(child->string))
            n = snprintf(path + at, room, ".%.*s", (int)MAX_SHOWN_KEY, child->string);
        else
            n = snprintf(path + at, room, "[\"%.*s\"]", (int)MAX_SHOWN_KEY, child->string);
        const size_t end = at + (size_t)n < MAX_PATH_BYTES ? at + (size_t)n : MAX_PATH_BYTES - 1;
        if (append_path(child, target, path, end))
            return true;
        path[at] = '\0';
    }
    return false;
}

char *vd_json_path(const vd_json *doc, const vd_json_value *v, char *buf, size_t buf_bytes) {
    char path[MAX_PATH_BYTES] = "$";
    append_path(doc->root, node_of(v), path, 1);
    snprintf(buf, buf_bytes, "%s", path);
    return buf;
}

vd_status vd_json_fail(const vd_json *doc, const vd_json_value *v, const char *format, ...) {
    char message[1024] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (v == NULL)
        return vd_fail(VD_ERR_INPUT, "%s: %s", doc->origin, message);
    char path[MAX_PATH_BYTES];
    vd_json_path(doc, v, path, sizeof path);
    return vd_fail(VD_ERR_INPUT, "%s: %s: %s", doc->origin, path, message);
}

size_t vd_json_size(const vd_json_value *v) {
    const cJSON *node = node_of(v);
    if (!cJSON_IsArray(node) && !cJSON_IsObject(node))
        return 0;
    size_t n = 0;
    for (const cJSON *child = node->child; child != NULL; child = child->next)
        n++;
    return n;
}

const vd_json_value *vd_json_get(const vd_json_value *object, const char *key) {
    if (!cJSON_IsObject(node_of(object)))
        return NULL;
    return value_of(cJSON_GetObjectItemCaseSensitive(node_of(object), key));
}

const vd_json_value *vd_json_first(const vd_json_value *container) {
    return value_of(node_of(container)->child);
}

const vd_json_value *vd_json_next(const vd_json_value *v) {
    return value_of(node_of(v)->next);
}

const char *vd_json_key(const vd_json_value *member) {
    return node_of(member)->string;
}

double vd_json_number(const vd_json_value *v) {
    return node_of(v)->valuedouble;
}

bool vd_json_bool(const vd_json_value *v) {
    return cJSON_IsTrue(node_of(v));
}

const char *vd_json_string(const vd_json_value *v) {
    return node_of(v)->valuestring;
}

/* The member, or NULL for the default; checks its type. */
static vd_status typed_member(const vd_json *doc, const vd_json_value *object, const char *key,
                              vd_json_type type, const vd_json_value **out) {
    static const char *const expected[] = {"null",     "true or false", "a number",
                                           "a string", "a list",        "an object"};
    *out = NULL;
    if (vd_json_type_of(object) != VD_JSON_OBJECT)
        return vd_json_fail(doc, object, "an object is expected");
    const vd_json_value *v = vd_json_get(object, key);
    if (v == NULL || vd_json_type_of(v) == VD_JSON_NULL)
        return VD_OK;
    if (vd_json_type_of(v) != type)
        return vd_json_fail(doc, v, "%s is expected", expected[type]);
    *out = v;
    return VD_OK;
}

vd_status vd_json_int(const vd_json *doc, const vd_json_value *object, const char *key, int64_t min,
                      int64_t max, int64_t fallback, int64_t *out) {
    *out = fallback;
    const vd_json_value *v;
    const vd_status st = typed_member(doc, object, key, VD_JSON_NUMBER, &v);
    if (st != VD_OK || v == NULL)
        return st;
    min = min < -max_exact_int ? -max_exact_int : min;
    max = max > max_exact_int ? max_exact_int : max;
    const double number = vd_json_number(v);
    if (!(number >= (double)min && number <= (double)max) || number != floor(number))
        return vd_json_fail(doc, v, "an integer from %lld to %lld is expected, not %.16g",
                            (long long)min, (long long)max, number);
    *out = (int64_t)number;
    return VD_OK;
}

vd_status vd_json_double(const vd_json *doc, const vd_json_value *object, const char *key,
                         double min, double max, double fallback, double *out) {
    *out = fallback;
    const vd_json_value *v;
    const vd_status st = typed_member(doc, object, key, VD_JSON_NUMBER, &v);
    if (st != VD_OK || v == NULL)
        return st;
    const double number = vd_json_number(v);
    if (!(number >= min && number <= max))
        return vd_json_fail(doc, v, "a number from %g to %g is expected, not %g", min, max, number);
    *out = number;
    return VD_OK;
}

vd_status vd_json_flag(const vd_json *doc, const vd_json_value *object, const char *key,
                       bool fallback, bool *out) {
    *out = fallback;
    const vd_json_value *v;
    const vd_status st = typed_member(doc, object, key, VD_JSON_BOOL, &v);
    if (st == VD_OK && v != NULL)
        *out = vd_json_bool(v);
    return st;
}

vd_status vd_json_text(const vd_json *doc, const vd_json_value *object, const char *key,
                       const char *fallback, const char **out) {
    *out = fallback;
    const vd_json_value *v;
    const vd_status st = typed_member(doc, object, key, VD_JSON_STRING, &v);
    if (st == VD_OK && v != NULL)
        *out = vd_json_string(v);
    return st;
}

static bool is_listed(const char *key, const char *const *list) {
    for (; *list != NULL; list++)
        if (strcmp(key, *list) == 0)
            return true;
    return false;
}

vd_status vd_json_only_keys(const vd_json *doc, const vd_json_value *object,
                            const char *const *allowed) {
    if (vd_json_type_of(object) != VD_JSON_OBJECT)
        return vd_json_fail(doc, object, "an object is expected");
    const vd_json_value *m = vd_json_first(object);
    while (m != NULL && is_listed(vd_json_key(m), allowed))
        m = vd_json_next(m);
    if (m == NULL)
        return VD_OK;

    const char *nearest = vd_nearest(vd_json_key(m), allowed);
    if (nearest != NULL)
        return vd_json_fail(doc, m, "unknown key; did you mean \"%s\"?", nearest);
    char list[640] = "";
    size_t used = 0;
    for (size_t i = 0; allowed[i] != NULL && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : ", ",
                                 allowed[i]);
    return vd_json_fail(doc, m, "unknown key; known are: %s", list);
}

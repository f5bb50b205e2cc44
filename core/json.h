/* JSON files, read through cJSON (this is its only user). Accepts what Python's json module writes
 * (NaN, Infinity, -Infinity as numbers). Every error names the file and the JSON path. */
#ifndef VD_CORE_JSON_H
#define VD_CORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct vd_json vd_json;             /* a parsed document; owns its values */
typedef struct vd_json_value vd_json_value; /* a borrowed value inside a document */

typedef enum vd_json_type {
    VD_JSON_NULL,
    VD_JSON_BOOL,
    VD_JSON_NUMBER,
    VD_JSON_STRING,
    VD_JSON_ARRAY,
    VD_JSON_OBJECT,
} vd_json_type;

/* Reads and parses a file of at most 256 MiB. `what` names the kind of file in messages
 * ("scheduler config"). VD_ERR_INPUT: unreadable, not JSON (with line and column), nested deeper
 * than 200, duplicate keys in one object; also what no file of ours has: a byte order mark,
 * \u0000, a number of more than 63 characters, more than 8 Mi values. */
vd_status vd_json_read(const char *path, const char *what, vd_json **out);

/* The same for text in memory; `origin` stands for the file name in messages. */
vd_status vd_json_parse(const char *text, size_t bytes, const char *origin, vd_json **out);
void vd_json_destroy(vd_json *doc);

const vd_json_value *vd_json_root(const vd_json *doc);

vd_json_type vd_json_type_of(const vd_json_value *v);

/* "$.jobs[3].seed" of a value, for messages. Returns buf. */
char *vd_json_path(const vd_json *doc, const vd_json_value *v, char *buf, size_t buf_bytes);

/* VD_ERR_INPUT with "FILE: $.path: " and the message; returns the status. */
vd_status vd_json_fail(const vd_json *doc, const vd_json_value *v, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Objects and arrays. Size is 0 for other types. Members come in file order; `member` and `item`
 * are O(1) amortised when walked in order. NULL if absent or out of range. */
size_t vd_json_size(const vd_json_value *v);
const vd_json_value *vd_json_get(const vd_json_value *object, const char *key);
const vd_json_value *vd_json_first(const vd_json_value *container);
const vd_json_value *vd_json_next(const vd_json_value *v);
const char *vd_json_key(const vd_json_value *member); /* NULL outside an object */

/* Unchecked access after a type check. */
double vd_json_number(const vd_json_value *v);
bool vd_json_bool(const vd_json_value *v);
const char *vd_json_string(const vd_json_value *v); /* borrowed, UTF-8 */

/* Typed members of `object` with a default for a missing key or null. VD_ERR_INPUT when the type or
 * range is wrong. Integers must be integral and within [min, max]; doubles within [min, max] and
 * not NaN. Strings are borrowed from the document. */
vd_status vd_json_int(const vd_json *doc, const vd_json_value *object, const char *key, int64_t min,
                      int64_t max, int64_t fallback, int64_t *out);
vd_status vd_json_double(const vd_json *doc, const vd_json_value *object, const char *key,
                         double min, double max, double fallback, double *out);
vd_status vd_json_flag(const vd_json *doc, const vd_json_value *object, const char *key,
                       bool fallback, bool *out);
vd_status vd_json_text(const vd_json *doc, const vd_json_value *object, const char *key,
                       const char *fallback, const char **out);

/* VD_ERR_INPUT, naming the path and the nearest allowed key, if `object` has a key that is not in
 * the NULL-terminated list. For files of our own. */
vd_status vd_json_only_keys(const vd_json *doc, const vd_json_value *object,
                            const char *const *allowed);

/* Building and writing. The writer keeps numbers as short as they round-trip. */
typedef struct vd_json_writer vd_json_writer;
vd_status vd_json_writer_create(vd_json_writer **out);
void vd_json_writer_destroy(vd_json_writer *w);
void vd_json_begin_object(vd_json_writer *w, const char *key); /* key NULL inside arrays, at root */
void vd_json_begin_array(vd_json_writer *w, const char *key);
void vd_json_end(vd_json_writer *w);
/* Invalid UTF-8 is replaced by U+FFFD. */
void vd_json_put_string(vd_json_writer *w, const char *key, const char *utf8);
void vd_json_put_int(vd_json_writer *w, const char *key, int64_t v);
void vd_json_put_double(vd_json_writer *w, const char *key, double v); /* NaN, infinity: null */
void vd_json_put_bool(vd_json_writer *w, const char *key, bool v);
void vd_json_put_null(vd_json_writer *w, const char *key);
/* A copy of a parsed value. */
void vd_json_put_value(vd_json_writer *w, const char *key, const vd_json_value *v);
/* The finished text, malloc'ed, owned by the caller. VD_ERR_MEMORY if any step ran out of it,
 * VD_ERR_USAGE if the calls do not make one complete value (or nest deeper than 256). */
vd_status vd_json_writer_finish(vd_json_writer *w, bool pretty, char **out);

#endif

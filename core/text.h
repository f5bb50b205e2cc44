/* Small string helpers that several folders need. */
#ifndef VD_CORE_TEXT_H
#define VD_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Edit distance of two strings, for "did you mean". */
size_t vd_edit_distance(const char *a, const char *b);

/* The entry of a NULL-terminated list nearest to `word`, or NULL if none is near. */
const char *vd_nearest(const char *word, const char *const *list);

/* Strict UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
bool vd_utf8_valid(const char *s, size_t bytes);

/* malloc'ed printf; NULL when out of memory. */
char *vd_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The whole of a regular file, NUL-terminated beyond its `*bytes`; freed by the caller.
 * VD_ERR_INPUT: unreadable, a folder, larger than max_bytes. */
vd_status vd_read_file(const char *path, size_t max_bytes, char **out, size_t *bytes);

/* Whole string to a number: no spaces, no trailing text, no overflow, no NaN or infinity. */
bool vd_parse_int(const char *s, int64_t *out);
bool vd_parse_double(const char *s, double *out);

#endif

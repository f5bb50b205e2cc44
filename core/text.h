/* Small string helpers that several folders need. */
#ifndef VD_CORE_TEXT_H
#define VD_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Edit distance of two strings in bytes, for "did you mean". Where they differ over more than 128
 * bytes, the longer length is returned: they are not alike. */
size_t vd_edit_distance(const char *a, const char *b);

/* The entry of a NULL-terminated list nearest to `word`, or NULL if none is near: at most a third
 * of the longer one (but 1 always) may differ. The first of equals. */
const char *vd_nearest(const char *word, const char *const *list);

/* Strict UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
bool vd_utf8_valid(const char *s, size_t bytes);

/* Length in bytes of the longest valid prefix; `bytes` if all of it is valid. */
size_t vd_utf8_valid_prefix(const char *s, size_t bytes);

/* Copies `s` as one printable line into buf (at least 8 bytes): control characters and invalid
 * UTF-8 become \n, \t, \r or \xNN; what does not fit is cut at a character and ends in "...".
 * Returns buf. */
char *vd_escape_line(char *buf, size_t buf_bytes, const char *s);

/* malloc'ed printf; NULL when out of memory. */
char *vd_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The whole of a regular file, NUL-terminated beyond its `*bytes`; freed by the caller.
 * VD_ERR_INPUT: unreadable, a folder, larger than max_bytes. */
vd_status vd_read_file(const char *path, size_t max_bytes, char **out, size_t *bytes);

/* Whole string to a decimal number: no spaces, no plus sign, no trailing text, no overflow, no NaN,
 * infinity or hexadecimal. Independent of the locale. *out is left alone when false is returned. */
bool vd_parse_int(const char *s, int64_t *out);
bool vd_parse_double(const char *s, double *out);

#endif

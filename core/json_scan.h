/* What cJSON does not check, checked before it sees the text. Private to core/json*.c. */
#ifndef VD_CORE_JSON_SCAN_H
#define VD_CORE_JSON_SCAN_H

#include <stddef.h>

#include "core/status.h"

/* The content of the string that stands for a bare NaN after the scan. It is no UTF-8, so no string
 * of a scanned document can be equal to it. */
#define VD_JSON_NAN_MARK "\xFF"

/* Checks encoding, tokens, numbers, control characters and depth, and rewrites in place, at the
 * same length, Python's NaN, Infinity and -Infinity to what cJSON reads. Structure is left to
 * cJSON. VD_ERR_INPUT with "ORIGIN:LINE:COLUMN: ". */
vd_status vd_json_scan(char *text, size_t bytes, const char *origin);

/* The message for an offset at which cJSON gave up. */
vd_status vd_json_fail_at(const char *text, size_t offset, const char *origin);

#endif

/* The Unicode part of the tokenizer (the only user of libutf8proc): NFC, white space, lower case
 * and the four character classes of CLIP's splitting pattern. */
#ifndef VD_TEXT_UNICODE_H
#define VD_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum { VD_UTF8_MAX_BYTES = 4 };

typedef enum vd_char_class {
    VD_CHAR_SPACE,
    VD_CHAR_LETTER, /* \p{L} */
    VD_CHAR_NUMBER, /* \p{N} */
    VD_CHAR_OTHER,  /* the rest, combining marks and unassigned code points included */
} vd_char_class;

vd_char_class vd_char_class_of(int32_t codepoint);

/* NFC, then each run of white space to one space, then lower case, one character at a time. `*out`
 * holds `*count` code points and is owned by the caller (never NULL on success).
 * VD_ERR_USAGE: not UTF-8. VD_ERR_MEMORY. */
vd_status vd_unicode_normalize(const char *utf8, size_t bytes, int32_t **out, size_t *count);

/* Writes one valid code point as 1 to 4 bytes, without a terminator; returns how many. */
size_t vd_utf8_put(char dst[VD_UTF8_MAX_BYTES], int32_t codepoint);

#endif

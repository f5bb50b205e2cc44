#include "text/unicode.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { CAPITAL_I_WITH_DOT = 0x130, COMBINING_DOT_ABOVE = 0x307 };

/* Neither isspace nor utf8proc's categories draw this set: it is \s of the reference's patterns. */
static bool is_space(int32_t c) {
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

vd_char_class vd_char_class_of(int32_t codepoint) {
    if (is_space(codepoint))
        return VD_CHAR_SPACE;
    switch (utf8proc_category(codepoint)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return VD_CHAR_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return VD_CHAR_NUMBER;
    default:
        return VD_CHAR_OTHER;
    }
}

size_t vd_utf8_put(char dst[VD_UTF8_MAX_BYTES], int32_t codepoint) {
    return (size_t)utf8proc_encode_char(codepoint, (utf8proc_uint8_t *)dst);
}

/* Full canonical decomposition, marks not yet in order. Returns the number of code points, or a
 * negative number if the text is not UTF-8. */
static ptrdiff_t decompose(const char *utf8, size_t bytes, int32_t *dst, size_t capacity) {
    size_t count = 0;
    for (size_t at = 0; at < bytes;) {
        utf8proc_int32_t codepoint;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)utf8 + at,
                                                 (utf8proc_ssize_t)(bytes - at), &codepoint);
        if (used <= 0)
            return -1;
        at += (size_t)used;
        int boundclass = 0;
        utf8proc_ssize_t wrote =
            utf8proc_decompose_char(codepoint, dst + count, (utf8proc_ssize_t)(capacity - count),
                                    UTF8PROC_DECOMPOSE, &boundclass);
        if (wrote < 0 || (size_t)wrote > capacity - count)
            return -1;
        count += (size_t)wrote;
    }
    return (ptrdiff_t)count;
}

/* Stable sort of a run of marks by combining class. utf8proc's own ordering takes quadratic time on
 * a long run, so it is done here by counting. */
static void order_run(int32_t *run, size_t count, int32_t *scratch) {
    size_t start[257] = {0};
    for (size_t i = 0; i < count; i++)
        start[utf8proc_get_property(run[i])->combining_class + 1]++;
    for (size_t c = 1; c < 257; c++)
        start[c] += start[c - 1];
    for (size_t i = 0; i < count; i++)
        scratch[start[utf8proc_get_property(run[i])->combining_class]++] = run[i];
    memcpy(run, scratch, count * sizeof *run);
}

static void order_marks(int32_t *text, size_t count, int32_t *scratch) {
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && utf8proc_get_property(text[end])->combining_class != 0)
            end++;
        if (end - i > 1)
            order_run(text + i, end - i, scratch);
        i = end + 1;
    }
}

/* dst has room for 2 * count. */
static size_t collapse_and_lower(int32_t *dst, const int32_t *src, size_t count) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_space(src[i])) {
            if (n == 0 || dst[n - 1] != ' ')
                dst[n++] = ' ';
        } else if (src[i] == CAPITAL_I_WITH_DOT) {
            /* The one character whose lower case is two; utf8proc knows one-to-one mappings only.
             */
            dst[n++] = 'i';
            dst[n++] = COMBINING_DOT_ABOVE;
        } else {
            dst[n++] = utf8proc_tolower(src[i]);
        }
    }
    return n;
}

vd_status vd_unicode_normalize(const char *utf8, size_t bytes, int32_t **out, size_t *count) {
    vd_status st = VD_OK;
    *out = NULL;
    *count = 0;
    /* No canonical decomposition gives more than 3 code points per 2 bytes. */
    size_t capacity = 2 * bytes + 4;
    int32_t *composed = malloc(capacity * sizeof *composed);
    int32_t *result = malloc(2 * capacity * sizeof *result);
    if (composed == NULL || result == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "not enough memory to tokenize a text of %zu bytes", bytes);
        goto done;
    }
    ptrdiff_t decomposed = decompose(utf8, bytes, composed, capacity);
    if (decomposed < 0) {
        st = vd_fail(VD_ERR_USAGE, "the text is not valid UTF-8; re-encode it as UTF-8");
        goto done;
    }
    order_marks(composed, (size_t)decomposed, result);
    utf8proc_ssize_t length = utf8proc_normalize_utf32(
        composed, decomposed, (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    *count = collapse_and_lower(result, composed, (size_t)length);
    *out = result;
    result = NULL;
done:
    free(composed);
    free(result);
    return st;
}

#include "core/json_scan.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "core/text.h"

/* cJSON copies a number to a buffer of 64 bytes and cuts longer ones in two. */
enum { MAX_DEPTH = 200, MAX_NUMBER_CHARS = 63, MAX_VALUES = 8 << 20 };

typedef struct scanner {
    char *text;
    size_t bytes;
    size_t at;
    const char *origin;
    size_t values;
    size_t mark;   /* where the latest of "[]{}," is */
    bool key_next; /* after '{', or after ',' in an object */
    int depth;
    bool in_object[MAX_DEPTH];
} scanner;

static vd_status fail_at(const scanner *s, size_t offset, const char *problem) {
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i < offset; i++) {
        if (s->text[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)s->text[i] & 0xC0) != 0x80) {
            column++;
        }
    }
    return vd_fail(VD_ERR_INPUT, "%s:%zu:%zu: %s", s->origin, line, column, problem);
}

vd_status vd_json_fail_at(const char *text, size_t offset, const char *origin) {
    const scanner s = {.text = (char *)text, .origin = origin};
    const char *problem = "the JSON text is malformed here";
    if (text[offset] == '\0')
        problem = "the JSON text ends too early";
    return fail_at(&s, offset, problem);
}

static vd_status scan_encoding(const scanner *s) {
    const char *nul = memchr(s->text, '\0', s->bytes);
    if (nul != NULL)
        return fail_at(s, (size_t)(nul - s->text), "a NUL byte: this is not a JSON text");
    if (s->bytes >= 3 && memcmp(s->text, "\xEF\xBB\xBF", 3) == 0)
        return fail_at(s, 0, "a byte order mark: save the file as UTF-8 without one");
    const size_t valid = vd_utf8_valid_prefix(s->text, s->bytes);
    return valid == s->bytes ? VD_OK : fail_at(s, valid, "the text is not valid UTF-8");
}

static vd_status scan_string(scanner *s) {
    const size_t begin = s->at++;
    while (s->at < s->bytes && s->text[s->at] != '"') {
        if ((unsigned char)s->text[s->at] < 0x20)
            return fail_at(s, s->at, "a control character in a string: write it escaped");
        if (s->text[s->at] == '\\') {
            if (s->bytes - s->at >= 6 && memcmp(s->text + s->at, "\\u0000", 6) == 0)
                return fail_at(s, s->at, "\\u0000 cannot be held in a string here");
            s->at++;
        }
        s->at++;
    }
    if (s->at >= s->bytes)
        return fail_at(s, begin, "this string has no end");
    s->at++;
    return VD_OK;
}

static size_t count_digits(const char *c) {
    size_t n = 0;
    while (isdigit((unsigned char)c[n]))
        n++;
    return n;
}

/* Whether the token is a number by JSON's grammar. It is followed by a character that is none. */
static bool is_number(const char *token, size_t bytes) {
    const char *c = token;
    if (*c == '-')
        c++;
    const size_t whole = count_digits(c);
    if (whole == 0 || (whole > 1 && *c == '0'))
        return false;
    c += whole;
    if (*c == '.') {
        const size_t fraction = count_digits(++c);
        if (fraction == 0)
            return false;
        c += fraction;
    }
    if (*c == 'e' || *c == 'E') {
        c++;
        if (*c == '+' || *c == '-')
            c++;
        const size_t exponent = count_digits(c);
        if (exponent == 0)
            return false;
        c += exponent;
    }
    return (size_t)(c - token) == bytes;
}

static vd_status scan_word(scanner *s) {
    /* Python's words and what cJSON reads in their place, at the same length. */
    static const struct {
        const char *word;
        const char *written;
    } words[] = {
        {"true", "true"},         {"false", "false"},
        {"null", "null"},         {"NaN", "\"" VD_JSON_NAN_MARK "\""},
        {"Infinity", "1e999   "}, {"-Infinity", "-1e999   "},
    };
    char *token = s->text + s->at;
    size_t n = 0;
    while (isalnum((unsigned char)token[n]) ||
           (token[n] != '\0' && strchr("+-._", token[n]) != NULL))
        n++;
    if (n == 0)
        return fail_at(s, s->at, "a character that no JSON text has here");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strlen(words[i].word) == n && memcmp(words[i].word, token, n) == 0) {
            memcpy(token, words[i].written, n);
            s->at += n;
            return VD_OK;
        }
    }
    if (!is_number(token, n))
        return fail_at(s, s->at, "neither a number nor true, false or null");
    if (n > MAX_NUMBER_CHARS)
        return fail_at(s, s->at, "a number of more than 63 characters");
    s->at += n;
    return VD_OK;
}

/* '[', '{', ']', '}' and ','. */
static vd_status scan_mark(scanner *s) {
    const char c = s->text[s->at];
    if (c == ']' || c == '}') {
        s->depth -= s->depth > 0;
        s->key_next = false;
        s->at++;
        return VD_OK;
    }
    /* A value of two bytes costs cJSON a hundred: refuse what is made to exhaust memory. */
    if (++s->values > MAX_VALUES)
        return fail_at(s, s->at, "more values than any file that this program reads");
    if (c != ',') {
        if (s->depth == MAX_DEPTH)
            return fail_at(s, s->at, "nested deeper than 200");
        s->in_object[s->depth++] = c == '{';
    }
    s->key_next = s->depth > 0 && s->in_object[s->depth - 1];
    s->at++;
    return VD_OK;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): scan_word writes through the scanner */
vd_status vd_json_scan(char *text, size_t bytes, const char *origin) {
    scanner s = {.text = text, .bytes = bytes, .origin = origin};
    vd_status st = scan_encoding(&s);
    while (st == VD_OK && s.at < bytes) {
        const char c = text[s.at];
        const bool blank = c == ' ' || c == '\n' || c == '\t' || c == '\r';
        if (blank || (c == ':' && !s.key_next)) {
            s.at++;
        } else if (s.key_next && c != '"' && !(c == '}' && text[s.mark] == '{')) {
            st = fail_at(&s, s.at, "a key in double quotes is expected");
        } else if (c == '"') {
            s.key_next = false;
            st = scan_string(&s);
        } else if (strchr("[]{},", c) != NULL) {
            s.mark = s.at;
            st = scan_mark(&s);
        } else {
            st = scan_word(&s);
        }
    }
    return st;
}

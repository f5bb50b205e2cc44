#include "core/text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

size_t vd_edit_distance(const char *a, const char *b) {
    enum { LIMIT = 128 };
    const size_t longer = strlen(a) > strlen(b) ? strlen(a) : strlen(b);
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    size_t na = strlen(a);
    size_t nb = strlen(b);
    while (na > 0 && nb > 0 && a[na - 1] == b[nb - 1]) {
        na--;
        nb--;
    }
    if (na > LIMIT || nb > LIMIT)
        return longer;

    size_t row[LIMIT + 1];
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[nb];
}

const char *vd_nearest(const char *word, const char *const *list) {
    const char *nearest = NULL;
    size_t nearest_distance = SIZE_MAX;
    const size_t word_len = strlen(word);
    for (; *list != NULL; list++) {
        const size_t len = strlen(*list);
        const size_t longer = len > word_len ? len : word_len;
        const size_t near = longer / 3 > 1 ? longer / 3 : 1;
        const size_t distance = vd_edit_distance(word, *list);
        if (distance <= near && distance < nearest_distance) {
            nearest = *list;
            nearest_distance = distance;
        }
    }
    return nearest;
}

/* Bytes of the UTF-8 character at s, 0 if there is none. */
static size_t utf8_char_bytes(const unsigned char *s, size_t left) {
    if (left == 0)
        return 0;
    const unsigned char lead = s[0];
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    const size_t n = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    const bool overlong = (lead == 0xE0 && s[1] < 0xA0) || (lead == 0xF0 && s[1] < 0x90);
    const bool surrogate = lead == 0xED && s[1] >= 0xA0;
    const bool too_high = lead == 0xF4 && s[1] >= 0x90;
    return overlong || surrogate || too_high ? 0 : n;
}

size_t vd_utf8_valid_prefix(const char *s, size_t bytes) {
    size_t at = 0;
    while (at < bytes) {
        const size_t n = utf8_char_bytes((const unsigned char *)s + at, bytes - at);
        if (n == 0)
            break;
        at += n;
    }
    return at;
}

bool vd_utf8_valid(const char *s, size_t bytes) {
    return vd_utf8_valid_prefix(s, bytes) == bytes;
}

/* Writes the printable form of the character at s into piece; returns the bytes it takes of s. */
static size_t escape_char(char piece[8], const unsigned char *s, size_t left) {
    const size_t n = utf8_char_bytes(s, left);
    const bool c1_control = n == 2 && s[0] == 0xC2 && s[1] < 0xA0;
    if (n == 0 || c1_control || s[0] < 0x20 || s[0] == 0x7F) {
        if (s[0] == '\n' || s[0] == '\t' || s[0] == '\r')
            snprintf(piece, 8, "\\%c", s[0] == '\n' ? 'n' : s[0] == '\t' ? 't' : 'r');
        else
            snprintf(piece, 8, "\\x%02X", (unsigned)s[0]);
        return 1;
    }
    memcpy(piece, s, n);
    piece[n] = '\0';
    return n;
}

char *vd_escape_line(char *buf, size_t buf_bytes, const char *s) {
    const size_t room = buf_bytes - 1;
    size_t left = strlen(s);
    size_t used = 0;
    size_t cut = 0; /* the longest prefix that leaves room for the dots */
    while (left > 0) {
        char piece[8];
        const size_t taken = escape_char(piece, (const unsigned char *)s, left);
        const size_t n = strlen(piece);
        if (used + n > room) {
            memcpy(buf + cut, "...", 4);
            return buf;
        }
        memcpy(buf + used, piece, n);
        used += n;
        if (used + 3 <= room)
            cut = used;
        s += taken;
        left -= taken;
    }
    buf[used] = '\0';
    return buf;
}

char *vd_format(const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = NULL;
    const int n = vasprintf(&text, format, args);
    va_end(args);
    return n < 0 ? NULL : text;
}

static vd_status read_open_file(int fd, const char *path, size_t max_bytes, char **out,
                                size_t *bytes) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return vd_fail(VD_ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return vd_fail(VD_ERR_INPUT, "%s: is a folder, a file is expected", path);
    if (!S_ISREG(info.st_mode))
        return vd_fail(VD_ERR_INPUT, "%s: is not a regular file", path);
    if (info.st_size < 0 || (uintmax_t)info.st_size > max_bytes)
        return vd_fail(VD_ERR_INPUT, "%s: holds %jd bytes, at most %zu are read", path,
                       (intmax_t)info.st_size, max_bytes);

    const size_t size = (size_t)info.st_size;
    char *text = size < SIZE_MAX ? malloc(size + 1) : NULL;
    if (text == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: no memory for its %zu bytes", path, size);
    size_t done = 0;
    while (done < size) {
        const ssize_t n = read(fd, text + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            const int error = errno;
            free(text);
            return vd_fail(VD_ERR_INPUT, "%s: cannot be read: %s", path, strerror(error));
        }
        if (n == 0)
            break;
        done += (size_t)n;
    }
    text[done] = '\0';
    *out = text;
    *bytes = done;
    return VD_OK;
}

vd_status vd_read_file(const char *path, size_t max_bytes, char **out, size_t *bytes) {
    *out = NULL;
    *bytes = 0;
    /* Non-blocking, so that opening a pipe returns and can be refused. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return vd_fail(VD_ERR_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    const vd_status st = read_open_file(fd, path, max_bytes, out, bytes);
    close(fd);
    return st;
}

static bool starts_as_number(const char *s) {
    if (*s == '-')
        s++;
    return isdigit((unsigned char)s[0]) || (s[0] == '.' && isdigit((unsigned char)s[1]));
}

bool vd_parse_int(const char *s, int64_t *out) {
    if (!starts_as_number(s))
        return false;
    char *end = NULL;
    errno = 0;
    const long long v = strtoll(s, &end, 10);
    if (errno != 0 || end == s || *end != '\0')
        return false;
    *out = v;
    return true;
}

bool vd_parse_double(const char *s, double *out) {
    if (!starts_as_number(s) || strpbrk(s, "xX") != NULL)
        return false;
    const locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0)
        return false;
    char *end = NULL;
    const double v = strtod_l(s, &end, c_locale);
    freelocale(c_locale);
    if (end == s || *end != '\0' || !isfinite(v))
        return false;
    *out = v;
    return true;
}

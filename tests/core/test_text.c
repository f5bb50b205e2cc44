#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/text.h"
#include "tests/check.h"

static void test_distance(void) {
    CHECK(vd_edit_distance("", "") == 0);
    CHECK(vd_edit_distance("seed", "seed") == 0);
    CHECK(vd_edit_distance("sed", "seed") == 1);
    CHECK(vd_edit_distance("kitten", "sitting") == 3);
    CHECK(vd_edit_distance("", "abc") == 3);
    CHECK(vd_edit_distance("intention", "execution") == 5);
    char a[400];
    char b[400];
    memset(a, 'a', sizeof a);
    memset(b, 'b', sizeof b);
    a[399] = '\0';
    b[300] = '\0';
    CHECK(vd_edit_distance(a, b) == 399);
    memset(b, 'a', sizeof b);
    b[300] = '\0';
    CHECK(vd_edit_distance(a, b) == 99);

    const char *const keys[] = {"seed", "steps", "prompt", NULL};
    CHECK(strcmp(vd_nearest("sed", keys), "seed") == 0);
    CHECK(strcmp(vd_nearest("promt", keys), "prompt") == 0);
    CHECK(vd_nearest("guidance_scale", keys) == NULL);
    const char *const none[] = {NULL};
    CHECK(vd_nearest("x", none) == NULL);
}

static bool valid(const char *s) {
    return vd_utf8_valid(s, strlen(s));
}

/* Every code point, encoded here by the definition of UTF-8. */
static void test_utf8(void) {
    for (unsigned c = 0; c <= 0x110000; c++) {
        char s[4];
        size_t n = 0;
        if (c < 0x80) {
            s[n++] = (char)c;
        } else if (c < 0x800) {
            s[n++] = (char)(0xC0 | c >> 6);
        } else if (c < 0x10000) {
            s[n++] = (char)(0xE0 | c >> 12);
            s[n++] = (char)(0x80 | (c >> 6 & 63));
        } else {
            s[n++] = (char)(0xF0 | c >> 18);
            s[n++] = (char)(0x80 | (c >> 12 & 63));
            s[n++] = (char)(0x80 | (c >> 6 & 63));
        }
        if (c >= 0x80)
            s[n++] = (char)(0x80 | (c & 63));
        const bool expected = c < 0x110000 && (c < 0xD800 || c > 0xDFFF);
        if (vd_utf8_valid(s, n) != expected || (n > 1 && vd_utf8_valid(s, n - 1)))
            CHECK_MSG(false, "U+%04X", c);
    }
    CHECK(valid("plain") && valid("") && !valid("\x80") && !valid("\xC0\x80") &&
          !valid("\xC1\xBF"));
    CHECK(!valid("\xE0\x9F\xBF") && !valid("\xF0\x8F\xBF\xBF") && !valid("\xF5\x80\x80\x80"));
    CHECK(!valid("\xFE") && !valid("\xFF") && !valid("\xC3(") && !valid("\xE2\x28\xA1"));
    CHECK(vd_utf8_valid_prefix("ab\xC3\xA9\xC3", 5) == 4);
}

static void test_numbers(void) {
    static const char *const bad_ints[] = {
        "", " 1", "1 ", "+1", "1x", "0x10", "-", "1.0", "1e3", "9223372036854775808", "--1"};
    int64_t i = -77;
    for (size_t k = 0; k < sizeof bad_ints / sizeof bad_ints[0]; k++)
        CHECK_MSG(!vd_parse_int(bad_ints[k], &i), "\"%s\"", bad_ints[k]);
    CHECK(i == -77);
    CHECK(vd_parse_int("-9223372036854775808", &i) && i == INT64_MIN);
    CHECK(vd_parse_int("9223372036854775807", &i) && i == INT64_MAX);
    CHECK(vd_parse_int("007", &i) && i == 7);
    CHECK(vd_parse_int("-0", &i) && i == 0);

    static const char *const bad_doubles[] = {"",      " 1",  "1 ",   "+1", "nan", "inf", "1e999",
                                              "0x1p3", "1,5", "1.5f", ".",  "-",   "-inf"};
    double d = -77;
    for (size_t k = 0; k < sizeof bad_doubles / sizeof bad_doubles[0]; k++)
        CHECK_MSG(!vd_parse_double(bad_doubles[k], &d), "\"%s\"", bad_doubles[k]);
    CHECK(d == -77);
    CHECK(vd_parse_double("7.5", &d) && d == 7.5);
    CHECK(vd_parse_double("-.5e1", &d) && d == -5);
    CHECK(vd_parse_double("1e-400", &d) && d == 0);
}

static void test_files(void) {
    char *text = NULL;
    size_t bytes = 7;
    FILE *f = fopen("text_test.tmp", "wb");
    CHECK(f != NULL && fwrite("ab\0c", 1, 4, f) == 4 && fclose(f) == 0);
    CHECK_OK(vd_read_file("text_test.tmp", 4, &text, &bytes));
    CHECK(bytes == 4 && text != NULL && memcmp(text, "ab\0c", 5) == 0);
    free(text);
    CHECK_FAILS(vd_read_file("text_test.tmp", 3, &text, &bytes), VD_ERR_INPUT, "at most 3");
    CHECK(text == NULL && bytes == 0);
    CHECK_FAILS(vd_read_file("absent.tmp", 3, &text, &bytes), VD_ERR_INPUT,
                "absent.tmp: cannot be opened: No such file");
    CHECK_FAILS(vd_read_file(".", 3, &text, &bytes), VD_ERR_INPUT, "a folder");
    unlink("text_test.fifo");
    CHECK(mkfifo("text_test.fifo", 0600) == 0);
    CHECK_FAILS(vd_read_file("text_test.fifo", 3, &text, &bytes), VD_ERR_INPUT,
                "not a regular file");
    unlink("text_test.fifo");
    CHECK(truncate("text_test.tmp", 0) == 0);
    CHECK_OK(vd_read_file("text_test.tmp", 0, &text, &bytes));
    CHECK(bytes == 0 && text != NULL && text[0] == '\0');
    free(text);
    unlink("text_test.tmp");
}

int main(void) {
    test_distance();
    test_utf8();
    test_numbers();
    test_files();

    char buf[12];
    CHECK(strcmp(vd_escape_line(buf, sizeof buf, "12345678901"), "12345678901") == 0);
    CHECK(strcmp(vd_escape_line(buf, sizeof buf, "123456789012"), "12345678...") == 0);
    CHECK(strcmp(vd_escape_line(buf, sizeof buf, "1234567\xC3\xA9xxxx"), "1234567...") == 0);
    CHECK(strcmp(vd_escape_line(buf, sizeof buf, "123456\xC3\xA9xxxx"), "123456\xC3\xA9...") == 0);
    char *text = vd_format("%d-%s", 5, "x");
    CHECK(text != NULL && strcmp(text, "5-x") == 0);
    free(text);
    return CHECK_DONE();
}

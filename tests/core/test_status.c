#include <pthread.h>
#include <stdbool.h>

#include "core/status.h"
#include "tests/check.h"

static void *fail_in_thread(void *arg) {
    const bool was_empty = vd_error_message()[0] == '\0';
    vd_fail(VD_ERR_INPUT, "from the thread");
    *(bool *)arg = was_empty && strcmp(vd_error_message(), "from the thread") == 0;
    return NULL;
}

static void test_messages(void) {
    CHECK(vd_error_message()[0] == '\0');
    CHECK(vd_fail(VD_ERR_INPUT, "%s: %d", "file", 7) == VD_ERR_INPUT);
    CHECK(strcmp(vd_error_message(), "file: 7") == 0);
    CHECK(vd_fail_in(VD_ERR_OUTPUT, "job %d", 3) == VD_ERR_OUTPUT);
    CHECK(strcmp(vd_error_message(), "job 3: file: 7") == 0);
    vd_fail(VD_ERR_INPUT, "again (%s)", vd_error_message());
    CHECK(strcmp(vd_error_message(), "again (job 3: file: 7)") == 0);
}

static void test_escapes(void) {
    vd_fail(VD_ERR_INPUT, "%s", "a\nb\tc\rd\x1B[31m\x7F");
    CHECK(strcmp(vd_error_message(), "a\\nb\\tc\\rd\\x1B[31m\\x7F") == 0);
    vd_fail(VD_ERR_INPUT, "%s", "caf\xC3\xA9 \xF0\x9F\x8E\xAC \xE2\x82 \xC0\xAF \xED\xA0\x80");
    CHECK(strcmp(vd_error_message(), "caf\xC3\xA9 \xF0\x9F\x8E\xAC \\xE2\\x82 \\xC0\\xAF "
                                     "\\xED\\xA0\\x80") == 0);
    vd_fail(VD_ERR_INPUT, "%s", "\xC2\x9B"); /* a C1 control: terminals obey it */
    CHECK(strcmp(vd_error_message(), "\\xC2\\x9B") == 0);
}

static void test_long_messages(void) {
    static char longest[100000];
    memset(longest, 'x', sizeof longest - 1);
    vd_fail(VD_ERR_INPUT, "%s", longest);
    const size_t n = strlen(vd_error_message());
    CHECK(n >= 2000 && n < 5000);
    CHECK(strcmp(vd_error_message() + n - 3, "...") == 0);
    CHECK(vd_error_message()[n - 4] == 'x');

    for (size_t shift = 0; shift < 2; shift++) { /* never half a character */
        longest[0] = 'x';
        for (size_t i = shift; i + 2 < sizeof longest; i += 2)
            memcpy(longest + i, "\xC3\xA9", 2);
        longest[sizeof longest - 2 + shift - 1] = '\0';
        vd_fail(VD_ERR_INPUT, "%s", longest);
        CHECK(strchr(vd_error_message(), '\\') == NULL);
    }
    memset(longest, 1, sizeof longest - 1);
    vd_fail_in(VD_ERR_INPUT, "%s", longest);
    CHECK(strlen(vd_error_message()) < 5000);
}

int main(void) {
    test_messages();
    test_escapes();
    test_long_messages();

    pthread_t thread;
    bool separate = false;
    vd_fail(VD_ERR_INPUT, "from main");
    CHECK(pthread_create(&thread, NULL, fail_in_thread, &separate) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(separate);
    CHECK(strcmp(vd_error_message(), "from main") == 0);

    CHECK(vd_exit_code(VD_OK) == 0);
    CHECK(vd_exit_code(VD_ERR_USAGE) == 2);
    CHECK(vd_exit_code(VD_ERR_INPUT) == 3);
    CHECK(vd_exit_code(VD_ERR_MEMORY) == 4);
    CHECK(vd_exit_code(VD_ERR_BACKEND) == 5);
    CHECK(vd_exit_code(VD_ERR_OUTPUT) == 6);
    CHECK(vd_exit_code(VD_ERR_INTERRUPTED) == 130);
    return CHECK_DONE();
}

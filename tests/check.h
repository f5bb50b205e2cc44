/* A small test harness: CHECK reports and counts, main returns CHECK_DONE(). */
#ifndef VD_TESTS_CHECK_H
#define VD_TESTS_CHECK_H

#include <math.h>
#include <stdio.h>
#include <string.h>

static int check_count;
static int check_failures;

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        check_count++;                                                                             \
        if (!(cond)) {                                                                             \
            check_failures++;                                                                      \
            fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #cond);               \
        }                                                                                          \
    } while (0)

/* With a message in printf form. */
#define CHECK_MSG(cond, ...)                                                                       \
    do {                                                                                           \
        check_count++;                                                                             \
        if (!(cond)) {                                                                             \
            check_failures++;                                                                      \
            fprintf(stderr, "%s:%d: CHECK(%s) failed: ", __FILE__, __LINE__, #cond);               \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
        }                                                                                          \
    } while (0)

#define CHECK_OK(expr)                                                                             \
    do {                                                                                           \
        vd_status check_status_ = (expr);                                                          \
        CHECK_MSG(check_status_ == VD_OK, "%s", vd_error_message());                               \
    } while (0)

/* The call fails with this status and its message holds the text. */
#define CHECK_FAILS(expr, code, text)                                                              \
    do {                                                                                           \
        vd_status check_status_ = (expr);                                                          \
        CHECK_MSG(check_status_ == (code), "status %d", (int)check_status_);                       \
        CHECK_MSG(strstr(vd_error_message(), (text)) != NULL, "\"%s\" lacks \"%s\"",               \
                  vd_error_message(), (text));                                                     \
    } while (0)

/* A run that checked nothing has failed. */
#define CHECK_DONE()                                                                               \
    (printf("%d checks, %d failed\n", check_count, check_failures),                                \
     check_count == 0 || check_failures != 0)

#endif

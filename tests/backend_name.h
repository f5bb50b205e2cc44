/* Which backend a test runs on. */
#ifndef VD_TESTS_BACKEND_NAME_H
#define VD_TESTS_BACKEND_NAME_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"

enum { CHECK_SKIPPED = 77 };

/* VD_TEST_BACKEND, "cpu" by default. Ends the program as skipped, with the reason, if that is
 * another than the CPU and cannot be opened here. */
static inline const char *check_backend(void) {
    const char *name = getenv("VD_TEST_BACKEND");
    vd_backend *be = NULL;
    if (name == NULL || strcmp(name, "cpu") == 0)
        return "cpu";
    if (vd_backend_open(name, 0, &be) != VD_OK) {
        printf("skipped: %s\n", vd_error_message());
        exit(CHECK_SKIPPED);
    }
    vd_backend_close(be);
    return name;
}

#endif

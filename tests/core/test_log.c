#include "core/log.h"
#include "tests/check.h"

static char seen[4096];
static vd_log_level seen_level;

static void keep(void *user, vd_log_level level, const char *message) {
    ++*(int *)user;
    seen_level = level;
    snprintf(seen, sizeof seen, "%s", message);
}

int main(void) {
    int calls = 0;
    vd_log(VD_LOG_WARNING, "dropped %d", 1);
    vd_log_set(keep, &calls);
    vd_log(VD_LOG_WARNING, "clip %d:\n%s", 2, "\x1B");
    CHECK(calls == 1);
    CHECK(seen_level == VD_LOG_WARNING);
    CHECK(strcmp(seen, "clip 2:\\n\\x1B") == 0);
    vd_log(VD_LOG_DEBUG, "%5000d", 1);
    CHECK(calls == 2);
    CHECK(seen_level == VD_LOG_DEBUG);
    CHECK(strcmp(seen + strlen(seen) - 3, "...") == 0);
    vd_log_set(NULL, NULL);
    vd_log(VD_LOG_INFO, "dropped");
    CHECK(calls == 2);
    return CHECK_DONE();
}

#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/text.h"

static vd_log_fn sink;
static void *sink_user;

void vd_log_set(vd_log_fn fn, void *user) {
    sink = fn;
    sink_user = user;
}

void vd_log(vd_log_level level, const char *format, ...) {
    if (sink == NULL)
        return;
    char raw[2052] = "";
    char line[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    sink(sink_user, level, vd_escape_line(line, sizeof line, raw));
}

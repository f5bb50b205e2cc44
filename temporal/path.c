#include "temporal/path.h"

#include <stdarg.h>
#include <stdio.h>

vd_path vd_path_join(const char *prefix, const char *format, ...) {
    vd_path path;
    int used = snprintf(path.text, sizeof path.text, "%s%s", prefix, prefix[0] == '\0' ? "" : ".");
    if (used < 0)
        used = 0;
    if (used < VD_PATH_BYTES) {
        va_list args;
        va_start(args, format);
        vsnprintf(path.text + used, sizeof path.text - (size_t)used, format, args);
        va_end(args);
    }
    return path;
}

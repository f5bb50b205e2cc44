#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/text.h"

enum { MESSAGE_BYTES = 4096 };

static _Thread_local char last_message[MESSAGE_BYTES];

vd_status vd_fail(vd_status code, const char *format, ...) {
    /* Formatted apart first: an argument may be vd_error_message() itself. */
    char raw[MESSAGE_BYTES + 4] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    vd_escape_line(last_message, sizeof last_message, raw);
    return code;
}

vd_status vd_fail_in(vd_status code, const char *format, ...) {
    char context[MESSAGE_BYTES] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    if (last_message[0] == '\0')
        return vd_fail(code, "%s", context);
    return vd_fail(code, "%s: %s", context, last_message);
}

const char *vd_error_message(void) {
    return last_message;
}

int vd_exit_code(vd_status status) {
    switch (status) {
    case VD_OK:
        return 0;
    case VD_ERR_USAGE:
        return 2;
    case VD_ERR_INPUT:
        return 3;
    case VD_ERR_MEMORY:
        return 4;
    case VD_ERR_BACKEND:
        return 5;
    case VD_ERR_OUTPUT:
        return 6;
    case VD_ERR_INTERRUPTED:
        return 130;
    }
    return 5;
}

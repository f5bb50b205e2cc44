#include "encode/av.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <libavutil/error.h>
#include <libavutil/log.h>

#include "core/log.h"

static pthread_once_t av_once = PTHREAD_ONCE_INIT;
static _Thread_local char av_last_error[256];
static _Thread_local char av_code_text[AV_ERROR_MAX_STRING_SIZE];

/* libav hands over pieces of lines; each piece that is not blank becomes one note. */
static void av_log_to_vd(void *context, int level, const char *format, va_list arguments) {
    char line[256];
    int prefix = 0;
    if (level > AV_LOG_INFO)
        return;
    av_log_format_line2(context, level, format, arguments, line, (int)sizeof line, &prefix);
    line[strcspn(line, "\r\n")] = '\0';
    if (line[strspn(line, " \t")] == '\0')
        return;
    vd_log(VD_LOG_DEBUG, "%s", line);
    if (level <= AV_LOG_ERROR)
        memcpy(av_last_error, line, sizeof line);
}

static void av_install(void) {
    av_log_set_callback(av_log_to_vd);
}

void vd_av_init(void) {
    (void)pthread_once(&av_once, av_install);
}

void vd_av_forget(void) {
    av_last_error[0] = '\0';
}

static const char *code_text(int error) {
    if (av_strerror(error, av_code_text, sizeof av_code_text) < 0)
        (void)snprintf(av_code_text, sizeof av_code_text, "libav error %d", error);
    return av_code_text;
}

const char *vd_av_reason(int error) {
    return av_last_error[0] != '\0' ? av_last_error : code_text(error);
}

vd_status vd_av_fail(vd_status code, int error, const char *path, const char *what) {
    if (error == AVERROR(ENOMEM))
        code = VD_ERR_MEMORY;
    return vd_fail(code, "%s: %s: %s", path, what, code_text(error));
}

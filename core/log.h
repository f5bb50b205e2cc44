/* Warnings and notes leave the library through one callback; the library never prints. */
#ifndef VD_CORE_LOG_H
#define VD_CORE_LOG_H

typedef enum vd_log_level { VD_LOG_WARNING, VD_LOG_INFO, VD_LOG_DEBUG } vd_log_level;

/* `message` is one line without a newline and is borrowed for the call. */
typedef void (*vd_log_fn)(void *user, vd_log_level level, const char *message);

/* Installs the process-wide sink; NULL (the default) drops everything. Not thread-safe: call it
 * before any other function. */
void vd_log_set(vd_log_fn fn, void *user);

void vd_log(vd_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

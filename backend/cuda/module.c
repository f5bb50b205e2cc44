/* The shared object's door, and what core/ and backend/ offer there: the program's own, through
 * vd_module_host, so that a message goes where the program reads it. */
#include "backend/module.h"

#include <stdarg.h>
#include <stdio.h>

#include "backend/cuda/cuda.h"

enum { LINE_BYTES = 1024 };

static const vd_module_host *host;

vd_status vd_fail(vd_status code, const char *format, ...) {
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return host->fail(code, line);
}

vd_status vd_fail_in(vd_status code, const char *format, ...) {
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return host->fail_in(code, line);
}

void vd_log(vd_log_level level, const char *format, ...) {
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    host->log(level, line);
}

vd_status vd_exec_scratch(vd_exec *x, size_t bytes, void **out) {
    return host->scratch(x, bytes, out);
}

void vd_exec_scratch_free(vd_exec *x, void *ptr) {
    host->scratch_free(x, ptr);
}

static void start(const vd_module_host *h) {
    host = h;
}

static bool has_device(void) {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

extern const vd_module vd_backend_module;
VD_API const vd_module vd_backend_module = {.layout = VD_MODULE_LAYOUT,
                                            .table = &vd_cuda_backend,
                                            .start = start,
                                            .has_device = has_device};

#include "backend/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static vd_status host_fail(vd_status code, const char *line) {
    return vd_fail(code, "%s", line);
}

static vd_status host_fail_in(vd_status code, const char *context) {
    return vd_fail_in(code, "%s", context);
}

static void host_log(vd_log_level level, const char *line) {
    vd_log(level, "%s", line);
}

static const vd_module_host host = {
    .fail = host_fail,
    .fail_in = host_fail_in,
    .log = host_log,
    .scratch = vd_exec_scratch,
    .scratch_free = vd_exec_scratch_free,
};

/* The folder of the program or library that this function is in; "" if that cannot be told. */
static void own_folder(char *folder, size_t bytes) {
    Dl_info info;
    char path[PATH_MAX] = "";
    void *self = NULL;
    vd_status (*function)(const char *, const vd_module **, bool *) = vd_module_load;
    memcpy(&self, &function, sizeof self);
    folder[0] = '\0';
    if (dladdr(self, &info) == 0 || info.dli_fname == NULL)
        return;
    /* A program's own name is as it was called. */
    const char *file = strchr(info.dli_fname, '/') != NULL ? info.dli_fname : "/proc/self/exe";
    if (realpath(file, path) == NULL)
        return;
    *strrchr(path, '/') = '\0';
    snprintf(folder, bytes, "%s", path);
}

static bool find(const char *name, char *path, size_t bytes) {
    char folder[PATH_MAX];
    const char *wish = getenv("VIDILATE_MODULE_DIR");
    if (wish != NULL) {
        snprintf(path, bytes, "%s/libvidilate_%s.so", wish, name);
        return access(path, R_OK) == 0;
    }
    own_folder(folder, sizeof folder);
    static const char *const beside[] = {"", "/../lib/vidilate", "/vidilate"};
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        snprintf(path, bytes, "%s%s/libvidilate_%s.so", folder, beside[i], name);
        if (access(path, R_OK) == 0)
            return true;
    }
    return false;
}

vd_status vd_module_load(const char *name, const vd_module **out, bool *found) {
    char path[2 * PATH_MAX];
    *out = NULL;
    *found = find(name, path, sizeof path);
    if (!*found)
        return vd_fail(VD_ERR_BACKEND,
                       "there is no %s backend here (no libvidilate_%s.so beside the program): "
                       "build with the CUDA toolkit, or use --backend cpu",
                       name, name);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL)
        return vd_fail(VD_ERR_BACKEND,
                       "the %s backend cannot be loaded: %s; install CUDA's "
                       "libraries, or use --backend cpu",
                       name, dlerror());
    const vd_module *module = dlsym(object, "vd_backend_module");
    if (module == NULL || module->layout != VD_MODULE_LAYOUT) {
        dlclose(object);
        return vd_fail(VD_ERR_BACKEND, "%s belongs to another build of vidilate: build it again",
                       path);
    }
    module->start(&host);
    *out = module;
    return VD_OK;
}

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/text.h"

/* NAME beside a build folder, or where an installation puts it; malloc'ed. */
static vd_status find_shipped(const char *name, const char *what, const char *option, char **out) {
    static const char *const place[] = {"..", "../share/vidilate"};
    char exe[PATH_MAX];
    *out = NULL;
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length <= 0)
        return vd_fail(VD_ERR_INPUT, "cannot find the program's own folder: give %s DIR", option);
    exe[length] = '\0';
    *strrchr(exe, '/') = '\0';
    for (size_t i = 0; i < sizeof place / sizeof place[0]; i++) {
        char *path = vd_format("%s/%s/%s", exe, place[i], name);
        if (!path)
            return vd_fail(VD_ERR_MEMORY, "no memory for a path");
        if (access(path, R_OK) == 0) {
            *out = path;
            return VD_OK;
        }
        free(path);
    }
    return vd_fail(VD_ERR_INPUT, "%s that ships is not beside %s (%s): give %s DIR", what, exe,
                   name, option);
}

vd_status cli_shipped_model(char **out) {
    return find_shipped("models/shapes", "the model", "--model", out);
}

vd_status cli_shipped_configs(char **out) {
    return find_shipped("configs", "the folder of settings", "--configs", out);
}

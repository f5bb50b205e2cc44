#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/text.h"

vd_status cli_shipped_model(char **out) {
    /* Beside a build folder, and where an installation puts it. */
    static const char *const relative[] = {"../models/shapes", "../share/vidilate/models/shapes"};
    char exe[PATH_MAX];
    *out = NULL;
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length <= 0)
        return vd_fail(VD_ERR_INPUT, "cannot find the program's own folder: give --model DIR");
    exe[length] = '\0';
    *strrchr(exe, '/') = '\0';
    for (size_t i = 0; i < sizeof relative / sizeof relative[0]; i++) {
        char *path = vd_format("%s/%s", exe, relative[i]);
        if (!path)
            return vd_fail(VD_ERR_MEMORY, "no memory for a path");
        if (access(path, R_OK) == 0) {
            *out = path;
            return VD_OK;
        }
        free(path);
    }
    return vd_fail(VD_ERR_INPUT,
                   "the model that ships is not beside %s (models/shapes): give --model DIR", exe);
}

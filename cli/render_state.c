/* The state that a render keeps beside its output, and what killed ones leave. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/render.h"
#include "core/text.h"
#include "encode/sink.h"

vd_status cli_render_state_path(const char *output, char **out) {
    char *file = NULL;
    *out = NULL;
    /* A path of no known form is for the checks of the output to tell. */
    if (!output || vd_sink_file(output, 1, &file) != VD_OK || !file)
        return VD_OK;
    const char *slash = strrchr(file, '/');
    int folder = slash ? (int)(slash + 1 - file) : 0;
    *out = vd_format("%.*s.%s.state", folder, file, file + folder);
    free(file);
    return *out ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for a path");
}

void cli_render_drop_state(const cli_render_work *work) {
    if (work->state)
        (void)unlink(work->state);
}

/* Temporary files of the safetensors writer: PATH.tmp-PID. */
static void sweep_temps(const char *path, bool all) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *folder = slash ? vd_format("%.*s", (int)(slash + 1 - path), path) : vd_format(".");
    DIR *dir = folder ? opendir(folder) : NULL;
    for (const struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        int64_t pid = 0;
        size_t n = strlen(name);
        if (strncmp(e->d_name, name, n) != 0 || strncmp(e->d_name + n, ".tmp-", 5) != 0 ||
            !vd_parse_int(e->d_name + n + 5, &pid) || pid <= 0)
            continue;
        if (all || (kill((pid_t)pid, 0) != 0 && errno == ESRCH))
            (void)unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir)
        closedir(dir);
    free(folder);
}

void cli_render_sweep(const cli_render_work *work, bool all) {
    vd_sink_sweep(work->output.path, all);
    if (work->state)
        sweep_temps(work->state, all);
    if (work->saved_latents)
        sweep_temps(work->saved_latents, all);
}

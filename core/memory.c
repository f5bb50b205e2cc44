#include "core/memory.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

enum { SMALL_BYTES = 64 << 20, LINE_BYTES = 4400 };

/* ---- files of /proc and /sys ----------------------------------------------------------------- */

/* The number behind the line's first word `key`, or that of the first line with key ""; SIZE_MAX:
 * no such file, line or number ("max"). */
static size_t read_number(const char *path, const char *key) {
    char line[LINE_BYTES], text[32];
    size_t value = SIZE_MAX;
    const size_t length = strlen(key);
    FILE *file = path ? fopen(path, "re") : NULL;
    int64_t number = 0;
    while (file && value == SIZE_MAX && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) == 0 && sscanf(line + length, "%31s", text) == 1 &&
            vd_parse_int(text, &number) && number >= 0)
            value = (size_t)number;
        if (length == 0)
            break;
    }
    if (file)
        (void)fclose(file);
    return value;
}

static size_t read_in(const char *folder, const char *name, const char *key) {
    char *path = vd_format("%s/%s", folder, name);
    const size_t value = read_number(path, key);
    free(path);
    return value;
}

static size_t kib(size_t value) {
    return value == SIZE_MAX ? value : value * 1024;
}

/* ---- control groups -------------------------------------------------------------------------- */

typedef struct group_version {
    const char *folder; /* where its groups are mounted */
    const char *limit, *used, *reclaimable;
} group_version;

static const group_version VERSION_1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                        "memory.usage_in_bytes", "total_inactive_file "};
static const group_version VERSION_2 = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                        "inactive_file "};

/* What one group leaves. Pages of files that nobody uses count as used but are given up. */
static size_t group_leaves(const group_version *v, const char *folder) {
    const size_t limit = read_in(folder, v->limit, "");
    size_t used = read_in(folder, v->used, "");
    const size_t reclaimable = read_in(folder, "memory.stat", v->reclaimable);
    if (limit == SIZE_MAX || used == SIZE_MAX)
        return SIZE_MAX;
    if (reclaimable != SIZE_MAX)
        used -= reclaimable < used ? reclaimable : used;
    return limit > used ? limit - used : 0;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The least of a group and all around it. A container may not see its own path, only the root. */
static size_t groups_leave(const group_version *v, const char *root, char *path) {
    size_t result = SIZE_MAX;
    for (;;) {
        char *folder = vd_format("%s%s%s", root, v->folder, path);
        if (folder)
            result = least(result, group_leaves(v, folder));
        free(folder);
        char *slash = strrchr(path, '/');
        if (!slash)
            return result;
        *slash = '\0';
    }
}

static bool has_memory(const char *controllers) {
    const size_t n = strlen("memory");
    for (const char *at = controllers; (at = strstr(at, "memory")) != NULL; at += n)
        if ((at == controllers || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
            return true;
    return false;
}

/* Lines of /proc/self/cgroup are NUMBER:CONTROLLERS:PATH, of version 2 without controllers. */
static size_t all_groups_leave(const char *root) {
    char line[LINE_BYTES];
    size_t result = SIZE_MAX;
    char *name = vd_format("%s/proc/self/cgroup", root);
    FILE *file = name ? fopen(name, "re") : NULL;
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        controllers++;
        if (*controllers == '\0')
            result = least(result, groups_leave(&VERSION_2, root, path));
        else if (has_memory(controllers))
            result = least(result, groups_leave(&VERSION_1, root, path));
    }
    if (file)
        (void)fclose(file);
    free(name);
    return result;
}

size_t vd_memory_available_in(const char *root) {
    char *meminfo = vd_format("%s/proc/meminfo", root);
    const size_t machine = kib(read_number(meminfo, "MemAvailable:"));
    free(meminfo);
    return least(machine, all_groups_leave(root));
}

size_t vd_memory_available(void) {
    return vd_memory_available_in("");
}

vd_status vd_memory_check(size_t bytes, const char *what) {
    if (bytes < SMALL_BYTES)
        return VD_OK;
    const size_t available = vd_memory_available();
    if (bytes <= available)
        return VD_OK;
    return vd_fail(VD_ERR_MEMORY,
                   "%s would take %.1f GB of memory and %.1f GB are free: try a smaller size or "
                   "fewer frames",
                   what, (double)bytes / 1e9, (double)available / 1e9);
}

/* ---- this process ---------------------------------------------------------------------------- */

static size_t of_process(const char *key) {
    const size_t bytes = kib(read_number("/proc/self/status", key));
    return bytes == SIZE_MAX ? 0 : bytes;
}

size_t vd_memory_resident(void) {
    return of_process("VmRSS:");
}

size_t vd_memory_peak(void) {
    return of_process("VmHWM:");
}

void vd_memory_trim(void) {
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

#include "core/memory.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { SMALL_BYTES = 64 << 20 };

/* The first number of a file, or SIZE_MAX ("max", no such file). */
static size_t read_number(const char *path) {
    unsigned long long value = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return SIZE_MAX;
    const int found = fscanf(file, "%llu", &value); // NOLINT(cert-err34-c): "max" must not parse
    (void)fclose(file);
    return found == 1 ? (size_t)value : SIZE_MAX;
}

static size_t machine_available(void) {
    char line[128];
    size_t kib = SIZE_MAX;
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file)
        return SIZE_MAX;
    while (kib == SIZE_MAX && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %zu kB", &kib) != 1) // NOLINT(cert-err34-c): kernel's text
            kib = SIZE_MAX;
    (void)fclose(file);
    return kib == SIZE_MAX ? SIZE_MAX : kib * 1024;
}

size_t vd_memory_available(void) {
    const size_t machine = machine_available();
    const size_t limit = read_number("/sys/fs/cgroup/memory.max");
    const size_t used = read_number("/sys/fs/cgroup/memory.current");
    if (limit == SIZE_MAX || used == SIZE_MAX)
        return machine;
    const size_t group = limit > used ? limit - used : 0;
    return group < machine ? group : machine;
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

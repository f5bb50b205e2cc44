#include "encode/part_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/text.h"

/* With dot, ".part-PID-N" and extension it stays under the 255 bytes of a file name. */
#define NAME_BYTES_MAX 200

static atomic_uint part_counter;

static char *temp_name(const char *target) {
    const char *slash = strrchr(target, '/');
    const char *name = slash != NULL ? slash + 1 : target;
    const char *dot = strrchr(name, '.');
    if (dot == NULL)
        dot = name + strlen(name);
    size_t stem = (size_t)(dot - name);
    if (stem > NAME_BYTES_MAX)
        stem = NAME_BYTES_MAX;
    return vd_format("%.*s.%.*s.part-%ld-%u%s", (int)(name - target), target, (int)stem, name,
                     (long)getpid(), atomic_fetch_add(&part_counter, 1), dot);
}

vd_status vd_part_file_create(vd_part_file *part, const char *target) {
    struct stat info;
    *part = (vd_part_file){0};
    part->target = strdup(target);
    part->temp = temp_name(target);
    if (part->target == NULL || part->temp == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory for a file name", target);
    if (stat(target, &info) == 0 && S_ISDIR(info.st_mode))
        return vd_fail(VD_ERR_OUTPUT, "%s: is a folder; name a file", target);
    /* One left by a killed process that had our id. */
    (void)unlink(part->temp);
    int fd = open(part->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return vd_fail(VD_ERR_OUTPUT, "%s: cannot write beside it: %s", target, strerror(errno));
    part->exists = true;
    if (close(fd) != 0)
        return vd_fail(VD_ERR_OUTPUT, "%s: cannot write beside it: %s", target, strerror(errno));
    return VD_OK;
}

vd_status vd_part_file_commit(vd_part_file *part) {
    int fd = open(part->temp, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return vd_fail(VD_ERR_OUTPUT, "%s: %s", part->temp, strerror(errno));
    int failed = fsync(fd);
    int error = errno;
    (void)close(fd);
    if (failed)
        return vd_fail(VD_ERR_OUTPUT, "%s: %s", part->temp, strerror(error));
    if (rename(part->temp, part->target) != 0)
        return vd_fail(VD_ERR_OUTPUT, "%s: cannot rename to it: %s", part->target, strerror(errno));
    part->exists = false;
    return VD_OK;
}

void vd_part_file_discard(vd_part_file *part) {
    if (part->exists)
        (void)unlink(part->temp);
    free(part->temp);
    free(part->target);
    *part = (vd_part_file){0};
}

/* Of ".NAME.part-PID-N.EXT": NAME.EXT in `name`, and the process. */
static bool parse_temp(const char *entry, char name[256], long *pid) {
    const char *mark = NULL, *next = entry;
    int end = 0;
    unsigned number = 0;
    while ((next = strstr(next, ".part-")) != NULL)
        mark = next++;
    if (entry[0] != '.' || mark == NULL || strlen(entry) > 255 ||
        sscanf(mark, ".part-%ld-%u%n", pid, &number, &end) != 2)
        return false;
    snprintf(name, 256, "%.*s%s", (int)(mark - entry - 1), entry + 1, mark + end);
    return true;
}

void vd_part_file_sweep(const char *target, bool (*is_target)(const char *target, const char *name),
                        bool all) {
    const char *slash = strrchr(target, '/');
    char *folder =
        slash != NULL ? vd_format("%.*s", (int)(slash + 1 - target), target) : vd_format(".");
    DIR *dir = folder != NULL ? opendir(folder) : NULL;
    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        char name[256];
        long pid = 0;
        if (!parse_temp(e->d_name, name, &pid))
            continue;
        bool ours = is_target != NULL ? is_target(target, name)
                                      : strcmp(name, slash != NULL ? slash + 1 : target) == 0;
        bool gone = pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
        if (ours && (all || gone))
            (void)unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir != NULL)
        closedir(dir);
    free(folder);
}

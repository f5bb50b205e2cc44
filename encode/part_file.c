#include "encode/part_file.h"

#include <errno.h>
#include <fcntl.h>
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

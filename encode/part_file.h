/* A file written under a temporary name beside its target; for encode/ only. */
#ifndef VD_ENCODE_PART_FILE_H
#define VD_ENCODE_PART_FILE_H

#include <stdbool.h>

#include "core/status.h"

typedef struct vd_part_file {
    char *target;
    char *temp;  /* .NAME.part-PID-N.EXT in the target's folder */
    bool exists; /* the temporary file is there and is ours to remove */
} vd_part_file;

/* Makes the temporary file, empty. VD_ERR_OUTPUT names the path and the reason. `*part` is to be
 * removed with vd_part_file_discard whatever comes out. */
vd_status vd_part_file_create(vd_part_file *part, const char *target);

/* Brings it to the disk and renames it to the target. */
vd_status vd_part_file_commit(vd_part_file *part);

/* Removes the temporary file, if it is there, and frees. A zeroed one is legal. */
void vd_part_file_discard(vd_part_file *part);

/* Removes temporary files in the target's folder that a killed process left: those of the target,
 * or, with is_target, of all names that it says yes to. Only of processes of this machine that are
 * no more, or with `all`, of any. */
void vd_part_file_sweep(const char *target, bool (*is_target)(const char *target, const char *name),
                        bool all);

#endif

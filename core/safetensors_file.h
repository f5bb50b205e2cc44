/* One mapped safetensors file: its header checked, its tensors listed. Private to
 * core/safetensors*.c. */
#ifndef VD_CORE_SAFETENSORS_FILE_H
#define VD_CORE_SAFETENSORS_FILE_H

#include <stddef.h>

#include "core/safetensors.h"
#include "core/status.h"
#include "core/tensor.h"

typedef enum vd_entry_state { VD_ENTRY_UNUSED, VD_ENTRY_TAKEN, VD_ENTRY_IGNORED } vd_entry_state;

typedef struct vd_entry {
    char *name;
    vd_tensor tensor;
    vd_entry_state state;
    size_t file; /* which of the checkpoint's files holds it */
} vd_entry;

typedef struct vd_mapped_file {
    char *path;
    void *map;
    size_t bytes;
    vd_entry *entries; /* in the order of the data */
    size_t count;
} vd_mapped_file;

/* Maps the file read-only and checks everything but the values. VD_ERR_INPUT. On failure *out is
 * empty. */
vd_status vd_mapped_file_open(const char *path, vd_mapped_file *out);

void vd_mapped_file_close(vd_mapped_file *file);

/* Lets go of the pages that were read, so that they do not count as this process' memory; they come
 * back when they are read again. */
void vd_mapped_file_drop(const vd_mapped_file *file);

/* One checkpoint of several files (at least one). */
vd_status vd_checkpoint_open_files(const char *const *paths, size_t count, vd_checkpoint **out);

/* The path of the file that holds a tensor; NULL if none does. */
const char *vd_checkpoint_file_of(const vd_checkpoint *ck, const char *name);

#endif

/* Plans kept on disk, so that they are timed and compiled once: one file for each device, version
 * of cuDNN and shape, in $XDG_CACHE_HOME/vidilate or ~/.cache/vidilate. */
#ifndef VD_BACKEND_CUDA_CACHE_H
#define VD_BACKEND_CUDA_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

typedef struct vd_cuda_cache vd_cuda_cache;

vd_status vd_cuda_cache_create(const char *device, int capability, size_t version,
                               vd_cuda_cache **out);
void vd_cuda_cache_destroy(vd_cuda_cache *cache);

/* False if nothing can be kept: then a choice must not depend on times, because the next run would
 * choose anew and give other bits. */
bool vd_cuda_cache_is_writable(const vd_cuda_cache *cache);

/* The bytes kept under `name` (any text), to be freed; NULL if there are none. */
char *vd_cuda_cache_read(const vd_cuda_cache *cache, const char *name, size_t *bytes);

/* False if it could not be kept. The file appears whole or not at all. */
bool vd_cuda_cache_write(const vd_cuda_cache *cache, const char *name, const char *data,
                         size_t bytes);

#endif

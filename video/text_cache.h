/* Text states of the last prompts of a model that is kept loaded: the jobs of a batch often differ
 * in their seeds only. */
#ifndef VD_VIDEO_TEXT_CACHE_H
#define VD_VIDEO_TEXT_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VD_TEXT_CACHE_ENTRIES = 32 };

typedef struct vd_text_cache {
    struct {
        int32_t *ids; /* [id_count], of all branches; NULL: empty */
        float *states;
        size_t id_count, state_count;
    } entry[VD_TEXT_CACHE_ENTRIES];
    size_t next; /* to be replaced */
} vd_text_cache;

/* Copies the states of these ids, [state_count], to dst; false if they are not there. */
bool vd_text_cache_get(const vd_text_cache *cache, const int32_t *ids, size_t id_count, float *dst,
                       size_t state_count);

/* Keeps them instead of the oldest; without memory it keeps nothing. */
void vd_text_cache_put(vd_text_cache *cache, const int32_t *ids, size_t id_count,
                       const float *states, size_t state_count);
void vd_text_cache_clear(vd_text_cache *cache);

#endif

#include "video/text_cache.h"

#include <stdlib.h>
#include <string.h>

bool vd_text_cache_get(const vd_text_cache *cache, const int32_t *ids, size_t id_count, float *dst,
                       size_t state_count) {
    for (size_t i = 0; i < VD_TEXT_CACHE_ENTRIES; i++) {
        if (!cache->entry[i].ids || cache->entry[i].id_count != id_count ||
            cache->entry[i].state_count != state_count ||
            memcmp(cache->entry[i].ids, ids, id_count * sizeof *ids) != 0)
            continue;
        memcpy(dst, cache->entry[i].states, state_count * sizeof *dst);
        return true;
    }
    return false;
}

void vd_text_cache_put(vd_text_cache *cache, const int32_t *ids, size_t id_count,
                       const float *states, size_t state_count) {
    int32_t *kept_ids = malloc(id_count * sizeof *ids);
    float *kept_states = malloc(state_count * sizeof *states);
    size_t slot = cache->next;
    if (!kept_ids || !kept_states) {
        free(kept_ids);
        free(kept_states);
        return;
    }
    memcpy(kept_ids, ids, id_count * sizeof *ids);
    memcpy(kept_states, states, state_count * sizeof *states);
    free(cache->entry[slot].ids);
    free(cache->entry[slot].states);
    cache->entry[slot].ids = kept_ids;
    cache->entry[slot].states = kept_states;
    cache->entry[slot].id_count = id_count;
    cache->entry[slot].state_count = state_count;
    cache->next = (slot + 1) % VD_TEXT_CACHE_ENTRIES;
}

void vd_text_cache_clear(vd_text_cache *cache) {
    for (size_t i = 0; i < VD_TEXT_CACHE_ENTRIES; i++) {
        free(cache->entry[i].ids);
        free(cache->entry[i].states);
    }
    memset(cache, 0, sizeof *cache);
}

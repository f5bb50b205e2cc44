#include "core/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct block {
    size_t begin;
    size_t end;
} block;

/* Only the live blocks are kept, sorted by offset; the gaps between them are the free memory, so
 * neighbours that are freed coalesce by themselves. The table grows when more blocks are live than
 * ever before, which a dry run has already made happen. */
struct vd_arena {
    block *live;
    size_t live_count;
    size_t live_room;
    char *base;
    size_t bytes;
    size_t peak_bytes;
};

enum { FIRST_ROOM = 256 };

/* Not NULL, so that the pointers of a dry run are not either; no memory is there. */
/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
static char *const dry_base = (char *)VD_ARENA_ALIGN_BYTES;

vd_status vd_arena_create(vd_arena **out) {
    *out = NULL;
    vd_arena *arena = calloc(1, sizeof *arena);
    block *live = malloc(FIRST_ROOM * sizeof *live);
    if (arena == NULL || live == NULL) {
        free(arena);
        free(live);
        return vd_fail(VD_ERR_MEMORY, "no memory for the table of an arena");
    }
    arena->live = live;
    arena->live_room = FIRST_ROOM;
    vd_arena_reset(arena, NULL, 0);
    *out = arena;
    return VD_OK;
}

void vd_arena_destroy(vd_arena *arena) {
    if (arena == NULL)
        return;
    free(arena->live);
    free(arena);
}

void vd_arena_reset(vd_arena *arena, void *base, size_t bytes) {
    assert((uintptr_t)base % VD_ARENA_ALIGN_BYTES == 0);
    arena->base = base == NULL ? dry_base : base;
    arena->bytes = base == NULL ? (size_t)PTRDIFF_MAX : bytes;
    arena->live_count = 0;
    arena->peak_bytes = 0;
}

static bool make_room(vd_arena *arena) {
    if (arena->live_count < arena->live_room)
        return true;
    block *live = realloc(arena->live, 2 * arena->live_room * sizeof *live);
    if (live == NULL)
        return false;
    arena->live = live;
    arena->live_room *= 2;
    return true;
}

void *vd_arena_alloc(vd_arena *arena, size_t bytes) {
    if (bytes == 0)
        bytes = 1;
    if (bytes > arena->bytes || !make_room(arena))
        return NULL;
    const size_t align = VD_ARENA_ALIGN_BYTES;
    const size_t need = (bytes + align - 1) / align * align;

    size_t at = 0;
    size_t index = 0;
    while (index < arena->live_count && arena->live[index].begin - at < need) {
        at = arena->live[index].end;
        index++;
    }
    if (at > arena->bytes || need > arena->bytes - at)
        return NULL;

    memmove(arena->live + index + 1, arena->live + index,
            (arena->live_count - index) * sizeof *arena->live);
    arena->live[index] = (block){at, at + need};
    arena->live_count++;
    if (at + need > arena->peak_bytes)
        arena->peak_bytes = at + need;
    return arena->base + at;
}

void vd_arena_free(vd_arena *arena, void *ptr) {
    if (ptr == NULL)
        return;
    const size_t begin = (uintptr_t)ptr - (uintptr_t)arena->base;
    size_t low = 0;
    size_t high = arena->live_count;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (arena->live[mid].begin < begin)
            low = mid + 1;
        else
            high = mid;
    }
    const bool is_live = low < arena->live_count && arena->live[low].begin == begin;
    assert(is_live);
    if (!is_live)
        return;
    memmove(arena->live + low, arena->live + low + 1,
            (arena->live_count - low - 1) * sizeof *arena->live);
    arena->live_count--;
}

size_t vd_arena_peak_bytes(const vd_arena *arena) {
    return arena->peak_bytes;
}

size_t vd_arena_live(const vd_arena *arena) {
    return arena->live_count;
}

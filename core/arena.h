/* A deterministic first-fit allocator over one block of device or host memory.
 *
 * A forward pass is run once dry: it allocates and frees in an arena without memory, which records
 * the high-water mark. Then one block of that size is taken and the same sequence of calls gives
 * the same offsets. So nothing is allocated inside the denoising loop, and peak memory is known
 * before it starts.
 */
#ifndef VD_CORE_ARENA_H
#define VD_CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

enum { VD_ARENA_ALIGN_BYTES = 64 };

typedef struct vd_arena vd_arena;

/* Creates an arena without memory ("dry"): unlimited, its pointers must not be dereferenced. */
vd_status vd_arena_create(vd_arena **out);
void vd_arena_destroy(vd_arena *arena);

/* Frees all allocations, forgets the peak, and makes the arena dry (base NULL) or places it on
 * [base, base + bytes); base is aligned to VD_ARENA_ALIGN_BYTES. The arena does not own base. */
void vd_arena_reset(vd_arena *arena, void *base, size_t bytes);

/* NULL if it does not fit. A size of 0 is served as 1. The lowest free address that fits. */
void *vd_arena_alloc(vd_arena *arena, size_t bytes);

/* `ptr` must be NULL or live. Any order. */
void vd_arena_free(vd_arena *arena, void *ptr);

/* Highest end offset in use since the last reset. */
size_t vd_arena_peak_bytes(const vd_arena *arena);

/* Live allocations; 0 after a balanced forward. */
size_t vd_arena_live(const vd_arena *arena);

#endif

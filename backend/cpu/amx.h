/* Sums of bf16 products in AMX tiles: 16 rows of 32 values of A by 32 of 16 columns of B give 16 x
 * 16 float32 sums. Compiled where the compiler knows AMX, used where the machine has it.
 *
 * A sum runs over K in one order whatever the cut in rows and columns: how work is divided does not
 * change a bit.
 */
#ifndef VD_BACKEND_CPU_AMX_H
#define VD_BACKEND_CPU_AMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VD_AMX_ROWS = 16,                         /* of a tile of A */
    VD_AMX_DEPTH = 32,                        /* values of K in a tile */
    VD_AMX_COLUMNS = 32,                      /* of a block of B: two tiles side by side */
    VD_AMX_TILE_BYTES = 1024,                 /* of a tile of A or B */
    VD_AMX_STEP_BYTES = 2 * VD_AMX_TILE_BYTES /* of a block of B for one tile of K */
};

/* Asks the kernel for the right to use tiles; false if they are not compiled in or not granted. */
bool vd_amx_request(void);

/* Around the sums of a task: a thread's tiles are set up, and let go. */
void vd_amx_begin(void);
void vd_amx_end(void);

/* Where A lies: tile i at a + tile[i], its rows `row` bytes apart, and along K the next tile `step`
 * bytes behind. */
typedef struct vd_amx_rows {
    const unsigned char *a;
    const ptrdiff_t *tile;
    int64_t tiles;
    ptrdiff_t row, step;
} vd_amx_rows;

/* `depth` tiles along K: of A at an offset from every tile, of B at an offset from the block. */
typedef struct vd_amx_span {
    ptrdiff_t a, b;
    int64_t depth;
} vd_amx_span;

/* c[tiles * 16, 32] = or (add) += the sums over all spans. c is dense, 64-byte aligned. */
void vd_amx_block(float *c, const vd_amx_rows *a, const unsigned char *b, const vd_amx_span *span,
                  int64_t spans, bool add);

/* Sums of a tile of A by a block of B, c[16, 32]; it is valid until the call returns. */
typedef void vd_amx_ready(void *user, int64_t tile, const float *c);

/* The same for K of two tiles, where B stays in tiles: A is [tiles, 2] tiles, dense, and `ready` is
 * called for one after the other. c is room for two sums: those of the next tile are under way
 * while `ready` works. */
void vd_amx_two(float *c, const unsigned char *a, int64_t tiles, const unsigned char *b,
                vd_amx_ready *ready, void *user);

#endif

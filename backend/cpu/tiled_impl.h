/* What tiled.c and tiled_copy.c share. */
#ifndef VD_BACKEND_CPU_TILED_IMPL_H
#define VD_BACKEND_CPU_TILED_IMPL_H

#include "backend/cpu/amx.h"
#include "backend/cpu/tiled.h"

enum {
    POSITIONS = 256,         /* of a chunk */
    FEWEST_POSITIONS = 64,   /* where there are too few chunks for the threads */
    TASKS_A_THREAD = 4,      /* wanted at least */
    COPY_BYTES = 640 * 1024, /* of a chunk's copy of src: it shares the L2 cache with sums and B */
    SPAN = 12,               /* tiles of K whose block of B stays in the L1 cache */
    SPAN_ROOM = 256,         /* of a slab */
    TILE_ROOM = POSITIONS / VD_AMX_ROWS,
    SUMMED_BLOCKS = 20, /* kept at once when K takes several slabs */
    MIXED_BLOCKS = 40,  /* ... and the copies are dear */
    MIXED_DEPTH = 6,    /* of a slab of nine planes */
    BLOCK_PAIR = 2 * VD_AMX_COLUMNS,
    WINDOW_COLUMNS = 32, /* positions of a chunk in a line, if taps lie beside each other */
    ALIGN_BYTES = VD_ARENA_ALIGN_BYTES,
    LINE = 64,
};

/* The part of K that is in the copy at a time: tiles first .. first + depth - 1 of every tap, or
 * (gathered) of one tap. */
typedef struct slab {
    int64_t tap, first, depth;
} slab;

typedef struct tiled_job {
    const vd_cpu_tiled *p;
    const vd_cpu_kernels *kernels;
    vd_conv2d_desc conv;
    int64_t taps, depth;                     /* of K: tiles in a tap */
    enum { GATHERED, WINDOW, MIXED } layout; /* of a copy */
    int64_t src_dim[4], dst_dim[4];          /* rows are [1, 1, rows, channels] */

    /* Chunks: window: lines x columns of an image; gathered, mixed: positions of a run. */
    int64_t lines, columns, chunks_down, chunks_across;
    int64_t positions, chunks_per_run;
    int64_t copy_lines, copy_columns; /* window: pixels that are copied */
    int64_t tap_lines; /* ... and lines of the copy from one kernel row to the next */
    int64_t slabs_per_tap, slab_depth;
    int64_t chunks;

    int64_t units;          /* blocks of channels, or pairs of blocks (GEGLU) */
    int64_t units_per_task; /* ... */
    int64_t groups;         /* tasks of a chunk */
    int blocks_per_unit;
    size_t copy_bytes, sum_bytes, thread_bytes; /* sum_bytes: of one block */
    bool keeps_sums;                            /* of all blocks, from slab to slab */
    unsigned char *scratch;
} tiled_job;

/* A chunk in work. */
typedef struct chunk {
    int64_t run;
    int64_t first, count;                /* gathered, mixed */
    int64_t image, y, x, lines, columns; /* window */
    ptrdiff_t tile[TILE_ROOM];
    vd_amx_rows rows;
    vd_amx_span span[SPAN_ROOM];
    int64_t spans;
    unsigned char *copy;
    float *sums;
} chunk;

/* Bytes from a pixel of the copy to the next, where a pixel's channels lie together. */
static inline ptrdiff_t vd_tiled_pitch(int64_t depth) {
    return (ptrdiff_t)(depth | 1) * LINE; /* odd, so that pixels spread over the cache's sets */
}

/* Bytes from one of the nine planes of a mixed copy to the next. */
static inline ptrdiff_t vd_tiled_plane(const tiled_job *job, int64_t depth) {
    const int64_t rows = (job->positions + VD_AMX_ROWS - 1) / VD_AMX_ROWS * VD_AMX_ROWS;
    return rows * vd_tiled_pitch(depth) + LINE; /* not all in the same set of the cache */
}

/* Copies what the chunk's positions read of a slab. */
void vd_tiled_copy(const tiled_job *job, const chunk *c, const slab *s);

#endif

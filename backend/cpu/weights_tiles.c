/* Weights packed for AMX tiles, on all threads, straight from where they are stored. */
#include <stdlib.h>

#include "backend/cpu/amx.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/weights.h"

bool vd_cpu_wants_tiles(const vd_backend *be, const vd_weight *w) {
    const vd_cpu_device *cpu = be->device;
    return cpu->amx && w->dtype == VD_BF16 && w->in >= VD_AMX_DEPTH / 2;
}

typedef struct tile_pack {
    const vd_cpu_weight *w;
    const vd_cpu_kernels *kernels;
    size_t taps, depth; /* of K: tiles in a tap */
    size_t block_bytes;
    unsigned char *dst;
    unsigned char *scratch; /* two tiles for each tap, for each thread */
} tile_pack;

/* Rows of half a block: NULL past the last. */
typedef struct stored_rows {
    const unsigned char *row[VD_AMX_ROWS];
    vd_dtype dtype[VD_AMX_ROWS];
    bool alike; /* one dtype, which a kernel reads */
} stored_rows;

static stored_rows find_rows(const vd_cpu_weight *w, int64_t first) {
    stored_rows s = {.alike = true};
    for (int64_t r = 0; r < VD_AMX_ROWS && first + r < w->head.out; r++) {
        s.row[r] = vd_cpu_weight_row(w, first + r, &s.dtype[r]);
        s.alike = s.alike && s.dtype[r] == s.dtype[0] && s.dtype[r] != VD_F64;
    }
    return s;
}

static void pack_half(const tile_pack *job, int64_t first, unsigned char *dst,
                      unsigned char *scratch) {
    const stored_rows stored = find_rows(job->w, first);
    const size_t in = (size_t)job->w->head.in, tap_bytes = job->depth * VD_AMX_STEP_BYTES;
    const size_t row_bytes = VD_AMX_DEPTH * job->taps * sizeof(uint16_t);
    unsigned char *converted = scratch + job->taps * VD_AMX_TILE_BYTES;
    for (size_t at = 0; at < in; at += VD_AMX_DEPTH, dst += VD_AMX_STEP_BYTES) {
        const size_t channels = in - at < VD_AMX_DEPTH ? in - at : VD_AMX_DEPTH;
        const void *row[VD_AMX_ROWS] = {0};
        for (size_t r = 0; r < VD_AMX_ROWS && stored.row[r] != NULL; r++) {
            row[r] = stored.row[r] + at * job->taps * vd_dtype_bytes(stored.dtype[r]);
            if (stored.alike)
                continue;
            unsigned char *to = converted + r * row_bytes;
            vd_convert_values(to, VD_BF16, row[r], stored.dtype[r], channels * job->taps);
            row[r] = to;
        }
        job->kernels->pack_tiles(dst, tap_bytes, row, stored.alike ? stored.dtype[0] : VD_BF16,
                                 channels, job->taps, scratch);
    }
}

static int pack_block(void *user, int64_t task, int thread) {
    const tile_pack *job = user;
    unsigned char *scratch = job->scratch + (size_t)thread * 2 * job->taps * VD_AMX_TILE_BYTES;
    unsigned char *block = job->dst + (size_t)task * job->block_bytes;
    const int64_t first = task * VD_AMX_COLUMNS;
    pack_half(job, first, block, scratch);
    pack_half(job, first + VD_AMX_ROWS, block + VD_AMX_TILE_BYTES, scratch);
    return 0;
}

vd_status vd_cpu_pack_tiles(vd_backend *be, vd_cpu_weight *w) {
    if (w->tiles != NULL)
        return VD_OK;
    const vd_cpu_device *cpu = be->device;
    tile_pack job = {.w = w,
                     .kernels = cpu->kernels,
                     .taps = (size_t)w->head.kernel_h * (size_t)w->head.kernel_w,
                     .depth = (size_t)(w->head.in + VD_AMX_DEPTH - 1) / VD_AMX_DEPTH};
    job.block_bytes = job.taps * job.depth * VD_AMX_STEP_BYTES;
    const int64_t blocks = (w->head.out + VD_AMX_COLUMNS - 1) / VD_AMX_COLUMNS;
    w->tile_bytes = (size_t)blocks * job.block_bytes;
    job.scratch = vd_cpu_large_alloc((size_t)be->threads * 2 * job.taps * VD_AMX_TILE_BYTES);
    job.dst = vd_cpu_large_alloc(w->tile_bytes);
    if (job.scratch == NULL || job.dst == NULL) {
        free(job.scratch);
        free(job.dst);
        return vd_fail(VD_ERR_MEMORY, "no memory for a packed weight [%lld, %lld]",
                       (long long)w->head.out, (long long)w->k);
    }
    vd_cpu_parallel(cpu->pool, blocks, pack_block, &job);
    w->tiles = job.dst;
    be->weight_bytes += w->tile_bytes;
    free(job.scratch);
    return VD_OK;
}

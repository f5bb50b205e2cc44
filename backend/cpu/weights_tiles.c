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
    unsigned char *scratch; /* a tile for each tap, for each thread */
} tile_pack;

/* Half a block: 16 rows, NULL past the last. */
static void pack_half(const tile_pack *job, int64_t first, unsigned char *dst,
                      unsigned char *scratch) {
    const size_t in = (size_t)job->w->head.in, tap_bytes = job->depth * VD_AMX_STEP_BYTES;
    const unsigned char *stored[VD_AMX_ROWS] = {NULL};
    vd_dtype dtype[VD_AMX_ROWS] = {0};
    for (int64_t r = 0; r < VD_AMX_ROWS && first + r < job->w->head.out; r++)
        stored[r] = vd_cpu_weight_row(job->w, first + r, &dtype[r]);
    for (size_t at = 0; at < in; at += VD_AMX_DEPTH, dst += VD_AMX_STEP_BYTES) {
        const size_t channels = in - at < VD_AMX_DEPTH ? in - at : VD_AMX_DEPTH;
        const void *row[VD_AMX_ROWS] = {NULL};
        for (size_t r = 0; r < VD_AMX_ROWS && stored[r] != NULL; r++)
            row[r] = stored[r] + at * job->taps * vd_dtype_bytes(dtype[r]);
        job->kernels->pack_tiles(dst, tap_bytes, row, dtype, channels, job->taps, scratch);
    }
}

static int pack_block(void *user, int64_t task, int thread) {
    const tile_pack *job = user;
    unsigned char *scratch = job->scratch + (size_t)thread * job->taps * VD_AMX_TILE_BYTES;
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
    job.scratch =
        aligned_alloc(VD_ARENA_ALIGN_BYTES, (size_t)be->threads * job.taps * VD_AMX_TILE_BYTES);
    /* Not of huge pages: they make no difference to products, and take four times as long to get on
     * machines that hand free memory back to a host. */
    job.dst = aligned_alloc(VD_ARENA_ALIGN_BYTES, w->tile_bytes);
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

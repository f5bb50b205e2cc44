#include "backend/cpu/cpu.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu/amx.h"
#include "backend/cpu/dnnl_util.h"
#include "backend/cpu/weights.h"
#include "core/memory.h"

static void cpu_close(vd_backend *be) {
    vd_cpu_device *cpu = be->device;
    if (cpu != NULL) {
        vd_cpu_pool_destroy(cpu->pool);
        vd_dnnl_destroy(cpu->dnnl);
    }
    free(cpu);
    be->device = NULL;
}

static vd_status cpu_open(vd_backend *be, int threads) {
    static const vd_cpu_kernels *const kernels[] = {
        [VD_CPU_BASELINE] = &vd_cpu_kernels_baseline,
        [VD_CPU_AVX2] = &vd_cpu_kernels_avx2,
        [VD_CPU_AVX512] = &vd_cpu_kernels_avx512,
        [VD_CPU_AVX512_BF16] = &vd_cpu_kernels_avx512_bf16,
    };
    be->threads = threads > 0 ? threads : omp_get_num_procs();
    vd_cpu_device *cpu = calloc(1, sizeof *cpu);
    if (cpu == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the cpu backend");
    be->device = cpu;
    const char *isa;
    cpu->kernels = kernels[vd_dnnl_isa(&isa)];
    cpu->amx = vd_dnnl_has_amx() && vd_amx_request();
    snprintf(be->description, sizeof be->description, "oneDNN %s, %s, %d thread%s",
             vd_dnnl_version(), isa, be->threads, be->threads == 1 ? "" : "s");
    vd_status st = vd_dnnl_create(be->threads, &cpu->dnnl);
    if (st == VD_OK)
        st = vd_cpu_pool_create(be->threads, &cpu->pool);
    if (st != VD_OK)
        cpu_close(be);
    return st;
}

/* Memory aligned for any vector, on huge pages where it is large; NULL if there is none. free(). */
static void *large_alloc(size_t bytes) {
    enum { HUGE_PAGE = 1 << 21 };
    const size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : VD_ARENA_ALIGN_BYTES;
    if (bytes > SIZE_MAX - align)
        return NULL;
    void *memory = aligned_alloc(align, (bytes + align - 1) / align * align);
#ifdef MADV_HUGEPAGE
    if (memory != NULL && align == HUGE_PAGE)
        madvise(memory, bytes, MADV_HUGEPAGE); /* a wish: nothing is lost if it is not granted */
#endif
    return memory;
}

enum { CLEARED_BYTES = 1 << 22 };

typedef struct clearing {
    unsigned char *memory;
    size_t bytes;
} clearing;

static int clear_part(void *user, int64_t task, int thread) {
    const clearing *c = user;
    const size_t first = (size_t)task * CLEARED_BYTES, left = c->bytes - first;
    (void)thread;
    memset(c->memory + first, 0, left < CLEARED_BYTES ? left : CLEARED_BYTES);
    return 0;
}

/* Cleared by all threads: on a NUMA machine the pages come to lie on all nodes. */
static vd_status cpu_alloc(vd_backend *be, size_t bytes, void **out) {
    *out = NULL;
    vd_status st = vd_memory_check(bytes, "this work");
    if (st != VD_OK)
        return st;
    *out = large_alloc(bytes + VD_ARENA_ALIGN_BYTES);
    if (*out == NULL)
        return vd_fail(VD_ERR_MEMORY, "the cpu backend cannot have %.1f MiB of memory",
                       (double)bytes / 1048576.0);
    const vd_cpu_device *cpu = be->device;
    vd_cpu_parallel(cpu->pool, (int64_t)((bytes + CLEARED_BYTES - 1) / CLEARED_BYTES), clear_part,
                    &(clearing){*out, bytes});
    return VD_OK;
}

static void cpu_free(vd_backend *be, void *ptr) {
    (void)be;
    free(ptr);
}

static vd_status cpu_copy(vd_backend *be, void *dst, const void *src, size_t bytes) {
    (void)be;
    memcpy(dst, src, bytes);
    return VD_OK;
}

/* oneDNN computes in bf16 from AVX-512 on, by conversion where the machine has no such products. */
static bool cpu_has_dtype(const vd_backend *be, vd_dtype dtype) {
    (void)be;
    const char *isa;
    return dtype == VD_F32 || (dtype == VD_BF16 && vd_dnnl_isa(&isa) >= VD_CPU_AVX512);
}

static vd_dtype cpu_auto_dtype(const vd_backend *be) {
    (void)be;
    return vd_dnnl_has_native_bf16() ? VD_BF16 : VD_F32;
}

static const vd_op_table ops = {
    .conv2d = vd_cpu_conv2d,
    .linear = vd_cpu_linear,
    .attention = vd_cpu_attention,
    .group_norm = vd_cpu_group_norm,
    .group_measure = vd_cpu_group_measure,
    .group_normalize = vd_cpu_group_normalize,
    .layer_norm = vd_cpu_layer_norm,
    .activate = vd_cpu_activate,
    .resize_nearest = vd_cpu_resize_nearest,
    .resize_bilinear = vd_cpu_resize_bilinear,
    .transpose = vd_cpu_transpose,
    .paste = vd_cpu_paste,
    .combine = vd_cpu_combine,
    .scale_channels = vd_cpu_scale_channels,
    .scale_low_frequencies = vd_cpu_scale_low_frequencies,
    .sampler_run = vd_cpu_sampler_run,
    .match_deviation = vd_cpu_match_deviation,
};

const vd_backend_table vd_cpu_backend = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .has_dtype = cpu_has_dtype,
    .auto_dtype = cpu_auto_dtype,
    .create_linear = vd_cpu_create_linear,
    .create_conv = vd_cpu_create_conv,
    .create_vector = vd_cpu_create_vector,
    .destroy_weight = vd_cpu_destroy_weight,
    .ops = &ops,
};

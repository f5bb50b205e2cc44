/* What a backend implements. Included by backend/ only. */
#ifndef VD_BACKEND_IMPL_H
#define VD_BACKEND_IMPL_H

#include <string.h>

#include "backend/backend.h"
#include "backend/ops.h"
#include "core/arena.h"

/* One entry per operation of ops.h, shapes already checked. */
typedef struct vd_op_table {
    vd_status (*conv2d)(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                        const vd_weight *bias, const vd_tensor *add, const vd_tensor *residual,
                        const vd_conv2d_desc *desc);
    vd_status (*linear)(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                        const vd_weight *bias, const vd_tensor *residual, vd_activation act);
    vd_status (*attention)(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                           const vd_attention_desc *desc);
    vd_status (*group_norm)(vd_exec *x, vd_tensor *dst, const vd_tensor *src1,
                            const vd_tensor *src2, const vd_weight *scale, const vd_weight *shift,
                            int groups, float eps, vd_activation act);
    vd_status (*group_measure)(vd_exec *x, vd_group_stats *stats, const vd_tensor *src, int groups);
    vd_status (*group_normalize)(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                                 const vd_group_stats *stats, const vd_weight *scale,
                                 const vd_weight *shift, int groups, float eps, vd_activation act);
    vd_status (*layer_norm)(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            const vd_weight *scale, const vd_weight *shift, float eps);
    vd_status (*activate)(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_activation act);
    vd_status (*resize_nearest)(vd_exec *x, vd_tensor *dst, const vd_tensor *src);
    vd_status (*resize_bilinear)(vd_exec *x, vd_tensor *dst, const vd_tensor *src);
    vd_status (*transpose)(vd_exec *x, vd_tensor *dst, const vd_tensor *src);
    vd_status (*paste)(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_paste_desc *desc);
    vd_status (*combine)(vd_exec *x, vd_tensor *dst, int terms, const double *coefficient,
                         const vd_tensor *const *src);
    vd_status (*scale_channels)(vd_exec *x, vd_tensor *t, int64_t channels, double factor);
    vd_status (*scale_low_frequencies)(vd_exec *x, vd_tensor *t, double factor);
    vd_status (*sampler_run)(vd_exec *x, float *const *buffer, int count, int64_t elements,
                             const vd_sampler_program *program, int32_t *bad);
    vd_status (*match_deviation)(vd_exec *x, vd_tensor *dst, const vd_tensor *like, double phi);
} vd_op_table;

enum { VD_OP_COUNT = 17 };
_Static_assert(sizeof(vd_op_table) == VD_OP_COUNT * sizeof(void (*)(void)),
               "an op was added: give it an entry in every backend and a case file in tests");

/* Memory, weights and life cycle. */
typedef struct vd_backend_table {
    const char *name;
    vd_status (*open)(vd_backend *be, int threads);
    void (*close)(vd_backend *be);
    vd_status (*alloc)(vd_backend *be, size_t bytes, void **out); /* zeroed, 64-byte aligned */
    void (*free)(vd_backend *be, void *ptr);
    vd_status (*upload)(vd_backend *be, void *dst, const void *src, size_t bytes);
    vd_status (*download)(vd_backend *be, void *dst, const void *src, size_t bytes);
    vd_status (*copy)(vd_backend *be, void *dst, const void *src, size_t bytes);
    /* Waits until what ops have begun is done; NULL where they end when they return. */
    vd_status (*synchronize)(vd_backend *be);
    /* Calls `body` and keeps the ops that it begins instead of doing them; body's own failure is
     * returned. Any other means that this cannot be recorded. All NULL where nothing can be. */
    vd_status (*record)(vd_backend *be, vd_status (*body)(void *user), void *user, void **out);
    vd_status (*replay)(vd_backend *be, void *recording);
    void (*forget)(vd_backend *be, void *recording);
    /* Of the device; false: unknown. NULL where it is the host's. */
    bool (*memory)(const vd_backend *be, size_t *left, size_t *total);
    vd_status (*set_offload)(vd_backend *be, bool on); /* NULL where `memory` is */
    bool (*has_dtype)(const vd_backend *be, vd_dtype dtype);
    vd_dtype (*auto_dtype)(const vd_backend *be);
    vd_status (*create_linear)(vd_backend *be, const vd_weight_part *parts, int part_count,
                               vd_dtype dtype, vd_weight **out);
    vd_status (*create_conv)(vd_backend *be, const vd_weight_part *part, vd_dtype dtype,
                             vd_weight **out);
    vd_status (*create_vector)(vd_backend *be, const vd_tensor *parts, int part_count,
                               vd_weight **out);
    void (*destroy_weight)(vd_backend *be, vd_weight *w);
    const vd_op_table *ops;
} vd_backend_table;

struct vd_backend {
    const vd_backend_table *table;
    void *device; /* the backend's own state */
    char description[160];
    int threads;
    size_t weight_bytes; /* kept by the backend's create_* and destroy_weight */
    size_t offloaded_bytes;
    bool offload; /* new matrices stay on the host */
};

/* Common head of every backend's weights; the ops' shape checks read it. */
struct vd_weight {
    enum { VD_WEIGHT_LINEAR, VD_WEIGHT_CONV, VD_WEIGHT_VECTOR } kind;
    vd_dtype dtype;
    int64_t out, in; /* vector: out = length, in = 1 */
    int kernel_h, kernel_w;
    char *layer; /* owned by vd_weight_destroy; or NULL */
};

/* What vd_exec_repeat has seen of two keys. */
typedef struct vd_repetition {
    const void *key[2];
    void *recording; /* NULL: called once so far */
    struct vd_repetition *next;
} vd_repetition;

struct vd_exec {
    vd_backend *be;
    vd_dtype dtype;
    bool dry;
    vd_arena *arena;
    size_t peak_bytes;
    void *memory; /* of the arena after a commit */
    bool (*should_stop)(void *user);
    void *stop_user;
    vd_exec_watcher watch; /* NULL: nobody */
    void *watch_user;
    struct vd_profiler *profiler; /* NULL when off */
    vd_repetition *repetitions;
    bool unrecordable; /* it has been tried */
};

/* What ops.h says of mirrored taps; a backend looks when it first sees a map. */
bool vd_kernel_map_is_symmetric(const vd_kernel_map *map);
#define VD_KERNEL_MAP_MESSAGE "conv2d: the kernel's map is not its own mirror image"

/* Scratch for the duration of one op, from the exec's arena (dry: booked). */
vd_status vd_exec_scratch(vd_exec *x, size_t bytes, void **out);
void vd_exec_scratch_free(vd_exec *x, void *ptr);

extern const vd_backend_table vd_cpu_backend, vd_cuda_backend;

/* A row of a kernel, values of `size` bytes: [in, taps] -> [taps, in]. */
static inline void vd_turn_taps(unsigned char *dst, const unsigned char *src, int64_t in,
                                int64_t taps, size_t size) {
    for (int64_t tap = 0; tap < taps; tap++)
        for (int64_t c = 0; c < in; c++)
            memcpy(dst + (size_t)(tap * in + c) * size, src + (size_t)(c * taps + tap) * size,
                   size);
}

#endif

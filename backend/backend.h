/* A device: its memory, its packed weights, and the context that operations run in.
 *
 *     vd_backend *be;
 *     vd_backend_open("cpu", 0, &be);
 *     vd_exec *x;
 *     vd_exec_create(be, VD_BF16, &x);
 *     forward(x, ...);            // dry: plans are made, nothing is computed
 *     vd_exec_commit(x);          // takes the memory that the dry run asked for
 *     forward(x, ...);            // computes; allocates nothing
 *     vd_exec_destroy(x);
 *     vd_backend_close(be);
 */
#ifndef VD_BACKEND_BACKEND_H
#define VD_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/tensor.h"

typedef struct vd_backend vd_backend;
typedef struct vd_exec vd_exec;
typedef struct vd_weight vd_weight;

/* `name`: "auto" (the fastest that is there), "cpu", "cuda". threads 0 = one per available core.
 * VD_ERR_USAGE: unknown name, threads outside 0..1024. VD_ERR_BACKEND: not built in, its libraries
 * are missing, no device, a driver too old. "auto" passes over a backend without a device, and
 * warns of one that has a device and does not start. */
vd_status vd_backend_open(const char *name, int threads, vd_backend **out);
void vd_backend_close(vd_backend *be);
const char *vd_backend_name(const vd_backend *be);        /* "cpu" */
const char *vd_backend_description(const vd_backend *be); /* library, instruction set, threads */
int vd_backend_threads(const vd_backend *be);
bool vd_backend_on_host(const vd_backend *be); /* its memory is the process' own */

/* What "--dtype auto" means: the fastest activation dtype that this device computes natively. */
vd_dtype vd_backend_auto_dtype(const vd_backend *be);

/* False where the device cannot compute in `dtype` (F16 on the CPU backend, say). */
bool vd_backend_has_dtype(const vd_backend *be, vd_dtype dtype);

/* What "--dtype" says: "auto" (or NULL), "f32", "bf16", "f16". VD_ERR_USAGE: another name.
 * VD_ERR_BACKEND: the device does not compute in it. */
vd_status vd_backend_parse_dtype(const vd_backend *be, const char *name, vd_dtype *out);
const char *vd_dtype_option(vd_dtype dtype); /* "bf16" */

/* Device memory outside the arena (latents, text states). Zeroed. VD_ERR_MEMORY. */
vd_status vd_backend_alloc(vd_backend *be, size_t bytes, void **out);
void vd_backend_free(vd_backend *be, void *ptr);
/* Goes in order with the ops; src_host is free again when it returns. */
vd_status vd_backend_upload(vd_backend *be, void *dst_device, const void *src_host, size_t bytes);
vd_status vd_backend_download(vd_backend *be, void *dst_host, const void *src_device, size_t bytes);

/* Device to device; goes in order with the ops and waits for nothing. */
vd_status vd_backend_copy(vd_backend *be, void *dst, const void *src, size_t bytes);

/* Bytes of the device's memory that are free, and its size. False: it is the host's
 * (core/memory.h), or the device does not say. */
bool vd_backend_memory(const vd_backend *be, size_t *left, size_t *total);

/* Waits for what ops have begun; a download does so too. VD_ERR_BACKEND: one of them failed. */
vd_status vd_backend_synchronize(vd_backend *be);

/* ---- weights ------------------------------------------------------------------------------- */

/* A piece of a matrix: `rows` x `columns` of a host tensor [out, in], or [out, in, kh, kw] where a
 * row is an output channel and a column an input channel. */
typedef struct vd_weight_part {
    vd_tensor tensor; /* borrowed until the backend closes or vd_weight_destroy: plans may repack */
    int64_t first_column, columns;
} vd_weight_part;

/* A matrix for vd_linear: parts are stacked along the rows (fused q, k, v), each [out_i, in]; all
 * parts have the same column count. Packed for the device in `dtype` once. */
vd_status vd_weight_create_linear(vd_backend *be, const vd_weight_part *parts, int part_count,
                                  vd_dtype dtype, vd_weight **out);

/* A kernel for vd_conv2d: [out, in, kh, kw] (a Conv3d [out, in, 3, 1, 1] is viewed as kw = 1). */
vd_status vd_weight_create_conv(vd_backend *be, const vd_weight_part *part, vd_dtype dtype,
                                vd_weight **out);

/* A float32 vector: biases stacked, norm scales. Any length. Tensors may have any float dtype. */
vd_status vd_weight_create_vector(vd_backend *be, const vd_tensor *parts, int part_count,
                                  vd_weight **out);
void vd_weight_destroy(vd_backend *be, vd_weight *w);

/* The layer that a weight belongs to, as vd_exec_watch tells it; copied. VD_ERR_MEMORY. */
vd_status vd_weight_set_layer(vd_weight *w, const char *layer);

/* While on, matrices and kernels that are created stay in the host's memory, and come to the device
 * one after the other for the ops that use them; the results are the same bits. For weights that do
 * not fit the device beside what is computed. VD_ERR_USAGE: the device's memory is the host's. */
vd_status vd_backend_set_offload(vd_backend *be, bool on);
bool vd_backend_offloads(const vd_backend *be); /* some weights are on the host */

/* Bytes of packed weights alive on the device, with room for those that come and go; and of those
 * that stay on the host. */
size_t vd_backend_weight_bytes(const vd_backend *be);
size_t vd_backend_offloaded_bytes(const vd_backend *be);

/* ---- execution ----------------------------------------------------------------------------- */

/* One forward at a time. `dtype` is the activation dtype: F32, BF16 or F16. */
vd_status vd_exec_create(vd_backend *be, vd_dtype dtype, vd_exec **out);
void vd_exec_destroy(vd_exec *x);

vd_backend *vd_exec_backend(vd_exec *x);
vd_dtype vd_exec_dtype(const vd_exec *x);

/* True while operations only make plans. The memory of a dry tensor must not be touched. */
bool vd_exec_dry(const vd_exec *x);

/* Peak bytes of activations and scratch that dry runs so far have asked for. */
size_t vd_exec_peak_bytes(const vd_exec *x);

/* Ends the dry phase: takes peak_bytes of device memory. VD_ERR_MEMORY names the amount. */
vd_status vd_exec_commit(vd_exec *x);

/* Back to dry (another size); gives the memory back. Plans stay cached. */
void vd_exec_reset(vd_exec *x);

/* An activation in the arena: dtype VD_F32 or the exec's. VD_ERR_MEMORY if it does not fit, which
 * after a commit means that the forward is not the one that was planned. */
vd_status vd_exec_alloc(vd_exec *x, vd_dtype dtype, int rank, const int64_t *dim, vd_tensor *out);
#define VD_ALLOC(x, dtype, out, ...)                                                               \
    vd_exec_alloc((x), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),         \
                  (int64_t[]){__VA_ARGS__}, (out))

/* Frees what vd_exec_alloc gave and sets data to NULL; a NULL data is legal. */
void vd_exec_free(vd_exec *x, vd_tensor *t);

/* Asked between operations' calls: return true to stop; the running op then fails with
 * VD_ERR_INTERRUPTED. NULL: never. */
void vd_exec_set_interrupt(vd_exec *x, bool (*should_stop)(void *user), void *user);

/* Does the ops that `body` calls on x, between dry runs and a reset as often as wanted. A device
 * that can record them calls body twice for the same two keys (compared, not read) and repeats the
 * recording from then on: with the tensors and host values of the second time, and what then lies
 * in device memory. So body does not depend on anything else, and neither waits nor transfers. A
 * body that cannot be recorded is called each time, after one warning; so it is while the exec is
 * watched or profiled, or weights are offloaded. Returns what body does; VD_ERR_BACKEND. */
vd_status vd_exec_repeat(vd_exec *x, const void *key1, const void *key2,
                         vd_status (*body)(void *user), void *user);

/* Called after each op with a weight, but not in a dry exec, with the weight's layer ("" if it has
 * none) and the op's result on the device; anything but VD_OK fails the op. NULL: never. */
typedef vd_status (*vd_exec_watcher)(void *user, const char *layer, const vd_tensor *result);
void vd_exec_watch(vd_exec *x, vd_exec_watcher watch, void *user);

/* Time and work of every op since profiling was turned on, by kind and shape. */
typedef struct vd_op_profile {
    char name[96]; /* "conv2d 3x3 320->320 16x64x64" */
    int64_t calls;
    double seconds, flop, bytes;
} vd_op_profile;
vd_status vd_exec_profile_start(vd_exec *x);
void vd_exec_profile_stop(vd_exec *x);
/* Sorted by seconds, longest first; borrowed until the next op. */
const vd_op_profile *vd_exec_profile(const vd_exec *x, size_t *count);

#endif

/* Matrices and kernels that stay in the host's memory, pinned, and come to the device for the ops
 * that use them: into one of a few slots in turn, on a stream of their own, while the ops before
 * are computed. Included by backend/cuda only.
 *
 *     vd_cuda_weight_acquire(be, w, &memory);   // what the op reads, behind the wait for it
 *     ... launch it on the device's stream ...
 *     vd_cuda_weight_release(be, w);            // and the next weights may come
 *
 * Which weight is the next is what it was the last time, in a dry run too; where that is wrong, the
 * op waits for a copy of its own. Results do not depend on it.
 */
#ifndef VD_BACKEND_CUDA_OFFLOAD_H
#define VD_BACKEND_CUDA_OFFLOAD_H

#include "backend/cuda/cuda.h"

/* What be->offload needs. */
vd_status vd_cuda_set_offload(vd_backend *be, bool on);

/* Pinned memory for a weight, its place in the order of weights, and room in the slots. */
vd_status vd_cuda_offload_weight(vd_backend *be, vd_cuda_weight *w, size_t bytes);
void vd_cuda_offload_forget(vd_backend *be, vd_cuda_weight *w);

/* Device memory with the weight's values for what is launched on the device's stream before the
 * release. A weight that lives on the device is there. */
vd_status vd_cuda_weight_acquire(vd_backend *be, const vd_weight *w, const void **memory);
vd_status vd_cuda_weight_release(vd_backend *be, const vd_weight *w);

void vd_cuda_offload_destroy(vd_cuda_device *cuda);

#endif

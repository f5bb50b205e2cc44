/* Copies out of pinned memory of the process' own, as late as the events allow: what reads their
 * result without having waited finds what was there before. */
#ifndef VD_TESTS_CUDA_PINNED_H
#define VD_TESTS_CUDA_PINNED_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>

/* True if src is registered: the copy is kept for later. */
bool vd_pinned_later(void *dst, const void *src, size_t bytes, cudaStream_t stream);

void vd_pinned_mark(cudaEvent_t event, cudaStream_t stream); /* the copies of the stream so far */
void vd_pinned_reach(cudaEvent_t event);                     /* does those that were marked */
void vd_pinned_wait(cudaStream_t stream);                    /* does all of the stream */

/* Counts a copy: whether the device is lost at it, and from then on. */
bool vd_pinned_lost(void);
bool vd_pinned_is_lost(void);

#endif

/* The part of CUDA's runtime that the backend uses, on the host: "device" memory is the heap, and
 * all work is done when the call returns, or kept where it is captured (graph.cpp). */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "pinned.h"
#include "queue.h"

/* VD_EMULATED_NO_DEVICE, _OLD_DRIVER: as on such a machine. _BYTES: the device's memory. _LOST=N:
 * it is lost at the N-th copy. */
cudaError_t cudaGetDeviceCount(int *count) {
    *count = getenv("VD_EMULATED_NO_DEVICE") == NULL;
    if (getenv("VD_EMULATED_OLD_DRIVER") != NULL)
        return cudaErrorInsufficientDriver;
    return *count == 1 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = getenv("VD_EMULATED_OLD_DRIVER") != NULL ? 11000 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device) {
    memset(prop, 0, sizeof *prop);
    strcpy(prop->name, "the host, emulating");
    prop->major = 9;
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

static size_t taken;

static size_t device_bytes(void) {
    const char *text = getenv("VD_EMULATED_BYTES");
    return text != NULL ? strtoull(text, NULL, 10) : (size_t)1 << 29;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
    *total = device_bytes();
    *left = *total > taken ? *total - taken : 0;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    const cudaError_t error = vd_emulate_unrecordable();
    const size_t device = device_bytes();
    *out = NULL;
    if (error != cudaSuccess)
        return error;
    *out = bytes <= device && taken <= device - bytes
               ? aligned_alloc(256, (bytes + 255) / 256 * 256)
               : NULL;
    if (*out == NULL)
        return cudaErrorMemoryAllocation;
    taken += malloc_usable_size(*out);
    memset(*out, 0xFF, bytes); /* NaN: real memory is not zero either */
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    const cudaError_t error = vd_emulate_unrecordable();
    if (error != cudaSuccess)
        return error;
    taken -= malloc_usable_size(p);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    *out = malloc(bytes);
    return *out == NULL ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
    free(p);
    return cudaSuccess;
}

typedef struct transfer {
    void *dst;
    const void *src;
    int value;
    size_t bytes;
} transfer;

static void run_copy(const void *data) {
    const transfer *t = data;
    memcpy(t->dst, t->src, t->bytes);
}

static void run_set(const void *data) {
    const transfer *t = data;
    memset(t->dst, t->value, t->bytes);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    const transfer t = {.dst = dst, .src = src, .bytes = bytes};
    (void)kind;
    if (vd_pinned_lost())
        return cudaErrorLaunchFailure;
    if (vd_pinned_later(dst, src, bytes, stream))
        return cudaSuccess;
    vd_emulate_work(run_copy, &t, sizeof t);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream) {
    const transfer t = {.dst = dst, .value = value, .bytes = bytes};
    (void)stream;
    vd_emulate_work(run_set, &t, sizeof t);
    return cudaSuccess;
}

/* Handles are small blocks of memory, so that one that is not destroyed is a leak. */
static cudaError_t handle(void **out) {
    *out = calloc(1, sizeof(size_t));
    return *out == NULL ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    (void)flags;
    return handle((void **)out);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    vd_pinned_wait(stream);
    return vd_pinned_is_lost() ? cudaErrorLaunchFailure : vd_emulate_unrecordable();
}

cudaError_t cudaEventCreate(cudaEvent_t *out) {
    return handle((void **)out);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    (void)flags;
    return handle((void **)out);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    vd_pinned_mark(event, stream);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    (void)stream;
    (void)flags;
    vd_pinned_reach(event);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    (void)event;
    return vd_emulate_unrecordable();
}

/* A different time at each call, so that the choice of a plan is tested too. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    static int calls;
    (void)start;
    (void)end;
    *ms = 1.0F + (float)(calls++ * 7 % 5);
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : "an emulated error";
}

#include "backend/cuda/cuda.h"
#include "backend/cuda/offload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIGABYTES(bytes) ((double)(bytes) / 1e9)

enum { OLDEST_CAPABILITY = 75, BF16_CAPABILITY = 80 };

vd_status vd_cuda_status(cudaError_t error, const char *doing) {
    switch (error) {
    case cudaSuccess:
        return VD_OK;
    case cudaErrorMemoryAllocation:
        return vd_fail(VD_ERR_MEMORY,
                       "CUDA is out of memory %s: use a smaller size or fewer frames, or "
                       "--backend cpu",
                       doing);
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
        return vd_fail(
            VD_ERR_BACKEND,
            "the NVIDIA driver is too old for CUDA %d.%d: update it, or use --backend cpu",
            CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorUnknown:
        return vd_fail(VD_ERR_BACKEND,
                       "the CUDA device was lost %s (%s): nothing more can be computed in this "
                       "process; see nvidia-smi and the system's log, then give the command again",
                       doing, cudaGetErrorString(error));
    case cudaErrorNoDevice:
        return vd_fail(VD_ERR_BACKEND, "there is no CUDA device here: use --backend cpu");
    case cudaErrorNoKernelImageForDevice:
        return vd_fail(VD_ERR_BACKEND,
                       "this build has no code for the CUDA device: build it with its "
                       "architecture in VD_CUDA_ARCHITECTURES");
    case cudaErrorDevicesUnavailable:
        return vd_fail(VD_ERR_BACKEND, "the CUDA device is in use by others or cannot be reached");
    default:
        return vd_fail(VD_ERR_BACKEND, "CUDA failed %s: %s; nothing of this run can be used", doing,
                       cudaGetErrorString(error));
    }
}

vd_status vd_cuda_take(size_t bytes, void **out) {
    size_t left = 0, total = 0;
    *out = NULL;
    const cudaError_t error = cudaMalloc(out, bytes == 0 ? 1 : bytes);
    if (error != cudaErrorMemoryAllocation)
        return vd_cuda_status(error, "taking memory");
    *out = NULL;
    (void)cudaGetLastError(); /* it is not a fault that stays */
    (void)cudaMemGetInfo(&left, &total);
    return vd_fail(VD_ERR_MEMORY,
                   "the CUDA device cannot give %.2f GB: %.2f GB of its %.2f GB are free; use a "
                   "smaller size or fewer frames, a 16-bit --dtype, --offload, or --backend cpu",
                   GIGABYTES(bytes), GIGABYTES(left), GIGABYTES(total));
}

/* ---- life ----------------------------------------------------------------------------------- */

static void cuda_close(vd_backend *be) {
    vd_cuda_device *cuda = be->device;
    if (cuda == NULL)
        return;
    if (cuda->stream != NULL)
        (void)cudaStreamSynchronize(cuda->stream);
    vd_cuda_conv_plans_destroy(cuda);
    vd_cuda_maps_destroy(cuda);
    vd_cuda_attention_plans_destroy(cuda);
    vd_cuda_offload_destroy(cuda);
    vd_cuda_cache_destroy(cuda->cache);
    vd_blas_destroy(cuda->blas);
    vd_dnn_destroy(cuda->dnn);
    for (int i = 0; i < VD_CUDA_STAGINGS; i++) {
        if (cuda->staging[i].memory != NULL)
            (void)cudaFreeHost(cuda->staging[i].memory);
        if (cuda->staging[i].done != NULL)
            (void)cudaEventDestroy(cuda->staging[i].done);
    }
    if (cuda->stream != NULL)
        (void)cudaStreamDestroy(cuda->stream);
    free(cuda);
    be->device = NULL;
}

static vd_status check_device(struct cudaDeviceProp *prop) {
    memset(prop, 0, sizeof *prop);
    int count = 0, driver = 0;
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
        return vd_fail(VD_ERR_BACKEND,
                       "there is no NVIDIA driver here, which CUDA needs: install it, or use "
                       "--backend cpu");
    vd_status st = vd_cuda_status(cudaGetDeviceCount(&count), "looking for a device");
    if (st != VD_OK)
        return st;
    if (count == 0)
        return vd_cuda_status(cudaErrorNoDevice, "");
    VD_TRY(vd_cuda_status(cudaSetDevice(0), "opening the device"));
    VD_TRY(vd_cuda_status(cudaGetDeviceProperties(prop, 0), "asking what the device is"));
    if (prop->major * 10 + prop->minor < OLDEST_CAPABILITY)
        st = vd_fail(VD_ERR_BACKEND,
                     "%s has compute capability %d.%d and 7.5 is needed: use --backend cpu",
                     prop->name, prop->major, prop->minor);
done:
    return st;
}

static vd_status cuda_open(vd_backend *be, int threads) {
    struct cudaDeviceProp prop;
    vd_status st = check_device(&prop);
    if (st != VD_OK)
        return st;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    be->threads = threads > 0 ? threads : cores > 0 ? (int)cores : 1;
    vd_cuda_device *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the cuda backend");
    be->device = cuda;
    cuda->capability = prop.major * 10 + prop.minor;
    VD_TRY(vd_cuda_status(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking),
                          "making a stream"));
    VD_TRY(vd_blas_create(cuda->stream, &cuda->blas));
    VD_TRY(vd_dnn_create(cuda->stream, &cuda->dnn));
    VD_TRY(vd_cuda_cache_create(prop.name, cuda->capability, vd_dnn_version(), &cuda->cache));
    snprintf(be->description, sizeof be->description, "CUDA %d.%d, cuDNN %zu, %.60s (sm_%d)",
             CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10, vd_dnn_version(), prop.name,
             cuda->capability);
done:
    if (st != VD_OK)
        cuda_close(be);
    return st;
}

/* ---- memory --------------------------------------------------------------------------------- */

static vd_status cuda_alloc(vd_backend *be, size_t bytes, void **out) {
    const vd_cuda_device *cuda = be->device;
    vd_status st = vd_cuda_take(bytes, out);
    if (st != VD_OK)
        return st;
    VD_TRY(vd_cuda_status(cudaMemsetAsync(*out, 0, bytes, cuda->stream), "clearing memory"));
    VD_TRY(vd_cuda_status(cudaStreamSynchronize(cuda->stream), "clearing memory"));
done:
    if (st != VD_OK) {
        (void)cudaFree(*out);
        *out = NULL;
    }
    return st;
}

/* cudaFree waits for the device, so nothing that still runs loses its memory. */
static void cuda_free(vd_backend *be, void *ptr) {
    (void)be;
    (void)cudaFree(ptr);
}

static vd_status cuda_upload(vd_backend *be, void *dst, const void *src, size_t bytes) {
    return vd_cuda_send(be->device, dst, src, bytes);
}

/* What went wrong in an op that ran meanwhile is said here too. */
static vd_status cuda_download(vd_backend *be, void *dst, const void *src, size_t bytes) {
    const vd_cuda_device *cuda = be->device;
    const vd_status st = vd_cuda_status(
        cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, cuda->stream), "computing");
    return st == VD_OK ? vd_cuda_status(cudaStreamSynchronize(cuda->stream), "computing") : st;
}

static vd_status cuda_copy(vd_backend *be, void *dst, const void *src, size_t bytes) {
    const vd_cuda_device *cuda = be->device;
    return vd_cuda_status(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, cuda->stream),
                          "computing");
}

static vd_status cuda_synchronize(vd_backend *be) {
    const vd_cuda_device *cuda = be->device;
    return vd_cuda_status(cudaStreamSynchronize(cuda->stream), "computing");
}

static bool cuda_memory(const vd_backend *be, size_t *left, size_t *total) {
    (void)be;
    return cudaMemGetInfo(left, total) == cudaSuccess;
}

static bool cuda_has_dtype(const vd_backend *be, vd_dtype dtype) {
    const vd_cuda_device *cuda = be->device;
    return dtype == VD_F32 || dtype == VD_F16 ||
           (dtype == VD_BF16 && cuda->capability >= BF16_CAPABILITY);
}

static vd_dtype cuda_auto_dtype(const vd_backend *be) {
    const vd_cuda_device *cuda = be->device;
    return cuda->capability >= BF16_CAPABILITY ? VD_BF16 : VD_F16;
}

static const vd_op_table ops = {
    .conv2d = vd_cuda_conv2d,
    .linear = vd_cuda_linear,
    .attention = vd_cuda_attention,
    .group_norm = vd_cuda_group_norm,
    .group_measure = vd_cuda_group_measure,
    .group_normalize = vd_cuda_group_normalize,
    .layer_norm = vd_cuda_layer_norm,
    .activate = vd_cuda_activate,
    .resize_nearest = vd_cuda_resize_nearest,
    .resize_bilinear = vd_cuda_resize_bilinear,
    .transpose = vd_cuda_transpose,
    .paste = vd_cuda_paste,
    .combine = vd_cuda_combine,
    .scale_channels = vd_cuda_scale_channels,
    .scale_low_frequencies = vd_cuda_scale_low_frequencies,
    .sampler_run = vd_cuda_sampler_run,
    .match_deviation = vd_cuda_match_deviation,
};

const vd_backend_table vd_cuda_backend = {
    .name = "cuda",
    .open = cuda_open,
    .close = cuda_close,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy = cuda_copy,
    .synchronize = cuda_synchronize,
    .record = vd_cuda_record,
    .replay = vd_cuda_replay,
    .forget = vd_cuda_forget,
    .memory = cuda_memory,
    .set_offload = vd_cuda_set_offload,
    .has_dtype = cuda_has_dtype,
    .auto_dtype = cuda_auto_dtype,
    .create_linear = vd_cuda_create_linear,
    .create_conv = vd_cuda_create_conv,
    .create_vector = vd_cuda_create_vector,
    .destroy_weight = vd_cuda_destroy_weight,
    .ops = &ops,
};

/* What the .cu files share: element types, vectors, activations, launches.
 *
 * The tests compile the same files for the host (tests/cuda/emulate.h, included first there), so
 * kernels keep to what that knows: VD_LAUNCH, VD_SHARED, VD_SYNC, blockIdx, threadIdx, blockDim,
 * gridDim. A kernel that has a VD_SYNC is launched with VD_LAUNCH_TOGETHER.
 */
#ifndef VD_BACKEND_CUDA_DEVICE_CUH
#define VD_BACKEND_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>

#include "backend/cuda/kernels.h"
#include "backend/sample.h"

#ifndef VD_LAUNCH
#define VD_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#define VD_LAUNCH_TOGETHER(kernel, grid, block, shared_bytes, stream, ...)                         \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define VD_SHARED(type, name, count) __shared__ type name[count]
/* The block's dynamic shared memory, as float. */
#define VD_SHARED_FLOATS(name) extern __shared__ float name[]
#define VD_SYNC() __syncthreads()
#endif

enum { VD_VECTOR = 8, VD_BLOCK = 256, VD_MOST_BLOCKS = 1 << 20 };

__device__ inline float vd_to_float(float v) {
    return v;
}
__device__ inline float vd_to_float(__half v) {
    return __half2float(v);
}
__device__ inline float vd_to_float(__nv_bfloat16 v) {
    return __bfloat162float(v);
}

template <typename T> __device__ inline T vd_from_float(float v);
template <> __device__ inline float vd_from_float<float>(float v) {
    return v;
}
template <> __device__ inline __half vd_from_float<__half>(float v) {
    return __float2half_rn(v);
}
template <> __device__ inline __nv_bfloat16 vd_from_float<__nv_bfloat16>(float v) {
    return __float2bfloat16_rn(v);
}

template <typename T, int V> struct alignas(V == 1 ? sizeof(T) : 16) vd_pack { T value[V]; };

/* V values from element `at` on, which is a multiple of V. */
template <int V, typename T> __device__ inline void vd_load(float *to, const T *from, int64_t at) {
    const vd_pack<T, V> pack = *reinterpret_cast<const vd_pack<T, V> *>(from + at);
    for (int i = 0; i < V; i++)
        to[i] = vd_to_float(pack.value[i]);
}

template <int V, typename T> __device__ inline void vd_store(T *to, int64_t at, const float *from) {
    vd_pack<T, V> pack;
    for (int i = 0; i < V; i++)
        pack.value[i] = vd_from_float<T>(from[i]);
    *reinterpret_cast<vd_pack<T, V> *>(to + at) = pack;
}

__device__ inline float vd_sigmoid(float v) {
    return 1.0F / (1.0F + expf(-v));
}

/* Infinity stays infinity, which v * sigmoid(v) would not make of -infinity: there it is NaN as in
 * PyTorch. */
__device__ inline float vd_act(float v, vd_activation act) {
    switch (act) {
    case VD_ACT_SILU:
        return v * vd_sigmoid(v);
    case VD_ACT_GELU:
        return 0.5F * v * erfcf(-v * 0.70710678118654752440F);
    case VD_ACT_QUICK_GELU:
        return v * vd_sigmoid(1.702F * v);
    default:
        return v;
    }
}

/* Blocks of VD_BLOCK threads that see `count` pieces of work in strides. */
static inline unsigned vd_blocks(int64_t count) {
    const int64_t blocks = (count + VD_BLOCK - 1) / VD_BLOCK, most = VD_MOST_BLOCKS;
    return (unsigned)(blocks < most ? blocks : most);
}

__device__ inline int64_t vd_first() {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}
__device__ inline int64_t vd_stride() {
    return (int64_t)gridDim.x * blockDim.x;
}

static inline bool vd_is_aligned(const void *p) {
    return (uintptr_t)p % 16 == 0;
}

/* Calls f with null pointers of the element types: f((D *)0, (S *)0). Activations are float32 or
 * the exec's 16-bit type, so two 16-bit types do not meet. */
template <typename F> cudaError_t vd_for_type(vd_dtype a, F f) {
    switch (a) {
    case VD_F32:
        return f((float *)0);
    case VD_BF16:
        return f((__nv_bfloat16 *)0);
    case VD_F16:
        return f((__half *)0);
    default:
        return cudaErrorInvalidValue;
    }
}

template <typename F> cudaError_t vd_for_types(vd_dtype a, vd_dtype b, F f) {
    if (a == VD_F32)
        return vd_for_type(b, [&](auto *second) { return f((float *)0, second); });
    if (b == VD_F32)
        return vd_for_type(a, [&](auto *first) { return f(first, (float *)0); });
    if (a != b)
        return cudaErrorInvalidValue;
    return vd_for_type(a, [&](auto *both) { return f(both, both); });
}

/* The type that a null pointer of vd_for_types stands for. */
#define VD_TYPE(pointer) typename std::remove_pointer<decltype(pointer)>::type

#endif

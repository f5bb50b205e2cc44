/* CUDA kernels on the host: included before a .cu file that is compiled as C++. The threads of a
 * block run one after the other; those of a kernel with barriers are coroutines that change at each
 * barrier, in an order that VD_EMULATED_ORDER turns around, so that a result which depends on it
 * (a race) shows. A launch copies its arguments, as a device does. */
#ifndef VD_TESTS_CUDA_EMULATE_H
#define VD_TESTS_CUDA_EMULATE_H

#include <cuda_runtime.h>
#include <math.h>

#include <functional>
#include <tuple>
#include <type_traits>

struct vd_emulated_state {
    dim3 grid, block;
    uint3 block_index, thread_index;
    float *shared;
};
extern vd_emulated_state vd_emulated;

void vd_emulate_launch(dim3 grid, dim3 block, size_t shared_bytes, bool together,
                       const std::function<void()> &thread);
void vd_emulate_barrier();

#define gridDim vd_emulated.grid
#define blockDim vd_emulated.block
#define blockIdx vd_emulated.block_index
#define threadIdx vd_emulated.thread_index

/* A kernel's thread with copies of the arguments. */
template <typename... P, typename... A>
std::function<void()> vd_emulate_bind(void (*kernel)(P...), A... arguments) {
    const std::tuple<std::decay_t<P>...> copy(arguments...);
    return [=] { std::apply(kernel, copy); };
}

#define VD_LAUNCH(kernel, grid, block, stream, ...)                                                \
    ((void)(stream), vd_emulate_launch(grid, block, 0, false, vd_emulate_bind(kernel, __VA_ARGS__)))
#define VD_LAUNCH_TOGETHER(kernel, grid, block, shared_bytes, stream, ...)                         \
    ((void)(stream),                                                                               \
     vd_emulate_launch(grid, block, shared_bytes, true, vd_emulate_bind(kernel, __VA_ARGS__)))
#define VD_SHARED(type, name, count) static type name[count]
#define VD_SHARED_FLOATS(name) float *name = vd_emulated.shared
#define VD_SYNC() vd_emulate_barrier()

#endif

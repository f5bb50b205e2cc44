/* A libcuda.so.1 for machines without a driver: enough for cuDNN to compile plans for a device that
 * is described to it. Kernels "load"; everything else fails. */
#include <cuda.h>

/* The signature is cuda.h's. NOLINTBEGIN(readability-non-const-parameter) */
CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jit,
                           void **jit_values, unsigned jit_count, CUlibraryOption *option,
                           void **values, unsigned count) {
    static char loaded;
    (void)code, (void)jit, (void)jit_values, (void)jit_count, (void)option, (void)values;
    (void)count;
    *library = (CUlibrary)(void *)&loaded;
    return CUDA_SUCCESS;
}
/* NOLINTEND(readability-non-const-parameter) */

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
    static char found;
    (void)library, (void)name;
    *kernel = (CUkernel)(void *)&found;
    return CUDA_SUCCESS;
}

CUresult cuLibraryUnload(CUlibrary library) {
    (void)library;
    return CUDA_SUCCESS;
}

CUresult cuKernelSetAttribute(CUfunction_attribute name, int value, CUkernel kernel,
                              CUdevice device) {
    (void)name, (void)value, (void)kernel, (void)device;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveClusters(int *count, CUfunction function,
                                      const CUlaunchConfig *config) {
    (void)function, (void)config;
    *count = 16;
    return CUDA_SUCCESS;
}

#define VD_ABSENT(name) ".globl " #name "\n.set " #name ", vd_absent\n.type " #name ", @function\n"

/* What cuDNN looks up before it compiles, and has no use for without a device. */
/* clang-format off */
__asm__(".type vd_absent, @function\n"
        "vd_absent: movl $34, %eax\n" /* CUDA_ERROR_STUB_LIBRARY */
        "ret\n"
        VD_ABSENT(cuLaunchKernel) VD_ABSENT(cuLaunchCooperativeKernel)
        VD_ABSENT(cuDriverGetVersion) VD_ABSENT(cuLinkDestroy)
        VD_ABSENT(cuLinkComplete) VD_ABSENT(cuLaunchKernelEx)
        VD_ABSENT(cuGetErrorString) VD_ABSENT(cuGetErrorName)
        VD_ABSENT(cuDeviceGet) VD_ABSENT(cuCtxPushCurrent)
        VD_ABSENT(cuCtxPopCurrent) VD_ABSENT(cuCtxGetLimit)
        VD_ABSENT(cuStreamGetCtx) VD_ABSENT(cuOccupancyMaxPotentialClusterSize)
        VD_ABSENT(cuLinkCreate) VD_ABSENT(cuLinkAddData)
        VD_ABSENT(cuLibraryLoadFromFile) VD_ABSENT(cuKernelGetAttribute)
        VD_ABSENT(cuDeviceGetCount) VD_ABSENT(cuCtxGetCurrent)
        VD_ABSENT(cuInit) VD_ABSENT(cuTensorMapEncodeTiled)
        VD_ABSENT(cuStreamSynchronize) VD_ABSENT(cuOccupancyMaxActiveBlocksPerMultiprocessor)
        VD_ABSENT(cuModuleUnload) VD_ABSENT(cuModuleLoadFatBinary)
        VD_ABSENT(cuModuleLoadDataEx) VD_ABSENT(cuModuleLoadData)
        VD_ABSENT(cuModuleGetGlobal_v2) VD_ABSENT(cuModuleGetFunction)
        VD_ABSENT(cuMemcpyDtoH_v2) VD_ABSENT(cuLinkCreate_v2)
        VD_ABSENT(cuLinkAddFile_v2) VD_ABSENT(cuLinkAddData_v2)
        VD_ABSENT(cuFuncSetAttribute) VD_ABSENT(cuFuncGetAttribute)
        VD_ABSENT(cuDevicePrimaryCtxRetain) VD_ABSENT(cuDevicePrimaryCtxReset)
        VD_ABSENT(cuDevicePrimaryCtxRelease) VD_ABSENT(cuDeviceGetAttribute)
        VD_ABSENT(cuCtxGetDevice));

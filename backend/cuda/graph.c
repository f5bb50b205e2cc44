/* Recordings of ops as CUDA graphs (vd_exec_repeat). */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/cuda.h"

/* cudaMalloc and what else cannot be recorded is refused in this mode, instead of being done once
 * and not again; other threads are left alone. */
static const enum cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;

static vd_status check_wish(void) {
    const char *wish = getenv("VIDILATE_CUDA_GRAPH");
    if (wish != NULL && strcmp(wish, "off") == 0)
        return vd_fail(VD_ERR_BACKEND, "VIDILATE_CUDA_GRAPH is off");
    return VD_OK;
}

vd_status vd_cuda_record(vd_backend *be, vd_status (*body)(void *user), void *user, void **out) {
    const vd_cuda_device *cuda = be->device;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    vd_status st;
    *out = NULL;
    VD_TRY(check_wish());
    VD_TRY(vd_cuda_status(cudaStreamBeginCapture(cuda->stream, mode), "recording"));
    st = body(user);
    const cudaError_t error = cudaStreamEndCapture(cuda->stream, &graph);
    if (st == VD_OK)
        st = vd_cuda_status(error, "recording");
    if (st == VD_OK)
        st = vd_cuda_status(cudaGraphInstantiate(&exec, graph, 0), "making a graph");
    if (st == VD_OK)
        *out = exec;
done:
    if (st != VD_OK)
        (void)cudaGetLastError(); /* it was about the recording */
    if (graph != NULL)
        (void)cudaGraphDestroy(graph);
    return st;
}

vd_status vd_cuda_replay(vd_backend *be, void *recording) {
    const vd_cuda_device *cuda = be->device;
    return vd_cuda_status(cudaGraphLaunch(recording, cuda->stream), "computing");
}

void vd_cuda_forget(vd_backend *be, void *recording) {
    const vd_cuda_device *cuda = be->device;
    (void)cudaStreamSynchronize(cuda->stream); /* it may run still */
    (void)cudaGraphExecDestroy(recording);
}

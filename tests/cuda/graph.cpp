/* Capture and replay as CUDA's documentation has them: arguments are copied when a call is made,
 * memory is read when a graph runs. VD_EMULATED_NO_CAPTURE=1: a device that cannot. */
#include <stdlib.h>

#include <vector>

#include "tests/cuda/queue.h"

namespace {

typedef std::vector<std::function<void()>> recording;

recording *current; /* NULL: nothing is captured */
bool spoilt;
cudaError_t last_error = cudaSuccess;

} // namespace

void vd_emulate_submit(std::function<void()> work) {
    if (current == nullptr)
        work();
    else if (spoilt)
        last_error = cudaErrorStreamCaptureInvalidated;
    else
        current->push_back(std::move(work));
}

void vd_emulate_work(void (*run)(const void *data), const void *data, size_t bytes) {
    const char *from = static_cast<const char *>(data);
    const std::vector<char> copy(from, from + bytes);
    vd_emulate_submit([=] { run(copy.data()); });
}

cudaError_t vd_emulate_unrecordable() {
    if (current == nullptr)
        return cudaSuccess;
    spoilt = true;
    return last_error = cudaErrorStreamCaptureUnsupported;
}

cudaError_t cudaGetLastError() {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
    if (current != nullptr || getenv("VD_EMULATED_NO_CAPTURE") != nullptr)
        return last_error = cudaErrorNotSupported;
    current = new recording;
    spoilt = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *out) {
    recording *ended = current;
    current = nullptr;
    *out = nullptr;
    if (ended == nullptr)
        return last_error = cudaErrorInvalidValue;
    if (spoilt) {
        delete ended;
        return last_error = cudaErrorStreamCaptureInvalidated;
    }
    *out = reinterpret_cast<cudaGraph_t>(ended);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    *out = reinterpret_cast<cudaGraphExec_t>(new recording(*reinterpret_cast<recording *>(graph)));
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete reinterpret_cast<recording *>(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
    for (const std::function<void()> &work : *reinterpret_cast<recording *>(exec))
        work();
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete reinterpret_cast<recording *>(exec);
    return cudaSuccess;
}

/* What goes to the emulated device's stream: done at once, or kept while the stream is captured. */
#ifndef VD_TESTS_CUDA_QUEUE_H
#define VD_TESTS_CUDA_QUEUE_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
#include <functional>
void vd_emulate_submit(std::function<void()> work);
extern "C" {
#endif

/* run(copy of the `bytes` at data), now or at each replay. */
void vd_emulate_work(void (*run)(const void *data), const void *data, size_t bytes);

/* For what a capture does not allow: fails, and spoils the capture, while there is one. */
cudaError_t vd_emulate_unrecordable(void);

#ifdef __cplusplus
}
#endif

#endif

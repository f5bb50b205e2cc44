/* The sampler's programs and the guidance's deviation. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"

vd_status vd_cuda_sampler_run(vd_exec *x, float *const *buffer, int count, int64_t elements,
                              const vd_sampler_program *program, int32_t *bad) {
    vd_cuda_sampler job = {.count = count, .elements = elements, .program = program};
    if (x->dry)
        return VD_OK;
    job.bad = bad;
    for (int i = 0; i < count; i++)
        job.buffer[i] = buffer[i];
    return vd_cuda_status(vd_launch_sampler(vd_cuda(x)->stream, &job), "in the sampler");
}

vd_status vd_cuda_match_deviation(vd_exec *x, vd_tensor *dst, const vd_tensor *like, double phi) {
    if (x->dry)
        return VD_OK;
    return vd_cuda_status(vd_launch_match_deviation(vd_cuda(x)->stream, dst->data, like->data, phi,
                                                    vd_tensor_elements(dst)),
                          "in the guidance");
}

/* Low frequencies of an image. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"

vd_status vd_cuda_scale_low_frequencies(vd_exec *x, vd_tensor *t, double factor) {
    vd_cuda_spectrum job = {.t = t->data,
                            .dtype = t->dtype,
                            .n = t->dim[0],
                            .h = t->dim[1],
                            .w = t->dim[2],
                            .channels = t->dim[3],
                            .change = (factor - 1) / (double)(t->dim[1] * t->dim[2])};
    void *scratch;
    vd_status st = vd_exec_scratch(
        x, vd_spectrum_doubles(job.n, job.h, job.w, job.channels) * sizeof(double), &scratch);
    if (st != VD_OK)
        return st;
    job.scratch = scratch;
    if (!x->dry)
        st = vd_cuda_status(vd_launch_low_frequencies(vd_cuda(x)->stream, &job),
                            "with low frequencies");
    vd_exec_scratch_free(x, scratch);
    return st;
}

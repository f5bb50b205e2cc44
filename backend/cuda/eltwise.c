/* Activations and conversions, transposition, pasting, linear combinations, scaling. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"

vd_status vd_cuda_activate(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_activation act) {
    if (x->dry)
        return VD_OK;
    return vd_cuda_status(vd_launch_activate(vd_cuda(x)->stream, dst->data, dst->dtype, src->data,
                                             src->dtype, act, vd_tensor_elements(dst)),
                          "in an activation");
}

vd_status vd_cuda_transpose(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    if (x->dry)
        return VD_OK;
    return vd_cuda_status(vd_launch_transpose(vd_cuda(x)->stream, dst->data, dst->dtype, src->data,
                                              src->dtype, src->dim[0], src->dim[1], src->dim[2]),
                          "in a transposition");
}

vd_status vd_cuda_combine(vd_exec *x, vd_tensor *dst, int terms, const double *coefficient,
                          const vd_tensor *const *src) {
    vd_cuda_sum sum = {.terms = terms};
    if (x->dry)
        return VD_OK;
    for (int i = 0; i < terms; i++) {
        sum.coefficient[i] = coefficient[i];
        sum.src[i] = src[i]->data;
    }
    return vd_cuda_status(
        vd_launch_combine(vd_cuda(x)->stream, dst->data, &sum, vd_tensor_elements(dst)),
        "in a sum");
}

vd_status vd_cuda_scale_channels(vd_exec *x, vd_tensor *t, int64_t channels, double factor) {
    const int64_t columns = t->dim[t->rank - 1];
    if (x->dry || channels == 0)
        return VD_OK;
    return vd_cuda_status(vd_launch_scale_channels(vd_cuda(x)->stream, t->data, t->dtype,
                                                   vd_tensor_elements(t) / columns, columns,
                                                   channels, factor),
                          "in a scaling");
}

vd_status vd_cuda_paste(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                        const vd_paste_desc *desc) {
    const vd_cuda_rectangle job = {.dst = dst->data,
                                   .src = src->data,
                                   .n = dst->dim[0],
                                   .channels = dst->dim[3],
                                   .dst_h = dst->dim[1],
                                   .dst_w = dst->dim[2],
                                   .src_h = src->dim[1],
                                   .src_w = src->dim[2],
                                   .desc = *desc};
    if (x->dry)
        return VD_OK;
    return vd_cuda_status(vd_launch_paste(vd_cuda(x)->stream, &job), "in a paste");
}

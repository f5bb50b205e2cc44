#include "unet3d/redilate.h"

#include <math.h>

vd_redilate_axis vd_redilate_sizes(int64_t size, double factor, int stride) {
    const double dilation = ceil(factor);
    /* nearbyint rounds half to even, as the reference does */
    const int64_t inner = (int64_t)nearbyint((double)size * (dilation / factor));
    return (vd_redilate_axis){
        .dilation = (int)dilation,
        .inner = inner,
        .raw = (inner - 1) / stride + 1,
        .out = size / stride,
    };
}

vd_status vd_redilate_alloc(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                            const vd_conv_layer *conv, int stride, vd_redilation factor) {
    const int64_t height = vd_redilate_sizes(src->dim[1], factor.h, stride).out;
    const int64_t width = vd_redilate_sizes(src->dim[2], factor.w, stride).out;
    if (height < 1 || width < 1)
        return vd_fail(VD_ERR_INPUT,
                       "re-dilated with stride %d, a map of %lld x %lld leaves nothing; render "
                       "larger or leave this layer out of the settings",
                       stride, (long long)src->dim[2], (long long)src->dim[1]);
    return VD_ALLOC(x, src->dtype, dst, src->dim[0], height, width, conv->out);
}

/* dst = sum + residual, the sum in F32. Overwrites sum if dst has another dtype. */
static vd_status add_residual(vd_exec *x, vd_tensor *dst, vd_tensor *sum,
                              const vd_tensor *residual) {
    vd_status st;
    static const double ones[2] = {1, 1};
    vd_tensor wide = {0};
    const vd_tensor *terms[2] = {sum, residual};
    if (residual->dtype != VD_F32) {
        VD_TRY(vd_exec_alloc(x, VD_F32, residual->rank, residual->dim, &wide));
        VD_TRY(vd_activate(x, &wide, residual, VD_ACT_NONE));
        terms[1] = &wide;
    }
    VD_TRY(vd_combine(x, dst->dtype == VD_F32 ? dst : sum, 2, ones, terms));
    if (dst->dtype != VD_F32)
        VD_TRY(vd_activate(x, dst, sum, VD_ACT_NONE));
done:
    vd_exec_free(x, &wide);
    return st;
}

/* dst = raw at dst's size, + residual. raw is F32 if there is a residual, else like dst. */
static vd_status bring_back(vd_exec *x, vd_tensor *dst, const vd_tensor *raw,
                            const vd_tensor *residual) {
    vd_status st;
    vd_tensor sum = {0};
    if (residual == NULL)
        return vd_resize_bilinear(x, dst, raw);
    VD_TRY(vd_exec_alloc(x, VD_F32, dst->rank, dst->dim, &sum));
    VD_TRY(vd_resize_bilinear(x, &sum, raw));
    VD_TRY(add_residual(x, dst, &sum, residual));
done:
    vd_exec_free(x, &sum);
    return st;
}

vd_status vd_redilate_conv(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                           const vd_conv_layer *conv, const vd_tensor *add,
                           const vd_tensor *residual, int stride, vd_redilation factor,
                           const vd_kernel_map *map) {
    vd_status st;
    const vd_redilate_axis h = vd_redilate_sizes(src->dim[1], factor.h, stride);
    const vd_redilate_axis w = vd_redilate_sizes(src->dim[2], factor.w, stride);
    const int64_t n = src->dim[0];
    const vd_conv2d_desc desc = {
        .stride_h = stride,
        .stride_w = stride,
        .pad_top = h.dilation * ((map != NULL ? map->taps : conv->kernel_h) - 1) / 2,
        .pad_left = w.dilation * ((map != NULL ? map->taps : conv->kernel_w) - 1) / 2,
        .dilation_h = h.dilation,
        .dilation_w = w.dilation,
        .map = map,
        .raw_h = map != NULL ? h.raw : 0,
        .raw_w = map != NULL ? w.raw : 0,
    };
    const bool enlarges = h.inner != src->dim[1] || w.inner != src->dim[2];
    vd_tensor large = {0};
    vd_tensor raw = {0};

    if (enlarges) {
        VD_TRY(VD_ALLOC(x, src->dtype, &large, n, h.inner, w.inner, src->dim[3]));
        VD_TRY(vd_resize_bilinear(x, &large, src));
        src = &large;
    }
    if (map != NULL || (h.raw == h.out && w.raw == w.out)) {
        VD_TRY(vd_conv2d(x, dst, src, conv->w, conv->bias, add, residual, &desc));
        goto done;
    }
    /* The residual has the result's size, so it comes after the resizing; what is added to whole
     * channels may come before. */
    VD_TRY(VD_ALLOC(x, residual != NULL ? VD_F32 : dst->dtype, &raw, n, h.raw, w.raw, conv->out));
    VD_TRY(vd_conv2d(x, &raw, src, conv->w, conv->bias, add, NULL, &desc));
    vd_exec_free(x, &large);
    VD_TRY(bring_back(x, dst, &raw, residual));
done:
    vd_exec_free(x, &large);
    vd_exec_free(x, &raw);
    return st;
}

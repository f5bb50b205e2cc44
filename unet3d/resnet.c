/* Residual layers and the convolutions that settings can re-dilate. */
#include "unet3d/blocks.h"

#include <string.h>

vd_status vd_spatial_conv_load(const vd_loader *l, const char *path, int64_t out, int64_t in,
                               int stride, vd_spatial_conv *layer) {
    layer->path = vd_path_join("", "%s", path);
    layer->stride = stride;
    return vd_load_conv(l, path, out, in, 3, 3, false, &layer->conv);
}

/* NULL: the plain layer. */
static const vd_layer_method *method_of(const vd_unet_pass *pass, const vd_spatial_conv *layer) {
    const vd_layer_method *layers = vd_unet_method(pass)->layers;
    return layers != NULL && layers[layer->index].redilated ? &layers[layer->index] : NULL;
}

vd_status vd_spatial_conv_alloc(const vd_unet_pass *pass, vd_tensor *dst, const vd_tensor *src,
                                const vd_spatial_conv *layer) {
    const vd_layer_method *method = method_of(pass, layer);
    if (method != NULL) {
        const vd_status st =
            vd_redilate_alloc(pass->x, dst, src, &layer->conv, layer->stride, method->factor);
        return st == VD_OK ? st : vd_fail_in(st, "%s", layer->path.text);
    }
    const int64_t height = (src->dim[1] - 1) / layer->stride + 1;
    const int64_t width = (src->dim[2] - 1) / layer->stride + 1;
    return VD_ALLOC(pass->x, src->dtype, dst, src->dim[0], height, width, layer->conv.out);
}

vd_status vd_spatial_conv_forward(const vd_unet_pass *pass, vd_tensor *dst, const vd_tensor *src,
                                  const vd_spatial_conv *layer, const vd_tensor *add,
                                  const vd_tensor *residual) {
    const vd_layer_method *method = method_of(pass, layer);
    if (method != NULL)
        return vd_redilate_conv(pass->x, dst, src, &layer->conv, add, residual, layer->stride,
                                method->factor,
                                method->dispersed ? &vd_unet_method(pass)->dispersion : NULL);
    const vd_conv2d_desc desc = {
        .stride_h = layer->stride,
        .stride_w = layer->stride,
        .pad_top = 1,
        .pad_left = 1,
        .dilation_h = 1,
        .dilation_w = 1,
    };
    return vd_conv2d(pass->x, dst, src, layer->conv.w, layer->conv.bias, add, residual, &desc);
}

vd_status vd_resnet_load(const vd_loader *l, const char *path, const vd_resnet_desc *desc,
                         vd_resnet *resnet) {
    vd_status st;
    const int64_t in = desc->in + desc->skip;
    const vd_path shortcut = vd_path_join(path, "conv_shortcut");

    resnet->path = vd_path_join("", "%s", path);
    resnet->in = desc->in;
    resnet->skip = desc->skip;
    resnet->out = desc->out;
    /* A concatenation always has one: the hidden state or the skip is as wide as the output. */
    resnet->has_shortcut = in != desc->out;
    VD_TRY(vd_load_norm(l, vd_path_join(path, "norm1").text, in, desc->groups, desc->eps,
                        &resnet->norm1));
    VD_TRY(vd_spatial_conv_load(l, vd_path_join(path, "conv1").text, desc->out, in, 1,
                                &resnet->conv1));
    VD_TRY(vd_load_linear(l, vd_path_join(path, "time_emb_proj").text, desc->out, desc->time_width,
                          true, &resnet->time));
    VD_TRY(vd_load_norm(l, vd_path_join(path, "norm2").text, desc->out, desc->groups, desc->eps,
                        &resnet->norm2));
    VD_TRY(vd_spatial_conv_load(l, vd_path_join(path, "conv2").text, desc->out, desc->out, 1,
                                &resnet->conv2));
    if (resnet->has_shortcut && desc->skip > 0)
        VD_TRY(vd_load_split_linear(l, shortcut.text, desc->out, desc->in, desc->skip,
                                    &resnet->shortcut, &resnet->skip_shortcut));
    else if (resnet->has_shortcut)
        VD_TRY(vd_load_linear(l, shortcut.text, desc->out, in, true, &resnet->shortcut));
done:
    return st;
}

void vd_resnet_destroy(vd_backend *be, vd_resnet *resnet) {
    vd_norm_layer_destroy(be, &resnet->norm1);
    vd_norm_layer_destroy(be, &resnet->norm2);
    vd_conv_layer_destroy(be, &resnet->conv1.conv);
    vd_conv_layer_destroy(be, &resnet->conv2.conv);
    vd_linear_layer_destroy(be, &resnet->time);
    vd_linear_layer_destroy(be, &resnet->shortcut);
    vd_linear_layer_destroy(be, &resnet->skip_shortcut);
}

/* normed = SiLU(norm2(conv1(SiLU(norm1([h, skip]))) + time)) */
static vd_status first_half(const vd_unet_pass *pass, vd_tensor *normed, const vd_tensor *h,
                            const vd_tensor *skip, const vd_resnet *resnet) {
    vd_status st;
    vd_exec *x = pass->x;
    const vd_norm_layer *norm1 = &resnet->norm1;
    const vd_norm_layer *norm2 = &resnet->norm2;
    const int64_t in = resnet->in + resnet->skip;
    vd_tensor time = {0};
    vd_tensor wide = {0};
    vd_tensor mid = {0};

    VD_TRY(VD_ALLOC(x, VD_F32, &time, pass->time.dim[0], resnet->out));
    VD_TRY(vd_linear(x, &time, &pass->time, resnet->time.w, resnet->time.bias, NULL, VD_ACT_NONE));
    VD_TRY(VD_ALLOC(x, h->dtype, &wide, h->dim[0], h->dim[1], h->dim[2], in));
    VD_TRY(vd_group_norm(x, &wide, h, skip, norm1->scale, norm1->shift, norm1->groups, norm1->eps,
                         VD_ACT_SILU));
    VD_TRY(vd_spatial_conv_alloc(pass, &mid, &wide, &resnet->conv1));
    VD_TRY(vd_spatial_conv_forward(pass, &mid, &wide, &resnet->conv1, &time, NULL));
    vd_exec_free(x, &wide);
    VD_TRY(vd_exec_alloc(x, mid.dtype, mid.rank, mid.dim, normed));
    VD_TRY(vd_group_norm(x, normed, &mid, NULL, norm2->scale, norm2->shift, norm2->groups,
                         norm2->eps, VD_ACT_SILU));
done:
    vd_exec_free(x, &time);
    vd_exec_free(x, &wide);
    vd_exec_free(x, &mid);
    return st;
}

vd_status vd_resnet_forward(const vd_unet_pass *pass, vd_tensor *out, const vd_tensor *h,
                            const vd_tensor *skip, const vd_resnet *resnet) {
    vd_status st;
    vd_exec *x = pass->x;
    const vd_linear_layer *shortcut = &resnet->shortcut;
    vd_tensor normed = {0};
    memset(out, 0, sizeof *out);

    VD_TRY(first_half(pass, &normed, h, skip, resnet));
    VD_TRY(VD_ALLOC(x, h->dtype, out, h->dim[0], h->dim[1], h->dim[2], resnet->out));
    if (resnet->has_shortcut) {
        VD_TRY(vd_linear(x, out, h, shortcut->w, shortcut->bias, NULL, VD_ACT_NONE));
        if (skip != NULL)
            VD_TRY(vd_linear(x, out, skip, resnet->skip_shortcut.w, NULL, out, VD_ACT_NONE));
    }
    VD_TRY(vd_spatial_conv_forward(pass, out, &normed, &resnet->conv2, NULL,
                                   resnet->has_shortcut ? out : h));
done:
    vd_exec_free(x, &normed);
    if (st != VD_OK)
        vd_exec_free(x, out);
    return st;
}

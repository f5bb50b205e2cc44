#include "temporal/conv.h"

#include "temporal/path.h"

static const float norm_eps = 1e-5f; /* torch's default: the UNet's norm_eps does not reach here */

vd_status vd_temporal_conv_load(const vd_loader *l, const char *prefix, int64_t channels,
                                int groups, vd_temporal_conv *layer) {
    vd_status st = VD_OK;
    for (int i = 0; i < VD_TEMPORAL_CONV_STEPS; i++) {
        /* The later ones have a dropout before the convolution. */
        const int conv_at = i == 0 ? 2 : 3;
        VD_TRY(vd_load_norm(l, vd_path_join(prefix, "conv%d.0", i + 1).text, channels, groups,
                            norm_eps, &layer->norm[i]));
        VD_TRY(vd_load_conv(l, vd_path_join(prefix, "conv%d.%d", i + 1, conv_at).text, channels,
                            channels, 3, 1, true, &layer->conv[i]));
    }
done:
    return st;
}

void vd_temporal_conv_destroy(vd_backend *be, vd_temporal_conv *layer) {
    for (int i = 0; i < VD_TEMPORAL_CONV_STEPS; i++) {
        vd_norm_layer_destroy(be, &layer->norm[i]);
        vd_conv_layer_destroy(be, &layer->conv[i]);
    }
}

static vd_tensor as_image(const vd_tensor *t, int64_t frames) {
    return VD_VIEW(t->data, t->dtype, t->dim[0] / frames, frames, t->dim[1] * t->dim[2], t->dim[3]);
}

vd_status vd_temporal_conv_forward(vd_exec *x, vd_tensor *h, const vd_temporal_conv *layer,
                                   int64_t frames) {
    vd_status st = VD_OK;
    const vd_conv2d_desc desc = {
        .stride_h = 1, .stride_w = 1, .pad_top = 1, .dilation_h = 1, .dilation_w = 1};
    const vd_tensor input = as_image(h, frames);
    vd_tensor current = input; /* borrowed in the first step, then the last step's output */
    vd_tensor normed = {0};
    vd_tensor output = {0};

    for (int i = 0; i < VD_TEMPORAL_CONV_STEPS; i++) {
        const vd_norm_layer *norm = &layer->norm[i];
        const bool last = i == VD_TEMPORAL_CONV_STEPS - 1;
        VD_TRY(vd_exec_alloc(x, current.dtype, current.rank, current.dim, &normed));
        VD_TRY(vd_group_norm(x, &normed, &current, NULL, norm->scale, norm->shift, norm->groups,
                             norm->eps, VD_ACT_SILU));
        vd_exec_free(x, &output);
        if (last) {
            output = input;
        } else {
            VD_TRY(vd_exec_alloc(x, current.dtype, current.rank, current.dim, &output));
        }
        st = vd_conv2d(x, &output, &normed, layer->conv[i].w, layer->conv[i].bias, NULL,
                       last ? &input : NULL, &desc);
        if (last)
            output.data = NULL; /* the caller's */
        VD_TRY(st);
        vd_exec_free(x, &normed);
        current = output;
    }
done:
    vd_exec_free(x, &normed);
    vd_exec_free(x, &output);
    return st;
}

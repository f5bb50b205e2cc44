/* diffusers' TemporalConvLayer: four times [group norm, SiLU, convolution over 3 frames], added to
 * the input. It mixes frames at one pixel and is never re-dilated.
 *
 * An activation [batch * frames, h, w, c], frame fastest, is read as the image [batch, frames,
 * h * w, c]: the convolution is an ordinary one with a 3x1 kernel. */
#ifndef VD_TEMPORAL_CONV_H
#define VD_TEMPORAL_CONV_H

#include "backend/layers.h"

enum { VD_TEMPORAL_CONV_STEPS = 4 };

typedef struct vd_temporal_conv {
    vd_norm_layer norm[VD_TEMPORAL_CONV_STEPS];
    vd_conv_layer conv[VD_TEMPORAL_CONV_STEPS];
} vd_temporal_conv;

vd_status vd_temporal_conv_load(const vd_loader *l, const char *prefix, int64_t channels,
                                int groups, vd_temporal_conv *layer);
void vd_temporal_conv_destroy(vd_backend *be, vd_temporal_conv *layer);

/* Updates h [batch * frames, height, width, channels] of the exec's dtype in place. */
vd_status vd_temporal_conv_forward(vd_exec *x, vd_tensor *h, const vd_temporal_conv *layer,
                                   int64_t frames);

#endif

/* FreeU: what enters the resnets of up blocks, reweighted. Si et al., "FreeU: Free Lunch in
 * Diffusion U-Net"; the two rules are method.md's, section 6. */
#ifndef VD_UNET3D_FREEU_H
#define VD_UNET3D_FREEU_H

#include "unet3d/method.h"

/* Updates h and skip [n, h, w, channels] in place before a resnet of up_blocks.{block}. */
vd_status vd_freeu_apply(vd_exec *x, const vd_freeu *freeu, int block, vd_tensor *h,
                         vd_tensor *skip);

#endif

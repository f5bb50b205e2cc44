#include "unet3d/freeu.h"

#include "backend/ops.h"

/* 1 or 2: which pair of factors; 0: none. */
static int stage_of(const vd_freeu *freeu, int block, int64_t channels) {
    switch (freeu->rule) {
    case VD_FREEU_BY_BLOCK:
        return block == 0 ? 1 : block == 1 ? 2 : 0;
    case VD_FREEU_BY_CHANNELS:
        return channels == freeu->c1 ? 1 : channels == freeu->c2 ? 2 : 0;
    case VD_FREEU_OFF:
        break;
    }
    return 0;
}

vd_status vd_freeu_apply(vd_exec *x, const vd_freeu *freeu, int block, vd_tensor *h,
                         vd_tensor *skip) {
    vd_status st = VD_OK;
    const int64_t channels = h->dim[3];
    const int stage = stage_of(freeu, block, channels);
    if (stage == 0)
        return VD_OK;
    VD_TRY(vd_scale_channels(x, h, channels / 2, stage == 1 ? freeu->b1 : freeu->b2));
    VD_TRY(vd_scale_low_frequencies(x, skip, stage == 1 ? freeu->s1 : freeu->s2));
done:
    return st;
}

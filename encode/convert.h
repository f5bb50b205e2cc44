/* RGB frames to an encoder's pixel format; for encode/ only. */
#ifndef VD_ENCODE_CONVERT_H
#define VD_ENCODE_CONVERT_H

#include <libavcodec/avcodec.h>
#include <stdint.h>

#include "core/status.h"

typedef struct vd_converter vd_converter;

/* From [height_px, width_px, 3] RGB to frames of the encoder's size (at least that), pixel format
 * and colour tags. YUV is BT.709, limited range. */
vd_status vd_converter_create(const AVCodecContext *encoder, int width_px, int height_px,
                              vd_converter **out);

/* The converted frame in `*out`, owned by the converter and good until its next call. */
vd_status vd_converter_run(vd_converter *converter, const uint8_t *rgb, AVFrame **out);

/* NULL is legal. */
void vd_converter_destroy(vd_converter *converter);

#endif

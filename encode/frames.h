/* The frames of a video or PNG file as RGB, in order. */
#ifndef VD_ENCODE_FRAMES_H
#define VD_ENCODE_FRAMES_H

#include <stdint.h>

#include "core/status.h"

/* One frame: [height_px, width_px, 3] bytes, RGB, tightly packed, borrowed for the call. Another
 * status than VD_OK ends the reading with it. */
typedef vd_status (*vd_frame_fn)(void *user, const uint8_t *rgb, int64_t width_px,
                                 int64_t height_px);

/* Decodes with `threads` (0: as many as libavcodec thinks fit) and converts by the file's colour
 * tags. What padding added (vidilate:size) is left out. VD_ERR_INPUT: as vd_probe with
 * VD_PROBE_DECODE, after the frames before the damage. */
vd_status vd_frames_read(const char *path, int threads, vd_frame_fn fn, void *user);

#endif

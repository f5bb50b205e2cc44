/* The stages of a render, with the frames' bytes going to a consumer of the library's own. */
#ifndef VD_VIDEO_PIPELINE_H
#define VD_VIDEO_PIPELINE_H

#include "video/vidilate.h"

/* `consume` (or NULL) gets each frame's [height, width, 3] bytes before events->frame does. The
 * decoder runs if either is there. */
vd_status vd_render_frames(vd_model *model, const vd_render_request *request,
                           const vd_render_events *events,
                           vd_status (*consume)(void *user, const uint8_t *rgb), void *user);

#endif

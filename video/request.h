/* Settings of a render as JSON: what a clip's metadata hold, and what a job file gives. */
#ifndef VD_VIDEO_REQUEST_H
#define VD_VIDEO_REQUEST_H

#include "video/vidilate.h"

/* One line of JSON with render's long options as keys ("prompt", "steps", ...), and "model-hash"
 * and "version". malloc'ed, owned by the caller. */
vd_status vd_request_describe(vd_model *model, const vd_render_request *request,
                              const vd_output *output, char **out);

#endif

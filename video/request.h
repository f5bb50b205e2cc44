/* Settings of a render as JSON: what a clip's metadata hold, and what a job file gives. */
#ifndef VD_VIDEO_REQUEST_H
#define VD_VIDEO_REQUEST_H

#include "encode/sink.h"
#include "video/vidilate.h"

/* Hears of a value that cannot be: render's option name, and the status; the message is
 * vd_error_message(). */
typedef void (*vd_request_problem)(void *user, const char *option, vd_status status);

/* NULL-terminated list of the values of vd_render_request.vae_tiling. */
const char *const *vd_vae_tiling_names(void);

/* vd_render_check for all values at once; returns the first one's status. problem NULL: stops at
 * it. */
vd_status vd_request_check(const vd_model *model, const vd_render_request *request,
                           vd_request_problem problem, void *user);

/* What the encoder is told of an output; borrows. threads: of the check that reads it back. */
vd_sink_options vd_request_sink_options(const vd_output *output, const vd_render_request *request,
                                        int threads);

/* One line of JSON with render's long options as keys ("prompt", "steps", ...), and "model-hash"
 * and "version". malloc'ed, owned by the caller. */
vd_status vd_request_describe(vd_model *model, const vd_render_request *request,
                              const vd_output *output, char **out);

#endif

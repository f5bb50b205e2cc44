/* What a render will run, step by step and block by block, and why. */
#ifndef VD_VIDEO_EXPLAIN_H
#define VD_VIDEO_EXPLAIN_H

#include "video/vidilate.h"

/* Text for a person or, with `json`, one object, of the request with the settings that it has;
 * `why` says where they came from and `row` (or NULL) the file of the configs folder. malloc'ed.
 * The request has passed vd_render_check, but for its prompt. */
VD_API vd_status vd_explain(const vd_model *model, const vd_render_request *r, const char *why,
                            const char *row, bool json, char **out);

#endif

/* libav's log and error codes in ours; for encode/ only. */
#ifndef VD_ENCODE_AV_H
#define VD_ENCODE_AV_H

#include "core/status.h"

/* Sends libav's log to vd_log at debug level, once per process. */
void vd_av_init(void);

/* Forgets the last error line that libav logged in this thread; later vd_av_reason tells it. */
void vd_av_forget(void);

/* A libav error code in words: its last logged line in this thread if there is one, else the
 * code's own text. Valid until the thread's next call. */
const char *vd_av_reason(int error);

/* Fails with `what` and the code's text; VD_ERR_MEMORY instead of `code` for ENOMEM. */
vd_status vd_av_fail(vd_status code, int error, const char *path, const char *what);

#endif

/* Between the files of review/. */
#ifndef VD_REVIEW_PARTS_H
#define VD_REVIEW_PARTS_H

#include "review/review.h"

/* Metadata of our own contact sheets. */
#define VD_SHEET_KEY "vidilate:sheet"

/* Adds to the files left out; a path at the beginning of the reason is cut off. */
vd_status vd_review_leave_out(vd_review *review, const char *file, const char *reason);

/* VD_ERR_INPUT if there is no clip. */
vd_status vd_review_check(const vd_review *review);

/* Sets the clips' marks; VD_ERR_MEMORY. */
vd_status vd_review_set_marks(vd_review *review);

/* Frees what a clip holds and removes its copy. */
void vd_review_clip_free(vd_review_clip *clip);

/* [to_height][to_width][3] from [height][width][3]: the mean of the pixels under each, or the
 * nearest one where it grows. */
void vd_resize_rgb(uint8_t *to, int to_width, int to_height, const uint8_t *from, int64_t width,
                   int64_t height);

#endif

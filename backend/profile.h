/* Sums of time and work by op and shape. Included by backend/ only. */
#ifndef VD_BACKEND_PROFILE_H
#define VD_BACKEND_PROFILE_H

#include "backend/backend.h"

typedef struct vd_profiler vd_profiler;

vd_status vd_profiler_create(vd_profiler **out);
void vd_profiler_destroy(vd_profiler *p);
void vd_profiler_clear(vd_profiler *p);

/* Adds one call to the line `name` (cut at 95 bytes). VD_ERR_MEMORY. */
vd_status vd_profiler_add(vd_profiler *p, const char *name, double seconds, double flop,
                          double bytes);

/* Sorted by seconds, longest first; borrowed until the next add. */
const vd_op_profile *vd_profiler_lines(vd_profiler *p, size_t *count);

#endif

/* How much memory there is: Linux grants more than it has and ends the process later, so large
 * requests are refused beforehand. */
#ifndef VD_CORE_MEMORY_H
#define VD_CORE_MEMORY_H

#include <stddef.h>

#include "core/status.h"

/* Bytes that can still be had without swapping: the machine's, or less inside a control group
 * (version 1 or 2, the process' own or one around it) with a limit. SIZE_MAX if neither says. */
size_t vd_memory_available(void);

/* The same, of the machine whose /proc and /sys lie in the folder `root`. */
size_t vd_memory_available_in(const char *root);

/* VD_ERR_MEMORY, with both figures, if `bytes` more cannot be had; `what` says what they are for.
 * Amounts under 64 MiB are not looked at. */
vd_status vd_memory_check(size_t bytes, const char *what);

/* Bytes of this process that are in memory now, mapped files included; and the most that ever were.
 * 0 if the system does not say. (getrusage counts what the parent had before the exec, too.) */
size_t vd_memory_resident(void);
size_t vd_memory_peak(void);

/* Gives back to the system what was freed and the allocator holds. */
void vd_memory_trim(void);

#endif

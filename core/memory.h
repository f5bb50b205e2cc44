/* How much memory there is: Linux grants more than it has and ends the process later, so large
 * requests are refused beforehand. */
#ifndef VD_CORE_MEMORY_H
#define VD_CORE_MEMORY_H

#include <stddef.h>

#include "core/status.h"

/* Bytes that can still be had without swapping: the machine's, or less inside a control group with
 * a limit. SIZE_MAX if neither says. */
size_t vd_memory_available(void);

/* VD_ERR_MEMORY, with both figures, if `bytes` more cannot be had; `what` says what they are for.
 * Amounts under 64 MiB are not looked at. */
vd_status vd_memory_check(size_t bytes, const char *what);

#endif

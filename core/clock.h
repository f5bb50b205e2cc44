#ifndef VD_CORE_CLOCK_H
#define VD_CORE_CLOCK_H

/* Seconds since some moment that stays the same while the process runs; never goes back. */
double vd_now_s(void);

#endif

/* Threads that run the tasks of one operation at a time.
 *
 * Not OpenMP's: its threads spin between regions, and on a machine that does anything else besides,
 * a network of many short operations becomes ten times slower (HACKING.md, log of optimisations).
 */
#ifndef VD_BACKEND_CPU_POOL_H
#define VD_BACKEND_CPU_POOL_H

#include <stdint.h>

#include "core/status.h"

typedef struct vd_cpu_pool vd_cpu_pool;

/* One task; `thread` is below the pool's threads and below the number of tasks: scratch is booked
 * by the smaller. Returns 0, or a status of oneDNN. */
typedef int (*vd_cpu_task)(void *user, int64_t task, int thread);

/* `threads` counts the caller's own; 1 makes no thread. VD_ERR_MEMORY: they cannot be started. */
vd_status vd_cpu_pool_create(int threads, vd_cpu_pool **out);
void vd_cpu_pool_destroy(vd_cpu_pool *pool); /* NULL is legal */

/* Runs tasks 0..count-1, in any order; inside, oneDNN has one thread. One caller at a time. Returns
 * 0, or the status of a task that failed (tasks not begun by then are left out). */
int vd_cpu_parallel(vd_cpu_pool *pool, int64_t count, vd_cpu_task run, void *user);

#endif

/* Which of the jobs are this process'. */
#ifndef VD_CLI_SHARD_H
#define VD_CLI_SHARD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

typedef struct cli_shard {
    size_t index, count; /* jobs index, index + count, ...; count 1: all */
    /* Jobs of other shards that nobody has are rendered too when the own ones are done: a shard of
     * a cluster may never start. */
    bool helps;
    /* One of a cluster's processes, but which is not known: it counts as all, and claims alone
     * divide the jobs. */
    bool unknown;
} cli_shard;

/* text: "I/N", where I counts from 0 or from 1 (N/N is 0/N), or NULL: a Slurm job array
 * (SLURM_ARRAY_TASK_ID, _MIN, _MAX, _STEP, _COUNT) or an indexed Kubernetes Job
 * (JOB_COMPLETION_INDEX, with the number of pods in VIDILATE_SHARDS) say it in the environment, or
 * else all jobs are. VD_ERR_USAGE. */
vd_status cli_shard_read(const char *text, cli_shard *out);

/* Whether job number `job`, from 0, is one of the shard's. */
bool cli_shard_has(const cli_shard *shard, size_t job);

#endif

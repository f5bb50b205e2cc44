/* What the files batch*.c share: one run of `vidilate batch`. */
#ifndef VD_CLI_BATCH_H
#define VD_CLI_BATCH_H

#include "cli/batch_progress.h"
#include "cli/jobs.h"
#include "cli/ledger.h"
#include "cli/shard.h"

/* A model that jobs use, open; its networks are loaded when the first job needs them. */
typedef struct cli_batch_model {
    const cli_render_args *args; /* of a job that uses it */
    vd_model *model;             /* NULL: could not be opened */
} cli_batch_model;

typedef struct cli_batch_state {
    /* options */
    const char *file, *picks, *dir, *shard_text, *progress;
    bool jobs_list, check, dry_run, json, force, keep_latents, re_encode;
    double stale_s; /* after which a claim that is not touched is dead */
    cli_overrides overrides;
    /* what they lead to */
    double start_s; /* of the command */
    cli_shard shard;
    bool made_dir;
    cli_problems problems;
    cli_jobs jobs;
    cli_batch_model *models;
    size_t model_count;
} cli_batch_state;

/* Opens the models of the jobs and checks every job against its model; what is wrong goes to
 * batch->problems. */
void cli_batch_check(cli_batch_state *batch);

/* Prints what each job would be and, but for --check, what all of them take. VD_ERR_MEMORY,
 * VD_ERR_OUTPUT: a job that cannot fit, or all that cannot on the disk. */
vd_status cli_batch_preflight(cli_batch_state *batch);

/* Renders what is not finished. VD_ERR_INTERRUPTED; else, after all jobs, the status of the first
 * one that failed. */
vd_status cli_batch_run(cli_batch_state *batch);

#endif

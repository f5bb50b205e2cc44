/* One job of a batch, from its claim to its line in the manifest. */
#ifndef VD_CLI_BATCH_TURN_H
#define VD_CLI_BATCH_TURN_H

#include "cli/batch.h"
#include "cli/claim.h"

/* What a run of the batch keeps from job to job. */
typedef struct cli_batch_runner {
    cli_batch_state *batch;
    char *manifest, *failures; /* DIR/manifest.jsonl, DIR/failed.jsonl */
    cli_ledger finished;       /* the manifest as last read */
    cli_claims *claims;
    cli_batch_progress progress;
    size_t rendered, found, failed, left; /* jobs; left: to other processes */
    vd_status first_failure;
    double render_s, load_s, encode_s; /* in all renders; render_s: without the other two */
} cli_batch_runner;

typedef enum cli_turn_result {
    CLI_TURN_DONE,   /* rendered now or before */
    CLI_TURN_OTHERS, /* a living process has it */
    CLI_TURN_LATER,  /* its process may be dead: try again */
} cli_turn_result;

/* Takes job number `index` if nobody has it, and renders it if it is not finished. */
vd_status cli_batch_take(cli_batch_runner *run, size_t index, cli_turn_result *result);

/* ---- also for --dry-run ---- */

/* A job in the making. */
typedef struct cli_batch_turn {
    cli_batch_runner *run;
    const cli_job *job;
    vd_model *model;
    cli_render_work work;
    char *settings; /* vd_request_describe */
    char fingerprint[VD_SHA256_HEX_BYTES];
    cli_render_result result;
    double seconds;
} cli_batch_turn;

/* Fills what the job's render is: work, settings, fingerprint; also after a failure the caller
 * frees work and settings. */
vd_status cli_batch_prepare(cli_batch_turn *t);

/* Whether the manifest has the job with these settings, and its file is there. */
bool cli_batch_is_recorded(const cli_batch_turn *t);

/* ---- batch_record.c ---- */

/* The job's line in the manifest. The digest is unknown for a file that was found. */
vd_status cli_batch_record(const cli_batch_turn *t, bool found);

/* Tells of a failed job and records it; its message is the thread's. */
void cli_batch_record_failure(cli_batch_runner *run, const cli_job *job, vd_status status);

#endif

/* How a batch shows that it goes on: all jobs in one bar, or one JSON object a line. */
#ifndef VD_CLI_BATCH_PROGRESS_H
#define VD_CLI_BATCH_PROGRESS_H

#include <stddef.h>

#include "cli/progress.h"

typedef struct cli_batch_progress {
    cli_progress line; /* style, and whether the bar's line is open */
    double start_s;    /* of the first render */
    double done;       /* work of the renders that ended, in steps of a job of one pixel */
    double left;       /* of those to come, the present one included */
    double job_work;   /* of the present one */
    const char *job;   /* its name */
    size_t jobs_done, jobs_total;
} cli_batch_progress;

/* What a render costs, up to a factor. */
double cli_batch_work(const vd_render_request *request);

void cli_batch_progress_begin(cli_batch_progress *p, const char *job, double work);
void cli_batch_progress_show(cli_batch_progress *p, const vd_progress *now);

/* rendered: whether the work was done, and not found done. */
void cli_batch_progress_end(cli_batch_progress *p, bool rendered);

#endif

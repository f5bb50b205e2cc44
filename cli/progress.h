/* How a render shows that it goes on. */
#ifndef VD_CLI_PROGRESS_H
#define VD_CLI_PROGRESS_H

#include "video/vidilate.h"

typedef enum cli_progress_style {
    CLI_PROGRESS_NONE,
    CLI_PROGRESS_BAR,  /* one line on stderr, rewritten: step, s/step, ETA, peak memory */
    CLI_PROGRESS_JSON, /* one object a line on stderr */
} cli_progress_style;

typedef struct cli_progress {
    cli_progress_style style;
    bool line_open;       /* the bar's line is not ended yet */
    double stage_start_s; /* monotonic */
    vd_stage stage;
} cli_progress;

/* mode: "auto" (a bar if stderr is a terminal), "bar", "json", "none". */
void cli_progress_init(cli_progress *p, const char *mode);
void cli_progress_show(cli_progress *p, const vd_progress *now);

/* Ends the bar's line, so that other text can follow. */
void cli_progress_end(cli_progress *p);

/* "text", "denoise", "decode" */
const char *cli_stage_name(vd_stage stage);

/* Highest resident size of the process so far. */
int64_t cli_peak_bytes(void);

#endif

/* Job files: what `vidilate batch` is to render, as a list of renders.
 *
 *     {"version": 1, "defaults": {"steps": 25}, "jobs": [{"name": "ring", "prompt": "a ring"}],
 *      "matrix": {"seed": [1, 2, 3], "guidance": [5, 7.5]}}
 *
 * Each job is rendered with each combination of the matrix: ring-seed-1-guidance-5, ... Keys are
 * render's long options; a job's own value goes before that of the defaults. "name" is a job's file
 * name without ending ("job-0001" if missing), "container" the ending: mp4, mov, mkv, webm, png.
 *
 * Picks are what the review page exports:
 *
 *     {"version": 1, "picks": [{"file": "ring.mp4", "settings": {as in the clip's metadata},
 *                               "verdict": "pick", "rank": 1, "note": "..."}]}
 *
 * Those with the verdict "pick" are jobs, by rank (those without come last), with the clip's
 * settings and its file name.
 */
#ifndef VD_CLI_JOBS_H
#define VD_CLI_JOBS_H

#include "cli/problems.h"
#include "cli/render.h"

/* Options of the command line that go before those of all jobs: render's table, with the given
 * texts; NULL where not given. A flag's text is "". */
typedef struct cli_overrides {
    const char *text[CLI_RENDER_OPTIONS];
} cli_overrides;

typedef struct cli_job {
    char *name;
    char *latents; /* where the final latents are kept; NULL: nowhere */
    char *output;  /* DIR/NAME.mp4, or DIR/NAME-%04d.png */
    cli_render_args args;
    size_t model;        /* of the batch; set by its checks */
    cli_command command; /* owns the texts of @FILE; its options are gone */
    vd_json *clip;       /* settings of "from", of a pick, or inline method settings; or NULL */
    const vd_json_value *place;                      /* the job's entry, for messages */
    const vd_json_value *origin[CLI_RENDER_OPTIONS]; /* where each option was set; NULL: nowhere */
} cli_job;

typedef struct cli_jobs {
    const char *path;
    vd_json *doc; /* the texts of the jobs lie in here */
    cli_job *list;
    size_t count;
} cli_jobs;

enum { CLI_JOBS_MAX = 100000 };

/* Reads and expands a job file, or picks. Whatever is wrong goes to `problems`, all of it; the jobs
 * are whole only if there are none. `dir` is where the clips go. `out` is to be freed. */
void cli_jobs_read(const char *path, bool picks, const char *dir, const cli_overrides *overrides,
                   cli_jobs *out, cli_problems *problems);
void cli_jobs_free(cli_jobs *jobs);

/* The option's index in render's table, or -1: it is none, or none that a job may have. */
int cli_job_option(const cli_option options[CLI_RENDER_OPTIONS], const char *key);

/* Puts FILE and the JSON path before the thread's message, instead of a command's name; returns the
 * status. */
vd_status cli_job_fail_at(vd_status status, const vd_json *doc, const vd_json_value *v);

/* ---- between the files jobs*.c -----------------------------------------------------------------
 */

/* What a job is made of before its options are set. */
typedef struct cli_job_plan {
    const vd_json_value *value[CLI_RENDER_OPTIONS];
    const vd_json_value *place;
    const vd_json_value *clip; /* a pick's settings; or NULL */
    const char *file;          /* the pick's clip */
    char *name;                /* owned; NULL: could not be had */
    const char *container;
} cli_job_plan;

/* Adds a job; takes plan->name over. */
void cli_jobs_add(cli_jobs *jobs, const char *dir, const cli_overrides *overrides,
                  cli_job_plan *plan, cli_problems *problems);

/* Takes the members of an object of options over, in place of those of the plan. "name" goes by,
 * everything else unknown is a problem. */
void cli_job_plan_merge(cli_job_plan *plan, const vd_json *doc, const vd_json_value *object,
                        bool may_have_name, cli_problems *problems);

/* VD_ERR_USAGE unless it is 1 to 150 of A-Z a-z 0-9 . _ - and begins with no dot or dash. */
vd_status cli_job_check_name(const vd_json *doc, const vd_json_value *v, const char *name);

void cli_jobs_read_picks(cli_jobs *jobs, const char *dir, const cli_overrides *overrides,
                         cli_problems *problems);

#endif

/* The command: its options, and what happens in which order. */
#include "cli/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/text.h"

enum { OWN_OPTIONS = 12, ALL_OPTIONS = OWN_OPTIONS + CLI_RENDER_OPTIONS };

static const char *const PROGRESS[] = {"auto", "bar", "json", "none", NULL};

/* Batch's own options, and those of render that a job may have, whose texts go to the overrides.
 * Returns how many. */
static size_t fill_options(cli_batch_state *b, cli_option options[ALL_OPTIONS]) {
    const cli_option own[OWN_OPTIONS] = {
        {"out", 'o', CLI_TEXT, &b->dir, "DIR", "folder of the clips and of manifest.jsonl", NULL,
         NULL},
        {"from", 0, CLI_TEXT, &b->picks, "PICKS",
         "instead of a job file: what the review page exported", NULL, NULL},
        {"shard", 0, CLI_TEXT, &b->shard_text, "I/N",
         "only the I-th of N parts (all; a Slurm array's or Kubernetes Job's own)", NULL, NULL},
        {"jobs-list", 0, CLI_FLAG, &b->jobs_list, NULL, "print the jobs' names", NULL, NULL},
        {"check", 0, CLI_FLAG, &b->check, NULL, "check everything, render nothing", NULL, NULL},
        {"dry-run", 0, CLI_FLAG, &b->dry_run, NULL,
         "the same, then try each kind of job with a step and a frame, and say what memory, time "
         "and disk all take",
         NULL, NULL},
        {"json", 0, CLI_FLAG, &b->json, NULL, "with --dry-run: as JSON", NULL, NULL},
        {"force", 0, CLI_FLAG, &b->force, NULL, "render finished jobs again", NULL, NULL},
        {"keep-latents", 0, CLI_FLAG, &b->keep_latents, NULL,
         "keep each clip's final latents, NAME.latents.safetensors", NULL, NULL},
        {"re-encode", 0, CLI_FLAG, &b->re_encode, NULL,
         "make the clips again from kept latents, with another --crf, say", NULL, NULL},
        {"stale", 0, CLI_DOUBLE, &b->stale_s, "S",
         "seconds after which a job is taken over whose process on another host is silent (90)",
         NULL, NULL},
        {"progress", 0, CLI_CHOICE, &b->progress, "MODE",
         "auto, bar, json or none, on stderr (auto: a bar on a terminal)", PROGRESS, NULL},
    };
    cli_render_args scratch = cli_render_defaults();
    cli_option of_render[CLI_RENDER_OPTIONS];
    size_t count = OWN_OPTIONS;
    memcpy(options, own, sizeof own);
    cli_render_options(&scratch, of_render);
    for (int i = 0; i < CLI_RENDER_OPTIONS; i++) {
        if (strcmp(of_render[i].name, "from") == 0 ||
            cli_job_option(of_render, of_render[i].name) < 0)
            continue;
        options[count] = of_render[i];
        options[count].letter = 0;
        options[count].given = NULL;
        options[count].kind = CLI_TEXT;
        options[count++].target = &b->overrides.text[i];
    }
    return count;
}

/* Tells of a text that is none of its option before a file is read. */
static vd_status check_overrides(const cli_batch_state *b) {
    vd_status st = VD_OK;
    cli_render_args scratch = cli_render_defaults();
    cli_option options[CLI_RENDER_OPTIONS];
    cli_command command = {.name = "batch", .options = options, .option_count = CLI_RENDER_OPTIONS};
    cli_render_options(&scratch, options);
    for (int i = 0; i < CLI_RENDER_OPTIONS && st == VD_OK; i++)
        if (b->overrides.text[i])
            st = cli_set(&command, options[i].name, b->overrides.text[i]);
    cli_command_free(&command);
    return st;
}

static vd_status check_args(const cli_batch_state *b) {
    if (!b->file == !b->picks)
        return vd_fail(VD_ERR_USAGE, "batch: give a job file, or --from PICKS");
    if (!b->dir && !b->jobs_list)
        return vd_fail(VD_ERR_USAGE, "batch: no folder for the clips; give --out DIR");
    if (b->json && (!b->dry_run || b->check))
        return vd_fail(VD_ERR_USAGE, "batch: --json goes with --dry-run");
    if (!(b->stale_s >= 0.1 && b->stale_s <= 86400))
        return vd_fail(VD_ERR_USAGE, "batch: --stale %g: must be from 0.1 to 86400", b->stale_s);
    return check_overrides(b);
}

static void list_names(const cli_batch_state *b) {
    for (size_t i = 0; i < b->jobs.count; i++)
        if (cli_shard_has(&b->shard, i))
            puts(b->jobs.list[i].name);
}

/* Where the jobs keep their latents, or take them from. */
static vd_status place_latents(cli_batch_state *b) {
    for (size_t i = 0; i < b->jobs.count && (b->keep_latents || b->re_encode); i++) {
        cli_job *job = &b->jobs.list[i];
        job->latents = vd_format("%s/%s.latents.safetensors", b->dir, job->name);
        if (!job->latents)
            return vd_fail(VD_ERR_MEMORY, "no memory for a path");
        job->args.re_encode = b->re_encode;
        if (b->re_encode)
            job->args.latents = job->latents;
        else
            job->args.save_latents = job->latents;
    }
    return VD_OK;
}

static vd_status run(cli_batch_state *b) {
    vd_status st = VD_OK;
    const char *path = b->file ? b->file : b->picks;
    cli_jobs_read(path, b->picks != NULL, b->dir ? b->dir : ".", &b->overrides, &b->jobs,
                  &b->problems);
    if (!b->jobs_list) {
        VD_TRY(place_latents(b));
        cli_batch_check(b);
    }
    VD_TRY(cli_problems_report(&b->problems, path));
    if (b->jobs_list)
        list_names(b);
    else
        st = b->dry_run || b->check ? cli_batch_preflight(b) : cli_batch_run(b);
done:
    return st;
}

static void free_batch(cli_batch_state *b) {
    for (size_t i = 0; i < b->model_count; i++)
        vd_model_close(b->models[i].model);
    free(b->models);
    cli_jobs_free(&b->jobs);
    cli_problems_free(&b->problems);
}

int cli_batch(int argc, char **argv) {
    vd_status st = VD_OK;
    bool done_early = false;
    cli_batch_state b = {.progress = "auto", .stale_s = 90, .start_s = vd_now_s()};
    cli_option options[ALL_OPTIONS];
    cli_command command = {
        .name = "batch",
        .usage = "JOBS.json --out DIR [options]",
        .summary =
            "Renders the jobs of a file. What is finished is left alone, so the same command goes "
            "on after whatever\nstopped it. Options of render count for all jobs and go before "
            "what "
            "the file says.",
        .options = options,
        .positional = &b.file,
        .positional_max = 1};
    command.option_count = fill_options(&b, options);
    VD_TRY(cli_parse(&command, argc, argv, &done_early));
    if (done_early)
        goto done;
    VD_TRY(check_args(&b));
    VD_TRY(cli_shard_read(b.shard_text, &b.shard));
    if (b.force && b.shard.unknown) {
        st = vd_fail(VD_ERR_USAGE,
                     "batch: --force: this is one of several processes that do not know their "
                     "parts, so that each would render all: give --shard I/N");
        goto done;
    }
    VD_TRY(run(&b));
done:
    /* A folder that nothing went into. */
    if (b.made_dir && (st != VD_OK || b.dry_run || b.check))
        (void)rmdir(b.dir);
    free_batch(&b);
    cli_command_free(&command);
    return cli_report(st);
}

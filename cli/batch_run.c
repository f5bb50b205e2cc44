/* The jobs, one after the other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/batch_turn.h"
#include "core/clock.h"
#include "core/text.h"

/* Adds a job to what the progress counts. */
static vd_status expect(cli_batch_runner *run, size_t index) {
    const cli_job *job = &run->batch->jobs.list[index];
    cli_render_work work = {0};
    vd_status st =
        cli_render_fill(&job->args, job->clip, run->batch->models[job->model].model, &work);
    if (st == VD_OK)
        run->progress.left += cli_batch_work(&work.request);
    run->progress.jobs_total++;
    cli_render_work_free(&work);
    return st;
}

static vd_status start(cli_batch_runner *run, bool *pending) {
    vd_status st = VD_OK;
    const cli_batch_state *b = run->batch;
    run->manifest = vd_format("%s/manifest.jsonl", b->dir);
    run->failures = vd_format("%s/failed.jsonl", b->dir);
    if (!run->manifest || !run->failures)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    VD_TRY(cli_ledger_read(run->manifest, &run->finished));
    VD_TRY(cli_claims_open(b->dir, b->jobs.count, b->stale_s, &run->claims));
    cli_progress_init(&run->progress.line, b->progress);
    for (size_t i = 0; i < b->jobs.count; i++) {
        pending[i] = cli_shard_has(&b->shard, i);
        if (pending[i])
            VD_TRY(expect(run, i));
    }
done:
    return st;
}

/* All pending jobs of a model, each once. Those that may yet be taken over stay pending. */
static vd_status pass_model(cli_batch_runner *run, size_t model, bool *pending) {
    const cli_batch_state *b = run->batch;
    for (size_t i = 0; i < b->jobs.count; i++) {
        cli_turn_result result = CLI_TURN_DONE;
        if (!pending[i] || b->jobs.list[i].model != model)
            continue;
        if (cli_interrupted(NULL))
            return vd_fail(VD_ERR_INTERRUPTED, "interrupted");
        vd_status st = cli_batch_take(run, i, &result);
        if (st == VD_ERR_INTERRUPTED)
            return st;
        if (st != VD_OK)
            cli_batch_record_failure(run, &b->jobs.list[i], st);
        pending[i] = result == CLI_TURN_LATER;
        run->left += result == CLI_TURN_OTHERS;
    }
    return VD_OK;
}

/* Model by model, so that only one is loaded at a time. */
static vd_status pass(cli_batch_runner *run, bool *pending) {
    vd_status st = VD_OK;
    for (size_t m = 0; m < run->batch->model_count && st == VD_OK; m++) {
        st = pass_model(run, m, pending);
        if (run->batch->model_count > 1)
            vd_model_unload(run->batch->models[m].model);
    }
    return st;
}

static size_t count_pending(const bool *pending, size_t jobs) {
    size_t count = 0;
    for (size_t i = 0; i < jobs; i++)
        count += pending[i];
    return count;
}

/* Until the processes that had the last jobs show that they live, or have been silent too long. */
static vd_status wait_for_others(cli_batch_runner *run, bool *pending) {
    vd_status st = VD_OK;
    const struct timespec pause = {.tv_nsec = 200000000};
    size_t jobs = run->batch->jobs.count, count = count_pending(pending, jobs);
    if (count > 0)
        fprintf(stderr, "vidilate: waiting, %g s at most, for %zu jobs of processes elsewhere\n",
                run->batch->stale_s, count);
    for (; count > 0 && st == VD_OK; count = count_pending(pending, jobs)) {
        (void)nanosleep(&pause, NULL);
        st = pass(run, pending);
    }
    return st;
}

/* What other shards have not begun. */
static vd_status help(cli_batch_runner *run, bool *pending) {
    const cli_batch_state *b = run->batch;
    for (size_t i = 0; i < b->jobs.count; i++) {
        pending[i] = !cli_shard_has(&b->shard, i);
        vd_status st = pending[i] ? expect(run, i) : VD_OK;
        if (st != VD_OK)
            return st;
    }
    vd_status st = pass(run, pending);
    run->left += count_pending(pending, b->jobs.count);
    return st;
}

/* The last line of stdout; the last object of JSON progress. */
static void show_sum(const cli_batch_runner *run) {
    const cli_batch_progress *p = &run->progress;
    const double seconds = vd_now_s() - run->batch->start_s;
    if (p->line.style == CLI_PROGRESS_JSON)
        fprintf(
            stderr,
            "{\"jobs_done\":%zu,\"jobs_total\":%zu,\"rendered\":%zu,\"found\":%zu,\"failed\":%zu,"
            "\"left\":%zu,\"elapsed_s\":%.3f,\"render_s\":%.3f,\"load_s\":%.3f,\"encode_s\":%.3f,"
            "\"eta_s\":0.0,\"peak_bytes\":%lld}\n",
            p->jobs_done, p->jobs_total, run->rendered, run->found, run->failed, run->left, seconds,
            run->render_s, run->load_s, run->encode_s, (long long)cli_peak_bytes());
    printf("%zu jobs: %zu rendered, %zu finished before, %zu failed", p->jobs_total, run->rendered,
           run->found, run->failed);
    if (run->left > 0)
        printf(", %zu left to other processes", run->left);
    printf("; %.1f s", seconds);
    if (run->rendered > 0)
        printf(": rendering %.1f%%, loading %.1f%%, encoding %.1f%%", 100 * run->render_s / seconds,
               100 * run->load_s / seconds, 100 * run->encode_s / seconds);
    printf("\n");
}

static vd_status sum_up(const cli_batch_runner *run, vd_status st) {
    show_sum(run);
    if (st == VD_ERR_INTERRUPTED)
        return vd_fail(st, "batch: interrupted; the same command goes on");
    if (st == VD_OK && run->failed > 0)
        return vd_fail(run->first_failure,
                       "batch: %zu of %zu jobs failed; see %s, and run it again", run->failed,
                       run->progress.jobs_total, run->failures);
    return st;
}

vd_status cli_batch_run(cli_batch_state *batch) {
    vd_status st = VD_OK;
    cli_batch_runner run = {.batch = batch};
    bool *pending = calloc(batch->jobs.count + 1, sizeof *pending);
    if (!pending)
        return vd_fail(VD_ERR_MEMORY, "no memory for %zu jobs", batch->jobs.count);
    VD_TRY(start(&run, pending));
    st = pass(&run, pending);
    if (st == VD_OK)
        st = wait_for_others(&run, pending);
    /* Forced, every job is to be rendered again: by its own shard only. */
    if (st == VD_OK && batch->shard.helps && !batch->force)
        st = help(&run, pending);
    cli_progress_end(&run.progress.line);
    st = sum_up(&run, st);
done:
    cli_claims_close(run.claims);
    cli_ledger_free(&run.finished);
    free(run.manifest);
    free(run.failures);
    free(pending);
    return st;
}

/* The jobs, one after the other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/batch.h"
#include "core/text.h"
#include "encode/sink.h"
#include "video/request.h"

typedef struct runner {
    cli_batch_state *batch;
    char *manifest, *failures; /* DIR/manifest.jsonl, DIR/failed.jsonl */
    cli_ledger finished;
    cli_batch_progress progress;
    size_t rendered, found, failed;
    vd_status first_failure;
} runner;

/* One job in the making. */
typedef struct turn {
    runner *runner;
    const cli_job *job;
    vd_model *model;
    cli_render_work work;
    char *settings; /* vd_request_describe */
    char fingerprint[VD_SHA256_HEX_BYTES], digest[VD_SHA256_HEX_BYTES];
    double seconds;
} turn;

/* ---- ledgers ------------------------------------------------------------------------------- */

static vd_status put_settings(vd_json_writer *w, const char *settings) {
    vd_json *doc = NULL;
    vd_status st = vd_json_parse(settings, strlen(settings), "settings", &doc);
    if (st == VD_OK)
        vd_json_put_value(w, "settings", vd_json_root(doc));
    vd_json_destroy(doc);
    return st;
}

static void put_time(vd_json_writer *w) {
    char when[32] = "", host[256] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc))
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (gethostname(host, sizeof host - 1) == 0)
        vd_json_put_string(w, "host", host);
    vd_json_put_string(w, "time", when);
}

/* The job's line in the manifest. The digest is unknown for a file that was found. */
static vd_status record_finished(const turn *t, bool found) {
    vd_status st = VD_OK;
    vd_json_writer *w = NULL;
    char *line = NULL;
    const vd_render_request *r = &t->work.request;
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    vd_json_put_string(w, "name", t->job->name);
    vd_json_put_string(w, "file", strrchr(t->job->output, '/') + 1);
    if (!found) {
        vd_json_put_string(w, "frames-sha256", t->digest);
        vd_json_put_double(w, "seconds", t->seconds);
    }
    vd_json_put_int(w, "width", r->width_px);
    vd_json_put_int(w, "height", r->height_px);
    vd_json_put_int(w, "frames", r->frames);
    put_time(w);
    vd_json_put_string(w, "fingerprint", t->fingerprint);
    VD_TRY(put_settings(w, t->settings));
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, false, &line));
    VD_TRY(cli_ledger_put(t->runner->manifest, t->job->name, line));
    VD_TRY(cli_ledger_drop(t->runner->failures, t->job->name));
done:
    vd_json_writer_destroy(w);
    free(line);
    return st;
}

/* Tells of a failed job and records it; its message is the thread's. */
static void record_failure(runner *run, const cli_job *job, vd_status status) {
    vd_json_writer *w = NULL;
    char message[1024], *line = NULL;
    snprintf(message, sizeof message, "%s", vd_error_message());
    fprintf(stderr, "vidilate: %s: %s\n", job->name, message);
    run->failed++;
    if (run->first_failure == VD_OK)
        run->first_failure = status;
    if (vd_json_writer_create(&w) == VD_OK) {
        vd_json_begin_object(w, NULL);
        vd_json_put_string(w, "name", job->name);
        vd_json_put_string(w, "error", message);
        vd_json_put_int(w, "exit", vd_exit_code(status));
        put_time(w);
        vd_json_end(w);
        if (vd_json_writer_finish(w, false, &line) != VD_OK ||
            cli_ledger_put(run->failures, job->name, line) != VD_OK)
            fprintf(stderr, "vidilate: warning: %s\n", vd_error_message());
    }
    vd_json_writer_destroy(w);
    free(line);
}

/* ---- one job ------------------------------------------------------------------------------- */

static void on_progress(void *user, const vd_progress *now) {
    cli_batch_progress_show(user, now);
}

static void on_warning(void *user, const char *message) {
    cli_batch_progress *p = user;
    cli_progress_end(&p->line);
    fprintf(stderr, "vidilate: warning: %s: %s\n", p->job, message);
}

/* By the manifest if it knows, else by the file itself. */
static vd_status is_finished(const turn *t, bool *recorded, bool *out) {
    char *last = NULL;
    vd_status st = vd_sink_file(t->job->output, t->work.request.frames, &last);
    *recorded = *out = false;
    if (st != VD_OK || t->runner->batch->force)
        goto done;
    *recorded = cli_ledger_has(&t->runner->finished, t->job->name, t->fingerprint) && last &&
                access(last, F_OK) == 0;
    *out = *recorded;
    if (!*recorded)
        st = vd_output_finished(t->model, &t->work.request, &t->work.output, out);
done:
    free(last);
    return st;
}

static vd_status prepare(turn *t) {
    vd_status st = VD_OK;
    uint8_t digest[VD_SHA256_BYTES];
    VD_TRY(cli_render_fill(&t->job->args, t->job->clip, t->model, &t->work));
    VD_TRY(vd_render_check(t->model, &t->work.request));
    VD_TRY(cli_render_read(&t->job->args, t->model, &t->work));
    VD_TRY(vd_request_describe(t->model, &t->work.request, &t->work.output, &t->settings));
    vd_sha256(t->settings, strlen(t->settings), digest);
    (void)vd_sha256_hex(digest, t->fingerprint);
done:
    return st;
}

static vd_status render(turn *t) {
    vd_status st = VD_OK;
    cli_batch_progress *p = &t->runner->progress;
    const cli_render_watch watch = {p, on_progress, on_warning};
    double start_s = cli_now_s();
    if (t->job->clip)
        VD_TRY(cli_replay_compare(&t->job->args, t->model, t->job->clip));
    VD_TRY(cli_render_run(&t->job->args, t->model, &t->work, &watch, t->digest));
    t->seconds = cli_now_s() - start_s;
    VD_TRY(record_finished(t, false));
    t->runner->rendered++;
    cli_progress_end(&p->line);
    printf("%s: %lldx%lld, %lld frames, %.1f s, sha256:%s\n", t->job->output,
           (long long)t->work.request.width_px, (long long)t->work.request.height_px,
           (long long)t->work.request.frames, t->seconds, t->digest);
    (void)fflush(stdout);
done:
    return st;
}

static vd_status take_turn(runner *run, const cli_job *job) {
    vd_status st = VD_OK;
    turn t = {.runner = run, .job = job, .model = run->batch->models[job->model].model};
    bool recorded = false, finished = false;
    VD_TRY(prepare(&t));
    cli_batch_progress_begin(&run->progress, job->name, cli_batch_work(&t.work.request));
    VD_TRY(is_finished(&t, &recorded, &finished));
    if (finished)
        run->found++;
    if (finished && !recorded)
        st = record_finished(&t, true);
    else if (!finished)
        st = render(&t);
done:
    cli_batch_progress_end(&run->progress, st == VD_OK && !finished);
    cli_render_work_free(&t.work);
    free(t.settings);
    return st;
}

/* ---- all jobs ------------------------------------------------------------------------------ */

static vd_status start(runner *run) {
    vd_status st = VD_OK;
    const cli_batch_state *b = run->batch;
    run->manifest = vd_format("%s/manifest.jsonl", b->dir);
    run->failures = vd_format("%s/failed.jsonl", b->dir);
    if (!run->manifest || !run->failures)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    VD_TRY(cli_ledger_read(run->manifest, &run->finished));
    cli_progress_init(&run->progress.line, b->progress);
    for (size_t i = 0; i < b->jobs.count; i++) {
        const cli_job *job = &b->jobs.list[i];
        cli_render_work work = {0};
        if (!cli_shard_has(&b->shard, i))
            continue;
        st = cli_render_fill(&job->args, job->clip, b->models[job->model].model, &work);
        run->progress.left += cli_batch_work(&work.request);
        run->progress.jobs_total++;
        cli_render_work_free(&work);
        if (st != VD_OK)
            goto done;
    }
done:
    return st;
}

static vd_status run_model(runner *run, size_t model) {
    const cli_batch_state *b = run->batch;
    for (size_t i = 0; i < b->jobs.count; i++) {
        const cli_job *job = &b->jobs.list[i];
        if (job->model != model || !cli_shard_has(&b->shard, i))
            continue;
        vd_status st = cli_interrupted(NULL) ? vd_fail(VD_ERR_INTERRUPTED, "interrupted")
                                             : take_turn(run, job);
        if (st == VD_ERR_INTERRUPTED)
            return st;
        if (st != VD_OK)
            record_failure(run, job, st);
    }
    return VD_OK;
}

vd_status cli_batch_run(cli_batch_state *batch) {
    vd_status st = VD_OK;
    runner run = {.batch = batch};
    double start_s = cli_now_s();
    VD_TRY(start(&run));
    /* Model by model, so that only one is loaded at a time. */
    for (size_t m = 0; m < batch->model_count && st == VD_OK; m++) {
        st = run_model(&run, m);
        vd_model_unload(batch->models[m].model);
    }
    cli_progress_end(&run.progress.line);
    printf("%zu jobs: %zu rendered, %zu finished before, %zu failed; %.1f s\n",
           run.progress.jobs_total, run.rendered, run.found, run.failed, cli_now_s() - start_s);
    if (st == VD_ERR_INTERRUPTED)
        st = vd_fail(st, "batch: interrupted; the same command goes on");
    else if (run.failed > 0)
        st = vd_fail(run.first_failure, "batch: %zu of %zu jobs failed; see %s, and run it again",
                     run.failed, run.progress.jobs_total, run.failures);
done:
    cli_ledger_free(&run.finished);
    free(run.manifest);
    free(run.failures);
    return st;
}

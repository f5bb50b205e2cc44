#include "cli/batch_turn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "encode/sink.h"
#include "video/request.h"

static void on_progress(void *user, const vd_progress *now) {
    cli_batch_runner *run = user;
    cli_batch_progress_show(&run->progress, now);
}

static void on_warning(void *user, const char *message) {
    cli_batch_runner *run = user;
    cli_progress_end(&run->progress.line);
    fprintf(stderr, "vidilate: warning: %s: %s\n", run->progress.job, message);
}

static bool on_stop(void *user) {
    const cli_batch_runner *run = user;
    return cli_claims_lost(run->claims);
}

static bool last_file_there(const cli_batch_turn *t) {
    char *last = NULL;
    bool there = vd_sink_file(t->job->output, t->work.request.frames, &last) == VD_OK && last &&
                 access(last, F_OK) == 0;
    free(last);
    return there;
}

static bool state_there(const cli_batch_turn *t) {
    return t->work.state && access(t->work.state, F_OK) == 0;
}

bool cli_batch_is_recorded(const cli_batch_turn *t) {
    return !t->run->batch->force && last_file_there(t) &&
           cli_ledger_has(&t->run->finished, t->job->name, t->fingerprint);
}

/* By the manifest if it knows, else by the file itself. The job is ours, so nothing changes. */
static vd_status is_finished(const cli_batch_turn *t, bool *recorded, bool *out) {
    vd_status st = VD_OK;
    cli_batch_runner *run = t->run;
    *recorded = *out = false;
    if (run->batch->force)
        return VD_OK;
    if (last_file_there(t)) {
        /* Another process may have finished it since. */
        cli_ledger_free(&run->finished);
        VD_TRY(cli_ledger_read(run->manifest, &run->finished));
        *recorded = *out = cli_batch_is_recorded(t);
    }
    if (*recorded)
        goto done;
    st = vd_output_finished(t->model, &t->work.request, &t->work.output, out);
    if (st == VD_ERR_OUTPUT && run->batch->re_encode)
        st = VD_OK;
    /* Killed before its line was written, a job has its state still, and is decoded again for the
     * line's digest. */
    if (state_there(t))
        *out = false;
done:
    return st;
}

vd_status cli_batch_prepare(cli_batch_turn *t) {
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

static vd_status render_timed(cli_batch_turn *t, const cli_render_watch *watch) {
    cli_batch_runner *run = t->run;
    const vd_model_times before = vd_model_get_times(t->model);
    const double start_s = vd_now_s();
    vd_status st = cli_render_run(&t->job->args, t->model, &t->work, watch, &t->result);
    const vd_model_times after = vd_model_get_times(t->model);
    const double load_s = after.load_s - before.load_s, encode_s = after.encode_s - before.encode_s;
    t->seconds = vd_now_s() - start_s;
    run->load_s += load_s;
    run->encode_s += encode_s;
    run->render_s += t->seconds - load_s - encode_s;
    return st;
}

static vd_status render(cli_batch_turn *t) {
    vd_status st = VD_OK;
    cli_batch_runner *run = t->run;
    const cli_render_watch watch = {run, on_progress, on_warning, on_stop};
    if (t->job->clip)
        VD_TRY(cli_replay_compare(&t->job->args, t->model, t->job->clip));
    VD_TRY(render_timed(t, &watch));
    VD_TRY(cli_batch_record(t, false));
    cli_render_drop_state(&t->work);
    run->rendered++;
    cli_progress_end(&run->progress.line);
    printf("%s: %lldx%lld, %lld frames, %.1f s, sha256:%s\n", t->job->output,
           (long long)t->work.request.width_px, (long long)t->work.request.height_px,
           (long long)t->work.request.frames, t->seconds, t->result.digest);
    (void)fflush(stdout);
done:
    return st;
}

/* With the claim. */
static vd_status finish(cli_batch_turn *t, bool taken_over) {
    vd_status st = VD_OK;
    bool recorded = false, finished = false;
    /* Whoever had the claim is no more, and nobody else writes here. */
    if (taken_over || state_there(t))
        cli_render_sweep(&t->work, true);
    VD_TRY(is_finished(t, &recorded, &finished));
    if (finished) {
        t->run->found++;
        cli_render_drop_state(&t->work);
    }
    if (finished && !recorded)
        st = cli_batch_record(t, true);
    else if (!finished)
        st = render(t);
done:
    return st;
}

vd_status cli_batch_take(cli_batch_runner *run, size_t index, cli_turn_result *result) {
    vd_status st = VD_OK;
    const cli_job *job = &run->batch->jobs.list[index];
    cli_batch_turn t = {.run = run, .job = job, .model = run->batch->models[job->model].model};
    size_t rendered = run->rendered;
    cli_claim_result claim = CLI_CLAIM_MINE;
    *result = CLI_TURN_DONE;
    VD_TRY(cli_batch_prepare(&t));
    cli_batch_progress_begin(&run->progress, job->name, cli_batch_work(&t.work.request));
    /* The usual case of a command that goes on, without a claim; one that a process left which was
     * killed at the very end is cleared away below. */
    if (cli_batch_is_recorded(&t) && !cli_claims_exists(run->claims, job->name) &&
        !state_there(&t)) {
        run->found++;
        goto done;
    }
    VD_TRY(cli_claims_take(run->claims, index, job->name, &claim));
    if (claim == CLI_CLAIM_BUSY || claim == CLI_CLAIM_UNKNOWN) {
        *result = claim == CLI_CLAIM_BUSY ? CLI_TURN_OTHERS : CLI_TURN_LATER;
        goto done;
    }
    st = finish(&t, claim == CLI_CLAIM_TAKEN_OVER);
    if (st == VD_ERR_INTERRUPTED && cli_claims_lost(run->claims) && !cli_interrupted(NULL)) {
        *result = CLI_TURN_OTHERS;
        st = VD_OK;
    }
    cli_claims_release(run->claims);
done:
    if (*result != CLI_TURN_LATER)
        cli_batch_progress_end(&run->progress, run->rendered > rendered);
    cli_render_work_free(&t.work);
    free(t.settings);
    return st;
}

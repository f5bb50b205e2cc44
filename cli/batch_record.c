/* Lines of manifest.jsonl and failed.jsonl. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/batch_turn.h"

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

vd_status cli_batch_record(const cli_batch_turn *t, bool found) {
    vd_status st = VD_OK;
    vd_json_writer *w = NULL;
    char *line = NULL;
    const vd_render_request *r = &t->work.request;
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    vd_json_put_string(w, "name", t->job->name);
    vd_json_put_string(w, "file", strrchr(t->job->output, '/') + 1);
    if (!found) {
        vd_json_put_string(w, "frames-sha256", t->result.digest);
        if (t->result.fault)
            vd_json_put_string(w, "fault", t->result.fault);
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
    VD_TRY(cli_ledger_put(t->run->manifest, t->job->name, line));
    VD_TRY(cli_ledger_drop(t->run->failures, t->job->name));
done:
    vd_json_writer_destroy(w);
    free(line);
    return st;
}

void cli_batch_record_failure(cli_batch_runner *run, const cli_job *job, vd_status status) {
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

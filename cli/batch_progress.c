#include "cli/batch_progress.h"

#include <stdio.h>
#include <string.h>

#include "core/clock.h"

enum { BAR_WIDTH = 24 };

double cli_batch_work(const vd_render_request *r) {
    double pixels = (double)(r->frames * r->width_px * r->height_px);
    double steps = (double)r->steps * (r->guidance > 1 ? 2 : 1);
    /* Decoding a clip costs about as much as two steps. */
    return pixels * (steps + 2);
}

void cli_batch_progress_begin(cli_batch_progress *p, const char *job, double work) {
    if (p->start_s == 0)
        p->start_s = vd_now_s();
    p->job = job;
    p->job_work = work;
}

/* Of the present job, 0 to 1. */
static double fraction(const vd_progress *now) {
    double part = (double)(now->done) / (double)now->total;
    switch (now->stage) {
    case VD_STAGE_TEXT:
        return 0;
    case VD_STAGE_DENOISE:
        return 0.95 * part;
    case VD_STAGE_DECODE:
        break;
    }
    return 0.95 + 0.05 * part;
}

static void show_bar(cli_batch_progress *p, const vd_progress *now, double eta_s) {
    char bar[BAR_WIDTH + 1];
    double all = p->done + p->left;
    int filled = (int)(BAR_WIDTH * (p->done + fraction(now) * p->job_work) / (all > 0 ? all : 1));
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)(filled < BAR_WIDTH ? filled : BAR_WIDTH));
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %zu/%zu  %.40s: %s %lld/%lld  ETA %lld:%02lld  peak %lld MB   ", bar,
            p->jobs_done, p->jobs_total, p->job, cli_stage_name(now->stage), (long long)now->done,
            (long long)now->total, (long long)eta_s / 60, (long long)eta_s % 60,
            (long long)(cli_peak_bytes() / 1000000));
    p->line.line_open = true;
}

void cli_batch_progress_show(cli_batch_progress *p, const vd_progress *now) {
    if (p->line.style == CLI_PROGRESS_NONE)
        return;
    double elapsed_s = vd_now_s() - p->start_s;
    double done = p->done + fraction(now) * p->job_work;
    double eta_s = done > 0 ? elapsed_s / done * (p->done + p->left - done) : 0;
    if (p->line.style == CLI_PROGRESS_BAR)
        show_bar(p, now, eta_s);
    else
        fprintf(stderr,
                "{\"jobs_done\":%zu,\"jobs_total\":%zu,\"job\":\"%s\",\"stage\":\"%s\","
                "\"done\":%lld,\"total\":%lld,\"elapsed_s\":%.3f,\"eta_s\":%.1f,"
                "\"peak_bytes\":%lld}\n",
                p->jobs_done, p->jobs_total, p->job, cli_stage_name(now->stage),
                (long long)now->done, (long long)now->total, elapsed_s, eta_s,
                (long long)cli_peak_bytes());
}

void cli_batch_progress_end(cli_batch_progress *p, bool rendered) {
    p->left -= p->job_work;
    if (rendered)
        p->done += p->job_work;
    p->job_work = 0;
    p->jobs_done++;
    cli_progress_end(&p->line);
}

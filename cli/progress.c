#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/memory.h"

enum { BAR_WIDTH = 24 };

int64_t cli_peak_bytes(void) {
    return (int64_t)vd_memory_peak();
}

void cli_progress_init(cli_progress *p, const char *mode) {
    memset(p, 0, sizeof *p);
    if (strcmp(mode, "json") == 0)
        p->style = CLI_PROGRESS_JSON;
    else if (strcmp(mode, "bar") == 0 || (strcmp(mode, "auto") == 0 && isatty(STDERR_FILENO)))
        p->style = CLI_PROGRESS_BAR;
}

const char *cli_stage_name(vd_stage stage) {
    static const char *const name[] = {"text", "denoise", "decode"};
    return name[stage];
}

static void show_bar(cli_progress *p, const vd_progress *now, double each_s, double eta_s) {
    char bar[BAR_WIDTH + 1];
    int filled = (int)(now->done * BAR_WIDTH / now->total);
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)filled);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r%-7s [%s] %lld/%lld  %.2f s/%s  ETA %lld:%02lld  peak %lld MB  ",
            cli_stage_name(now->stage), bar, (long long)now->done, (long long)now->total, each_s,
            now->stage == VD_STAGE_DECODE ? "frame" : "step", (long long)eta_s / 60,
            (long long)eta_s % 60, (long long)(cli_peak_bytes() / 1000000));
    p->line_open = true;
    if (now->done == now->total)
        cli_progress_end(p);
}

void cli_progress_show(cli_progress *p, const vd_progress *now) {
    double time_s = vd_now_s();
    if (now->done == 0) {
        p->stage = now->stage;
        p->stage_start_s = time_s;
    }
    if (p->style == CLI_PROGRESS_NONE)
        return;
    double elapsed_s = time_s - p->stage_start_s;
    int64_t here = now->done - now->before;
    double each_s = here > 0 ? elapsed_s / (double)here : 0;
    double eta_s = each_s * (double)(now->total - now->done);
    if (p->style == CLI_PROGRESS_BAR)
        show_bar(p, now, each_s, eta_s);
    else
        fprintf(stderr,
                "{\"stage\":\"%s\",\"done\":%lld,\"total\":%lld,\"elapsed_s\":%.3f,"
                "\"each_s\":%.4f,\"eta_s\":%.1f,\"peak_bytes\":%lld}\n",
                cli_stage_name(now->stage), (long long)now->done, (long long)now->total, elapsed_s,
                each_s, eta_s, (long long)cli_peak_bytes());
}

void cli_progress_end(cli_progress *p) {
    if (p->line_open)
        fputc('\n', stderr);
    p->line_open = false;
}

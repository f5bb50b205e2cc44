#include <signal.h>
#include <string.h>

#include "cli/cli.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
    interrupted = 1;
    /* The next Ctrl-C ends the program: a person who asks twice does not want to wait. SIGTERM
     * comes twice by itself, where a time limit is followed by a preemption, say. */
    if (number == SIGINT)
        signal(number, SIG_DFL);
}

void cli_catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* A reader that went away and a file limit are reported where the write fails. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

bool cli_interrupted(void *unused) {
    (void)unused;
    return interrupted != 0;
}

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "core/log.h"
#include "core/text.h"
#include "video/vidilate.h"

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} command;

static const command commands[] = {
    {"render", cli_render, "prompt -> MP4 or PNG frames"},
    {"batch", cli_batch, "a file of jobs -> many clips"},
    {"review", cli_review, "rendered clips -> a page to compare and pick, contact sheets, scores"},
    {"inspect", cli_inspect, "what is in a model folder, a weights file or a rendered file"},
    {"forward", cli_forward, "run one module on tensors from a file (parity checks)"},
    {"disperse", cli_disperse, "solve for the matrix that turns a kernel into a larger one"},
    {"bench", cli_bench, "time one denoising step, op by op, against what the machine can do"},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void on_log(void *user, vd_log_level level, const char *message) {
    (void)user;
    if (level == VD_LOG_WARNING)
        fprintf(stderr, "vidilate: warning: %s\n", message);
}

static void print_help(FILE *out) {
    fprintf(out,
            "vidilate %s - text to video, and larger than the model was trained for\n\n"
            "Usage: vidilate COMMAND [options]\n\nCommands:\n",
            vd_version());
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\nvidilate COMMAND --help lists the options. vidilate --version.\n\n"
                 "Try: vidilate render --prompt \"a red circle moving right on a white "
                 "background\" -o clip.mp4\n");
}

int main(int argc, char **argv) {
    const char *names[COMMAND_COUNT + 1] = {0};
    vd_log_set(on_log, NULL);
    cli_catch_signals();
    if (argc < 2) {
        print_help(stderr);
        return vd_exit_code(VD_ERR_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("vidilate %s\n", vd_version());
        return 0;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
        names[i] = commands[i].name;
    }
    const char *nearest = vd_nearest(argv[1], names);
    return cli_report(
        nearest
            ? vd_fail(VD_ERR_USAGE, "unknown command \"%s\"; did you mean %s?", argv[1], nearest)
            : vd_fail(VD_ERR_USAGE, "unknown command \"%s\"; see vidilate --help", argv[1]));
}

/* What the commands of the program share. */
#ifndef VD_CLI_CLI_H
#define VD_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Each command gets the arguments after its name and returns the process exit code. */
int cli_render(int argc, char **argv);
int cli_batch(int argc, char **argv);
int cli_review(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_forward(int argc, char **argv);
int cli_disperse(int argc, char **argv);
int cli_bench(int argc, char **argv);

/* ---- options.c ----------------------------------------------------------------------------- */

typedef enum cli_kind {
    CLI_FLAG,   /* bool */
    CLI_TEXT,   /* const char * */
    CLI_PROMPT, /* const char *; "@file" stands for the file's text */
    CLI_CHOICE, /* const char *, one of a list */
    CLI_INT,    /* int64_t */
    CLI_SEED,   /* uint64_t */
    CLI_DOUBLE, /* double */
} cli_kind;

typedef struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* or 0 */
    cli_kind kind;
    void *target;
    const char *value; /* what stands for the value in --help: "FILE" */
    const char *help;
    const char *const *choices; /* CLI_CHOICE: NULL-terminated */
    bool *given;                /* set when the option occurs; or NULL */
} cli_option;

typedef struct cli_command {
    const char *name;    /* "render" */
    const char *usage;   /* "[options] -o FILE" */
    const char *summary; /* one or more lines for --help */
    const cli_option *options;
    size_t option_count;
    const char **positional; /* filled in order */
    size_t positional_max;
    size_t positional_count;
    void *owned; /* texts that were read from files; cli_command_free */
} cli_command;

/* Parses into the options' targets. *done is true if --help was asked for and printed. VD_ERR_USAGE
 * with a message that names the option and suggests the nearest one. */
vd_status cli_parse(cli_command *command, int argc, char **argv, bool *done);
void cli_command_free(cli_command *command);

/* Sets one option from text, as the command line would. */
vd_status cli_set(cli_command *command, const char *name, const char *value);

/* The same for a value that a file recorded: "@" at the beginning of a prompt is then part of it.
 */
vd_status cli_set_recorded(cli_command *command, const char *name, const char *value);

/* Reads a seed at *text and moves on behind it; false if there is none or it is beyond 2^64 - 1. */
bool cli_take_seed(const char **text, uint64_t *out);

/* Prints "vidilate: message" of the last error on stderr; returns the exit code. */
int cli_report(vd_status status);

/* ---- paths.c ------------------------------------------------------------------------------- */

/* The folder of the model that ships, beside the program or installed; malloc'ed. */
vd_status cli_shipped_model(char **out);

/* The folder of settings that ships, likewise. */
vd_status cli_shipped_configs(char **out);

/* ---- signals.c ----------------------------------------------------------------------------- */

/* SIGINT and SIGTERM ask the running render to stop; a second one ends the program at once. */
void cli_catch_signals(void);
bool cli_interrupted(void *unused);

#endif

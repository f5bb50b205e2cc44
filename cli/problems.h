/* Everything that is wrong with a file, gathered so that a person sees all of it at once. */
#ifndef VD_CLI_PROBLEMS_H
#define VD_CLI_PROBLEMS_H

#include <stddef.h>

#include "core/status.h"

typedef struct cli_problems {
    vd_status status;    /* of all if they have the same, else VD_ERR_INPUT */
    char **line;         /* distinct, in the order found; the first CLI_PROBLEMS_SHOWN */
    size_t lines, count; /* distinct ones kept, and all distinct ones */
    size_t seen;         /* also those told again */
} cli_problems;

enum { CLI_PROBLEMS_SHOWN = 1000 };

/* Takes the thread's error message, unless it is there already (an entry of the defaults is wrong
 * in each job). VD_OK does nothing. */
void cli_problems_add(cli_problems *p, vd_status status);

/* VD_OK if there are none; else prints all but the last as lines of stderr, and returns the status
 * with a message for the last: the only one, or how many there are. `what` is the file. */
vd_status cli_problems_report(const cli_problems *p, const char *what);
void cli_problems_free(cli_problems *p);

#endif

#include "cli/problems.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cli_problems_add(cli_problems *p, vd_status status) {
    const char *message = vd_error_message();
    if (status == VD_OK)
        return;
    p->seen++;
    p->status = p->count == 0 || p->status == status ? status : VD_ERR_INPUT;
    for (size_t i = 0; i < p->lines; i++)
        if (strcmp(p->line[i], message) == 0)
            return;
    p->count++;
    if (p->lines == CLI_PROBLEMS_SHOWN)
        return;
    if (!p->line)
        p->line = calloc(CLI_PROBLEMS_SHOWN, sizeof *p->line);
    char *copy = p->line ? strdup(message) : NULL;
    if (copy)
        p->line[p->lines++] = copy;
}

vd_status cli_problems_report(const cli_problems *p, const char *what) {
    if (p->count == 0)
        return VD_OK;
    if (p->count == 1 && p->lines == 1)
        return vd_fail(p->status, "%s", p->line[0]);
    for (size_t i = 0; i < p->lines; i++)
        fprintf(stderr, "vidilate: %s\n", p->line[i]);
    return vd_fail(p->status, "%s: %zu errors; nothing was rendered", what, p->count);
}

void cli_problems_free(cli_problems *p) {
    for (size_t i = 0; i < p->lines; i++)
        free(p->line[i]);
    free(p->line);
    *p = (cli_problems){0};
}

/* A file with one line of JSON for each job, {"name": ..., ...}: DIR/manifest.jsonl. Several
 * processes, also on several hosts of a shared folder, may write it: a lock on the file keeps them
 * apart, and a process that dies lets go of it. */
#ifndef VD_CLI_LEDGER_H
#define VD_CLI_LEDGER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

/* Adds the line of a job, or puts it in the place of an older one, and brings it to the disk.
 * `line` has no newline and begins with {"name":"NAME". What a killed process left half-written is
 * removed. VD_ERR_OUTPUT. */
vd_status cli_ledger_put(const char *path, const char *name, const char *line);

/* Removes the line of a job; the last one takes the file with it. No file: nothing. */
vd_status cli_ledger_drop(const char *path, const char *name);

typedef struct cli_ledger_entry {
    char *name, *fingerprint; /* fingerprint: "" if the line has none */
} cli_ledger_entry;

typedef struct cli_ledger {
    cli_ledger_entry *list; /* sorted by name */
    size_t count;
} cli_ledger;

/* No file is an empty ledger; lines that are no JSON objects with a name are left out. `out` is to
 * be freed. */
vd_status cli_ledger_read(const char *path, cli_ledger *out);
void cli_ledger_free(cli_ledger *ledger);

/* Whether it has the name with this fingerprint. */
bool cli_ledger_has(const cli_ledger *ledger, const char *name, const char *fingerprint);

#endif

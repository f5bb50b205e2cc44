/* Claims: one small file for each job that is being rendered, DIR/.claims/NAME, so that processes
 * on one machine or on many that share the folder never render one job twice at a time.
 *
 * A claim is made by O_CREAT | O_EXCL, which is atomic on NFS too, and its owner touches it again
 * and again. It is dead if its owner ran on this machine (same boot, same process namespace) and is
 * no more, or if it did not change for the stale time as seen from here: clocks of different
 * machines are never compared. A dead claim is taken over under a lock on the file. An owner that
 * was only slow finds another's name in its claim, and stops. */
#ifndef VD_CLI_CLAIM_H
#define VD_CLI_CLAIM_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

typedef struct cli_claims cli_claims;

typedef enum cli_claim_result {
    CLI_CLAIM_MINE,
    CLI_CLAIM_TAKEN_OVER, /* mine, from a dead owner */
    CLI_CLAIM_BUSY,       /* another's who lives */
    CLI_CLAIM_UNKNOWN,    /* another's who may be dead: ask again */
} cli_claim_result;

/* For jobs 0 .. jobs - 1 in the folder; stale_s > 0. Starts the thread that touches. */
vd_status cli_claims_open(const char *dir, size_t jobs, double stale_s, cli_claims **out);

/* Ends the thread, lets go of a claim, and removes DIR/.claims if it is empty. NULL is legal. */
void cli_claims_close(cli_claims *claims);

/* One claim at a time. `name` is the job's, safe as a file name. VD_ERR_OUTPUT. */
vd_status cli_claims_take(cli_claims *claims, size_t job, const char *name,
                          cli_claim_result *result);
void cli_claims_release(cli_claims *claims);

/* Whether somebody else has the present claim: its render is to stop. */
bool cli_claims_lost(cli_claims *claims);

/* Whether a claim file of that name is there. */
bool cli_claims_exists(const cli_claims *claims, const char *name);

#endif

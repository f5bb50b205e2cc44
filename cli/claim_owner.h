/* The process that has a claim, as the claim's content. */
#ifndef VD_CLI_CLAIM_OWNER_H
#define VD_CLI_CLAIM_OWNER_H

enum { CLI_OWNER_BYTES = 256 };

/* This process: boot, process namespace, id, start time, a random number, host; padded with spaces
 * to a line of CLI_OWNER_BYTES. */
void cli_owner_describe(char out[CLI_OWNER_BYTES]);

/* Whether the owner is known to live (1), known to be gone (0), or neither (-1): it is of another
 * machine or namespace. */
int cli_owner_lives(const char content[CLI_OWNER_BYTES]);

#endif

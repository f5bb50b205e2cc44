/* What --dry-run prints. */
#ifndef VD_CLI_PREFLIGHT_H
#define VD_CLI_PREFLIGHT_H

#include "cli/render.h"
#include "core/json.h"
#include "video/preflight.h"

enum { CLI_AMOUNT_BYTES = 32 };

/* Of one render, on stdout. VD_ERR_MEMORY, VD_ERR_OUTPUT: it cannot fit. */
vd_status cli_preflight_render(const cli_render_args *a, vd_model *model,
                               const cli_render_work *work);

/* Tries the render of a request; what it warns of goes to stderr. */
vd_status cli_preflight_try(vd_model *model, const cli_render_work *work, vd_preflight *out);

/* Bytes of the final latents that are kept; 0 if none are. */
uint64_t cli_preflight_latents(const vd_model *model, const cli_render_work *work);

/* VD_ERR_OUTPUT: `need` bytes do not go onto the disk of `file`. *room: bytes free. */
vd_status cli_preflight_disk(const char *file, uint64_t need, uint64_t *room);

/* "24.0 MB", "4 min 10 s"; return buf. */
const char *cli_show_bytes(double bytes, char buf[CLI_AMOUNT_BYTES]);
const char *cli_show_seconds(double seconds, char buf[CLI_AMOUNT_BYTES]);

/* The members of a JSON object that tell of one render. */
void cli_preflight_put(vd_json_writer *w, const char *method, const vd_preflight *p);

/* Prints and frees the document. */
vd_status cli_preflight_print(vd_json_writer *w);

#endif

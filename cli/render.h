/* One render as the command line, or an entry of a job file, asks for it. */
#ifndef VD_CLI_RENDER_H
#define VD_CLI_RENDER_H

#include "cli/cli.h"
#include "cli/progress.h"
#include "core/json.h"
#include "core/sha256.h"
#include "video/vidilate.h"

typedef struct cli_render_args {
    const char *model, *prompt, *negative_prompt, *scheduler, *backend, *dtype, *method;
    const char *codec, *pix_fmt, *save_latents, *latents, *progress, *output, *from, *settings,
        *configs;
    const char *vae_tiling, *seed_list;
    int64_t width, height, frames, steps, threads, save_every, repeat;
    double scale, fps, guidance, guidance_rescale, eta, crf, vae_memory;
    uint64_t seed;
    struct {
        bool width, height, scale, frames, fps, method, seed, repeat;
    } has;
    bool offload;
    bool force;       /* also what is finished */
    bool decode_only; /* latents are final */
    bool re_encode;   /* the output, from its own settings and final latents */
    bool explain, json, dry_run;
    bool size_from_clip; /* width and height came with --from: --scale replaces them */
} cli_render_args;

/* ---- render.c: the options ------------------------------------------------------------------- */

enum { CLI_RENDER_OPTIONS = 40 };

cli_render_args cli_render_defaults(void);

/* The table that fills `a`. */
void cli_render_options(cli_render_args *a, cli_option options[CLI_RENDER_OPTIONS]);

/* VD_ERR_USAGE: options that are missing, or that do not go together. */
vd_status cli_render_check_args(const cli_render_args *a);

/* Renders what is not finished, and says what came of it; with --explain only that. */
vd_status cli_render_one(const cli_render_args *a, const vd_json *clip, vd_model *model);

/* ---- render_seeds.c ---- */

/* The seeds of --seed-list or --repeat; none without these options. */
typedef struct cli_seeds {
    uint64_t *list;
    size_t count;
} cli_seeds;

/* VD_ERR_USAGE: no list, a seed twice, or options that do not go with several clips. `out` is to be
 * freed. */
vd_status cli_seeds_read(const cli_render_args *a, cli_seeds *out);
void cli_seeds_free(cli_seeds *seeds);

/* A clip for each seed, whose name holds it, all checked before the first. One that fails does not
 * stop the rest; the status is that of the first. */
vd_status cli_render_seeds(const cli_render_args *a, const vd_json *clip, vd_model *model,
                           const cli_seeds *seeds);

/* ---- render_replay.c: settings out of a rendered file ------------------------------------------
 */

/* Sets the options to what the clip a->from was rendered with. *doc holds the texts they point to.
 */
vd_status cli_replay_apply(cli_command *command, cli_render_args *a, vd_json **doc);

/* The same with settings that were read already; a->from names the clip in messages. */
vd_status cli_replay_use(cli_command *command, cli_render_args *a, const vd_json *doc);

/* Warns of a clip that was made by other weights than those of the model. */
vd_status cli_replay_compare(const cli_render_args *a, vd_model *model, const vd_json *clip);

/* ---- render_run.c ------------------------------------------------------------------------------
 */

/* A request and what its pointers borrow. */
typedef struct cli_render_work {
    vd_render_request request;
    vd_output output;
    vd_method_choice method;
    float *latents;
    const char *saved_latents; /* the file that the render writes them to; borrowed; or NULL */
    char *state;               /* where the request keeps its state; NULL: nowhere */
} cli_render_work;

/* The model that the options name. */
vd_status cli_render_open(const cli_render_args *a, bool keep_loaded, vd_model **out);

/* The request and output that the options ask for, unchecked. `clip`: the settings of --from, or
 * NULL. `out` is to be freed with cli_render_work_free, also on failure. */
vd_status cli_render_fill(const cli_render_args *a, const vd_json *clip, const vd_model *model,
                          cli_render_work *out);

/* Reads the latents that a checked request starts from, if there are any. */
vd_status cli_render_read(const cli_render_args *a, const vd_model *model, cli_render_work *work);
void cli_render_work_free(cli_render_work *work);

/* ".NAME.state" beside the output's (first) file; NULL for hash: and null:. */
vd_status cli_render_state_path(const char *output, char **out);

/* Removes the state, when the frames are safe. */
void cli_render_drop_state(const cli_render_work *work);

/* Removes what killed processes left half-written beside the output: of processes of this machine
 * that are no more, or with `all`, of any. */
void cli_render_sweep(const cli_render_work *work, bool all);

/* Who shows how a render goes on. */
typedef struct cli_render_watch {
    void *user;
    void (*progress)(void *user, const vd_progress *progress);
    void (*warning)(void *user, const char *message);
    bool (*stop)(void *user); /* another reason to stop than a signal; or NULL */
} cli_render_watch;

/* What a render gave. */
typedef struct cli_render_result {
    char digest[VD_SHA256_HEX_BYTES]; /* of the frames */
    const char *fault;                /* "black", "flat", "frozen" (review/scores.h); or NULL */
} cli_render_result;

/* Renders, and warns of a result at fault. watch NULL: shows it as a->progress says. */
vd_status cli_render_run(const cli_render_args *a, vd_model *model, const cli_render_work *work,
                         const cli_render_watch *watch, cli_render_result *result);

/* ---- render_method.c ---------------------------------------------------------------------------
 */

/* Fills the request's settings and method from --settings, the clip of --from (or NULL) or
 * --method. `out` is to be freed also on failure. */
vd_status cli_render_method(const cli_render_args *a, const vd_json *clip, const vd_model *model,
                            vd_render_request *r, vd_method_choice *out);

/* --explain: prints what the render would run. */
vd_status cli_render_explain(const cli_render_args *a, const vd_model *model,
                             const cli_render_work *work);

#endif

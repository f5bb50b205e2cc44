/* Every job against its model, before the first render. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/batch.h"
#include "video/request.h"

/* Outputs that differ only in their names need one look at the encoder. */
typedef struct output_key {
    const char *codec, *pix_fmt, *ending;
    double crf, fps;
    int64_t width_px, height_px;
} output_key;

enum { KEYS_MAX = 64 };

typedef struct checker {
    cli_batch_state *batch;
    const cli_job *job;
    output_key good[KEYS_MAX];
    size_t good_count;
} checker;

/* Where the file sets an option; NULL if it does not. */
static const vd_json_value *origin_of(const cli_job *job, const char *option) {
    cli_render_args scratch = cli_render_defaults();
    cli_option options[CLI_RENDER_OPTIONS];
    cli_render_options(&scratch, options);
    int i = cli_job_option(options, option);
    return i >= 0 ? job->origin[i] : NULL;
}

static void problem(checker *c, const char *option, vd_status st) {
    const vd_json_value *origin = origin_of(c->job, option);
    if (st != VD_OK)
        st = cli_job_fail_at(st, c->batch->jobs.doc, origin ? origin : c->job->place);
    cli_problems_add(&c->batch->problems, st);
}

static void on_problem(void *user, const char *option, vd_status st) {
    problem(user, option, st);
}

/* ---- models -------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_model(const cli_render_args *a, const cli_render_args *b) {
    return same_text(a->model, b->model) && same_text(a->backend, b->backend) &&
           same_text(a->dtype, b->dtype) && a->threads == b->threads && a->offload == b->offload;
}

/* The model of the checker's job, opened when it is the first with it. */
static vd_model *model_of(checker *c, cli_job *job) {
    cli_batch_state *b = c->batch;
    for (job->model = 0; job->model < b->model_count; job->model++)
        if (same_model(b->models[job->model].args, &job->args))
            return b->models[job->model].model;
    cli_batch_model *models = realloc(b->models, (b->model_count + 1) * sizeof *models);
    if (!models) {
        problem(c, "model", vd_fail(VD_ERR_MEMORY, "no memory for a model"));
        return NULL;
    }
    b->models = models;
    cli_batch_model *m = &b->models[b->model_count++];
    *m = (cli_batch_model){.args = &job->args};
    vd_status st = cli_render_open(&job->args, true, &m->model);
    const char *option = st == VD_ERR_USAGE          ? "offload"
                         : st != VD_ERR_BACKEND      ? "model"
                         : origin_of(job, "backend") ? "backend"
                                                     : "dtype";
    /* A file that asks for what is not on this machine is an error of the file. */
    if (st == VD_ERR_BACKEND && origin_of(job, option))
        st = VD_ERR_INPUT;
    problem(c, option, st);
    return m->model;
}

/* ---- outputs ------------------------------------------------------------------------------- */

static bool same_output(const output_key *a, const output_key *b) {
    return same_text(a->codec, b->codec) && same_text(a->pix_fmt, b->pix_fmt) &&
           same_text(a->ending, b->ending) && a->crf == b->crf && a->fps == b->fps &&
           a->width_px == b->width_px && a->height_px == b->height_px;
}

/* The option that a message about an output begins with; "codec" if it begins otherwise. */
static const char *option_of_message(void) {
    static const char *const options[] = {"crf", "fps", "frames"};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (strncmp(vd_error_message(), options[i], strlen(options[i])) == 0)
            return options[i];
    return strstr(vd_error_message(), "pix") ? "pix-fmt" : "codec";
}

static void check_output(checker *c, const vd_output *output, const vd_render_request *r) {
    const output_key key = {output->codec, output->pix_fmt, strrchr(output->path, '.'),
                            output->crf,   r->fps,          r->width_px,
                            r->height_px};
    for (size_t i = 0; i < c->good_count; i++)
        if (same_output(&c->good[i], &key))
            return;
    vd_output o = *output;
    vd_status st = vd_output_check(&o, r);
    if (st == VD_OK && c->good_count < KEYS_MAX)
        c->good[c->good_count++] = key;
    for (int tries = 0; st != VD_OK && tries < 2; tries++) {
        const char *option = option_of_message();
        problem(c, option, st);
        if (strcmp(option, "crf") != 0)
            break;
        /* What else is wrong shows with a good one. */
        o.crf = vd_output_defaults(o.path).crf;
        st = vd_output_check(&o, r);
    }
}

static vd_status make_folder(cli_batch_state *b) {
    b->made_dir = mkdir(b->dir, 0777) == 0;
    if (b->made_dir || errno == EEXIST)
        return VD_OK;
    return vd_fail(VD_ERR_OUTPUT, "batch: --out %s: cannot be made: %s", b->dir, strerror(errno));
}

/* ---- jobs ---------------------------------------------------------------------------------- */

static void check_job(checker *c, cli_job *job, size_t index) {
    cli_render_work work = {0};
    const vd_model *model = model_of(c, job);
    if (!model)
        return;
    size_t before = c->batch->problems.seen;
    vd_render_request plain = vd_render_defaults(model);
    vd_status st = cli_render_fill(&job->args, job->clip, model, &work);
    if (st != VD_OK)
        problem(c, job->args.settings || st == VD_ERR_INPUT ? "settings" : "scale", st);
    else
        (void)vd_request_check(model, &work.request, on_problem, c);
    bool sound = c->batch->problems.seen == before;
    /* With a size that can be, if the job's own cannot: so the encoder's errors show too. */
    check_output(c, &work.output, sound ? &work.request : &plain);
    /* Latents of jobs of another shard need not be here. */
    bool read = job->args.latents && (!job->latents || cli_shard_has(&c->batch->shard, index));
    if (sound && read)
        problem(c, "latents", cli_render_read(&job->args, model, &work));
    cli_render_work_free(&work);
}

void cli_batch_check(cli_batch_state *batch) {
    checker c = {.batch = batch};
    vd_status st = make_folder(batch);
    cli_problems_add(&batch->problems, st);
    for (size_t i = 0; i < batch->jobs.count && st == VD_OK; i++) {
        c.job = &batch->jobs.list[i];
        check_job(&c, &batch->jobs.list[i], i);
    }
}

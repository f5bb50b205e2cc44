/* One job: the options of its levels, merged and set. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/jobs.h"
#include "core/text.h"

/* What batch itself decides for all jobs. */
static const char *const NOT_OF_A_JOB[] = {"output",    "save-latents", "progress", "force",
                                           "re-encode", "explain",      "dry-run",  "json",
                                           "seed-list", "repeat",       NULL};

static const char *const CONTAINERS[] = {"mp4", "mov", "mkv", "webm", "png", NULL};

static bool listed(const char *const *list, const char *word) {
    while (*list && strcmp(*list, word) != 0)
        list++;
    return *list != NULL;
}

static int find(const cli_option options[CLI_RENDER_OPTIONS], const char *key) {
    for (int i = 0; i < CLI_RENDER_OPTIONS; i++)
        if (strcmp(options[i].name, key) == 0)
            return i;
    return -1;
}

int cli_job_option(const cli_option options[CLI_RENDER_OPTIONS], const char *key) {
    return listed(NOT_OF_A_JOB, key) ? -1 : find(options, key);
}

static void unknown_key(const vd_json *doc, const vd_json_value *v,
                        const cli_option options[CLI_RENDER_OPTIONS], cli_problems *problems) {
    const char *key = vd_json_key(v), *names[CLI_RENDER_OPTIONS + 3] = {"name", "container"};
    for (int i = 0, n = 2; i < CLI_RENDER_OPTIONS; i++)
        if (!listed(NOT_OF_A_JOB, options[i].name))
            names[n++] = options[i].name;
    const char *nearest = vd_nearest(key, names);
    if (find(options, key) >= 0)
        vd_json_fail(doc, v, "batch decides this itself: leave it out");
    else if (nearest)
        vd_json_fail(doc, v, "unknown option; did you mean \"%s\"?", nearest);
    else
        vd_json_fail(doc, v, "unknown option; a job has those of vidilate render --help");
    cli_problems_add(problems, VD_ERR_USAGE);
}

/* Of a size given by scale and one given by sides, the nearer level's counts. */
static void drop_other_size(const vd_json_value *object,
                            const cli_option options[CLI_RENDER_OPTIONS], cli_job_plan *plan) {
    if (vd_json_get(object, "scale"))
        plan->value[find(options, "width")] = plan->value[find(options, "height")] = NULL;
    if (vd_json_get(object, "width") || vd_json_get(object, "height"))
        plan->value[find(options, "scale")] = NULL;
}

static void take_container(const vd_json *doc, const vd_json_value *v, cli_job_plan *plan,
                           cli_problems *problems) {
    const char *text = vd_json_type_of(v) == VD_JSON_STRING ? vd_json_string(v) : "";
    if (listed(CONTAINERS, text)) {
        plan->container = text;
        return;
    }
    vd_json_fail(doc, v, "must be one of mp4, mov, mkv, webm, png");
    cli_problems_add(problems, VD_ERR_USAGE);
}

void cli_job_plan_merge(cli_job_plan *plan, const vd_json *doc, const vd_json_value *object,
                        bool may_have_name, cli_problems *problems) {
    cli_render_args scratch = cli_render_defaults();
    cli_option options[CLI_RENDER_OPTIONS];
    cli_render_options(&scratch, options);
    drop_other_size(object, options, plan);
    for (const vd_json_value *v = vd_json_first(object); v; v = vd_json_next(v)) {
        const char *key = vd_json_key(v);
        int option = cli_job_option(options, key);
        if (strcmp(key, "name") == 0 && may_have_name)
            continue;
        if (strcmp(key, "container") == 0)
            take_container(doc, v, plan, problems);
        else if (option < 0)
            unknown_key(doc, v, options, problems);
        else if (vd_json_type_of(v) != VD_JSON_NULL)
            plan->value[option] = v;
    }
}

/* ---- setting ------------------------------------------------------------------------------- */

/* The value as the command line would give it, in buf or borrowed; NULL for a flag that is off. */
static vd_status value_text(const vd_json *doc, const vd_json_value *v, const cli_option *o,
                            char buf[40], const char **out) {
    vd_json_type type = vd_json_type_of(v);
    bool whole = o->kind == CLI_INT || o->kind == CLI_SEED;
    *out = NULL;
    if (o->kind == CLI_FLAG) {
        if (type != VD_JSON_BOOL)
            return vd_json_fail(doc, v, "expected true or false");
        *out = vd_json_bool(v) ? "" : NULL;
        return VD_OK;
    }
    if (type == VD_JSON_STRING) {
        *out = vd_json_string(v);
        return VD_OK;
    }
    if (type != VD_JSON_NUMBER || (!whole && o->kind != CLI_DOUBLE))
        return vd_json_fail(
            doc, v, whole || o->kind == CLI_DOUBLE ? "expected a number" : "expected a text");
    double number = vd_json_number(v);
    if (whole && (number != rint(number) || fabs(number) > 9007199254740992.0)) {
        vd_json_fail(doc, v,
                     "%.17g: expected a whole number; beyond 2^53 as text, because JSON would "
                     "round it",
                     number);
        return VD_ERR_USAGE;
    }
    snprintf(buf, 40, whole ? "%.0f" : "%.17g", number);
    *out = buf;
    return VD_OK;
}

vd_status cli_job_fail_at(vd_status status, const vd_json *doc, const vd_json_value *v) {
    static const char *const commands[] = {"job: ", "render: "};
    char message[1024];
    const char *text = vd_error_message();
    for (int i = 0; i < 2; i++)
        if (strncmp(text, commands[i], strlen(commands[i])) == 0)
            text += strlen(commands[i]);
    snprintf(message, sizeof message, "%s", text);
    (void)vd_json_fail(doc, v, "%s", message);
    return status;
}

/* A document of its own, that the replay can read as if it came out of a clip. */
static vd_status copy_clip(const vd_json *doc, const vd_json_value *v, const char *key,
                           vd_json **out) {
    vd_status st = VD_OK;
    vd_json_writer *w = NULL;
    char *text = NULL, place[256];
    VD_TRY(vd_json_writer_create(&w));
    if (key)
        vd_json_begin_object(w, NULL);
    vd_json_put_value(w, key, v);
    if (key)
        vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, false, &text));
    vd_json_path(doc, v, place, sizeof place);
    VD_TRY(vd_json_parse(text, strlen(text), place, out));
done:
    vd_json_writer_destroy(w);
    free(text);
    return st;
}

static vd_status set_value(cli_job *job, const vd_json *doc, const vd_json_value *v,
                           const cli_option *o) {
    char buf[40];
    const char *text = NULL;
    if (strcmp(o->name, "settings") == 0 && vd_json_type_of(v) == VD_JSON_OBJECT) {
        if (!job->clip)
            return copy_clip(doc, v, "settings", &job->clip);
        vd_json_fail(doc, v, "these are in the clip that the job is made from: leave out one");
        return VD_ERR_USAGE;
    }
    vd_status st = value_text(doc, v, o, buf, &text);
    if (st != VD_OK || !text)
        return st;
    st = cli_set(&job->command, o->name, text);
    return st == VD_OK ? VD_OK : cli_job_fail_at(st, doc, v);
}

static vd_status start_from_clip(cli_job *job, const vd_json *doc, const cli_job_plan *plan,
                                 const vd_json_value *from, const char *from_text) {
    vd_status st = VD_OK;
    const vd_json_value *place = plan->clip ? plan->clip : from ? from : plan->place;
    if (plan->clip) {
        job->args.from = plan->file;
        VD_TRY(copy_clip(doc, plan->clip, NULL, &job->clip));
        VD_TRY(cli_replay_use(&job->command, &job->args, job->clip));
    } else if (from_text || from) {
        if (from_text)
            st = cli_set(&job->command, "from", from_text);
        else
            st = set_value(job, doc, from,
                           &job->command.options[find(job->command.options, "from")]);
        if (st != VD_OK)
            return st;
        VD_TRY(cli_replay_apply(&job->command, &job->args, &job->clip));
    }
done:
    return st == VD_OK ? VD_OK : cli_job_fail_at(st, doc, place);
}

static void set_options(cli_job *job, const vd_json *doc, const cli_overrides *overrides,
                        cli_job_plan *plan, cli_problems *problems) {
    const cli_option *options = job->command.options;
    int from = find(options, "from");
    if (overrides->text[find(options, "scale")])
        plan->value[find(options, "width")] = plan->value[find(options, "height")] = NULL;
    if (overrides->text[find(options, "width")] || overrides->text[find(options, "height")])
        plan->value[find(options, "scale")] = NULL;
    cli_problems_add(problems,
                     start_from_clip(job, doc, plan, plan->value[from], overrides->text[from]));
    for (int i = 0; i < CLI_RENDER_OPTIONS; i++) {
        if (overrides->text[i]) {
            vd_status st = cli_set(&job->command, options[i].name, overrides->text[i]);
            cli_problems_add(problems, st);
        } else if (plan->value[i]) {
            job->origin[i] = plan->value[i];
            if (i != from)
                cli_problems_add(problems, set_value(job, doc, plan->value[i], &options[i]));
        }
    }
}

/* In the name of frames a percent sign marks the number's place. */
static char *double_percents(const char *text) {
    char *out = malloc(2 * strlen(text) + 1), *to = out;
    for (; out && *text; text++) {
        if (*text == '%')
            *to++ = '%';
        *to++ = *text;
    }
    if (out)
        *to = '\0';
    return out;
}

static vd_status name_output(cli_job *job, const char *dir, const cli_job_plan *plan) {
    bool frames = strcmp(plan->container, "png") == 0;
    char *folder = frames ? double_percents(dir) : NULL;
    if (job->name)
        job->output = vd_format("%s/%s%s.%s", folder ? folder : dir, job->name,
                                frames ? "-%04d" : "", plan->container);
    free(folder);
    return job->output ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for a job");
}

static cli_job *grow(cli_jobs *jobs) {
    if ((jobs->count & (jobs->count - 1)) == 0) {
        size_t room = jobs->count > 0 ? 2 * jobs->count : 1;
        cli_job *list = realloc(jobs->list, room * sizeof *list);
        if (!list)
            return NULL;
        jobs->list = list;
    }
    cli_job *job = &jobs->list[jobs->count++];
    memset(job, 0, sizeof *job);
    return job;
}

void cli_jobs_add(cli_jobs *jobs, const char *dir, const cli_overrides *overrides,
                  cli_job_plan *plan, cli_problems *problems) {
    /* The options point into the job's arguments, which move when the list grows. */
    cli_job made = {.place = plan->place,
                    .name = plan->name,
                    .args = cli_render_defaults(),
                    .command = {.name = "job", .option_count = CLI_RENDER_OPTIONS}};
    cli_option options[CLI_RENDER_OPTIONS];
    plan->name = NULL;
    cli_render_options(&made.args, options);
    made.command.options = options;
    set_options(&made, jobs->doc, overrides, plan, problems);
    made.command.options = NULL;
    made.args.progress = "none";
    vd_status st = name_output(&made, dir, plan);
    made.args.output = made.output;
    if (st == VD_OK) {
        st = cli_render_check_args(&made.args);
        st = st == VD_OK ? VD_OK : cli_job_fail_at(st, jobs->doc, plan->place);
    }
    cli_job *job = st == VD_ERR_MEMORY ? NULL : grow(jobs);
    if (job) {
        *job = made;
    } else {
        st = st == VD_ERR_MEMORY ? st : vd_fail(VD_ERR_MEMORY, "no memory for a job");
        free(made.name);
        free(made.output);
        cli_command_free(&made.command);
        vd_json_destroy(made.clip);
    }
    cli_problems_add(problems, st);
}

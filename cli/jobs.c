/* Job files: their sections, and the expansion of the matrix. */
#include "cli/jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

enum { MATRIX_MAX = CLI_RENDER_OPTIONS, NAME_MAX_BYTES = 150 };

static const char NAME_LETTERS[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

/* The matrix' lists, and which value of each is the turn of. */
typedef struct matrix {
    size_t axes;
    struct {
        int option;
        const char *key;
        const vd_json_value *values; /* a list that is not empty */
        const vd_json_value *now;
        size_t number; /* of `now`, from 1 */
    } axis[MATRIX_MAX];
    size_t combinations;
} matrix;

vd_status cli_job_check_name(const vd_json *doc, const vd_json_value *v, const char *name) {
    size_t bytes = strlen(name);
    if (bytes >= 1 && bytes <= NAME_MAX_BYTES && strspn(name, NAME_LETTERS) == bytes &&
        name[0] != '.' && name[0] != '-')
        return VD_OK;
    (void)vd_json_fail(doc, v,
                       "name \"%.170s\": must be 1 to %d of A-Z a-z 0-9 . _ - and begin with no "
                       "dot or dash: it becomes a file's name",
                       name, NAME_MAX_BYTES);
    return VD_ERR_USAGE;
}

/* ---- the matrix ---------------------------------------------------------------------------- */

static void read_axis(const vd_json *doc, const vd_json_value *list, matrix *m,
                      cli_problems *problems) {
    cli_render_args scratch = cli_render_defaults();
    cli_option options[CLI_RENDER_OPTIONS];
    cli_render_options(&scratch, options);
    const char *key = vd_json_key(list);
    int option = cli_job_option(options, key);
    size_t size = vd_json_size(list);
    if (option < 0) {
        vd_json_fail(doc, list, "\"%s\" is no option of a job", key);
        cli_problems_add(problems, VD_ERR_USAGE);
    } else if (vd_json_type_of(list) != VD_JSON_ARRAY || size == 0) {
        cli_problems_add(problems,
                         vd_json_fail(doc, list, "expected a list of at least one value"));
    } else {
        m->axis[m->axes].option = option;
        m->axis[m->axes].key = key;
        m->axis[m->axes].values = list;
        m->axes++;
        m->combinations = m->combinations > CLI_JOBS_MAX ? m->combinations : m->combinations * size;
    }
}

static void first_combination(matrix *m) {
    for (size_t i = 0; i < m->axes; i++) {
        m->axis[i].now = vd_json_first(m->axis[i].values);
        m->axis[i].number = 1;
    }
}

/* The last list goes fastest. */
static void next_combination(matrix *m) {
    for (size_t i = m->axes; i-- > 0;) {
        m->axis[i].now = vd_json_next(m->axis[i].now);
        m->axis[i].number++;
        if (m->axis[i].now)
            return;
        m->axis[i].now = vd_json_first(m->axis[i].values);
        m->axis[i].number = 1;
    }
}

/* What stands for a value in a name: itself if it is short and of safe letters, else its number. */
static void value_name(const vd_json_value *v, size_t number, char buf[40]) {
    const char *text = vd_json_type_of(v) == VD_JSON_STRING ? vd_json_string(v) : NULL;
    char digits[40] = "";
    if (vd_json_type_of(v) == VD_JSON_NUMBER)
        snprintf(digits, sizeof digits, "%.15g", vd_json_number(v));
    else if (text && strlen(text) <= 32)
        snprintf(digits, sizeof digits, "%s", text);
    if (digits[0] == '\0' || strspn(digits, NAME_LETTERS) != strlen(digits))
        snprintf(digits, sizeof digits, "%zu", number);
    memcpy(buf, digits, sizeof digits);
}

static char *combination_name(const char *base, const matrix *m) {
    char *name = vd_format("%s", base);
    for (size_t i = 0; i < m->axes && name; i++) {
        char value[40];
        value_name(m->axis[i].now, m->axis[i].number, value);
        char *longer = vd_format("%s-%s-%s", name, m->axis[i].key, value);
        free(name);
        name = longer;
    }
    return name;
}

/* ---- sections ------------------------------------------------------------------------------ */

typedef struct file {
    cli_jobs *jobs;
    const char *dir;
    const cli_overrides *overrides;
    cli_problems *problems;
    const vd_json_value *defaults; /* or NULL */
    matrix matrix;
} file;

/* NULL, with a problem noted, if the member has another type; also NULL if it is missing. */
static const vd_json_value *section(file *f, const char *key, vd_json_type type, const char *kind) {
    const vd_json_value *v = vd_json_get(vd_json_root(f->jobs->doc), key);
    if (!v || vd_json_type_of(v) == VD_JSON_NULL)
        return NULL;
    if (vd_json_type_of(v) == type)
        return v;
    cli_problems_add(f->problems, vd_json_fail(f->jobs->doc, v, "expected %s", kind));
    return NULL;
}

static void refuse_matrix_keys(const file *f, const vd_json_value *job) {
    for (size_t i = 0; i < f->matrix.axes; i++) {
        const vd_json_value *v = vd_json_get(job, f->matrix.axis[i].key);
        if (!v)
            continue;
        vd_json_fail(f->jobs->doc, v, "the matrix gives --%s to every job: leave out one of them",
                     f->matrix.axis[i].key);
        cli_problems_add(f->problems, VD_ERR_USAGE);
    }
}

/* `job`: an entry of the list, or NULL for a file that has only defaults. */
static void expand_job(file *f, const vd_json_value *job, const char *base) {
    const vd_json *doc = f->jobs->doc;
    if (f->jobs->count + f->matrix.combinations > CLI_JOBS_MAX) {
        vd_json_fail(doc, job ? job : vd_json_root(doc),
                     "with the matrix these are more than %d "
                     "jobs: split the file",
                     CLI_JOBS_MAX);
        cli_problems_add(f->problems, VD_ERR_USAGE);
        return;
    }
    first_combination(&f->matrix);
    for (size_t c = 0; c < f->matrix.combinations; c++) {
        cli_job_plan plan = {.place = job ? job : vd_json_root(doc), .container = "mp4"};
        if (f->defaults)
            cli_job_plan_merge(&plan, doc, f->defaults, false, f->problems);
        if (job)
            cli_job_plan_merge(&plan, doc, job, true, f->problems);
        for (size_t i = 0; i < f->matrix.axes; i++)
            plan.value[f->matrix.axis[i].option] = f->matrix.axis[i].now;
        plan.name = combination_name(base, &f->matrix);
        if (plan.name)
            cli_problems_add(f->problems, cli_job_check_name(doc, plan.place, plan.name));
        cli_jobs_add(f->jobs, f->dir, f->overrides, &plan, f->problems);
        next_combination(&f->matrix);
    }
}

static void read_job(file *f, const vd_json_value *job, size_t number) {
    const vd_json *doc = f->jobs->doc;
    char base[24];
    const char *name = NULL;
    if (vd_json_type_of(job) != VD_JSON_OBJECT) {
        cli_problems_add(f->problems, vd_json_fail(doc, job, "expected an object"));
        return;
    }
    snprintf(base, sizeof base, "job-%04zu", number);
    vd_status st = vd_json_text(doc, job, "name", base, &name);
    if (st == VD_OK)
        st = cli_job_check_name(doc, vd_json_get(job, "name"), name);
    cli_problems_add(f->problems, st);
    refuse_matrix_keys(f, job);
    expand_job(f, job, st == VD_OK ? name : base);
}

static void read_jobs(file *f) {
    static const char *const keys[] = {"version", "defaults", "jobs", "matrix", NULL};
    const vd_json *doc = f->jobs->doc;
    const vd_json_value *root = vd_json_root(doc);
    size_t number = 0;
    f->matrix.combinations = 1;
    /* Only the first key that is none is told: the likeliest cause is another kind of file. */
    cli_problems_add(f->problems, vd_json_only_keys(doc, root, keys));
    f->defaults = section(f, "defaults", VD_JSON_OBJECT, "an object of options");
    const vd_json_value *lists = section(f, "matrix", VD_JSON_OBJECT, "an object of lists");
    for (const vd_json_value *v = lists ? vd_json_first(lists) : NULL; v; v = vd_json_next(v))
        read_axis(doc, v, &f->matrix, f->problems);
    const vd_json_value *jobs = section(f, "jobs", VD_JSON_ARRAY, "a list of jobs");
    if (jobs)
        for (const vd_json_value *v = vd_json_first(jobs); v; v = vd_json_next(v))
            read_job(f, v, ++number);
    else if (!vd_json_get(root, "jobs") && (f->defaults || lists))
        expand_job(f, NULL, "job");
    if (f->jobs->count == 0 && f->problems->count == 0)
        cli_problems_add(f->problems, vd_json_fail(doc, root, "holds no jobs"));
}

/* ---- the whole ----------------------------------------------------------------------------- */

typedef struct named {
    const cli_job *job;
} named;

static int by_name(const void *a, const void *b) {
    const cli_job *x = ((const named *)a)->job, *y = ((const named *)b)->job;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : (x < y ? -1 : 1);
}

static void check_unique(const cli_jobs *jobs, cli_problems *problems) {
    named *sorted = malloc((jobs->count + 1) * sizeof *sorted);
    if (!sorted) {
        cli_problems_add(problems, vd_fail(VD_ERR_MEMORY, "no memory for %zu jobs", jobs->count));
        return;
    }
    for (size_t i = 0; i < jobs->count; i++)
        sorted[i].job = &jobs->list[i];
    qsort(sorted, jobs->count, sizeof *sorted, by_name);
    for (size_t i = 1; i < jobs->count; i++) {
        const cli_job *first = sorted[i - 1].job, *second = sorted[i].job;
        char place[128];
        if (strcmp(first->name, second->name) != 0)
            continue;
        vd_json_path(jobs->doc, first->place, place, sizeof place);
        vd_json_fail(jobs->doc, second->place,
                     "the name \"%s\" is taken by %s: names must be unique", second->name, place);
        cli_problems_add(problems, VD_ERR_USAGE);
    }
    free(sorted);
}

void cli_jobs_read(const char *path, bool picks, const char *dir, const cli_overrides *overrides,
                   cli_jobs *out, cli_problems *problems) {
    file f = {.jobs = out, .dir = dir, .overrides = overrides, .problems = problems};
    int64_t version = 0;
    *out = (cli_jobs){.path = path};
    vd_status st = vd_json_read(path, picks ? "picks" : "job file", &out->doc);
    if (st != VD_OK) {
        cli_problems_add(problems, st);
        return;
    }
    const vd_json_value *root = vd_json_root(out->doc);
    if (vd_json_type_of(root) != VD_JSON_OBJECT) {
        cli_problems_add(problems, vd_json_fail(out->doc, root, "expected an object"));
        return;
    }
    cli_problems_add(problems, vd_json_int(out->doc, root, "version", 1, 1, 1, &version));
    if (picks)
        cli_jobs_read_picks(out, dir, overrides, problems);
    else
        read_jobs(&f);
    check_unique(out, problems);
}

void cli_jobs_free(cli_jobs *jobs) {
    for (size_t i = 0; i < jobs->count; i++) {
        cli_job *job = &jobs->list[i];
        free(job->name);
        free(job->output);
        free(job->latents);
        cli_command_free(&job->command);
        vd_json_destroy(job->clip);
    }
    free(jobs->list);
    vd_json_destroy(jobs->doc);
    *jobs = (cli_jobs){0};
}

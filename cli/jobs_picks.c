/* Picks: what the review page exports. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/jobs.h"
#include "core/text.h"

typedef struct pick {
    const vd_json_value *value, *settings;
    const char *file;
    double rank; /* INFINITY: none */
    size_t place;
} pick;

static int by_rank(const void *a, const void *b) {
    const pick *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

/* *taken is false for a pick that was not picked. */
static vd_status read_pick(const vd_json *doc, const vd_json_value *v, pick *out, bool *taken) {
    static const char *const keys[] = {"file", "settings", "verdict", "rank", "note", NULL};
    vd_status st = VD_OK;
    const char *verdict = NULL;
    *taken = false;
    if (vd_json_type_of(v) != VD_JSON_OBJECT)
        return vd_json_fail(doc, v, "expected an object");
    VD_TRY(vd_json_only_keys(doc, v, keys));
    VD_TRY(vd_json_text(doc, v, "verdict", "", &verdict));
    VD_TRY(vd_json_text(doc, v, "file", "", &out->file));
    VD_TRY(vd_json_double(doc, v, "rank", -1e9, 1e9, INFINITY, &out->rank));
    out->value = v;
    out->settings = vd_json_get(v, "settings");
    *taken = strcmp(verdict, "pick") == 0;
    if (*taken && (!out->settings || vd_json_type_of(out->settings) != VD_JSON_OBJECT))
        st = vd_json_fail(doc, v, "has no \"settings\", those of the clip's metadata");
done:
    return st;
}

/* The clip's file name without folder and ending; letters that a name cannot have become "_". */
static char *name_from_file(const char *file, size_t number) {
    const char *slash = strrchr(file, '/');
    char *name = vd_format("%s", slash ? slash + 1 : file);
    if (!name)
        return NULL;
    char *dot = strrchr(name, '.');
    if (dot && dot > name)
        *dot = '\0';
    for (char *c = name; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *c))
            *c = '_';
    if (name[0] == '.' || name[0] == '-')
        name[0] = '_';
    if (name[0] == '\0' || strlen(name) > 140) {
        free(name);
        name = vd_format("pick-%04zu", number);
    }
    return name;
}

/* Clips of different folders may have one name. */
static char *unique_name(const cli_jobs *jobs, const char *file, size_t number) {
    char *base = name_from_file(file, number), *name = base ? vd_format("%s", base) : NULL;
    size_t copy = 1;
    for (size_t i = 0; i < jobs->count && name; i++) {
        if (strcmp(jobs->list[i].name, name) != 0)
            continue;
        free(name);
        name = vd_format("%s-%zu", base, ++copy);
        i = (size_t)-1;
    }
    free(base);
    return name;
}

void cli_jobs_read_picks(cli_jobs *jobs, const char *dir, const cli_overrides *overrides,
                         cli_problems *problems) {
    static const char *const keys[] = {"version", "picks", NULL};
    const vd_json *doc = jobs->doc;
    const vd_json_value *root = vd_json_root(doc), *list = vd_json_get(root, "picks");
    size_t count = 0, seen = 0;
    cli_problems_add(problems, vd_json_only_keys(doc, root, keys));
    if (!list || vd_json_type_of(list) != VD_JSON_ARRAY || vd_json_size(list) > CLI_JOBS_MAX) {
        cli_problems_add(problems,
                         vd_json_fail(doc, list ? list : root,
                                      "expected \"picks\", a list of at most %d", CLI_JOBS_MAX));
        return;
    }
    pick *picks = calloc(vd_json_size(list) + 1, sizeof *picks);
    if (!picks) {
        cli_problems_add(problems, vd_fail(VD_ERR_MEMORY, "no memory for the picks"));
        return;
    }
    for (const vd_json_value *v = vd_json_first(list); v; v = vd_json_next(v), seen++) {
        bool taken = false;
        picks[count].place = seen;
        cli_problems_add(problems, read_pick(doc, v, &picks[count], &taken));
        count += taken && picks[count].settings;
    }
    qsort(picks, count, sizeof *picks, by_rank);
    for (size_t i = 0; i < count; i++) {
        cli_job_plan plan = {
            .place = picks[i].value, .clip = picks[i].settings, .container = "mp4"};
        plan.file = picks[i].file;
        plan.name = unique_name(jobs, picks[i].file, i + 1);
        cli_jobs_add(jobs, dir, overrides, &plan, problems);
    }
    if (count == 0 && problems->count == 0)
        cli_problems_add(problems, vd_json_fail(doc, list, "nothing is picked"));
    free(picks);
}

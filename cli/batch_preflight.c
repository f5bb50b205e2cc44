/* What --dry-run says of all jobs: each kind of render is tried once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/batch_turn.h"
#include "cli/preflight.h"
#include "core/memory.h"
#include "core/text.h"
#include "video/request.h"

/* Jobs that differ in nothing that costs: only in seeds, texts, names. */
typedef struct kind {
    char *key;
    size_t model, first, jobs; /* first: a job of it */
    vd_preflight plan;
} kind;

typedef struct survey {
    cli_batch_runner run;
    kind *kinds;
    size_t kind_count, jobs, finished;
    FILE *list; /* the jobs, a line each; printed when all is well */
    char *text;
    uint64_t output_bytes, state_bytes, room; /* state: of one job, the largest */
    size_t peak_bytes;
    double seconds;
} survey;

/* The request as JSON, without what costs nothing. */
static vd_status key_of(const cli_batch_turn *t, char **out) {
    vd_status st = VD_OK;
    char *settings = NULL;
    const char *path = t->work.output.path, *ending = strrchr(path, '.');
    vd_render_request r = t->work.request;
    r.prompt = "";
    r.negative_prompt = NULL;
    r.seed = 0;
    r.fps = 1;
    r.guidance = r.guidance > 1 ? 2 : 1;
    VD_TRY(vd_request_describe(t->model, &r, &t->work.output, &settings));
    *out = vd_format("%zu %d %d %s %s", t->job->model, r.final_latents != NULL,
                     t->work.saved_latents != NULL, ending ? ending : "", settings);
    if (!*out)
        st = vd_fail(VD_ERR_MEMORY, "no memory for a list of renders");
done:
    free(settings);
    return st;
}

static kind *find(survey *s, const char *key) {
    for (size_t i = 0; i < s->kind_count; i++)
        if (strcmp(s->kinds[i].key, key) == 0)
            return &s->kinds[i];
    return NULL;
}

/* Counts a job under its kind, and its bytes on the disk. */
static vd_status count(survey *s, const cli_batch_turn *t, size_t index) {
    vd_status st = VD_OK;
    char *key = NULL;
    VD_TRY(key_of(t, &key));
    kind *k = find(s, key);
    if (!k) {
        kind *kinds = realloc(s->kinds, (s->kind_count + 1) * sizeof *kinds);
        if (!kinds) {
            st = vd_fail(VD_ERR_MEMORY, "no memory for a list of renders");
            goto done;
        }
        s->kinds = kinds;
        k = &kinds[s->kind_count];
        *k = (kind){.key = key, .model = t->job->model, .first = index};
        key = NULL;
        s->kind_count++;
        VD_TRY(vd_preflight_disk(t->model, &t->work.request, &t->work.output, &k->plan));
    }
    k->jobs++;
    s->output_bytes += k->plan.output_bytes + cli_preflight_latents(t->model, &t->work);
    if (k->plan.state_bytes > s->state_bytes)
        s->state_bytes = k->plan.state_bytes;
done:
    free(key);
    return st;
}

static vd_status look_at_job(survey *s, size_t index) {
    vd_status st = VD_OK;
    const cli_batch_state *b = s->run.batch;
    const cli_job *job = &b->jobs.list[index];
    cli_batch_turn t = {.run = &s->run, .job = job, .model = b->models[job->model].model};
    VD_TRY(cli_batch_prepare(&t));
    const vd_render_request *r = &t.work.request;
    const bool finished = cli_batch_is_recorded(&t);
    s->jobs++;
    s->finished += finished;
    fprintf(s->list, "%s: %lldx%lld, %lld frames, %lld steps, seed %llu%s\n", job->output,
            (long long)r->width_px, (long long)r->height_px, (long long)r->frames,
            (long long)r->steps, (unsigned long long)r->seed, finished ? ", finished" : "");
    if (!finished && !b->check)
        VD_TRY(count(s, &t, index));
done:
    cli_render_work_free(&t.work);
    free(t.settings);
    return st;
}

static vd_status look_at_jobs(survey *s) {
    vd_status st = VD_OK;
    const cli_batch_state *b = s->run.batch;
    char *manifest = vd_format("%s/manifest.jsonl", b->dir);
    char *file = vd_format("%s/", b->dir);
    if (!manifest || !file) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a path");
        goto done;
    }
    VD_TRY(cli_ledger_read(manifest, &s->run.finished));
    for (size_t i = 0; i < b->jobs.count; i++)
        if (cli_shard_has(&b->shard, i))
            VD_TRY(look_at_job(s, i));
    if (!b->check)
        VD_TRY(cli_preflight_disk(file, s->output_bytes + s->state_bytes, &s->room));
done:
    free(manifest);
    free(file);
    return st;
}

/* A model's kinds, one after the other as the jobs will be. */
static vd_status try_kinds(survey *s, size_t model) {
    vd_status st = VD_OK;
    const cli_batch_state *b = s->run.batch;
    double load_s = 0;
    for (size_t i = 0; i < s->kind_count; i++) {
        kind *k = &s->kinds[i];
        const cli_job *job = &b->jobs.list[k->first];
        cli_batch_turn t = {.job = job, .model = b->models[model].model};
        if (k->model != model)
            continue;
        st = cli_batch_prepare(&t);
        if (st == VD_OK)
            st = cli_preflight_try(t.model, &t.work, &k->plan);
        if (st != VD_OK)
            vd_fail_in(st, "%s", job->name);
        cli_render_work_free(&t.work);
        free(t.settings);
        if (st != VD_OK)
            return st;
        const vd_preflight *p = &k->plan;
        s->seconds += (double)k->jobs * (p->denoise_s + p->decode_s + p->encode_s);
        s->peak_bytes = p->peak_bytes > s->peak_bytes ? p->peak_bytes : s->peak_bytes;
        load_s = p->load_s > load_s ? p->load_s : load_s;
    }
    s->seconds += load_s;
    return st;
}

static const char *method_of(const survey *s, const kind *k) {
    const cli_render_args *a = &s->run.batch->jobs.list[k->first].args;
    return a->settings ? "settings" : a->method;
}

static void print_table(const survey *s) {
    char x[CLI_AMOUNT_BYTES], y[CLI_AMOUNT_BYTES], z[CLI_AMOUNT_BYTES];
    if (s->kind_count > 0)
        printf("\n%6s  %-11s %6s %5s  %-10s %-4s %10s %12s\n", "jobs", "size", "frames", "steps",
               "method", "type", "memory", "time of each");
    for (size_t i = 0; i < s->kind_count; i++) {
        const kind *k = &s->kinds[i];
        const vd_preflight *p = &k->plan;
        char size[32];
        snprintf(size, sizeof size, "%lldx%lld", (long long)p->width_px, (long long)p->height_px);
        printf("%6zu  %-11s %6lld %5lld  %-10s %-4s %10s %12s\n", k->jobs, size,
               (long long)p->frames, (long long)p->steps, method_of(s, k),
               vd_model_get_info(s->run.batch->models[k->model].model)->dtype,
               cli_show_bytes((double)p->peak_bytes, x),
               cli_show_seconds(p->denoise_s + p->decode_s + p->encode_s, y));
    }
    printf("%zu jobs, %zu finished; about %s; memory %s at the most; disk %s at most, ", s->jobs,
           s->finished, cli_show_seconds(s->seconds, x), cli_show_bytes((double)s->peak_bytes, y),
           cli_show_bytes((double)(s->output_bytes + s->state_bytes), z));
    printf("%s free\n", cli_show_bytes((double)s->room, x));
}

static vd_status print_json(const survey *s) {
    vd_json_writer *w = NULL;
    vd_status st = vd_json_writer_create(&w);
    if (st != VD_OK)
        return st;
    vd_json_begin_object(w, NULL);
    vd_json_put_int(w, "jobs", (int64_t)s->jobs);
    vd_json_put_int(w, "finished", (int64_t)s->finished);
    vd_json_begin_array(w, "kinds");
    for (size_t i = 0; i < s->kind_count; i++) {
        const kind *k = &s->kinds[i];
        vd_json_begin_object(w, NULL);
        vd_json_put_int(w, "jobs", (int64_t)k->jobs);
        vd_json_put_string(w, "first", s->run.batch->jobs.list[k->first].name);
        cli_preflight_put(w, method_of(s, k), &k->plan);
        vd_json_end(w);
    }
    vd_json_end(w);
    vd_json_put_double(w, "seconds", s->seconds);
    vd_json_put_int(w, "peak_bytes", (int64_t)s->peak_bytes);
    vd_json_put_int(w, "disk_bytes", (int64_t)(s->output_bytes + s->state_bytes));
    vd_json_put_int(w, "disk_free_bytes", (int64_t)s->room);
    vd_json_end(w);
    return cli_preflight_print(w);
}

static vd_status try_all(survey *s) {
    const cli_batch_state *b = s->run.batch;
    vd_status st = VD_OK;
    for (size_t m = 0; m < b->model_count && st == VD_OK; m++) {
        st = try_kinds(s, m);
        if (b->model_count > 1)
            vd_model_unload(b->models[m].model);
    }
    return st;
}

vd_status cli_batch_preflight(cli_batch_state *batch) {
    vd_status st = VD_OK;
    survey s = {.run = {.batch = batch}};
    size_t bytes = 0;
    s.list = open_memstream(&s.text, &bytes);
    if (!s.list)
        return vd_fail(VD_ERR_MEMORY, "no memory for a list of jobs");
    VD_TRY(look_at_jobs(&s));
    if (!batch->check)
        VD_TRY(try_all(&s));
    if (s.kind_count > 0 && s.peak_bytes < vd_memory_peak())
        s.peak_bytes = vd_memory_peak();
    if (batch->json) {
        st = print_json(&s);
        goto done;
    }
    (void)fflush(s.list);
    (void)fputs(s.text, stdout);
    if (!batch->check)
        print_table(&s);
done:
    (void)fclose(s.list);
    free(s.text);
    for (size_t i = 0; i < s.kind_count; i++)
        free(s.kinds[i].key);
    free(s.kinds);
    cli_ledger_free(&s.run.finished);
    return st;
}

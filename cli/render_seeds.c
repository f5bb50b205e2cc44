/* --seed-list and --repeat: several clips that differ in their seeds, from one model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/render.h"
#include "core/text.h"

enum { SEEDS_MAX = 10000 };

/* ---- which -------------------------------------------------------------------------------- */

static vd_status too_many(void) {
    return vd_fail(VD_ERR_USAGE, "render: more than %d seeds: use vidilate batch", SEEDS_MAX);
}

static vd_status add_range(cli_seeds *s, uint64_t first, uint64_t last) {
    if (last - first >= SEEDS_MAX || s->count + (size_t)(last - first) + 1 > SEEDS_MAX)
        return too_many();
    for (uint64_t i = 0; i <= last - first; i++)
        s->list[s->count++] = first + i;
    return VD_OK;
}

/* "1,2,5-9" */
static vd_status add_list(cli_seeds *s, const char *text) {
    vd_status st = VD_OK;
    const char *at = text;
    for (bool more = true; more && st == VD_OK; more = *at++ == ',') {
        uint64_t first = 0, last = 0;
        bool good = cli_take_seed(&at, &first);
        last = first;
        if (good && *at == '-') {
            at++;
            good = cli_take_seed(&at, &last) && first <= last;
        }
        if (!good || (*at != ',' && *at != '\0'))
            return vd_fail(VD_ERR_USAGE,
                           "render: --seed-list \"%s\": must be seeds (0 to 2^64 - 1) and ranges, "
                           "such as 1,2,5-9",
                           text);
        st = add_range(s, first, last);
    }
    return st;
}

static int by_seed(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static vd_status refuse_twice(const cli_seeds *s) {
    vd_status st = VD_OK;
    uint64_t *sorted = malloc((s->count + 1) * sizeof *sorted);
    if (!sorted)
        return vd_fail(VD_ERR_MEMORY, "no memory for %zu seeds", s->count);
    memcpy(sorted, s->list, s->count * sizeof *sorted);
    qsort(sorted, s->count, sizeof *sorted, by_seed);
    for (size_t i = 1; i < s->count && st == VD_OK; i++)
        if (sorted[i] == sorted[i - 1])
            st = vd_fail(VD_ERR_USAGE, "render: --seed-list has the seed %llu twice",
                         (unsigned long long)sorted[i]);
    free(sorted);
    return st;
}

static vd_status check_options(const cli_render_args *a) {
    const char *option = a->seed_list ? "seed-list" : "repeat";
    if (a->seed_list && (a->has.repeat || a->has.seed))
        return vd_fail(VD_ERR_USAGE, "render: give --seed-list or --%s, not both",
                       a->has.repeat ? "repeat" : "seed");
    if (a->has.repeat && (a->repeat < 1 || a->repeat > SEEDS_MAX))
        return vd_fail(VD_ERR_USAGE, "render: --repeat %lld: must be from 1 to %d",
                       (long long)a->repeat, SEEDS_MAX);
    if (a->has.repeat && a->seed > UINT64_MAX - (uint64_t)(a->repeat - 1))
        return vd_fail(VD_ERR_USAGE,
                       "render: --repeat %lld from the seed %llu goes beyond 2^64 - 1",
                       (long long)a->repeat, (unsigned long long)a->seed);
    if (a->latents)
        return vd_fail(VD_ERR_USAGE,
                       "render: --%s: with --latents the clips would not differ in their noise",
                       option);
    if (a->save_latents)
        return vd_fail(VD_ERR_USAGE,
                       "render: --%s: --save-latents is one file for several clips; vidilate batch "
                       "--keep-latents has one for each",
                       option);
    return VD_OK;
}

vd_status cli_seeds_read(const cli_render_args *a, cli_seeds *out) {
    vd_status st = VD_OK;
    *out = (cli_seeds){0};
    if (!a->seed_list && !a->has.repeat)
        return VD_OK;
    VD_TRY(check_options(a));
    out->list = malloc(SEEDS_MAX * sizeof *out->list);
    if (!out->list)
        return vd_fail(VD_ERR_MEMORY, "no memory for the seeds");
    if (a->seed_list) {
        VD_TRY(add_list(out, a->seed_list));
        VD_TRY(refuse_twice(out));
    } else {
        VD_TRY(add_range(out, a->seed, a->seed + (uint64_t)(a->repeat - 1)));
    }
done:
    if (st != VD_OK)
        cli_seeds_free(out);
    return st;
}

void cli_seeds_free(cli_seeds *s) {
    free(s->list);
    *s = (cli_seeds){0};
}

/* ---- their clips --------------------------------------------------------------------------- */

/* As batch's matrix names clips: clip.mp4 -> clip-seed-5.mp4, f%04d.png -> f-seed-5-%04d.png. */
static char *name_of(const char *output, uint64_t seed) {
    const size_t length = strlen(output);
    if (length > 0 && output[length - 1] == ':')
        return vd_format("%s", output);
    const char *slash = strrchr(output, '/'), *name = slash ? slash + 1 : output, *at = name;
    while (*at && (*at != '%' || at[1] == '%'))
        at += *at == '%' ? 2 : 1;
    const bool frames = *at == '%';
    const char *dot = strrchr(name, '.');
    if (!frames && dot)
        at = dot;
    const bool joined = at == name || at[-1] == '-' || at[-1] == '_';
    return vd_format("%.*s%sseed-%llu%s%s", (int)(at - output), output, joined ? "" : "-",
                     (unsigned long long)seed, frames ? "-" : "", at);
}

/* What can be known before the first clip is rendered. */
static vd_status check_clip(const cli_render_args *a, const vd_json *clip, vd_model *model) {
    vd_status st = VD_OK;
    cli_render_work work = {0};
    bool finished = false;
    VD_TRY(cli_render_fill(a, clip, model, &work));
    VD_TRY(vd_render_check(model, &work.request));
    VD_TRY(vd_output_check(&work.output, &work.request));
    if (!a->force)
        VD_TRY(vd_output_finished(model, &work.request, &work.output, &finished));
done:
    cli_render_work_free(&work);
    return st;
}

typedef vd_status (*clip_fn)(const cli_render_args *a, const vd_json *clip, vd_model *model);

static vd_status with_seed(const cli_render_args *a, const vd_json *clip, vd_model *model,
                           uint64_t seed, clip_fn fn) {
    cli_render_args one = *a;
    char *output = name_of(a->output, seed);
    if (!output)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    one.output = output;
    one.seed = seed;
    const vd_status st = fn(&one, clip, model);
    free(output);
    return st;
}

vd_status cli_render_seeds(const cli_render_args *a, const vd_json *clip, vd_model *model,
                           const cli_seeds *seeds) {
    vd_status st = VD_OK, first_failure = VD_OK;
    size_t failed = 0;
    for (size_t i = 0; i < seeds->count; i++)
        VD_TRY(with_seed(a, clip, model, seeds->list[i], check_clip));
    for (size_t i = 0; i < seeds->count; i++) {
        st = with_seed(a, clip, model, seeds->list[i], cli_render_one);
        (void)fflush(stdout);
        if (st == VD_ERR_INTERRUPTED)
            return st;
        if (st == VD_OK)
            continue;
        fprintf(stderr, "vidilate: seed %llu: %s\n", (unsigned long long)seeds->list[i],
                vd_error_message());
        first_failure = failed++ == 0 ? st : first_failure;
    }
    st = VD_OK;
    if (failed > 0)
        st = vd_fail(first_failure, "render: %zu of %zu clips failed", failed, seeds->count);
done:
    return st;
}

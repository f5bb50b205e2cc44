#include "video/explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "unet3d/method_plan.h"
#include "video/low_res.h"
#include "video/model.h"

/* A block, or a part of one, whose layers all run the same. */
typedef struct part {
    vd_path name;
    vd_layer_method method;
} part;

typedef struct account {
    const vd_model *m;
    const vd_render_request *r;
    const char *why, *row;
    vd_scheduler *scheduler;
    vd_method_plan *plan;              /* NULL: the plain network throughout */
    int64_t small_width, small_height; /* of the render that guides; 0: none */
    int guided_calls;                  /* those that it takes the place of */
    vd_spatial_paths paths;
    part *parts; /* of one network at one step */
    size_t part_count;
} account;

/* ---- parts of the network ------------------------------------------------------------------- */

static size_t prefix_length(const char *path, int components) {
    size_t length = strcspn(path, ".");
    for (; components > 1 && path[length] != '\0'; components--)
        length += 1 + strcspn(path + length + 1, ".");
    return length;
}

static bool same(const vd_layer_method *a, const vd_layer_method *b) {
    return a->redilated == b->redilated && a->dispersed == b->dispersed &&
           a->factor.h == b->factor.h && a->factor.w == b->factor.w;
}

/* Cuts layers first .. last - 1 into groups by block and, where a block's layers differ, by the
 * first `depth` names inside it. */
static void split(account *a, const vd_layer_method *layers, size_t first, size_t last, int depth) {
    const char *const *path = a->paths.list;
    while (first < last) {
        const int block = strncmp(path[first], "mid_block", strlen("mid_block")) == 0 ? 1 : 2;
        const size_t length = prefix_length(path[first], block + depth);
        size_t end = first + 1;
        bool uniform = true;
        for (; end < last && strncmp(path[end], path[first], length) == 0 &&
               (path[end][length] == '.' || path[end][length] == '\0');
             end++)
            uniform = uniform && same(&layers[end], &layers[first]);
        if (uniform) {
            part *p = &a->parts[a->part_count++];
            p->name = vd_path_join("", "%.*s", (int)length, path[first]);
            p->method = layers[first];
        } else {
            split(a, layers, first, end, depth + 1);
        }
        first = end;
    }
}

/* The parts of one network; none if all its convolutions are plain. */
static void take_parts(account *a, const vd_step_method *method) {
    bool plain = true;
    a->part_count = 0;
    for (size_t i = 0; method->layers != NULL && i < a->paths.count; i++)
        plain = plain && !method->layers[i].redilated;
    if (!plain)
        split(a, method->layers, 0, a->paths.count, 0);
}

/* The first call from `call` on that does not run the same as it. */
static int range_end(const account *a, int call, int calls) {
    int end = call + 1;
    if (call < a->guided_calls)
        return a->guided_calls;
    while (end < calls &&
           (a->plan == NULL ||
            (vd_method_plan_at(a->plan, end) == vd_method_plan_at(a->plan, call) &&
             vd_method_plan_damped_at(a->plan, end) == vd_method_plan_damped_at(a->plan, call))))
        end++;
    return end;
}

/* ---- as JSON -------------------------------------------------------------------------------- */

static void put_network(vd_json_writer *w, account *a, const char *key,
                        const vd_step_method *method) {
    take_parts(a, method);
    vd_json_begin_object(w, key);
    vd_json_begin_object(w, "dilate");
    for (size_t i = 0; i < a->part_count; i++) {
        const part *p = &a->parts[i];
        if (!p->method.redilated)
            continue;
        vd_json_begin_array(w, p->name.text);
        vd_json_put_double(w, NULL, p->method.factor.h);
        vd_json_put_double(w, NULL, p->method.factor.w);
        vd_json_end(w);
    }
    vd_json_end(w);
    vd_json_begin_array(w, "disperse");
    for (size_t i = 0; i < a->part_count; i++)
        if (a->parts[i].method.dispersed)
            vd_json_put_string(w, NULL, a->parts[i].name.text);
    vd_json_end(w);
    vd_json_put_bool(w, "freeu", method->freeu.rule != VD_FREEU_OFF);
    vd_json_put_double(w, "attention_ratio", method->attention_ratio);
    vd_json_end(w);
}

static void put_ranges(vd_json_writer *w, account *a) {
    static const vd_step_method plain = {0};
    const int calls = vd_scheduler_calls(a->scheduler);
    vd_json_begin_array(w, "ranges");
    for (int call = 0, end; call < calls; call = end) {
        end = range_end(a, call, calls);
        const vd_step_method *damped = a->plan ? vd_method_plan_damped_at(a->plan, call) : NULL;
        vd_json_begin_object(w, NULL);
        vd_json_put_int(w, "first", call);
        vd_json_put_int(w, "last", end - 1);
        vd_json_begin_array(w, "timesteps");
        vd_json_put_double(w, NULL, vd_scheduler_timestep(a->scheduler, call));
        vd_json_put_double(w, NULL, vd_scheduler_timestep(a->scheduler, end - 1));
        vd_json_end(w);
        if (call < a->guided_calls) {
            vd_json_begin_object(w, "low_res");
            vd_json_put_int(w, "width", a->small_width);
            vd_json_put_int(w, "height", a->small_height);
            vd_json_end(w);
        } else {
            put_network(w, a, "network", a->plan ? vd_method_plan_at(a->plan, call) : &plain);
            if (damped != NULL)
                put_network(w, a, "noise_damped", damped);
        }
        vd_json_end(w);
    }
    vd_json_end(w);
}

static vd_status as_json(account *a, char **out) {
    vd_status st;
    vd_json_writer *w = NULL;
    const vd_render_request *r = a->r;
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    vd_json_put_string(w, "model", a->m->name);
    vd_json_put_int(w, "width", r->width_px);
    vd_json_put_int(w, "height", r->height_px);
    vd_json_put_int(w, "trained_width", a->m->info.width_px);
    vd_json_put_int(w, "trained_height", a->m->info.height_px);
    vd_json_put_int(w, "steps", r->steps);
    vd_json_put_int(w, "calls", vd_scheduler_calls(a->scheduler));
    if (r->method != NULL)
        vd_json_put_string(w, "method", r->method);
    if (a->row != NULL)
        vd_json_put_string(w, "row", a->row);
    vd_json_put_string(w, "why", a->why);
    if (r->settings != NULL)
        vd_settings_put(w, "settings", r->settings);
    put_ranges(w, a);
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, true, out));
done:
    vd_json_writer_destroy(w);
    return st;
}

/* ---- as text -------------------------------------------------------------------------------- */

/* All parts that run like part `i`, on one line; nothing if an earlier part does already. */
static void print_like(FILE *f, const account *a, size_t i) {
    const vd_layer_method *m = &a->parts[i].method;
    char what[64] = "plain";
    for (size_t k = 0; k < i; k++)
        if (same(&a->parts[k].method, m))
            return;
    if (m->redilated && m->factor.h == m->factor.w)
        snprintf(what, sizeof what, "re-dilated by %g", m->factor.h);
    else if (m->redilated)
        snprintf(what, sizeof what, "re-dilated by %g high, %g wide", m->factor.h, m->factor.w);
    fprintf(f, "  %-18s%s", what, m->dispersed ? " with dispersed kernels" : "");
    for (size_t k = i; k < a->part_count; k++)
        if (same(&a->parts[k].method, m))
            fprintf(f, "%s %s", k == i ? "" : ",", a->parts[k].name.text);
    fputc('\n', f);
}

static void print_network(FILE *f, account *a, const vd_step_method *method) {
    static const char *const rules[] = {
        [VD_FREEU_BY_BLOCK] = "up_blocks.0 and up_blocks.1",
        [VD_FREEU_BY_CHANNELS] = "the up blocks' wider maps",
    };
    take_parts(a, method);
    for (size_t i = 0; i < a->part_count; i++)
        print_like(f, a, i);
    if (method->freeu.rule != VD_FREEU_OFF)
        fprintf(f, "  %-18s %s, b %g %g, s %g %g\n", "FreeU", rules[method->freeu.rule],
                method->freeu.b1, method->freeu.b2, method->freeu.s1, method->freeu.s2);
    if (method->attention_ratio > 0)
        fprintf(f, "  %-18s spatial self-attention, for %g times the tokens\n", "scaled attention",
                method->attention_ratio);
    if (a->part_count == 0 && method->freeu.rule == VD_FREEU_OFF && method->attention_ratio == 0)
        fputs("  the plain network\n", f);
}

static void print_head(FILE *f, const account *a) {
    const vd_render_request *r = a->r;
    const vd_model_info *info = &a->m->info;
    fprintf(f, "model     %s, trained at %lldx%lld\n", a->m->name, (long long)info->width_px,
            (long long)info->height_px);
    fprintf(f, "render    %lldx%lld, %.3g times as wide, %.3g times as high; %lld steps\n",
            (long long)r->width_px, (long long)r->height_px,
            (double)r->width_px / (double)info->width_px,
            (double)r->height_px / (double)info->height_px, (long long)r->steps);
    fprintf(f, "method    %s\nwhy       %s\n", r->method ? r->method : "settings", a->why);
}

static void print_ranges(FILE *f, account *a) {
    static const vd_step_method plain = {0};
    const int calls = vd_scheduler_calls(a->scheduler);
    for (int call = 0, end; call < calls; call = end) {
        end = range_end(a, call, calls);
        const vd_step_method *damped = a->plan ? vd_method_plan_damped_at(a->plan, call) : NULL;
        fprintf(f, end == call + 1 ? "step %d" : "steps %d-%d", call, end - 1);
        fprintf(f, " (timesteps %g to %g)\n", vd_scheduler_timestep(a->scheduler, call),
                vd_scheduler_timestep(a->scheduler, end - 1));
        if (call < a->guided_calls) {
            fprintf(f, "  no network: a render at %lldx%lld first, enlarged, with noise\n",
                    (long long)a->small_width, (long long)a->small_height);
            continue;
        }
        print_network(f, a, a->plan ? vd_method_plan_at(a->plan, call) : &plain);
        if (damped != NULL) {
            fputs("  noise-damped guidance: the negative prompt's prediction comes from\n", f);
            print_network(f, a, damped);
        }
    }
}

static vd_status as_text(account *a, char **out) {
    size_t bytes = 0;
    FILE *f = open_memstream(out, &bytes);
    if (f == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory to explain the settings");
    print_head(f, a);
    print_ranges(f, a);
    if (fclose(f) == 0)
        return VD_OK;
    free(*out);
    *out = NULL;
    return vd_fail(VD_ERR_MEMORY, "no memory to explain the settings");
}

vd_status vd_explain(const vd_model *model, const vd_render_request *r, const char *why,
                     const char *row, bool json, char **out) {
    vd_status st;
    account a = {.m = model, .r = r, .why = why, .row = row};
    *out = NULL;
    VD_TRY(vd_model_schedule(model, r, 1, &a.scheduler));
    VD_TRY(vd_spatial_paths_of(&model->unet_config, &a.paths));
    a.parts = calloc(a.paths.count, sizeof *a.parts);
    if (a.parts == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "no memory to explain the settings");
        goto done;
    }
    if (r->settings != NULL)
        VD_TRY(vd_method_plan_create(r->settings, a.paths.list, vd_scheduler_calls(a.scheduler),
                                     &a.plan));
    if (r->settings != NULL &&
        vd_low_res_size(&model->info, r->width_px, r->height_px, &a.small_width, &a.small_height))
        a.guided_calls = r->settings->low_res_tau;
    VD_TRY(json ? as_json(&a, out) : as_text(&a, out));
done:
    free(a.parts);
    vd_method_plan_destroy(a.plan);
    vd_spatial_paths_free(&a.paths);
    vd_scheduler_destroy(a.scheduler);
    return st;
}

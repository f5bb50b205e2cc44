#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "backend/ops.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/rng.h"
#include "core/text.h"
#include "unet3d/method_plan.h"
#include "video/model.h"

enum { TEXT_TOKENS = 77, BRANCHES = 2, MAX_SIDE_PX = 16384, MAX_FRAMES = 1024, MAX_STEPS = 1000 };

typedef struct bench {
    const bench_args *a;
    vd_backend *be;
    vd_exec *x;
    vd_dtype dtype;
    vd_unet *unet;
    vd_method_plan *plan; /* NULL: the plain network */
    void *memory[5];
    vd_tensor sample, output, states, waves; /* device, of both branches */
    const vd_sampler_program *guide;         /* device */
} bench;

/* ---- sizes ---------------------------------------------------------------------------------- */

static vd_status in_range(const char *name, int64_t value, int64_t most) {
    if (value >= 1 && value <= most)
        return VD_OK;
    return vd_fail(VD_ERR_USAGE, "bench: --%s %lld: must be from 1 to %lld", name, (long long)value,
                   (long long)most);
}

static vd_status check_side(const char *name, int64_t px, int64_t multiple) {
    vd_status st = in_range(name, px, MAX_SIDE_PX);
    if (st == VD_OK && px % multiple != 0)
        st = vd_fail(VD_ERR_USAGE, "bench: --%s %lld: must be a multiple of %lld", name,
                     (long long)px, (long long)multiple);
    return st;
}

/* Pixels per latent: of the autoencoder beside the UNet, or what all published ones have. */
static vd_status latent_scale(const char *dir, int64_t *out) {
    enum { USUAL = 8 };
    vd_vae_config config;
    struct stat info;
    char *vae = vd_format("%s/vae", dir);
    vd_status st = VD_OK;
    *out = USUAL;
    if (!vae)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    if (stat(vae, &info) == 0) {
        st = vd_vae_read_config(vae, &config);
        if (st == VD_OK)
            *out = vd_vae_scale(&config);
    }
    free(vae);
    return st;
}

/* Fills the sizes, and makes the tensors' shapes of them. */
static vd_status choose_sizes(bench *b, const vd_unet_config *c, bench_result *r) {
    vd_status st;
    int64_t scale;
    VD_TRY(latent_scale(b->a->model, &scale));
    vd_model_info own = {0};
    vd_model_usual_size(c, scale, &own);
    VD_TRY(vd_model_read_defaults(b->a->model, &own));
    r->width = b->a->has.width ? b->a->width : own.width_px;
    r->height = b->a->has.height ? b->a->height : own.height_px;
    r->frames = b->a->has.frames ? b->a->frames : own.frames;
    VD_TRY(check_side("width", r->width, scale));
    VD_TRY(check_side("height", r->height, scale));
    VD_TRY(in_range("frames", r->frames, MAX_FRAMES));
    b->sample = VD_VIEW(NULL, VD_F32, BRANCHES, c->in_channels, r->frames, r->height / scale,
                        r->width / scale);
    b->output = b->sample;
    b->output.dim[1] = c->out_channels;
    b->states = VD_VIEW(NULL, VD_F32, BRANCHES, TEXT_TOKENS, c->cross_attention_dim);
    b->waves = VD_VIEW(NULL, VD_F32, BRANCHES, c->channels[0]);
done:
    return st;
}

/* ---- one pass ------------------------------------------------------------------------------- */

static vd_status fill(const bench *b, vd_tensor *t, void **memory, uint64_t seed) {
    vd_status st;
    vd_rng rng;
    float *values = NULL;
    const size_t bytes = vd_tensor_bytes(t);
    VD_TRY(vd_memory_check(2 * bytes, "random inputs"));
    values = malloc(bytes);
    if (!values) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for random inputs");
        goto done;
    }
    vd_rng_seed(&rng, seed);
    vd_rng_normal_f32(&rng, values, (size_t)vd_tensor_elements(t));
    VD_TRY(vd_backend_alloc(b->be, bytes, memory));
    t->data = *memory;
    VD_TRY(vd_backend_upload(b->be, t->data, values, bytes));
done:
    free(values);
    return st;
}

static vd_tensor first_items(const vd_tensor *t, int64_t items) {
    vd_tensor part = *t;
    part.dim[0] = items;
    return part;
}

/* The latents through the network, `branches` at once; with two, guidance too. */
static vd_status pass(bench *b, int64_t branches) {
    vd_status st = VD_OK;
    const double timestep[BRANCHES] = {500, 500};
    const vd_unet_hooks hooks = {.method = b->plan ? vd_method_plan_at(b->plan, 0) : NULL,
                                 .waves = &b->waves};
    const vd_tensor sample = first_items(&b->sample, branches);
    vd_tensor output = first_items(&b->output, branches);
    const vd_tensor negative = vd_tensor_item(&output, 0);
    const vd_tensor text = vd_tensor_item(&output, BRANCHES - 1);
    const vd_tensor *predictions[] = {&negative, &text};
    VD_TRY(vd_unet_forward(b->unet, b->x, &output, &sample, timestep, &hooks));
    if (branches == BRANCHES)
        VD_TRY(vd_sampler_run(b->x, predictions, BRANCHES, b->guide, NULL));
done:
    return st;
}

typedef struct pass_args {
    bench *b;
    int64_t branches;
} pass_args;

static vd_status run_pass(void *user) {
    const pass_args *a = user;
    return pass(a->b, a->branches);
}

/* The pass as a render has it, and what the device has to do for it. */
static vd_status whole_pass(bench *b, int64_t branches) {
    pass_args a = {b, branches};
    const vd_status st =
        vd_exec_repeat(b->x, branches == 1 ? &b->sample : &b->states, NULL, run_pass, &a);
    return st == VD_OK ? vd_backend_synchronize(b->be) : st;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double cpu_now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static vd_status profile_passes(bench *b, int64_t branches) {
    vd_status st;
    VD_TRY(vd_exec_profile_start(b->x));
    for (int64_t i = 0; i < b->a->steps; i++)
        VD_TRY(whole_pass(b, branches));
done:
    return st;
}

/* The first pass warms up and is not counted; nor is the second of a device, which may be recorded
 * then. There the profile, which waits for each op, is taken of passes of its own. */
static vd_status time_passes(bench *b, int64_t branches, bench_times *out) {
    vd_status st = VD_OK;
    const size_t steps = (size_t)b->a->steps;
    double *ms = malloc(steps * sizeof *ms);
    if (!ms)
        return vd_fail(VD_ERR_MEMORY, "no memory for the times");
    const bool apart = !vd_backend_on_host(b->be);
    vd_exec_profile_stop(b->x);
    VD_TRY(whole_pass(b, branches));
    VD_TRY(apart ? whole_pass(b, branches) : vd_exec_profile_start(b->x));
    for (size_t i = 0; i < steps; i++) {
        const double start = vd_now_s(), cpu_start = cpu_now_ms();
        VD_TRY(whole_pass(b, branches));
        ms[i] = (vd_now_s() - start) * 1e3;
        const double cpu = cpu_now_ms() - cpu_start;
        out->cpu_ms = i == 0 || cpu < out->cpu_ms ? cpu : out->cpu_ms;
    }
    if (apart)
        VD_TRY(profile_passes(b, branches));
    qsort(ms, steps, sizeof *ms, ascending);
    out->min_ms = ms[0];
    out->median_ms = steps % 2 ? ms[steps / 2] : (ms[steps / 2 - 1] + ms[steps / 2]) / 2;
done:
    free(ms);
    return st;
}

/* ---- all of it ------------------------------------------------------------------------------ */

/* SD XL's pooled text, zero here, and sizes. */
static vd_status set_added(bench *b, const bench_result *r) {
    enum { IDS = 6 };
    const vd_unet_config *c = vd_unet_get_config(b->unet);
    const double h = (double)r->height, w = (double)r->width;
    const double ids[BRANCHES * IDS] = {h, w, 0, 0, h, w, h, w, 0, 0, h, w};
    float *pooled = calloc((size_t)(BRANCHES * c->added_width) + 1, sizeof *pooled);
    if (!pooled)
        return vd_fail(VD_ERR_MEMORY, "no memory for the pooled text");
    vd_status st = vd_unet_set_added(b->unet, BRANCHES, pooled, IDS, ids);
    free(pooled);
    return st;
}

static vd_status load(bench *b, const vd_settings *settings, const char *folder, bench_result *r) {
    vd_status st;
    const double start = vd_now_s();
    VD_TRY(vd_model_open_unet(b->be, folder, b->dtype, b->a->offload, &b->unet));
    if (vd_unet_get_config(b->unet)->added_width > 0)
        VD_TRY(set_added(b, r));
    if (settings)
        VD_TRY(vd_method_plan_create(settings, vd_unet_spatial_paths(b->unet), 1, &b->plan));
    VD_TRY(vd_unet_set_context(b->unet, b->x, &b->states));
    VD_TRY(pass(b, 1));
    VD_TRY(pass(b, BRANCHES));
    VD_TRY(vd_exec_commit(b->x));
    VD_TRY(vd_unet_set_context(b->unet, b->x, &b->states));
    r->load_ms = (vd_now_s() - start) * 1e3;
    r->weight_bytes = vd_backend_weight_bytes(b->be);
    r->offloaded_bytes = vd_backend_offloaded_bytes(b->be);
    r->arena_bytes = vd_exec_peak_bytes(b->x);
done:
    return st;
}

static double total_flop(const vd_op_profile *ops, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ops[i].flop;
    return sum;
}

static vd_status measure(bench *b, bench_result *r) {
    vd_status st;
    const double part = 1.0 / (double)b->a->steps;
    size_t count = 0;
    const vd_op_profile *ops;
    VD_TRY(time_passes(b, 1, &r->forward));
    ops = vd_exec_profile(b->x, &count);
    r->tflop = total_flop(ops, count) * part * 1e-12;
    VD_TRY(time_passes(b, BRANCHES, &r->step));
    ops = vd_exec_profile(b->x, &count);
    r->ops = malloc(count * sizeof *ops);
    if (!r->ops) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for the profile");
        goto done;
    }
    memcpy(r->ops, ops, count * sizeof *ops);
    r->op_count = count;
    for (size_t i = 0; i < count; i++) {
        r->ops[i].calls = (int64_t)((double)ops[i].calls * part + 0.5);
        r->ops[i].seconds *= part;
        r->ops[i].flop *= part;
        r->ops[i].bytes *= part;
    }
    r->peak_rss_bytes = cli_peak_bytes();
done:
    return st;
}

static vd_status send(bench *b, const void *data, size_t bytes, void **out) {
    const vd_status st = vd_backend_alloc(b->be, bytes, out);
    return st == VD_OK ? vd_backend_upload(b->be, *out, data, bytes) : st;
}

static vd_status fill_all(bench *b) {
    static const vd_sampler_program guide = {
        .ops = 1, .op = {{.kind = VD_SAMPLER_GUIDE, .dst = 0, .src = {0, 0, 1}, .factor = {7.5}}}};
    vd_status st;
    VD_TRY(fill(b, &b->sample, &b->memory[0], 1));
    VD_TRY(fill(b, &b->output, &b->memory[1], 2));
    VD_TRY(fill(b, &b->states, &b->memory[2], 3));
    VD_TRY(fill(b, &b->waves, &b->memory[3], 4));
    VD_TRY(send(b, &guide, sizeof guide, &b->memory[4]));
    b->guide = b->memory[4];
done:
    return st;
}

static void release(bench *b) {
    vd_exec_destroy(b->x);
    vd_unet_destroy(b->unet);
    vd_method_plan_destroy(b->plan);
    for (size_t i = 0; b->be && i < sizeof b->memory / sizeof b->memory[0]; i++)
        vd_backend_free(b->be, b->memory[i]);
    vd_backend_close(b->be);
}

vd_status bench_run(const bench_args *a, bench_result *r) {
    vd_status st;
    bench b = {.a = a};
    vd_unet_config config;
    vd_settings *settings = NULL;
    char *folder = vd_format("%s/unet", a->model);
    char *path = vd_format("%s/unet/config.json", a->model);
    *r = (bench_result){0};
    VD_TRY(in_range("steps", a->steps, MAX_STEPS));
    if (!folder || !path) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for paths");
        goto done;
    }
    if (a->settings)
        VD_TRY(vd_settings_read(a->settings, &settings));
    VD_TRY(vd_unet_config_read(path, &config));
    VD_TRY(choose_sizes(&b, &config, r));
    VD_TRY(vd_backend_open(a->backend, (int)a->threads, &b.be));
    VD_TRY(vd_backend_parse_dtype(b.be, a->dtype, &b.dtype));
    snprintf(r->device, sizeof r->device, "%s: %s", vd_backend_name(b.be),
             vd_backend_description(b.be));
    snprintf(r->dtype, sizeof r->dtype, "%s", vd_dtype_option(b.dtype));
    VD_TRY(vd_exec_create(b.be, b.dtype, &b.x));
    vd_exec_set_interrupt(b.x, cli_interrupted, NULL);
    VD_TRY(fill_all(&b));
    VD_TRY(load(&b, settings, folder, r));
    VD_TRY(measure(&b, r));
    VD_TRY(bench_matmul_peak(b.be, b.dtype, &r->matmul_peak_tflops));
done:
    release(&b);
    vd_settings_destroy(settings);
    free(folder);
    free(path);
    return st;
}

void bench_result_free(bench_result *r) {
    free(r->ops);
    r->ops = NULL;
}

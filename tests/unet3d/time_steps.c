/* Times guided steps (both branches in one forward) of a UNet on random inputs, where there is no
 * program to do it with `vidilate bench`: tools/gpu_check.sh runs it.
 *
 *     unet_steps UNET_DIR f32|bf16|f16 FRAMES RUNS CASE...     CASE: HxW or HxW,SETTINGS.json
 *
 * H and W are latents. A device that can repeats a recorded step, as in a render; the arithmetic of
 * guidance and sampler is not in it. All cases run in one process, one JSON object a line: the
 * least and median milliseconds of a step after one that does not count, the work of one branch,
 * and the memory. VD_TEST_BACKEND names the backend. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/rng.h"
#include "tests/unet3d/run.h"
#include "unet3d/method_plan.h"

enum { TEXT_TOKENS = 77, BRANCHES = 2, MOST_RUNS = 1000 };

typedef struct step_case {
    int64_t h, w;
    const char *settings; /* NULL: the plain network */
} step_case;

typedef struct timer {
    unet_run run;
    vd_dtype dtype;
    int64_t frames;
    int runs;
    vd_exec *x;
    vd_tensor sample, output, states, waves; /* device */
    vd_method_plan *plan;
} timer;

static vd_status random_tensor(const timer *t, vd_tensor *shape, uint64_t seed) {
    vd_rng rng;
    const size_t count = (size_t)vd_tensor_elements(shape);
    float *values = malloc(count * sizeof *values);
    if (values == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for random inputs");
    vd_rng_seed(&rng, seed);
    vd_rng_normal_f32(&rng, values, count);
    *shape = run_upload(&t->run, shape, values);
    free(values);
    return shape->data != NULL ? VD_OK : VD_ERR_MEMORY;
}

static vd_status step(void *user) {
    const timer *t = user;
    const double timestep[BRANCHES] = {500, 500};
    const vd_unet_hooks hooks = {.method = t->plan != NULL ? vd_method_plan_at(t->plan, 0) : NULL,
                                 .waves = &t->waves};
    vd_tensor output = t->output;
    return vd_unet_forward(t->run.u, t->x, &output, &t->sample, timestep, &hooks);
}

static vd_status whole_step(timer *t) {
    const vd_status st = vd_exec_repeat(t->x, t, NULL, step, t);
    return st == VD_OK ? vd_backend_synchronize(t->run.be) : st;
}

/* A committed exec that has run one step, whose work was counted: that waits after each op. */
static vd_status prepare(timer *t) {
    vd_status st;
    VD_TRY(vd_exec_create(t->run.be, t->dtype, &t->x));
    VD_TRY(vd_unet_set_context(t->run.u, t->x, &t->states));
    VD_TRY(step(t));
    VD_TRY(vd_exec_commit(t->x));
    VD_TRY(vd_unet_set_context(t->run.u, t->x, &t->states));
    VD_TRY(vd_exec_profile_start(t->x));
    VD_TRY(step(t));
done:
    return st;
}

static double tflop_of(const vd_exec *x) {
    size_t count;
    double sum = 0;
    const vd_op_profile *ops = vd_exec_profile(x, &count);
    for (size_t i = 0; i < count; i++)
        sum += ops[i].flop;
    return sum / BRANCHES * 1e-12;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static vd_status measure(timer *t, const step_case *c) {
    enum { UNCOUNTED = 2 }; /* launched, recorded */
    vd_status st;
    double ms[MOST_RUNS];
    VD_TRY(prepare(t));
    const double tflop = tflop_of(t->x);
    vd_exec_profile_stop(t->x);
    for (int i = 0; i < UNCOUNTED; i++)
        VD_TRY(whole_step(t));
    for (int i = 0; i < t->runs; i++) {
        const double start_s = vd_now_s();
        VD_TRY(whole_step(t));
        ms[i] = (vd_now_s() - start_s) * 1e3;
    }
    qsort(ms, (size_t)t->runs, sizeof *ms, ascending);
    printf("{\"latent\": \"%lldx%lld\", \"settings\": \"%s\", \"step_ms\": %.4f, \"median_ms\": "
           "%.4f, \"branch_tflop\": %.6f, \"arena_bytes\": %zu, \"weight_bytes\": %zu}\n",
           (long long)c->h, (long long)c->w, c->settings != NULL ? c->settings : "", ms[0],
           ms[t->runs / 2], tflop, vd_exec_peak_bytes(t->x), vd_backend_weight_bytes(t->run.be));
    (void)fflush(stdout);
done:
    vd_exec_destroy(t->x);
    t->x = NULL;
    return st;
}

static vd_status run_case(timer *t, const step_case *c) {
    vd_status st;
    vd_settings *settings = NULL;
    const vd_unet_config *config = vd_unet_get_config(t->run.u);
    t->plan = NULL;
    t->sample = VD_VIEW(NULL, VD_F32, BRANCHES, config->in_channels, t->frames, c->h, c->w);
    t->output = t->sample;
    t->output.dim[1] = config->out_channels;
    t->states = VD_VIEW(NULL, VD_F32, BRANCHES, TEXT_TOKENS, config->cross_attention_dim);
    t->waves = VD_VIEW(NULL, VD_F32, BRANCHES, config->channels[0]);
    if (c->settings != NULL) {
        VD_TRY(vd_settings_read(c->settings, &settings));
        VD_TRY(vd_method_plan_create(settings, vd_unet_spatial_paths(t->run.u), 1, &t->plan));
    }
    VD_TRY(random_tensor(t, &t->sample, 1));
    VD_TRY(random_tensor(t, &t->output, 2));
    VD_TRY(random_tensor(t, &t->states, 3));
    VD_TRY(random_tensor(t, &t->waves, 4));
    VD_TRY(measure(t, c));
done:
    vd_backend_free(t->run.be, t->sample.data);
    vd_backend_free(t->run.be, t->output.data);
    vd_backend_free(t->run.be, t->states.data);
    vd_backend_free(t->run.be, t->waves.data);
    vd_method_plan_destroy(t->plan);
    vd_settings_destroy(settings);
    return st;
}

static bool parse_case(char *text, step_case *c) {
    char *end;
    c->h = strtoll(text, &end, 10);
    if (*end != 'x')
        return false;
    c->w = strtoll(end + 1, &end, 10);
    c->settings = *end == ',' ? end + 1 : NULL;
    return c->h > 0 && c->w > 0 && (*end == ',' || *end == '\0');
}

int main(int argc, char **argv) {
    timer t = {0};
    vd_status st = VD_OK;
    if (argc < 6) {
        fprintf(stderr, "usage: unet_steps UNET_DIR f32|bf16|f16 FRAMES RUNS HxW[,SETTINGS]...\n");
        return 2;
    }
    t.dtype = strcmp(argv[2], "bf16") == 0  ? VD_BF16
              : strcmp(argv[2], "f16") == 0 ? VD_F16
                                            : VD_F32;
    t.frames = strtoll(argv[3], NULL, 10);
    t.runs = (int)strtol(argv[4], NULL, 10);
    if (t.frames < 1 || t.runs < 1 || t.runs > MOST_RUNS || !run_open(&t.run, argv[1], t.dtype, 0))
        return 1;
    for (int i = 5; i < argc && st == VD_OK; i++) {
        step_case c;
        st = parse_case(argv[i], &c) ? run_case(&t, &c)
                                     : vd_fail(VD_ERR_USAGE, "%s: not HxW[,SETTINGS]", argv[i]);
    }
    if (st != VD_OK)
        fprintf(stderr, "%s\n", vd_error_message());
    run_close(&t.run);
    return st == VD_OK ? 0 : 1;
}

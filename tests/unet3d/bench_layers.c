/* What the method costs: the 3x3 convolutions of the SD 1.5 network one after the other, plain,
 * re-dilated and dispersed as the published 2048x2048 settings have them.
 *
 *     bench_layers SIDE f32|bf16 [TAPS [REPEATS]]     latents SIDE x SIDE; TAPS of the large kernel
 *
 * Not a test. Processor time of one thread, the smallest of the repeats, which are taken in turns:
 * so other work on the machine matters little. Peak bytes are those of the arena; bytes of packed
 * weights are of all that has run so far. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unet3d/disperse.h"
#include "unet3d/redilate.h"

typedef struct layer {
    const char *where;
    int64_t in, out;
    int level; /* the side is SIDE >> level */
    int stride, count, dilation;
    bool dispersed;
} layer;

/* Of one block in the order of computation; resnets with equal shapes are counted together. */
static const layer layers[] = {
    {"d0", 320, 320, 0, 1, 4, 1, false},      {"d0 down", 320, 320, 0, 2, 1, 1, false},
    {"d1", 320, 640, 1, 1, 1, 2, false},      {"d1", 640, 640, 1, 1, 3, 2, false},
    {"d1 down", 640, 640, 1, 2, 1, 2, false}, {"d2", 640, 1280, 2, 1, 1, 3, false},
    {"d2", 1280, 1280, 2, 1, 3, 3, false},    {"d2 down", 1280, 1280, 2, 2, 1, 3, true},
    {"d3, m", 1280, 1280, 3, 1, 8, 4, true},  {"u0", 2560, 1280, 3, 1, 3, 4, true},
    {"u0", 1280, 1280, 3, 1, 3, 4, true},     {"u0 up", 1280, 1280, 2, 1, 1, 4, true},
    {"u1", 2560, 1280, 2, 1, 2, 3, true},     {"u1", 1920, 1280, 2, 1, 1, 3, true},
    {"u1", 1280, 1280, 2, 1, 3, 3, true},     {"u1 up", 1280, 1280, 1, 1, 1, 3, true},
    {"u2", 1920, 640, 1, 1, 1, 2, false},     {"u2", 1280, 640, 1, 1, 1, 2, false},
    {"u2", 960, 640, 1, 1, 1, 2, false},      {"u2", 640, 640, 1, 1, 3, 2, false},
    {"u2 up", 640, 640, 0, 1, 1, 2, false},   {"u3", 960, 320, 0, 1, 1, 1, false},
    {"u3", 640, 320, 0, 1, 2, 1, false},      {"u3", 320, 320, 0, 1, 3, 1, false},
};
enum { LAYERS = sizeof layers / sizeof layers[0], WAYS = 3 };
static const char *const way_names[WAYS] = {"plain", "redilated", "dispersed"};

typedef struct bench {
    vd_backend *be;
    vd_dtype dtype;
    vd_kernel_map map;
    int repeats;
    double total_s[WAYS];
    size_t peak_bytes[WAYS];
} bench;

static void *random_values(int64_t count) {
    float *v = malloc((size_t)count * sizeof *v);
    unsigned seed = 1;
    for (int64_t i = 0; v != NULL && i < count; i++) {
        seed = seed * 1664525U + 1013904223U;
        v[i] = ((float)(seed >> 8) / 8388608.0F - 1.0F) * 0.05F;
    }
    return v;
}

static double processor_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One layer in one way: `src` to a result of its own. */
static vd_status pass(const bench *b, vd_exec *x, const vd_conv_layer *conv, const layer *l,
                      const vd_tensor *src, int way) {
    vd_status st;
    vd_tensor dst = {0};
    const bool dispersed = way == 2 && l->dispersed;
    const double d = way == 0 ? 1 : dispersed ? l->dilation / 2.0 : l->dilation;
    const vd_redilation factor = {d, d};
    VD_TRY(vd_redilate_alloc(x, &dst, src, conv, l->stride, factor));
    VD_TRY(vd_redilate_conv(x, &dst, src, conv, NULL, NULL, l->stride, factor,
                            dispersed ? &b->map : NULL));
done:
    vd_exec_free(x, &dst);
    return st;
}

static vd_status time_layer(bench *b, const vd_conv_layer *conv, const layer *l,
                            const vd_tensor *src) {
    vd_status st = VD_OK;
    vd_exec *x[WAYS] = {0};
    double best[WAYS] = {1e9, 1e9, 1e9};
    for (int way = 0; way < WAYS; way++) {
        VD_TRY(vd_exec_create(b->be, b->dtype, &x[way]));
        VD_TRY(pass(b, x[way], conv, l, src, way));
        VD_TRY(vd_exec_commit(x[way]));
        const size_t peak = vd_exec_peak_bytes(x[way]);
        b->peak_bytes[way] = peak > b->peak_bytes[way] ? peak : b->peak_bytes[way];
    }
    for (int i = -1; i < b->repeats; i++)
        for (int way = 0; way < WAYS; way++) {
            const double start = processor_s();
            VD_TRY(pass(b, x[way], conv, l, src, way));
            const double spent = processor_s() - start;
            best[way] = i >= 0 && spent < best[way] ? spent : best[way];
        }
    printf("%-8s %4lld -> %4lld, %3lld x %3lld, %d of them:", l->where, (long long)l->in,
           (long long)l->out, (long long)src->dim[1], (long long)src->dim[2], l->count);
    for (int way = 0; way < WAYS; way++) {
        printf(" %9.2f", best[way] * 1e3);
        b->total_s[way] += best[way] * l->count;
    }
    printf(" ms, %.3f\n", best[2] / best[1]);
done:
    for (int way = 0; way < WAYS; way++)
        vd_exec_destroy(x[way]);
    return st;
}

static vd_status run_layer(bench *b, const layer *l, int64_t side) {
    vd_status st;
    const int64_t at = side >> l->level;
    void *kernel = random_values(l->out * l->in * 9), *input = NULL, *values = NULL;
    vd_conv_layer conv = {.in = l->in, .out = l->out, .kernel_h = 3, .kernel_w = 3};
    vd_tensor src = VD_VIEW(NULL, b->dtype, 1, at, at, l->in);
    const int64_t count = vd_tensor_elements(&src);
    const vd_weight_part part = {.tensor = VD_VIEW(kernel, VD_F32, l->out, l->in, 3, 3),
                                 .columns = l->in};
    values = random_values(count);
    VD_TRY(vd_weight_create_conv(b->be, &part, b->dtype, &conv.w));
    VD_TRY(vd_backend_alloc(b->be, vd_tensor_bytes(&src), &input));
    vd_convert_values(input, b->dtype, values, VD_F32, (size_t)count);
    src.data = input;
    VD_TRY(time_layer(b, &conv, l, &src));
done:
    vd_backend_free(b->be, input);
    vd_conv_layer_destroy(b->be, &conv);
    free(values);
    free(kernel);
    return st;
}

static vd_status run(bench *b, int64_t side, int taps) {
    vd_status st;
    double R[49 * 9];
    VD_TRY(vd_disperse_solve(3, taps, taps == 5 ? 3 : 4, taps == 5 ? 2 : 3, 0.05, R));
    b->map = (vd_kernel_map){.taps = taps, .values = R};
    VD_TRY(vd_backend_open("cpu", 1, &b->be));
    printf("%s, %s, %lld x %lld, %d taps\n", vd_backend_description(b->be), vd_dtype_name(b->dtype),
           (long long)side, (long long)side, taps);
    for (int i = 0; i < LAYERS; i++)
        VD_TRY(run_layer(b, &layers[i], side));
    for (int way = 0; way < WAYS; way++)
        printf("%-9s %8.1f ms, arena %5.1f MiB\n", way_names[way], b->total_s[way] * 1e3,
               (double)b->peak_bytes[way] / 1048576);
    printf("re-dilated by plain %.3f, dispersed by re-dilated %.3f\n",
           b->total_s[1] / b->total_s[0], b->total_s[2] / b->total_s[1]);
done:
    if (st != VD_OK)
        fprintf(stderr, "%s\n", vd_error_message());
    vd_backend_close(b->be);
    return st;
}

int main(int argc, char **argv) {
    const int64_t side = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    const int taps = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 5;
    bench b = {.repeats = argc > 4 ? (int)strtol(argv[4], NULL, 10) : 5};
    if (argc < 3 || side < 16 || (taps != 5 && taps != 7) || b.repeats < 1) {
        fprintf(stderr, "usage: bench_layers SIDE f32|bf16 [5|7 [REPEATS]]\n");
        return 2;
    }
    b.dtype = strcmp(argv[2], "bf16") == 0 ? VD_BF16 : VD_F32;
    return run(&b, side, taps) == VD_OK ? 0 : 1;
}

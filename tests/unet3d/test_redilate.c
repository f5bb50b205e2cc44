/* The re-dilated convolution: PyTorch's golden cases, and the naive oracle where they have none
 * (an own factor for each axis, what is added, residuals, bfloat16, other threads). */
#include <stdlib.h>

#include "tests/backend_name.h"
#include "tests/check.h"
#include "tests/golden.h"
#include "tests/ref_ops.h"
#include "unet3d/disperse.h"
#include "unet3d/dispersion.h"
#include "unet3d/method_plan.h"
#include "unet3d/redilate.h"

static const char manifest[] = VD_BINARY_DIR "/golden/manifest.json";

typedef struct device {
    vd_backend *be;
    vd_exec *x;
    vd_dtype dtype;
} device;

static void device_open(device *d, vd_dtype dtype, int threads) {
    *d = (device){.dtype = dtype};
    CHECK_OK(vd_backend_open(check_backend(), threads, &d->be));
    CHECK_OK(vd_exec_create(d->be, dtype, &d->x));
}

static void device_close(device *d) {
    vd_exec_destroy(d->x);
    vd_backend_close(d->be);
}

/* ---- one convolution on host data ----------------------------------------------------------- */

typedef enum residual_kind { NO_RESIDUAL, RESIDUAL, RESIDUAL_IN_PLACE } residual_kind;

typedef struct trial {
    int64_t n, h, w, ci, co, k;
    int stride;
    residual_kind residual;
    vd_redilation factor;
    int64_t groups;           /* rows to add; 0: none */
    const vd_dispersion *map; /* dispersed: its large kernel; NULL: k */
} trial;

typedef struct data {
    float *src, *weight, *bias, *add, *residual; /* host, values that the dtype can hold */
} data;

static int64_t out_size(int64_t size, int stride) {
    return size / stride;
}

static size_t result_count(const trial *t) {
    return (size_t)(t->n * out_size(t->h, t->stride) * out_size(t->w, t->stride) * t->co);
}

static void *upload(const device *d, const float *values, size_t count, vd_dtype dtype) {
    void *memory = NULL;
    void *converted = malloc(count * sizeof(float));
    CHECK_OK(vd_backend_alloc(d->be, count * vd_dtype_bytes(dtype), &memory));
    if (values != NULL) {
        vd_convert_values(converted, dtype, values, VD_F32, count);
        CHECK_OK(vd_backend_upload(d->be, memory, converted, count * vd_dtype_bytes(dtype)));
    }
    free(converted);
    return memory;
}

static vd_status pass(const device *d, const trial *t, const vd_conv_layer *layer, vd_tensor *dst,
                      const vd_tensor *src, const vd_tensor *add, const vd_tensor *residual) {
    vd_status st;
    vd_tensor shape = {0};
    const vd_kernel_map map = {.taps = t->map == NULL ? 0 : (int)t->map->large,
                               .values = t->map == NULL ? NULL : t->map->R};
    VD_TRY(vd_redilate_alloc(d->x, &shape, src, layer, t->stride, t->factor));
    CHECK(vd_tensor_same_shape(&shape, dst));
    vd_exec_free(d->x, &shape);
    VD_TRY(vd_redilate_conv(d->x, dst, src, layer, add, residual, t->stride, t->factor,
                            t->map == NULL ? NULL : &map));
done:
    return st;
}

/* Dry, commit, real; the result in float32, malloc'ed. */
static float *run(const device *d, const trial *t, const data *v) {
    const int64_t oh = out_size(t->h, t->stride), ow = out_size(t->w, t->stride);
    const size_t count = result_count(t);
    const bool in_place = t->residual == RESIDUAL_IN_PLACE;
    const vd_tensor src = VD_VIEW(upload(d, v->src, (size_t)(t->n * t->h * t->w * t->ci), d->dtype),
                                  d->dtype, t->n, t->h, t->w, t->ci);
    vd_tensor dst = VD_VIEW(upload(d, in_place ? v->residual : NULL, count, d->dtype), d->dtype,
                            t->n, oh, ow, t->co);
    vd_tensor residual = dst;
    residual.data = t->residual == RESIDUAL ? upload(d, v->residual, count, d->dtype) : NULL;
    vd_tensor add = {0};
    if (t->groups > 0)
        add = VD_VIEW(upload(d, v->add, (size_t)(t->groups * t->co), VD_F32), VD_F32, t->groups,
                      t->co);
    vd_conv_layer layer = {.in = t->ci, .out = t->co, .kernel_h = (int)t->k, .kernel_w = (int)t->k};
    const vd_weight_part part = {.tensor = VD_VIEW(v->weight, VD_F32, t->co, t->ci, t->k, t->k),
                                 .columns = t->ci};
    const vd_tensor bias = VD_VIEW(v->bias, VD_F32, t->co);
    CHECK_OK(vd_weight_create_conv(d->be, &part, d->dtype, &layer.w));
    CHECK_OK(vd_weight_create_vector(d->be, &bias, 1, &layer.bias));

    const vd_tensor *rest = in_place ? &dst : t->residual == RESIDUAL ? &residual : NULL;
    vd_exec_reset(d->x);
    CHECK_OK(pass(d, t, &layer, &dst, &src, t->groups > 0 ? &add : NULL, rest));
    CHECK_OK(vd_exec_commit(d->x));
    const size_t peak = vd_exec_peak_bytes(d->x);
    CHECK_OK(pass(d, t, &layer, &dst, &src, t->groups > 0 ? &add : NULL, rest));
    CHECK(vd_exec_peak_bytes(d->x) == peak);
    vd_tensor all = {0};
    CHECK_OK(VD_ALLOC(d->x, VD_F32, &all, (int64_t)(peak / sizeof(float)))); /* nothing is left */
    vd_exec_free(d->x, &all);

    float *result = calloc(count, sizeof *result);
    void *raw = malloc(count * sizeof *result);
    CHECK_OK(vd_backend_download(d->be, raw, dst.data, vd_tensor_bytes(&dst)));
    vd_convert_values(result, VD_F32, raw, d->dtype, count);
    free(raw);
    vd_conv_layer_destroy(d->be, &layer);
    vd_backend_free(d->be, src.data);
    vd_backend_free(d->be, dst.data);
    vd_backend_free(d->be, residual.data);
    vd_backend_free(d->be, add.data);
    return result;
}

/* ---- the oracle ----------------------------------------------------------------------------- */

static float *narrow(const double *values, size_t count) {
    float *result = calloc(count, sizeof *result);
    for (size_t i = 0; result != NULL && i < count; i++)
        result[i] = (float)values[i];
    return result;
}

static float *resized(const float *src, int64_t n, int64_t h, int64_t w, int64_t c, int64_t oh,
                      int64_t ow) {
    const size_t count = (size_t)(n * oh * ow * c);
    double *wide = malloc(count * sizeof *wide);
    const ref_resize_shape shape = {.n = n, .h = h, .w = w, .c = c, .oh = oh, .ow = ow};
    ref_resize_bilinear(wide, src, &shape);
    float *result = narrow(wide, count);
    free(wide);
    return result;
}

/* The kernel that is meant: the weight, or R times it, [co, ci, taps, taps]. */
static float *whole_kernel(const trial *t, const data *v, int64_t taps) {
    const int64_t pairs = t->co * t->ci;
    float *kernel = malloc((size_t)(pairs * taps * taps) * sizeof *kernel);
    if (t->map == NULL)
        memcpy(kernel, v->weight, (size_t)(pairs * taps * taps) * sizeof *kernel);
    else
        vd_disperse_kernel(kernel, v->weight, pairs, 3, taps, t->map->R);
    return kernel;
}

static float *expected(const trial *t, const data *v) {
    const int64_t taps = t->map == NULL ? t->k : t->map->large;
    const int dh = (int)ceil(t->factor.h), dw = (int)ceil(t->factor.w);
    const int64_t ih = lrint((double)t->h * (dh / t->factor.h));
    const int64_t iw = lrint((double)t->w * (dw / t->factor.w));
    const ref_conv2d_shape shape = {.n = t->n,
                                    .h = ih,
                                    .w = iw,
                                    .ci = t->ci,
                                    .oh = (ih + t->stride - 1) / t->stride,
                                    .ow = (iw + t->stride - 1) / t->stride,
                                    .co = t->co,
                                    .kh = taps,
                                    .kw = taps,
                                    .groups = t->groups};
    const vd_conv2d_desc desc = {.stride_h = t->stride,
                                 .stride_w = t->stride,
                                 .pad_top = dh * (int)(taps / 2),
                                 .pad_left = dw * (int)(taps / 2),
                                 .dilation_h = dh,
                                 .dilation_w = dw};
    const size_t raw_count = (size_t)(t->n * shape.oh * shape.ow * t->co);
    double *wide = malloc(raw_count * sizeof *wide);
    float *large = resized(v->src, t->n, t->h, t->w, t->ci, ih, iw);
    float *kernel = whole_kernel(t, v, taps);
    ref_conv2d(wide, large, kernel, v->bias, NULL, NULL, &shape, &desc);
    float *raw = narrow(wide, raw_count);
    float *result = resized(raw, t->n, shape.oh, shape.ow, t->co, out_size(t->h, t->stride),
                            out_size(t->w, t->stride));
    const size_t image = result_count(t) / (size_t)t->n;
    for (size_t i = 0; i < result_count(t); i++) {
        const size_t group = t->groups == 0 ? 0 : i / image / (size_t)(t->n / t->groups);
        result[i] += (t->groups == 0 ? 0 : v->add[group * (size_t)t->co + i % (size_t)t->co]) +
                     (t->residual == NO_RESIDUAL ? 0 : v->residual[i]);
    }
    free(kernel);
    free(wide);
    free(large);
    free(raw);
    return result;
}

/* ---- trials --------------------------------------------------------------------------------- */

/* Values in -1 .. 1 that the dtype holds exactly. */
static float *values(size_t count, vd_dtype dtype, unsigned seed) {
    float *v = malloc((count + 1) * sizeof *v);
    void *rounded = malloc((count + 1) * sizeof *v);
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525U + 1013904223U;
        v[i] = (float)(seed >> 8) / 8388608.0F - 1.0F;
    }
    vd_convert_values(rounded, dtype, v, VD_F32, count);
    vd_convert_values(v, VD_F32, rounded, dtype, count);
    free(rounded);
    return v;
}

static double nmse(const float *got, const float *want, size_t count) {
    double error = 0, power = 0;
    for (size_t i = 0; i < count; i++) {
        const double difference = (double)got[i] - (double)want[i];
        error += difference * difference;
        power += (double)want[i] * (double)want[i];
    }
    return error / power;
}

static const trial trials[] = {
    {2, 9, 12, 5, 6, 3, 1, NO_RESIDUAL, {2, 3}, 0, NULL},
    {2, 9, 12, 5, 6, 3, 1, RESIDUAL, {2, 1}, 2, NULL},
    {2, 9, 12, 5, 6, 3, 1, RESIDUAL, {1.5, 2}, 1, NULL},
    {4, 9, 12, 5, 6, 3, 1, RESIDUAL_IN_PLACE, {2.5, 1.25}, 2, NULL},
    {2, 7, 16, 16, 32, 3, 1, RESIDUAL_IN_PLACE, {4, 16}, 0, NULL},
    {2, 9, 12, 5, 6, 3, 2, NO_RESIDUAL, {2, 2}, 0, NULL},
    {2, 11, 7, 8, 8, 3, 2, RESIDUAL, {1, 3}, 1, NULL},
    {2, 11, 7, 8, 8, 3, 2, NO_RESIDUAL, {1.6, 2.5}, 0, NULL},
    {1, 9, 12, 5, 6, 5, 1, RESIDUAL, {1.5, 1}, 1, NULL},
    {1, 9, 12, 5, 6, 7, 2, NO_RESIDUAL, {2, 1.5}, 0, NULL},
    {1, 1, 2, 3, 4, 3, 1, RESIDUAL, {1.5, 3}, 0, NULL},
};

static void test_trial(const device *one, const device *two, const trial *t, double bound) {
    const vd_dtype dtype = one->dtype;
    data v = {.src = values((size_t)(t->n * t->h * t->w * t->ci), dtype, 1),
              .weight = values((size_t)(t->co * t->ci * t->k * t->k), dtype, 2),
              .bias = values((size_t)t->co, VD_F32, 3),
              .add = values((size_t)(t->groups * t->co), VD_F32, 4),
              .residual = values(result_count(t), dtype, 5)};
    float *want = expected(t, &v);
    float *got = run(one, t, &v);
    float *threaded = run(two, t, &v);
    const double error = nmse(got, want, result_count(t));
    CHECK_MSG(error <= bound, "%s, %lld x %lld by (%g, %g) at stride %d: NMSE %g",
              vd_dtype_name(dtype), (long long)t->h, (long long)t->w, t->factor.h, t->factor.w,
              t->stride, error);
    CHECK(memcmp(got, threaded, result_count(t) * sizeof *got) == 0);
    free(want);
    free(got);
    free(threaded);
    free(v.src);
    free(v.weight);
    free(v.bias);
    free(v.add);
    free(v.residual);
}

static vd_dispersion five = {3, 5, 3, 2, 0.05, NULL};
static vd_dispersion seven = {3, 7, 4, 3, 0.05, NULL};
static vd_dispersion nine = {3, 9, 5, 4, 0.05, NULL};

/* Dispersed: at half the factor, so below 1 too. */
static const trial dispersed[] = {
    {2, 9, 12, 5, 6, 3, 1, NO_RESIDUAL, {1, 1}, 0, &five},
    {2, 9, 12, 5, 6, 3, 1, RESIDUAL, {1.5, 2}, 2, &five},
    {4, 9, 12, 19, 6, 3, 1, RESIDUAL_IN_PLACE, {2, 0.75}, 2, &five},
    {2, 7, 16, 16, 32, 3, 1, RESIDUAL_IN_PLACE, {1, 2}, 0, &five},
    {1, 40, 33, 32, 64, 3, 1, RESIDUAL, {1.5, 1.5}, 1, &five},
    {2, 11, 7, 8, 8, 3, 2, NO_RESIDUAL, {1.25, 1}, 1, &five},
    {2, 12, 16, 32, 32, 3, 2, NO_RESIDUAL, {2, 1.5}, 0, &five},
    {1, 9, 12, 40, 16, 3, 1, RESIDUAL, {2, 1.5}, 1, &seven},
    {1, 12, 8, 16, 16, 3, 2, NO_RESIDUAL, {1, 1}, 0, &seven},
    {1, 10, 9, 16, 16, 3, 1, NO_RESIDUAL, {1, 2}, 0, &nine},
    {1, 1, 2, 3, 4, 3, 1, RESIDUAL, {1.5, 1}, 0, &seven},
};

static void test_oracle(vd_dtype dtype) {
    /* A rounding has an NMSE of at most eps^2. Float32: eps^2 = 3.6e-15, and up to 245 products are
     * summed one after the other, where the partial sums' roundings add to about a quarter of that
     * many. Bfloat16: eps^2 = 3.8e-6, at most three roundings: the enlarged input, what the
     * convolution gave (or the sums that a dispersed kernel takes), the result. */
    const double bound = dtype == VD_F32 ? 2.2e-13 : 1.2e-5;
    device probe;
    device one;
    device two;
    device_open(&probe, VD_F32, 1);
    const bool computes = vd_backend_has_dtype(probe.be, dtype);
    device_close(&probe);
    if (!computes) {
        printf("SKIPPED: %s, which this machine does not compute\n", vd_dtype_name(dtype));
        return;
    }
    device_open(&one, dtype, 1);
    device_open(&two, dtype, 2);
    for (size_t i = 0; i < sizeof trials / sizeof trials[0]; i++)
        test_trial(&one, &two, &trials[i], bound);
    for (size_t i = 0; i < sizeof dispersed / sizeof dispersed[0]; i++)
        test_trial(&one, &two, &dispersed[i], bound);
    device_close(&one);
    device_close(&two);
}

/* ---- golden --------------------------------------------------------------------------------- */

/* [n, c, p] -> [n, p, c]; with the roles swapped it is its own inverse. Frees src. */
static float *turned(float *src, int64_t n, int64_t c, int64_t p) {
    float *result = malloc((size_t)(n * c * p) * sizeof *result);
    for (int64_t i = 0; src != NULL && i < n * c * p; i++)
        result[(i / (c * p) * p + i % p) * c + i / p % c] = src[i];
    free(src);
    return result;
}

static void test_golden_conv(const device *d, const golden_case *c) {
    vd_tensor shape = {0};
    data v = {.weight = golden_input(c, "weight", VD_F32, NULL, &shape),
              .bias = golden_input(c, "bias", VD_F32, NULL, NULL)};
    const vd_json_value *stride = vd_json_get(c->settings, "stride");
    const vd_json_value *sizes = vd_json_get(c->settings, "sizes");
    for (const vd_json_value *s = vd_json_first(sizes); s != NULL; s = vd_json_next(s)) {
        const double factor = vd_json_number(vd_json_get(s, "d"));
        const trial t = {.n = 1,
                         .h = (int64_t)vd_json_number(vd_json_get(s, "h")),
                         .w = (int64_t)vd_json_number(vd_json_get(s, "w")),
                         .ci = shape.dim[1],
                         .co = shape.dim[0],
                         .k = shape.dim[2],
                         .stride = (int)vd_json_number(stride),
                         .factor = {factor, factor}};
        char name[64];
        snprintf(name, sizeof name, "x_%dx%d", (int)t.h, (int)t.w);
        v.src = turned(golden_input(c, name, VD_F32, NULL, NULL), 1, t.ci, t.h * t.w);
        float *y = run(d, &t, &v);
        y = turned(y, 1, out_size(t.h, t.stride) * out_size(t.w, t.stride), t.co);
        snprintf(name, sizeof name, "y_%dx%d_d%g", (int)t.h, (int)t.w, factor);
        CHECK(golden_compare(c, name, VD_F32, y, result_count(&t), GOLDEN_F32));
        free(v.src);
        free(y);
    }
    free(v.weight);
    free(v.bias);
}

static void test_golden_sizes(const golden_case *c) {
    size_t count = 0;
    double *h = golden_input(c, "h", VD_F64, &count, NULL);
    double *d = golden_input(c, "d", VD_F64, &count, NULL);
    int32_t *dilation = malloc((count + 1) * sizeof *dilation);
    int32_t *inner = malloc((count + 1) * sizeof *inner);
    for (size_t i = 0; h != NULL && d != NULL && i < count; i++) {
        const vd_redilate_axis axis = vd_redilate_sizes((int64_t)h[i], d[i], 1);
        dilation[i] = (int32_t)axis.dilation;
        inner[i] = (int32_t)axis.inner;
        CHECK(axis.raw == axis.inner && axis.out == (int64_t)h[i]);
    }
    CHECK(golden_compare(c, "dilation", VD_I32, dilation, count, GOLDEN_EXACT));
    CHECK(golden_compare(c, "inner", VD_I32, inner, count, GOLDEN_EXACT));
    free(h);
    free(d);
    free(dilation);
    free(inner);
}

static void test_golden_steps(const golden_case *c) {
    size_t count = 0;
    double *d = golden_input(c, "d", VD_F64, &count, NULL);
    double *tau = golden_input(c, "tau", VD_F64, &count, NULL);
    double *step = golden_input(c, "step", VD_F64, &count, NULL);
    double *dilation = malloc((count + 1) * sizeof *dilation);
    for (size_t i = 0; d != NULL && tau != NULL && step != NULL && i < count; i++)
        dilation[i] = vd_progressive_factor(d[i], (int)tau[i], (int)step[i]);
    CHECK(golden_compare(c, "dilation", VD_F64, dilation, count, GOLDEN_EXACT));
    free(d);
    free(tau);
    free(step);
    free(dilation);
}

static void test_golden(void) {
    device d;
    device_open(&d, VD_F32, 2);
    golden *g = golden_open(manifest);
    golden_case *c;
    int convs = 0;
    while ((c = golden_next(g, "redilate", "")) != NULL) {
        if (strcmp(c->module, "conv") == 0) {
            test_golden_conv(&d, c);
            convs++;
        } else if (strcmp(c->name, "redilate-sizes") == 0) {
            test_golden_sizes(c);
        } else if (strcmp(c->name, "progressive-table") == 0) {
            test_golden_steps(c);
        } else {
            const char *name;
            for (size_t i = 0; (name = golden_output_name(c, i)) != NULL; i++)
                golden_skip(c, name, "the resizing alone is compared by cli.golden");
        }
    }
    CHECK(convs == 4);
    CHECK(golden_close(g) == 0);
    device_close(&d);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void test_nothing_left(void) {
    device d;
    device_open(&d, VD_F32, 1);
    vd_tensor dst = {0};
    const vd_conv_layer layer = {.in = 4, .out = 4, .kernel_h = 3, .kernel_w = 3};
    const vd_tensor src = {.data = &d, .dtype = VD_F32, .rank = 4, .dim = {1, 1, 6, 4}};
    CHECK_FAILS(vd_redilate_alloc(d.x, &dst, &src, &layer, 2, (vd_redilation){2, 2}), VD_ERR_INPUT,
                "6 x 1 leaves nothing");
    CHECK(dst.data == NULL);
    device_close(&d);
}

/* A matrix that no solver gives: mirrored, it is another. */
static void test_crooked_map(void) {
    double values[25 * 9] = {0};
    vd_dispersion crooked = {3, 5, 3, 2, 0.05, values};
    const trial t = {1, 4, 4, 2, 2, 3, 1, NO_RESIDUAL, {1, 1}, 0, &crooked};
    float zeros[2 * 2 * 9] = {0}; /* the weight, the larger of what it serves for */
    device d;
    device_open(&d, VD_F32, 1);
    vd_conv_layer layer = {.in = 2, .out = 2, .kernel_h = 3, .kernel_w = 3};
    const vd_weight_part part = {.tensor = VD_VIEW(zeros, VD_F32, 2, 2, 3, 3), .columns = 2};
    const vd_tensor src = VD_VIEW(zeros, VD_F32, 1, 4, 4, 2);
    vd_tensor dst = VD_VIEW(values, VD_F32, 1, 4, 4, 2);
    CHECK_OK(vd_weight_create_conv(d.be, &part, VD_F32, &layer.w));
    values[3] = 1;
    CHECK_FAILS(pass(&d, &t, &layer, &dst, &src, NULL, NULL), VD_ERR_BACKEND, "mirror image");
    vd_conv_layer_destroy(d.be, &layer);
    device_close(&d);
}

int main(void) {
    CHECK_OK(vd_dispersion_solve(&five));
    CHECK_OK(vd_dispersion_solve(&seven));
    CHECK_OK(vd_dispersion_solve(&nine));
    test_crooked_map();
    test_golden();
    test_oracle(VD_F32);
    test_oracle(VD_BF16);
    test_nothing_left();
    vd_dispersion_clear(&five);
    vd_dispersion_clear(&seven);
    vd_dispersion_clear(&nine);
    return CHECK_DONE();
}

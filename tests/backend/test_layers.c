/* Layers loaded from a checkpoint by name: shapes that are taken, what is missing, and that fused
 * and split layers compute what their parts do. */
#include <stdlib.h>

#include "backend/layers.h"
#include "core/safetensors.h"
#include "tests/backend/op_case.h"
#include "tests/backend/op_run.h"
#include "tests/check.h"
#include "tests/ref_ops.h"

enum { OUT = 10, IN = 12, LEFT = 8, ROWS = 5, TENSORS = 13 };

static const struct {
    const char *name;
    int rank;
    int64_t dim[5];
} tensors[TENSORS] = {
    {"q.weight", 2, {OUT, IN}},
    {"q.bias", 1, {OUT}},
    {"k.weight", 2, {OUT, IN}},
    {"k.bias", 1, {OUT}},
    {"proj.weight", 4, {OUT, IN, 1, 1}},
    {"proj.bias", 1, {OUT}},
    {"conv.weight", 4, {OUT, IN, 3, 3}},
    {"conv.bias", 1, {OUT}},
    {"frames.weight", 5, {OUT, IN, 3, 1, 1}},
    {"frames.bias", 1, {OUT}},
    {"norm.weight", 1, {OUT}},
    {"norm.bias", 1, {OUT}},
    {"odd.weight", 2, {OUT, IN + 1}},
};

static float *values[TENSORS];
static vd_backend *be;
static vd_checkpoint *ck;

static void open_checkpoint(void) {
    const char *path = VD_BINARY_DIR "/test_layers.safetensors";
    const char *names[TENSORS];
    vd_tensor t[TENSORS];
    for (int i = 0; i < TENSORS; i++) {
        names[i] = tensors[i].name;
        t[i] = vd_tensor_view(NULL, VD_F32, tensors[i].rank, tensors[i].dim);
        values[i] = op_values((size_t)vd_tensor_elements(&t[i]), 0.5F, VD_F32, (uint32_t)i);
        t[i].data = values[i];
    }
    CHECK_OK(vd_safetensors_write(path, names, t, TENSORS, NULL));
    CHECK_OK(vd_checkpoint_open_file(path, &ck));
    CHECK_OK(vd_backend_open("cpu", 2, &be));
}

static void close_checkpoint(void) {
    vd_backend_close(be);
    vd_checkpoint_destroy(ck);
    for (int i = 0; i < TENSORS; i++)
        free(values[i]);
}

static const float *of(const char *name) {
    for (int i = 0; i < TENSORS; i++)
        if (strcmp(tensors[i].name, name) == 0)
            return values[i];
    return NULL;
}

/* result[rows, out] = src w^T + bias (+ result if `onto`) by the backend. */
static void run_linear(const vd_linear_layer *layer, const float *src, int64_t in, int64_t out,
                       bool onto, float *result) {
    vd_exec *x;
    vd_tensor from = VD_VIEW((void *)src, VD_F32, ROWS, in);
    vd_tensor to = VD_VIEW(result, VD_F32, ROWS, out);
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(vd_linear(x, &to, &from, layer->w, layer->bias, onto ? &to : NULL, VD_ACT_NONE));
        if (pass == 0)
            CHECK_OK(vd_exec_commit(x));
    }
    vd_exec_destroy(x);
}

static void check_near(const float *got, const double *expected, size_t count) {
    op_error e = op_compare(got, expected, count, IN, VD_F32);
    CHECK_MSG(op_error_ok(&e), "NMSE %g, worst %g", e.nmse, e.worst);
}

static void test_linear_layers(const vd_loader *l) {
    const char *const both[] = {"q", "k"};
    vd_linear_layer q, fused, a, b, none;
    float *src = op_values((size_t)ROWS * IN, 1.0F, VD_F32, 99);
    float got[ROWS * 2 * OUT], left[ROWS][LEFT], right[ROWS][IN - LEFT];
    double expected[ROWS][OUT], both_expected[ROWS][2][OUT];

    CHECK_OK(vd_load_fused_linear(l, both, 2, OUT, IN, true, &fused));
    run_linear(&fused, src, IN, 2LL * OUT, false, got);
    for (int k = 0; k < 2; k++) {
        ref_linear(expected[0], src, of(k == 0 ? "q.weight" : "k.weight"),
                   of(k == 0 ? "q.bias" : "k.bias"), NULL, ROWS, IN, OUT, VD_ACT_NONE);
        for (int r = 0; r < ROWS; r++)
            memcpy(both_expected[r][k], expected[r], sizeof expected[r]);
    }
    check_near(got, both_expected[0][0], (size_t)ROWS * 2 * OUT);

    /* A 1x1 kernel as two matrices for [a, b]: 8 columns and the other 4. */
    CHECK_OK(vd_load_split_linear(l, "proj", OUT, LEFT, IN - LEFT, &a, &b));
    CHECK(a.bias != NULL && b.bias == NULL);
    for (size_t r = 0; r < ROWS; r++) {
        memcpy(left[r], src + r * IN, sizeof left[r]);
        memcpy(right[r], src + r * IN + LEFT, sizeof right[r]);
    }
    run_linear(&a, left[0], LEFT, OUT, false, got);
    run_linear(&b, right[0], IN - LEFT, OUT, true, got);
    ref_linear(expected[0], src, of("proj.weight"), of("proj.bias"), NULL, ROWS, IN, OUT,
               VD_ACT_NONE);
    check_near(got, expected[0], (size_t)ROWS * OUT);

    /* Taken twice and misshapen: recorded in the checkpoint, an empty layer. */
    CHECK_OK(vd_load_linear(l, "q", OUT, IN, true, &q));
    CHECK(q.w == NULL && q.bias == NULL);
    CHECK_OK(vd_load_linear(l, "odd", OUT, IN, false, &none));
    CHECK(none.w == NULL);
    CHECK_OK(vd_load_linear(l, "absent", OUT, IN, true, &none));
    CHECK(none.w == NULL && none.bias == NULL);
    vd_linear_layer *const each[] = {&q, &fused, &a, &b, &none};
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++) {
        vd_linear_layer_destroy(be, each[i]);
        CHECK(each[i]->w == NULL && each[i]->bias == NULL);
    }
    free(src);
}

static void test_conv_layer(const vd_loader *l, const char *name, int kernel_w, bool temporal) {
    enum { H = 4, W = 3 };
    vd_conv_layer layer;
    char weight[32], bias[32];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    CHECK_OK(vd_load_conv(l, name, OUT, IN, 3, kernel_w, temporal, &layer));
    CHECK(layer.in == IN && layer.out == OUT && layer.kernel_h == 3 && layer.kernel_w == kernel_w);
    float *src = op_values((size_t)H * W * IN, 1.0F, VD_F32, 98);
    float got[H * W * OUT];
    double expected[H * W * OUT];
    const vd_conv2d_desc desc = {.stride_h = 1,
                                 .stride_w = 1,
                                 .pad_top = 1,
                                 .pad_left = kernel_w / 2,
                                 .dilation_h = 1,
                                 .dilation_w = 1};
    const ref_conv2d_shape shape = {
        .n = 1, .h = H, .w = W, .ci = IN, .oh = H, .ow = W, .co = OUT, .kh = 3, .kw = kernel_w};
    ref_conv2d(expected, src, of(weight), of(bias), NULL, NULL, &shape, &desc);
    vd_exec *x;
    vd_tensor from = VD_VIEW(src, VD_F32, 1, H, W, IN), to = VD_VIEW(got, VD_F32, 1, H, W, OUT);
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(vd_conv2d(x, &to, &from, layer.w, layer.bias, NULL, NULL, &desc));
        if (pass == 0)
            CHECK_OK(vd_exec_commit(x));
    }
    vd_exec_destroy(x);
    op_error e = op_compare(got, expected, (size_t)H * W * OUT, IN * 3.0 * kernel_w, VD_F32);
    CHECK_MSG(op_error_ok(&e), "%s: NMSE %g, worst %g", name, e.nmse, e.worst);
    vd_conv_layer_destroy(be, &layer);
    CHECK(layer.w == NULL && layer.bias == NULL);
    free(src);
}

static void test_norm_layer(const vd_loader *l) {
    vd_norm_layer norm;
    CHECK_OK(vd_load_norm(l, "norm", OUT, 5, 1e-5F, &norm));
    CHECK(norm.scale != NULL && norm.shift != NULL && norm.groups == 5 && norm.eps == 1e-5F);
    CHECK(vd_backend_weight_bytes(be) == (size_t)2 * OUT * sizeof(float));
    vd_norm_layer_destroy(be, &norm);
    CHECK(vd_backend_weight_bytes(be) == 0);
}

int main(void) {
    open_checkpoint();
    const vd_loader l = {.be = be, .ck = ck, .dtype = VD_F32};
    test_linear_layers(&l);
    test_conv_layer(&l, "conv", 3, false);
    test_conv_layer(&l, "frames", 1, true);
    test_norm_layer(&l);
    CHECK_FAILS(vd_checkpoint_finish(ck, "test"), VD_ERR_INPUT, "absent.weight");
    CHECK(strstr(vd_error_message(), "absent.bias") != NULL);
    CHECK(strstr(vd_error_message(), "odd.weight") != NULL);
    CHECK(strstr(vd_error_message(), "conv.weight") == NULL);
    close_checkpoint();
    return CHECK_DONE();
}

/* vd_conv2d against the oracle, on the cases of cases/conv.txt. */
#include <stdlib.h>

#include "tests/backend/op_case.h"
#include "tests/backend/op_run.h"
#include "tests/check.h"
#include "tests/ref_ops.h"

typedef struct conv_case {
    const char *line;
    int64_t src[4], dst[4], kernel[4];
    int64_t first_column, groups;
    vd_conv2d_desc desc;
    vd_dtype src_dtype, dst_dtype, w_dtype;
    bool alias;
} conv_case;

static conv_case parse(const char *line, vd_dtype dtype) {
    conv_case c = {.line = line, .desc.act = op_activation(line)};
    const int64_t in = op_number(line, "ci", 0, 0);
    const int64_t kh = op_number(line, "k", 0, 1), kw = op_number(line, "k", 1, 1);
    const int64_t sh = op_number(line, "s", 0, 1), sw = op_number(line, "s", 1, sh);
    const int64_t dh = op_number(line, "d", 0, 1), dw = op_number(line, "d", 1, dh);
    const int64_t top = op_number(line, "p", 0, 0), left = op_number(line, "p", 1, 0);
    const int64_t h = op_number(line, "h", 0, 0) + top + op_number(line, "p", 2, 0);
    const int64_t w = op_number(line, "w", 0, 0) + left + op_number(line, "p", 3, 0);
    c.src[0] = c.dst[0] = op_number(line, "n", 0, 0);
    c.src[1] = h - top - op_number(line, "p", 2, 0);
    c.src[2] = w - left - op_number(line, "p", 3, 0);
    c.src[3] = in;
    c.dst[1] = (h - (kh - 1) * dh - 1) / sh + 1;
    c.dst[2] = (w - (kw - 1) * dw - 1) / sw + 1;
    c.dst[3] = c.kernel[0] = op_number(line, "co", 0, 0);
    c.kernel[1] = op_number(line, "cols", 0, in);
    c.kernel[2] = kh;
    c.kernel[3] = kw;
    c.first_column = op_number(line, "cols", 1, 0);
    c.groups = op_number(line, "add", 0, 0);
    c.desc.stride_h = (int)sh;
    c.desc.stride_w = (int)sw;
    c.desc.dilation_h = (int)dh;
    c.desc.dilation_w = (int)dw;
    c.desc.pad_top = (int)top;
    c.desc.pad_left = (int)left;
    c.src_dtype = op_is(line, "src", "f32") ? VD_F32 : dtype;
    c.dst_dtype = op_is(line, "dst", "f32") ? VD_F32 : dtype;
    c.w_dtype = op_is(line, "weight", "f32") ? VD_F32 : dtype;
    c.alias = op_is(line, "res", "alias");
    return c;
}

typedef struct conv_data {
    float *src, *weight, *bias, *add, *residual;
    op_source stored; /* the kernel as a checkpoint has it */
    double *expected;
} conv_data;

static size_t product(const int64_t dim[4]) {
    return (size_t)(dim[0] * dim[1] * dim[2] * dim[3]);
}

static void data_create(const conv_case *c, conv_data *d) {
    const int64_t used[4] = {c->kernel[0], c->src[3], c->kernel[2], c->kernel[3]};
    const double terms = (double)(used[1] * used[2] * used[3]);
    *d = (conv_data){.src = op_values(product(c->src), 1.0F, c->src_dtype, 1),
                     .expected = malloc(product(c->dst) * sizeof(double))};
    if (op_number(c->line, "bias", 0, 1) != 0)
        d->bias = op_values((size_t)c->dst[3], 1.0F, c->w_dtype, 4); /* some products round it */
    if (c->groups > 0)
        d->add = op_values((size_t)(c->groups * c->dst[3]), 1.0F, VD_F32, 5);
    if (strstr(c->line, "res=") != NULL)
        d->residual = op_values(product(c->dst), 1.0F, c->dst_dtype, 3);
    op_source_create(4, c->kernel, (float)sqrt(3.0 / terms), 2, &d->stored);

    d->weight = malloc(product(used) * sizeof(float));
    const int64_t taps = used[2] * used[3];
    for (int64_t o = 0; o < used[0]; o++)
        for (int64_t i = 0; i < used[1] * taps; i++)
            d->weight[o * used[1] * taps + i] = op_round(
                d->stored.values[(o * c->kernel[1] + c->first_column) * taps + i], c->w_dtype);

    /* 16-bit weights with a float32 source: the source is rounded too. */
    if (c->src_dtype != c->w_dtype && c->w_dtype != VD_F32)
        for (size_t i = 0; i < product(c->src); i++)
            d->src[i] = op_round(d->src[i], c->w_dtype);
    const ref_conv2d_shape shape = {.n = c->src[0],
                                    .h = c->src[1],
                                    .w = c->src[2],
                                    .ci = c->src[3],
                                    .oh = c->dst[1],
                                    .ow = c->dst[2],
                                    .co = c->dst[3],
                                    .kh = c->kernel[2],
                                    .kw = c->kernel[3],
                                    .groups = c->groups};
    ref_conv2d(d->expected, d->src, d->weight, d->bias, d->add, d->residual, &shape, &c->desc);
}

static void data_destroy(conv_data *d) {
    float *each[] = {d->src, d->weight, d->bias, d->add, d->residual};
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++)
        free(each[i]);
    op_source_destroy(&d->stored);
    free(d->expected);
}

/* One run; the result's bytes in `bytes`. */
static void run(vd_backend *be, const conv_case *c, const conv_data *d, vd_dtype dtype,
                void *bytes) {
    vd_weight *w = NULL, *bias = NULL;
    op_buffer src = {0}, dst = {0}, add = {0}, other = {0};
    vd_exec *x = NULL;
    const vd_weight_part part = {
        .tensor = d->stored.tensor, .first_column = c->first_column, .columns = c->src[3]};
    CHECK_OK(vd_weight_create_conv(be, &part, c->w_dtype, &w));
    if (d->bias != NULL) {
        const vd_tensor t = VD_VIEW(d->bias, VD_F32, c->dst[3]);
        CHECK_OK(vd_weight_create_vector(be, &t, 1, &bias));
    }
    const float *start = c->alias ? d->residual : NULL;
    const bool reads = d->residual != NULL && !c->alias;
    CHECK_OK(op_buffer_create(be, c->src_dtype, 4, c->src, d->src, &src));
    CHECK_OK(op_buffer_create(be, c->dst_dtype, 4, c->dst, start, &dst));
    if (reads)
        CHECK_OK(op_buffer_create(be, c->dst_dtype, 4, c->dst, d->residual, &other));
    if (d->add != NULL)
        CHECK_OK(op_buffer_create(be, VD_F32, 2, (int64_t[]){c->groups, c->dst[3]}, d->add, &add));
    CHECK_OK(vd_exec_create(be, dtype, &x));
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(vd_conv2d(x, &dst.t, &src.t, w, bias, d->add != NULL ? &add.t : NULL,
                           c->alias ? &dst.t
                           : reads  ? &other.t
                                    : NULL,
                           &c->desc));
        if (pass == 0)
            CHECK_OK(vd_exec_commit(x));
    }
    CHECK_OK(op_buffer_bytes(&dst, bytes));
    op_buffer *const each[] = {&src, &dst, &add, &other};
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++) {
        CHECK_MSG(each[i]->base == NULL || op_buffer_sentinels(each[i]), "%s", c->line);
        op_buffer_destroy(each[i]);
    }
    vd_exec_destroy(x);
    vd_weight_destroy(be, w);
    vd_weight_destroy(be, bias);
}

static void check_line(void *user, const char *line) {
    const op_devices *devices = user;
    for (int i = 0; i < devices->dtypes; i++) {
        const vd_dtype dtype = devices->dtype[i];
        const conv_case c = parse(line, dtype);
        conv_data d;
        data_create(&c, &d);
        op_check check = {.line = line,
                          .dtype = dtype,
                          .result =
                              VD_VIEW(NULL, c.dst_dtype, c.dst[0], c.dst[1], c.dst[2], c.dst[3]),
                          .expected = d.expected,
                          .terms = (double)(c.src[3] * c.kernel[2] * c.kernel[3])};
        for (int j = 0; j < devices->count; j++) {
            void *bytes = malloc(vd_tensor_bytes(&check.result));
            run(devices->be[j], &c, &d, dtype, bytes);
            op_check_result(&check, bytes, devices->threads[j]);
        }
        op_check_end(&check);
        CHECK(check.failures == 0);
        data_destroy(&d);
    }
}

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    CHECK(op_cases("conv.txt", check_line, &devices) > 0);
    op_devices_close(&devices);
    return CHECK_DONE();
}

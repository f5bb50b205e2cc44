/* vd_linear against the oracle, on the cases of cases/linear.txt. */
#include <stdlib.h>

#include "tests/backend/op_case.h"
#include "tests/backend/op_run.h"
#include "tests/check.h"
#include "tests/ref_ops.h"

enum { MAX_PARTS = 3 };

typedef struct linear_case {
    const char *line;
    int64_t rows, in, out, columns; /* out of the weight, columns of the result */
    int64_t total, first_column;    /* of the stored parts */
    int parts;
    vd_activation act;
    vd_dtype src_dtype, dst_dtype, res_dtype, w_dtype;
    bool alias, residual;
} linear_case;

static linear_case parse(const char *line, vd_dtype dtype) {
    linear_case c = {.line = line,
                     .rows = op_number(line, "rows", 0, 0),
                     .in = op_number(line, "in", 0, 0),
                     .out = op_number(line, "out", 0, 0),
                     .first_column = op_number(line, "cols", 1, 0),
                     .parts = (int)op_number(line, "parts", 0, 1),
                     .act = op_activation(line),
                     .alias = op_is(line, "res", "alias"),
                     .residual = strstr(line, "res=") != NULL};
    c.total = op_number(line, "cols", 0, c.in);
    c.columns = c.act == VD_ACT_GEGLU ? c.out / 2 : c.out;
    c.src_dtype = op_is(line, "src", "f32") ? VD_F32 : dtype;
    c.dst_dtype = op_is(line, "dst", "f32") ? VD_F32 : dtype;
    c.res_dtype = op_is(line, "resdtype", "f32") ? VD_F32 : c.dst_dtype;
    c.w_dtype = op_is(line, "weight", "f32") ? VD_F32 : dtype;
    return c;
}

typedef struct linear_data {
    float *src, *weight, *bias, *residual;
    op_source stored[MAX_PARTS];
    double *expected;
} linear_data;

static void data_create(const linear_case *c, linear_data *d) {
    const size_t results = (size_t)(c->rows * c->columns);
    *d = (linear_data){.src = op_values((size_t)(c->rows * c->in), 1.0F, c->src_dtype, 1),
                       .weight = malloc((size_t)(c->out * c->in) * sizeof(float)),
                       .expected = malloc(results * sizeof(double))};
    if (op_number(c->line, "bias", 0, 1) != 0)
        d->bias = op_values((size_t)c->out, 1.0F, c->w_dtype, 4); /* some products round it */
    if (c->residual)
        d->residual = op_values(results, 1.0F, c->res_dtype, 3);
    const int64_t rows = c->out / c->parts;
    for (int p = 0; p < c->parts; p++) {
        op_source_create(2, (int64_t[]){rows, c->total}, (float)sqrt(3.0 / (double)c->in),
                         (uint32_t)(10 + p), &d->stored[p]);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < c->in; i++)
                d->weight[(p * rows + r) * c->in + i] =
                    op_round(d->stored[p].values[r * c->total + c->first_column + i], c->w_dtype);
    }
    if (c->src_dtype != c->w_dtype && c->w_dtype != VD_F32)
        for (int64_t i = 0; i < c->rows * c->in; i++)
            d->src[i] = op_round(d->src[i], c->w_dtype);
    ref_linear(d->expected, d->src, d->weight, d->bias, d->residual, c->rows, c->in, c->out,
               c->act);
}

static void data_destroy(const linear_case *c, linear_data *d) {
    for (int p = 0; p < c->parts; p++)
        op_source_destroy(&d->stored[p]);
    free(d->src);
    free(d->weight);
    free(d->bias);
    free(d->residual);
    free(d->expected);
}

static void create_weights(vd_backend *be, const linear_case *c, const linear_data *d,
                           vd_weight **w, vd_weight **bias) {
    vd_weight_part part[MAX_PARTS];
    for (int p = 0; p < c->parts; p++)
        part[p] = (vd_weight_part){
            .tensor = d->stored[p].tensor, .first_column = c->first_column, .columns = c->in};
    CHECK_OK(vd_weight_create_linear(be, part, c->parts, c->w_dtype, w));
    if (d->bias == NULL)
        return;
    /* In two pieces, as fused layers have their biases. */
    const int64_t head = c->out / 2;
    const vd_tensor both[2] = {VD_VIEW(d->bias, VD_F32, head == 0 ? c->out : head),
                               VD_VIEW(d->bias + head, VD_F32, c->out - head)};
    CHECK_OK(vd_weight_create_vector(be, both, head == 0 ? 1 : 2, bias));
}

static void run(vd_backend *be, const linear_case *c, const linear_data *d, vd_dtype dtype,
                void *bytes) {
    vd_weight *w = NULL, *bias = NULL;
    op_buffer src = {0}, dst = {0}, other = {0};
    vd_exec *x = NULL;
    const int64_t shape[2] = {c->rows, c->columns};
    const bool reads = c->residual && !c->alias;
    create_weights(be, c, d, &w, &bias);
    CHECK_OK(op_buffer_create(be, c->src_dtype, 2, (int64_t[]){c->rows, c->in}, d->src, &src));
    CHECK_OK(op_buffer_create(be, c->dst_dtype, 2, shape, c->alias ? d->residual : NULL, &dst));
    if (reads)
        CHECK_OK(op_buffer_create(be, c->res_dtype, 2, shape, d->residual, &other));
    CHECK_OK(vd_exec_create(be, dtype, &x));
    const vd_tensor *residual = c->alias ? &dst.t : reads ? &other.t : NULL;
    for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(vd_linear(x, &dst.t, &src.t, w, bias, residual, c->act));
        if (pass == 0)
            CHECK_OK(vd_exec_commit(x));
    }
    CHECK_OK(op_buffer_bytes(&dst, bytes));
    op_buffer *const each[] = {&src, &dst, &other};
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
        const linear_case c = parse(line, dtype);
        linear_data d;
        data_create(&c, &d);
        /* The CPU's gelu for bf16 is 2e-5 off: 24 sqrt(terms) 2^-24 for 2^8 terms. */
        const double gate = c.act == VD_ACT_GEGLU && dtype == VD_BF16 ? 0x1p8 : 0;
        op_check check = {.line = line,
                          .dtype = dtype,
                          .result = VD_VIEW(NULL, c.dst_dtype, c.rows, c.columns),
                          .expected = d.expected,
                          .terms = (double)c.in + gate};
        for (int j = 0; j < devices->count; j++) {
            void *bytes = malloc(vd_tensor_bytes(&check.result));
            run(devices->be[j], &c, &d, dtype, bytes);
            op_check_result(&check, bytes, devices->threads[j]);
        }
        op_check_end(&check);
        CHECK(check.failures == 0);
        data_destroy(&c, &d);
    }
}

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    CHECK(op_cases("linear.txt", check_line, &devices) > 0);
    op_devices_close(&devices);
    return CHECK_DONE();
}

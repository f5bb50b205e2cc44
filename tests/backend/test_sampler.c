/* vd_sampler_run and vd_match_deviation against naive sums in float64. */
#include <stdlib.h>

#include "tests/backend/op_run.h"
#include "tests/check.h"

enum { COUNT = 1037, MOST_BUFFERS = VD_SAMPLER_BUFFERS };

/* ---- programs ------------------------------------------------------------------------------- */

/* Every kind of op; the third reads what the first wrote, the last replaces a source. */
static const vd_sampler_program program = {
    .ops = 4,
    .op = {{.dst = 3, .terms = 2, .src = {0, 1}, .factor = {1.5, -0.25}},
           {.kind = VD_SAMPLER_GUIDE, .dst = 4, .src = {2, 0, 1}, .factor = {7.5}},
           {.dst = 5,
            .terms = 5,
            .src = {3, 0, 1, 2, 4},
            .factor = {1, 1e-3, 2, -3, 1.0 / 3},
            .clamp = 1},
           {.dst = 0, .terms = 1, .src = {5}, .factor = {2}}},
};

static float oracle(const vd_sampler_op *op, float *const *buffer, int i) {
    double v = 0;
    for (int t = 0; t < op->terms; t++)
        v += op->factor[t] * (double)buffer[op->src[t]][i];
    if (op->kind == VD_SAMPLER_GUIDE)
        v = (double)buffer[2][i] + op->factor[0] * ((double)buffer[1][i] - (double)buffer[0][i]);
    if (op->clamp > 0)
        v = fmin(fmax(v, -op->clamp), op->clamp);
    return (float)v;
}

typedef struct program_run {
    vd_exec *x;
    op_buffer buffer[MOST_BUFFERS];
    const vd_tensor *each[MOST_BUFFERS];
    vd_sampler_program *program; /* device */
    int32_t *bad;                /* device */
} program_run;

static void begin(vd_backend *be, int count, float *const *values, program_run *r) {
    const int64_t dim[] = {COUNT};
    void *memory = NULL;
    CHECK_OK(vd_exec_create(be, VD_F32, &r->x));
    CHECK_OK(vd_exec_commit(r->x));
    for (int i = 0; i < count; i++) {
        CHECK_OK(op_buffer_create(be, VD_F32, 1, dim, values[i], &r->buffer[i]));
        r->each[i] = &r->buffer[i].t;
    }
    CHECK_OK(vd_backend_alloc(be, sizeof *r->program, &memory));
    r->program = memory;
    CHECK_OK(vd_backend_alloc(be, sizeof *r->bad, &memory));
    r->bad = memory;
}

static void end(vd_backend *be, int count, program_run *r) {
    for (int i = 0; i < count; i++) {
        CHECK(op_buffer_sentinels(&r->buffer[i]));
        op_buffer_destroy(&r->buffer[i]);
    }
    vd_backend_free(be, r->program);
    vd_backend_free(be, r->bad);
    vd_exec_destroy(r->x);
}

static int32_t run(vd_backend *be, const vd_sampler_program *p, int count, program_run *r) {
    const int32_t unset = 0;
    int32_t bad = -1;
    CHECK_OK(vd_backend_upload(be, r->program, p, sizeof *p));
    CHECK_OK(vd_backend_upload(be, r->bad, &unset, sizeof unset));
    CHECK_OK(vd_sampler_run(r->x, r->each, count, r->program, r->bad));
    CHECK_OK(vd_backend_download(be, &bad, r->bad, sizeof bad));
    return bad;
}

static void test_program(vd_backend *be, bool exact) {
    enum { BUFFERS = 6 };
    float *values[BUFFERS];
    float got[COUNT];
    program_run r = {0};
    for (int i = 0; i < BUFFERS; i++)
        values[i] = op_values(COUNT, 3, VD_F32, (uint32_t)i + 1);
    begin(be, BUFFERS, values, &r);
    CHECK(run(be, &program, BUFFERS, &r) == 0);
    for (int i = 0; i < COUNT; i++)
        for (int k = 0; k < program.ops; k++)
            values[program.op[k].dst][i] = oracle(&program.op[k], values, i);
    for (int b = 0; b < BUFFERS; b++) {
        int wrong = 0;
        CHECK_OK(op_buffer_read(&r.buffer[b], got));
        /* A device may fuse multiply-adds in float64, which rarely turns a rounding to float32. */
        for (int i = 0; i < COUNT; i++)
            wrong += exact ? got[i] != values[b][i]
                           : fabsf(got[i] - values[b][i]) > 2e-7F * fabsf(values[b][i]);
        CHECK_MSG(wrong == 0, "buffer %d: %d of %d values", b, wrong, COUNT);
    }
    end(be, BUFFERS, &r);
    for (int i = 0; i < BUFFERS; i++)
        free(values[i]);
}

/* NaN and infinity are seen in the first two buffers, whoever wrote them, also behind a clamp. */
static void test_bad(vd_backend *be) {
    const vd_sampler_program clamped = {
        .ops = 1, .op = {{.dst = 0, .terms = 1, .src = {1}, .factor = {1}, .clamp = 1}}};
    const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 3 * 3; k++) {
        float *values[3];
        program_run r = {0};
        for (int i = 0; i < 3; i++)
            values[i] = op_values(COUNT, 1, VD_F32, (uint32_t)i + 1);
        values[k / 3][(size_t)k * 100] = wrong[k % 3];
        begin(be, 3, values, &r);
        /* The first is overwritten with the second, the third is nobody's. */
        CHECK_MSG(run(be, &clamped, 3, &r) == (k / 3 == 1), "%g in buffer %d", (double)wrong[k % 3],
                  k / 3);
        end(be, 3, &r);
        for (int i = 0; i < 3; i++)
            free(values[i]);
    }
}

/* ---- deviation ------------------------------------------------------------------------------ */

static double naive_deviation(const float *values, int count) {
    double mean = 0, squares = 0;
    for (int i = 0; i < count; i++)
        mean += (double)values[i] / count;
    for (int i = 0; i < count; i++)
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    return sqrt(squares / (count - 1));
}

static void match(vd_backend *be, float *values, float *like, int count, double phi) {
    const int64_t dim[] = {count};
    op_buffer dst, other;
    vd_exec *x = NULL;
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    CHECK_OK(vd_exec_commit(x));
    CHECK_OK(op_buffer_create(be, VD_F32, 1, dim, values, &dst));
    CHECK_OK(op_buffer_create(be, VD_F32, 1, dim, like, &other));
    CHECK_OK(vd_match_deviation(x, &dst.t, &other.t, phi));
    CHECK_OK(op_buffer_read(&dst, values));
    CHECK(op_buffer_sentinels(&dst) && op_buffer_sentinels(&other));
    op_buffer_destroy(&dst);
    op_buffer_destroy(&other);
    vd_exec_destroy(x);
}

static void test_deviation(vd_backend *be) {
    static const double each[] = {0, 0.7, 1};
    float equal[] = {3, 3, 3}, text[] = {0, 1, 5};
    for (int k = 0; k < 3; k++) {
        float *values = op_values(COUNT, 3, VD_F32, 1), *like = op_values(COUNT, 1, VD_F32, 2);
        float *before = op_values(COUNT, 3, VD_F32, 1);
        for (int i = 0; i < COUNT; i++)
            before[i] = values[i] += 100; /* far from zero, where a sum of squares would fail */
        const double ratio = naive_deviation(like, COUNT) / naive_deviation(before, COUNT);
        const double factor = each[k] * ratio + 1 - each[k];
        match(be, values, like, COUNT, each[k]);
        int wrong = 0;
        for (int i = 0; i < COUNT; i++)
            wrong += !(fabs((double)values[i] - factor * (double)before[i]) <=
                       1e-7 * fabs((double)before[i]));
        CHECK_MSG(wrong == 0, "phi %g: %d of %d values", each[k], wrong, COUNT);
        free(values);
        free(like);
        free(before);
    }
    match(be, equal, text, 3, 1);
    CHECK(equal[0] == 3 && equal[1] == 3 && equal[2] == 3); /* no deviation to divide by */
    match(be, text, equal, 3, 1);
    CHECK(text[0] == 0 && text[1] == 0 && text[2] == 0);
}

static void test_refusals(vd_backend *be) {
    float memory[4] = {0};
    vd_tensor four = VD_VIEW(memory, VD_F32, 4), three = VD_VIEW(memory, VD_F32, 3);
    vd_tensor one = VD_VIEW(memory, VD_F32, 1), narrow = VD_VIEW(memory, VD_BF16, 4);
    const vd_tensor *buffer[] = {&four, &three};
    const vd_tensor *other[] = {&four, &narrow};
    vd_exec *x = NULL;
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    CHECK_FAILS(vd_sampler_run(x, buffer, 2, &program, NULL), VD_ERR_BACKEND, "one shape");
    CHECK_FAILS(vd_sampler_run(x, other, 2, &program, NULL), VD_ERR_BACKEND, "F32");
    CHECK_FAILS(vd_sampler_run(x, buffer, 0, &program, NULL), VD_ERR_BACKEND, "0 buffers");
    CHECK_FAILS(vd_sampler_run(x, buffer, 9, &program, NULL), VD_ERR_BACKEND, "9 buffers");
    CHECK_FAILS(vd_match_deviation(x, &four, &three, 1), VD_ERR_BACKEND, "one shape");
    CHECK_FAILS(vd_match_deviation(x, &one, &one, 1), VD_ERR_USAGE, "2 values");
    CHECK_FAILS(vd_match_deviation(x, &four, &four, NAN), VD_ERR_USAGE, "0 to 1");
    CHECK_FAILS(vd_match_deviation(x, &four, &four, 1.5), VD_ERR_USAGE, "0 to 1");
    vd_exec_destroy(x);
}

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    vd_backend *be = devices.be[0];
    test_program(be, vd_backend_on_host(be) || getenv("VD_TEST_EMULATED") != NULL);
    test_bad(be);
    test_deviation(be);
    test_refusals(be);
    op_devices_close(&devices);
    return CHECK_DONE();
}

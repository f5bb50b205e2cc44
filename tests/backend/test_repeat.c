/* vd_exec_repeat: a repeated run of ops gives the bits of one that is called each time, with what
 * then lies in device memory; what was baked into a recording by mistake shows. Without recordings
 * (on the CPU) the body is simply called. */
#include <stdlib.h>

#include "core/log.h"
#include "tests/backend/op_run.h"
#include "tests/check.h"

enum { COUNT = 1000, RUNS = 6 };

typedef struct repeated {
    vd_backend *be;
    vd_exec *x;
    vd_tensor t;                 /* device */
    vd_sampler_program *program; /* device */
    double baked;                /* a coefficient of the host's */
    int calls;                   /* of the body */
    bool waits, stopped;
} repeated;

static bool records(const vd_backend *be) {
    return !vd_backend_on_host(be);
}

static bool should_stop(void *user) {
    return ((const repeated *)user)->stopped;
}

/* t = factor * t, then t = baked * t + t */
static vd_status body(void *user) {
    repeated *r = user;
    const vd_tensor *once[] = {&r->t}, *twice[] = {&r->t, &r->t};
    const double coefficient[] = {r->baked, 1};
    float first = 0;
    vd_status st;
    r->calls++;
    VD_TRY(vd_sampler_run(r->x, once, 1, r->program, NULL));
    if (r->waits)
        VD_TRY(vd_backend_download(r->be, &first, r->t.data, sizeof first));
    VD_TRY(vd_combine(r->x, &r->t, 2, coefficient, twice));
done:
    return st;
}

static void create(vd_backend *be, repeated *r) {
    void *memory = NULL;
    *r = (repeated){.be = be};
    CHECK_OK(vd_exec_create(be, VD_F32, &r->x));
    CHECK_OK(vd_exec_commit(r->x));
    vd_exec_set_interrupt(r->x, should_stop, r);
    r->t = VD_VIEW(NULL, VD_F32, COUNT);
    CHECK_OK(vd_backend_alloc(be, vd_tensor_bytes(&r->t), &r->t.data));
    CHECK_OK(vd_backend_alloc(be, sizeof *r->program, &memory));
    r->program = memory;
}

static void destroy(repeated *r) {
    vd_exec_destroy(r->x);
    vd_backend_free(r->be, r->t.data);
    vd_backend_free(r->be, r->program);
}

static void start(repeated *r) {
    float *values = op_values(COUNT, 1, VD_F32, 1);
    CHECK_OK(vd_backend_upload(r->be, r->t.data, values, vd_tensor_bytes(&r->t)));
    r->calls = 0;
    free(values);
}

/* With another factor in device memory each time. */
static vd_status run(repeated *r, int turn, const void *key, bool repeat) {
    const vd_sampler_program p = {
        .ops = 1, .op = {{.terms = 1, .factor = {1.0 + 0.37 * turn}, .clamp = 50 + turn}}};
    const vd_status st = vd_backend_upload(r->be, r->program, &p, sizeof p);
    if (st != VD_OK)
        return st;
    return repeat ? vd_exec_repeat(r->x, key, NULL, body, r) : body(r);
}

static bool same_values(const repeated *r, const float *expected) {
    float got[COUNT];
    bool same = true;
    CHECK_OK(vd_backend_download(r->be, got, r->t.data, sizeof got));
    for (int i = 0; i < COUNT; i++)
        same = same && got[i] == expected[i];
    return same;
}

static void run_turns(repeated *r, int turns, const void *key, bool repeat) {
    start(r);
    for (int i = 0; i < turns; i++)
        CHECK_OK(run(r, i, key, repeat));
}

/* What `turns` runs that are called each time leave. */
static void expect(repeated *r, int turns, float *out) {
    run_turns(r, turns, NULL, false);
    CHECK_OK(vd_backend_download(r->be, out, r->t.data, vd_tensor_bytes(&r->t)));
}

static void test_same(vd_backend *be) {
    static const char a, b;
    float expected[COUNT];
    repeated r;
    create(be, &r);
    r.baked = 0.5;
    expect(&r, RUNS, expected);
    start(&r);
    for (int i = 0; i < RUNS; i++)
        CHECK_OK(run(&r, i, i % 2 ? &a : &b, true));
    CHECK_MSG(same_values(&r, expected), "two keys by turns");
    CHECK_MSG(r.calls == (records(be) ? 4 : RUNS), "%d calls of the body", r.calls);
    /* Recordings go with the memory that they are about. */
    vd_exec_reset(r.x);
    CHECK_OK(vd_exec_commit(r.x));
    run_turns(&r, RUNS, &a, true);
    CHECK_MSG(same_values(&r, expected), "after a reset");
    CHECK_MSG(r.calls == (records(be) ? 2 : RUNS), "%d calls of the body", r.calls);
    destroy(&r);
}

/* A host's number that changes between two runs is not in the recording. */
static void test_baked(vd_backend *be) {
    static const char key;
    float expected[COUNT];
    repeated r;
    create(be, &r);
    for (int repeat = 0; repeat < 2; repeat++) {
        start(&r);
        for (int i = 0; i < RUNS; i++) {
            r.baked = 0.1 * i;
            CHECK_OK(run(&r, i, &key, repeat == 1));
        }
        if (repeat == 0)
            CHECK_OK(vd_backend_download(be, expected, r.t.data, sizeof expected));
    }
    CHECK_MSG(same_values(&r, expected) != records(be), "a coefficient in a recording");
    destroy(&r);
}

static int warnings;
static void on_log(void *user, vd_log_level level, const char *message) {
    (void)user;
    if (level == VD_LOG_WARNING && strstr(message, "op by op") != NULL)
        warnings++;
}

/* A run that waits for the device cannot be recorded: it is called each time, and told once. */
static void test_unrecordable(vd_backend *be) {
    static const char key;
    float expected[COUNT];
    repeated r;
    create(be, &r);
    r.baked = 0.5;
    r.waits = true;
    expect(&r, RUNS, expected);
    warnings = 0;
    vd_log_set(on_log, NULL);
    run_turns(&r, RUNS, &key, true);
    vd_log_set(NULL, NULL);
    CHECK(same_values(&r, expected));
    CHECK_MSG(warnings == records(be), "%d warnings", warnings);
    CHECK_MSG(r.calls == RUNS + records(be), "%d calls of the body", r.calls);
    destroy(&r);
}

/* Stopped while it is recorded: nothing has run, and the next time it is recorded. */
static void test_stopped(vd_backend *be) {
    static const char key;
    float expected[COUNT];
    repeated r;
    create(be, &r);
    expect(&r, 3, expected);
    start(&r);
    CHECK_OK(run(&r, 0, &key, true));
    r.stopped = true;
    CHECK(run(&r, 1, &key, true) == VD_ERR_INTERRUPTED);
    r.stopped = false;
    CHECK_OK(run(&r, 1, &key, true));
    CHECK_OK(run(&r, 2, &key, true));
    CHECK(same_values(&r, expected));
    CHECK_MSG(r.calls == (records(be) ? 3 : 4), "%d calls of the body", r.calls);
    destroy(&r);
}

static vd_status ignore(void *user, const char *layer, const vd_tensor *result) {
    (void)user, (void)layer, (void)result;
    return VD_OK;
}

/* Who looks at each op gets to see each op. */
static void test_watched(vd_backend *be) {
    static const char key;
    repeated r;
    create(be, &r);
    start(&r);
    for (int i = 0; i < 3; i++)
        CHECK_OK(run(&r, i, &key, true));
    const int calls = r.calls;
    vd_exec_watch(r.x, ignore, NULL);
    CHECK_OK(run(&r, 3, &key, true));
    vd_exec_watch(r.x, NULL, NULL);
    CHECK_OK(vd_exec_profile_start(r.x));
    CHECK_OK(run(&r, 4, &key, true));
    CHECK(r.calls == calls + 2);
    vd_exec_profile_stop(r.x);
    CHECK_OK(run(&r, 5, &key, true));
    CHECK(r.calls == calls + (records(be) ? 2 : 3));
    destroy(&r);
}

int main(void) {
    op_devices devices;
    CHECK_OK(op_devices_open(&devices));
    test_same(devices.be[0]);
    test_baked(devices.be[0]);
    test_unrecordable(devices.be[0]);
    test_stopped(devices.be[0]);
    test_watched(devices.be[0]);
    op_devices_close(&devices);
    return CHECK_DONE();
}

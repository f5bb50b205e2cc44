/* The life of a backend and of an execution context: planning, memory, interrupts, profiles, and
 * that a planned forward allocates nothing. Linked with --wrap for malloc and its kin. */
#include <stdlib.h>

#include "backend/backend.h"
#include "backend/ops.h"
#include "tests/check.h"

/* ---- allocations seen, and made to fail ----------------------------------------------------- */

static long allocations;
static long fail_at = -1; /* the allocation that fails; -1: none */

/* The linker's names for the two sides of --wrap. */
void *real_malloc(size_t bytes) __asm__("__real_malloc");
void *real_calloc(size_t count, size_t bytes) __asm__("__real_calloc");
void *real_realloc(void *p, size_t bytes) __asm__("__real_realloc");
void *real_aligned_alloc(size_t align, size_t bytes) __asm__("__real_aligned_alloc");
void *wrap_malloc(size_t bytes) __asm__("__wrap_malloc");
void *wrap_calloc(size_t count, size_t bytes) __asm__("__wrap_calloc");
void *wrap_realloc(void *p, size_t bytes) __asm__("__wrap_realloc");
void *wrap_aligned_alloc(size_t align, size_t bytes) __asm__("__wrap_aligned_alloc");

static bool allowed(void) {
    return allocations++ != fail_at;
}

void *wrap_malloc(size_t bytes) {
    return allowed() ? real_malloc(bytes) : NULL;
}

void *wrap_calloc(size_t count, size_t bytes) {
    return allowed() ? real_calloc(count, bytes) : NULL;
}

void *wrap_realloc(void *p, size_t bytes) {
    return allowed() ? real_realloc(p, bytes) : NULL;
}

void *wrap_aligned_alloc(size_t align, size_t bytes) {
    return allowed() ? real_aligned_alloc(align, bytes) : NULL;
}

/* ---- a small network ------------------------------------------------------------------------ */

enum { CHANNELS = 32, SIDE = 12, IMAGES = 2 };

typedef struct network {
    vd_weight *conv, *point, *temporal, *up, *down, *bias;
} network;

static float values[2 * CHANNELS * CHANNELS * 9];

static vd_status network_create(vd_backend *be, vd_dtype dtype, network *net) {
    const int64_t c = CHANNELS;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        values[i] = (float)((double)(i * 7919 % 1000) / 1000.0 - 0.5) * 0.2F;
    vd_status st;
    *net = (network){0};
    const vd_weight_part conv = {.tensor = VD_VIEW(values, VD_F32, c, c, 3, 3), .columns = c};
    const vd_weight_part point = {.tensor = VD_VIEW(values, VD_F32, c, c, 1, 1), .columns = c};
    const vd_weight_part temporal = {.tensor = VD_VIEW(values, VD_F32, c, c, 3, 1), .columns = c};
    const vd_weight_part up = {.tensor = VD_VIEW(values, VD_F32, 8 * c, c), .columns = c};
    const vd_weight_part down = {.tensor = VD_VIEW(values, VD_F32, c, 4 * c), .columns = 4 * c};
    const vd_tensor bias = VD_VIEW(values, VD_F32, c);
    VD_TRY(vd_weight_create_conv(be, &conv, dtype, &net->conv));
    VD_TRY(vd_weight_create_conv(be, &point, dtype, &net->point));
    VD_TRY(vd_weight_create_conv(be, &temporal, dtype, &net->temporal));
    VD_TRY(vd_weight_create_linear(be, &up, 1, dtype, &net->up));
    VD_TRY(vd_weight_create_linear(be, &down, 1, dtype, &net->down));
    VD_TRY(vd_weight_create_vector(be, &bias, 1, &net->bias));
done:
    return st;
}

static void network_destroy(vd_backend *be, network *net) {
    vd_weight *const each[] = {net->conv, net->point, net->temporal, net->up, net->down, net->bias};
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++)
        vd_weight_destroy(be, each[i]);
}

/* y = every kind of convolution and product, one after the other. */
static vd_status forward(vd_exec *x, const network *net, const vd_tensor *src, vd_tensor *dst) {
    const vd_conv2d_desc same = {.stride_h = 1,
                                 .stride_w = 1,
                                 .pad_top = 1,
                                 .pad_left = 1,
                                 .dilation_h = 1,
                                 .dilation_w = 1,
                                 .act = VD_ACT_SILU};
    vd_conv2d_desc wide = same, point = same, frames = same;
    wide.dilation_h = wide.dilation_w = wide.pad_top = wide.pad_left = 3;
    point.pad_top = point.pad_left = 0;
    frames.pad_left = 0;
    const vd_dtype dtype = vd_exec_dtype(x);
    const int64_t n = src->dim[0], side = src->dim[1];
    vd_tensor a = {0}, b = {0}, rows = {0};
    vd_status st;
    VD_TRY(VD_ALLOC(x, dtype, &a, n, side, side, CHANNELS));
    VD_TRY(VD_ALLOC(x, VD_F32, &rows, n, CHANNELS));
    if (!vd_exec_dry(x))
        memset(rows.data, 0, vd_tensor_bytes(&rows));
    VD_TRY(vd_conv2d(x, &a, src, net->conv, net->bias, &rows, NULL, &same));
    vd_exec_free(x, &rows);
    VD_TRY(VD_ALLOC(x, dtype, &b, n, side, side, CHANNELS));
    VD_TRY(vd_conv2d(x, &b, &a, net->conv, net->bias, NULL, &a, &wide));
    VD_TRY(vd_conv2d(x, &a, &b, net->point, net->bias, NULL, &a, &point));
    vd_tensor from = VD_VIEW(a.data, dtype, 1, n, side * side, CHANNELS);
    vd_tensor to = VD_VIEW(b.data, dtype, 1, n, side * side, CHANNELS);
    VD_TRY(vd_conv2d(x, &to, &from, net->temporal, NULL, NULL, NULL, &frames));
    vd_exec_free(x, &a);
    VD_TRY(VD_ALLOC(x, VD_F32, &a, n, side, side, 4LL * CHANNELS));
    VD_TRY(vd_linear(x, &a, &b, net->up, NULL, NULL, VD_ACT_GEGLU));
    VD_TRY(vd_linear(x, dst, &a, net->down, net->bias, &b, VD_ACT_NONE));
done:
    vd_exec_free(x, &rows);
    vd_exec_free(x, &a);
    vd_exec_free(x, &b);
    return st;
}

/* Everything from opening to a result of n images, which is summed. */
static vd_status whole_run(vd_dtype dtype, double *sum) {
    vd_backend *be = NULL;
    vd_exec *x = NULL;
    network net = {0};
    void *src = NULL, *dst = NULL;
    const int64_t dim[4] = {IMAGES, SIDE, SIDE, CHANNELS};
    const size_t bytes = (size_t)IMAGES * SIDE * SIDE * CHANNELS * sizeof(float);
    vd_status st;
    VD_TRY(vd_backend_open("cpu", 2, &be));
    VD_TRY(network_create(be, dtype, &net));
    VD_TRY(vd_backend_alloc(be, bytes, &src));
    VD_TRY(vd_backend_alloc(be, bytes, &dst));
    VD_TRY(vd_backend_upload(be, src, values, sizeof values < bytes ? sizeof values : bytes));
    VD_TRY(vd_exec_create(be, dtype, &x));
    const vd_tensor from = vd_tensor_view(src, VD_F32, 4, dim);
    vd_tensor to = vd_tensor_view(dst, VD_F32, 4, dim);
    VD_TRY(forward(x, &net, &from, &to));
    VD_TRY(vd_exec_commit(x));
    VD_TRY(forward(x, &net, &from, &to));
    for (size_t i = 0; i < bytes / sizeof(float); i++)
        *sum += fabs((double)((const float *)dst)[i]);
done:
    vd_exec_destroy(x);
    if (be != NULL) {
        network_destroy(be, &net);
        vd_backend_free(be, src);
        vd_backend_free(be, dst);
        CHECK(vd_backend_weight_bytes(be) == 0);
    }
    vd_backend_close(be);
    return st;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void test_open(void) {
    vd_backend *be;
    CHECK_FAILS(vd_backend_open("tpu", 0, &be), VD_ERR_USAGE, "tpu");
    CHECK(be == NULL);
    CHECK_FAILS(vd_backend_open("cpu", -1, &be), VD_ERR_USAGE, "threads");
    CHECK_FAILS(vd_backend_open("cpu", 1025, &be), VD_ERR_USAGE, "1024");
    CHECK_OK(vd_backend_open("auto", 0, &be));
    CHECK(vd_backend_threads(be) >= 1);
    CHECK(vd_backend_has_dtype(be, vd_backend_auto_dtype(be)));
    CHECK(vd_backend_has_dtype(be, VD_F32));
    vd_backend_close(be);
    vd_backend_close(NULL);

    CHECK_OK(vd_backend_open("cpu", 3, &be));
    CHECK(strcmp(vd_backend_name(be), "cpu") == 0);
    CHECK(vd_backend_threads(be) == 3);
    CHECK(strstr(vd_backend_description(be), "3 threads") != NULL);
    CHECK(!vd_backend_has_dtype(be, VD_F16));
    vd_exec *x;
    CHECK_FAILS(vd_exec_create(be, VD_F16, &x), VD_ERR_BACKEND, "F16");
    CHECK(x == NULL);
    void *memory;
    CHECK_FAILS(vd_backend_alloc(be, SIZE_MAX - 1, &memory), VD_ERR_MEMORY, "GB are free");
    CHECK(memory == NULL);
    vd_backend_close(be);
}

static void test_weights(void) {
    vd_backend *be;
    vd_weight *w;
    CHECK_OK(vd_backend_open("cpu", 1, &be));
    vd_weight_part part = {.tensor = VD_VIEW(values, VD_F32, 4, 6), .columns = 6};
    CHECK_FAILS(vd_weight_create_conv(be, &part, VD_F32, &w), VD_ERR_BACKEND, "[4, 6]");
    CHECK_FAILS(vd_weight_create_linear(be, &part, 0, VD_F32, &w), VD_ERR_BACKEND, "no parts");
    CHECK_FAILS(vd_weight_create_linear(be, &part, 1, VD_F16, &w), VD_ERR_BACKEND, "F16");
    part.first_column = 1;
    CHECK_FAILS(vd_weight_create_linear(be, &part, 1, VD_F32, &w), VD_ERR_BACKEND, "1+6");
    part.tensor.data = NULL;
    CHECK_FAILS(vd_weight_create_linear(be, &part, 1, VD_F32, &w), VD_ERR_BACKEND, "[4, 6]");
    CHECK(w == NULL);
    CHECK(vd_backend_weight_bytes(be) == 0);
    const uint16_t half[3] = {0x3C00, 0xC000, 0x3800};
    const vd_tensor pieces[2] = {VD_VIEW((void *)half, VD_F16, 3), VD_VIEW(values, VD_F32, 2)};
    CHECK_OK(vd_weight_create_vector(be, pieces, 2, &w));
    CHECK(vd_backend_weight_bytes(be) == 5 * sizeof(float));
    vd_weight_destroy(be, w);
    vd_weight_destroy(be, NULL);
    CHECK(vd_backend_weight_bytes(be) == 0);
    vd_backend_close(be);
}

static void test_memory(void) {
    vd_backend *be;
    vd_exec *x;
    vd_tensor a, b;
    CHECK_OK(vd_backend_open("cpu", 1, &be));
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    CHECK(vd_exec_dry(x) && vd_exec_dtype(x) == VD_F32 && vd_exec_backend(x) == be);
    CHECK_FAILS(VD_ALLOC(x, VD_F16, &a, 4), VD_ERR_BACKEND, "F16");
    CHECK_FAILS(VD_ALLOC(x, VD_F32, &a, 4, -1), VD_ERR_BACKEND, "-1");
    CHECK_FAILS(VD_ALLOC(x, VD_F32, &a, 1LL << 40, 1LL << 40), VD_ERR_BACKEND, "impossible");
    CHECK(a.data == NULL);
    CHECK_OK(VD_ALLOC(x, VD_F32, &a, 1000));
    CHECK_OK(VD_ALLOC(x, VD_F32, &b, 500));
    CHECK_FAILS(vd_exec_commit(x), VD_ERR_BACKEND, "2 activations");
    vd_exec_free(x, &a);
    CHECK(a.data == NULL);
    vd_exec_free(x, &a);
    vd_exec_free(x, &b);
    const size_t peak = vd_exec_peak_bytes(x);
    CHECK(peak >= 6000 && peak < 6200);

    CHECK_OK(vd_exec_commit(x));
    CHECK(!vd_exec_dry(x) && vd_exec_peak_bytes(x) == peak);
    CHECK_FAILS(vd_exec_commit(x), VD_ERR_BACKEND, "over");
    CHECK_OK(VD_ALLOC(x, VD_F32, &a, 1000));
    CHECK_OK(VD_ALLOC(x, VD_F32, &b, 500));
    memset(a.data, 1, vd_tensor_bytes(&a));
    memset(b.data, 2, vd_tensor_bytes(&b));
    vd_tensor c;
    CHECK_FAILS(VD_ALLOC(x, VD_F32, &c, 100), VD_ERR_MEMORY, "not the forward");
    vd_exec_reset(x);
    CHECK(vd_exec_dry(x) && vd_exec_peak_bytes(x) == 0);
    CHECK_OK(vd_exec_commit(x));
    vd_exec_destroy(x);
    vd_exec_destroy(NULL);
    vd_backend_close(be);
}

static bool stop_after(void *user) {
    int *left = user;
    return (*left)-- == 0;
}

static void test_interrupt_and_profile(vd_exec *x, const network *net, const vd_tensor *src,
                                       vd_tensor *dst) {
    enum { OPS = 6 };
    for (int ops = 0; ops <= OPS; ops++) {
        int left = ops;
        vd_exec_set_interrupt(x, stop_after, &left);
        if (ops < OPS)
            CHECK_FAILS(forward(x, net, src, dst), VD_ERR_INTERRUPTED, "stopped");
        else
            CHECK_OK(forward(x, net, src, dst));
    }
    vd_exec_set_interrupt(x, NULL, NULL);

    size_t count;
    CHECK(vd_exec_profile(x, &count) == NULL && count == 0);
    CHECK_OK(vd_exec_profile_start(x));
    CHECK_OK(forward(x, net, src, dst));
    CHECK_OK(forward(x, net, src, dst));
    const vd_op_profile *line = vd_exec_profile(x, &count);
    CHECK(count == OPS);
    for (size_t i = 0; i < count; i++) {
        CHECK(line[i].calls == 2 && line[i].flop > 0 && line[i].bytes > 0);
        CHECK(i == 0 || line[i].seconds <= line[i - 1].seconds);
        if (strncmp(line[i].name, "linear geglu", 12) == 0)
            CHECK(line[i].flop == 2.0 * 2 * CHANNELS * 8 * CHANNELS * IMAGES * SIDE * SIDE);
        if (strstr(line[i].name, "3x3 s1 d3,3") != NULL)
            CHECK(line[i].flop == 2.0 * 2 * CHANNELS * CHANNELS * 9 * IMAGES * SIDE * SIDE);
    }
    CHECK_OK(vd_exec_profile_start(x));
    vd_exec_profile(x, &count);
    CHECK(count == 0);
}

static void test_forward(vd_dtype dtype) {
    vd_backend *be;
    vd_exec *x;
    network net;
    CHECK_OK(vd_backend_open("cpu", 2, &be));
    if (!vd_backend_has_dtype(be, dtype)) {
        vd_backend_close(be);
        return;
    }
    CHECK_OK(network_create(be, dtype, &net));
    CHECK_OK(vd_exec_create(be, dtype, &x));
    const int64_t dim[4] = {IMAGES, SIDE, SIDE, CHANNELS};
    void *memory[2];
    for (int i = 0; i < 2; i++)
        CHECK_OK(vd_backend_alloc(be, sizeof(float) * IMAGES * SIDE * SIDE * CHANNELS, &memory[i]));
    const vd_tensor src = vd_tensor_view(memory[0], dtype, 4, dim);
    vd_tensor dst = vd_tensor_view(memory[1], VD_F32, 4, dim);
    CHECK_OK(forward(x, &net, &src, &dst));
    const size_t peak = vd_exec_peak_bytes(x);
    const size_t packed = vd_backend_weight_bytes(be);
    CHECK_OK(vd_exec_commit(x));
    for (int i = 0; i < 3; i++) {
        const long before = allocations;
        CHECK_OK(forward(x, &net, &src, &dst));
        CHECK_MSG(allocations == before, "%ld allocations in run %d", allocations - before, i);
    }
    CHECK(vd_exec_peak_bytes(x) == peak && vd_backend_weight_bytes(be) == packed);
    test_interrupt_and_profile(x, &net, &src, &dst);

    /* A larger forward than was planned is refused, not overrun. */
    const vd_tensor large = VD_VIEW(memory[0], dtype, 16LL * IMAGES, SIDE, SIDE, CHANNELS);
    CHECK_FAILS(forward(x, &net, &large, &dst), VD_ERR_MEMORY, "not the forward");
    for (int i = 0; i < 2; i++)
        vd_backend_free(be, memory[i]);
    vd_exec_destroy(x);
    network_destroy(be, &net);
    vd_backend_close(be);
}

static void test_shapes(void) {
    vd_backend *be;
    vd_exec *x;
    network net;
    CHECK_OK(vd_backend_open("cpu", 1, &be));
    CHECK_OK(network_create(be, VD_F32, &net));
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    static float memory[64];
    const vd_conv2d_desc ok = {.stride_h = 1,
                               .stride_w = 1,
                               .dilation_h = 1,
                               .dilation_w = 1,
                               .pad_top = 1,
                               .pad_left = 1};
    vd_tensor dst = VD_VIEW(memory, VD_F32, 1, 4, 4, CHANNELS);
    const vd_tensor src = VD_VIEW(memory + 1, VD_F32, 1, 4, 4, CHANNELS);
    const vd_tensor narrow = VD_VIEW(memory + 1, VD_F32, 1, 4, 4, 3);
    const vd_tensor half = VD_VIEW(memory + 1, VD_F16, 1, 4, 4, CHANNELS);
    const vd_tensor rows = VD_VIEW(memory + 2, VD_F32, 3, CHANNELS);
    const char *const op = "conv2d";
    vd_conv2d_desc bad = ok;
    bad.dilation_h = 0;
    CHECK_FAILS(vd_conv2d(x, &dst, &narrow, net.conv, NULL, NULL, NULL, &ok), VD_ERR_BACKEND, op);
    CHECK_FAILS(vd_conv2d(x, &dst, &half, net.conv, NULL, NULL, NULL, &ok), VD_ERR_BACKEND, op);
    CHECK_FAILS(vd_conv2d(x, &dst, &src, net.up, NULL, NULL, NULL, &ok), VD_ERR_BACKEND, op);
    CHECK_FAILS(vd_conv2d(x, &dst, &src, net.conv, net.conv, NULL, NULL, &ok), VD_ERR_BACKEND, op);
    CHECK_FAILS(vd_conv2d(x, &dst, &src, net.conv, NULL, &rows, NULL, &ok), VD_ERR_BACKEND, op);
    CHECK_FAILS(vd_conv2d(x, &dst, &src, net.conv, NULL, NULL, &narrow, &ok), VD_ERR_BACKEND, op);
    CHECK_FAILS(vd_conv2d(x, &dst, &dst, net.conv, NULL, NULL, NULL, &ok), VD_ERR_BACKEND, "place");
    CHECK_FAILS(vd_conv2d(x, &dst, &src, net.conv, NULL, NULL, NULL, &bad), VD_ERR_BACKEND, op);
    CHECK_FAILS(vd_linear(x, &dst, &narrow, net.up, NULL, NULL, VD_ACT_NONE), VD_ERR_BACKEND,
                "[1, 4, 4, 3]");
    CHECK_OK(vd_conv2d(x, &dst, &src, net.conv, net.bias, NULL, &dst, &ok));
    vd_exec_destroy(x);
    network_destroy(be, &net);
    vd_backend_close(be);
}

/* Each allocation of a whole run fails once: the run ends with VD_ERR_MEMORY and frees all. */
static void test_failing_allocations(void) {
    double expected = 0, sum = 0;
    const long before = allocations;
    CHECK_OK(whole_run(VD_F32, &expected));
    const long count = allocations - before;
    CHECK(expected > 0 && count > 20);
    for (long i = 0; i < count; i++) {
        fail_at = allocations + i;
        vd_status st = whole_run(VD_F32, &sum);
        CHECK_MSG(st == VD_ERR_MEMORY, "allocation %ld: status %d, %s", i, (int)st,
                  vd_error_message());
    }
    fail_at = -1;
    sum = 0;
    CHECK_OK(whole_run(VD_F32, &sum));
    CHECK(sum == expected);
}

int main(void) {
    test_open();
    test_weights();
    test_memory();
    test_forward(VD_F32);
    test_forward(VD_BF16);
    test_shapes();
    test_failing_allocations();
    return CHECK_DONE();
}

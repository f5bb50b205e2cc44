/* Running an op test on the same machine with several thread counts. */
#ifndef VD_TESTS_BACKEND_OP_RUN_H
#define VD_TESTS_BACKEND_OP_RUN_H

#include "tests/backend/op_case.h"

enum { OP_DEVICES = 4, OP_DTYPES = 3 };

/* One backend for each of 1, 2, 3 and 7 threads (two of a device, which has no threads), and the
 * dtypes that they compute in. VD_TEST_BACKEND names the backend; "cpu" by default. A test of a
 * backend that is not here says so and ends as skipped. */
typedef struct op_devices {
    int count, dtypes;
    vd_backend *be[OP_DEVICES];
    int threads[OP_DEVICES];
    vd_dtype dtype[OP_DTYPES];
} op_devices;

vd_status op_devices_open(op_devices *d);
void op_devices_close(op_devices *d);

/* Host memory; a test that gets none of it ends. */
float *op_values(size_t count, float scale, vd_dtype dtype, uint32_t seed);
float op_round(float value, vd_dtype dtype);

/* A weight as a mapped checkpoint has it: F32, F16 or BF16 by turns, at an odd address. */
typedef struct op_source {
    float *values; /* what the stored values are */
    void *memory;
    vd_tensor tensor;
} op_source;

void op_source_create(int rank, const int64_t *dim, float scale, uint32_t seed, op_source *out);
void op_source_destroy(op_source *s);

/* The first result is compared with the oracle, the others bit by bit with the first: what is
 * computed must not depend on the thread count. */
typedef struct op_check {
    const char *line;
    vd_dtype dtype;
    vd_tensor result;
    const double *expected;
    double terms;
    void *first;
    int failures;
} op_check;

/* Takes `bytes` (malloc'ed) over. */
void op_check_result(op_check *c, void *bytes, int threads);
void op_check_end(op_check *c);

#endif

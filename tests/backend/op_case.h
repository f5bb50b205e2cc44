/* Cases of the op tests: lines of key=value words in tests/backend/cases, buffers with sentinels
 * before and behind, and the comparison with the oracle. */
#ifndef VD_TESTS_BACKEND_OP_CASE_H
#define VD_TESTS_BACKEND_OP_CASE_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "backend/ops.h"

enum { OP_CASE_BYTES = 256 };

/* Calls run(user, line) for each line of cases/NAME that is not empty or a comment (#); with
 * VD_TEST_EVERY=N for one in N, where a tool makes all too slow. Returns how many there were; 0
 * also if the file cannot be read. */
int op_cases(const char *name, void (*run)(void *user, const char *line), void *user);

/* The number after KEY= in a line, and the index-th of a list such as 3x3 or 1,2; `missing` where
 * there is none. */
int64_t op_number(const char *line, const char *key, int index, int64_t missing);

/* True if the line has KEY=value. */
bool op_is(const char *line, const char *key, const char *value);

vd_activation op_activation(const char *line); /* act=silu */

/* Values in [-scale, scale), the same for a seed on every machine, rounded to `dtype`. */
void op_random(float *values, size_t count, float scale, vd_dtype dtype, uint32_t seed);

/* A tensor in device memory with sentinels around it. Pass NULL values for "filled with NaN". */
typedef struct op_buffer {
    vd_backend *be;
    unsigned char *base;
    vd_tensor t;
} op_buffer;

vd_status op_buffer_create(vd_backend *be, vd_dtype dtype, int rank, const int64_t *dim,
                           const float *values, op_buffer *out);
void op_buffer_destroy(op_buffer *b);
bool op_buffer_sentinels(const op_buffer *b); /* untouched? */
vd_status op_buffer_read(const op_buffer *b, float *values);
vd_status op_buffer_bytes(const op_buffer *b, void *bytes);

/* How far a result may be from the oracle. `terms` are summed in float32 in some order: the errors
 * of random terms grow like sqrt(terms) * 2^-24; then the result is rounded to `dtype`. */
typedef struct op_error {
    double nmse, max_nmse;   /* sum of squares of the error, by that of the oracle */
    double worst, max_worst; /* largest error as a part of what is allowed at its place; 1 */
    int64_t worst_at;
} op_error;

op_error op_compare(const float *got, const double *expected, size_t count, double terms,
                    vd_dtype dtype);
bool op_error_ok(const op_error *e);

#endif

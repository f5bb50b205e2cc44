/* One op on one set of values: run with every thread count, in buffers with sentinels, and compared
 * with the oracle and bit by bit among the thread counts. */
#ifndef VD_TESTS_BACKEND_OP_TRIAL_H
#define VD_TESTS_BACKEND_OP_TRIAL_H

#include "tests/backend/op_run.h"

enum { OP_SOURCES = 8, OP_VECTORS = 2 };

typedef struct op_trial {
    const char *line;
    vd_dtype dtype;  /* of the exec */
    vd_tensor shape; /* of the result; data is NULL */
    int sources, vectors;
    vd_tensor src_shape[OP_SOURCES];
    const float *src[OP_SOURCES];
    const float *vector[OP_VECTORS];
    int64_t vector_length;
    const float *start; /* what the result's memory holds before; NULL: NaN */
    bool in_place;      /* the result is the first source */
    const double *expected;
    double terms; /* see op_compare */
    vd_status (*call)(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_weight *const *vector,
                      const void *user);
    const void *user;
} op_trial;

/* Returns how many of the comparisons failed; reports them. */
int op_trial_run(const op_devices *devices, const op_trial *trial);

#endif

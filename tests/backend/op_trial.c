#include "tests/backend/op_trial.h"

#include <stdio.h>
#include <stdlib.h>

/* The dry run, the commit and the real run of one device. Returns 0 or 1. */
static int execute(vd_backend *be, const op_trial *trial, vd_exec *x, op_buffer *dst,
                   const op_buffer *src) {
    vd_weight *vector[OP_VECTORS] = {0};
    vd_tensor from[OP_SOURCES];
    vd_status st = VD_OK;
    for (int i = 0; i < trial->sources; i++)
        from[i] = src[i].t;
    if (trial->in_place)
        from[0] = dst->t;
    for (int i = 0; i < trial->vectors; i++) {
        const vd_tensor values = VD_VIEW((void *)trial->vector[i], VD_F32, trial->vector_length);
        VD_TRY(vd_weight_create_vector(be, &values, 1, &vector[i]));
    }
    VD_TRY(trial->call(x, &dst->t, from, vector, trial->user));
    VD_TRY(vd_exec_commit(x));
    VD_TRY(trial->call(x, &dst->t, from, vector, trial->user));
done:
    for (int i = 0; i < trial->vectors; i++)
        vd_weight_destroy(be, vector[i]);
    if (st != VD_OK)
        fprintf(stderr, "%s (exec %s): %s\n", trial->line, vd_dtype_name(trial->dtype),
                vd_error_message());
    return st != VD_OK;
}

static int run_on(vd_backend *be, const op_trial *trial, void *bytes) {
    op_buffer src[OP_SOURCES] = {0}, dst = {0};
    vd_exec *x = NULL;
    int failures = 1;
    vd_status st;
    for (int i = 0; i < trial->sources; i++)
        VD_TRY(op_buffer_create(be, trial->src_shape[i].dtype, trial->src_shape[i].rank,
                                trial->src_shape[i].dim, trial->src[i], &src[i]));
    VD_TRY(op_buffer_create(be, trial->shape.dtype, trial->shape.rank, trial->shape.dim,
                            trial->in_place ? trial->src[0] : trial->start, &dst));
    VD_TRY(vd_exec_create(be, trial->dtype, &x));
    failures = execute(be, trial, x, &dst, src);
    VD_TRY(op_buffer_bytes(&dst, bytes));
done:
    for (int i = -1; i < trial->sources; i++) {
        op_buffer *b = i < 0 ? &dst : &src[i];
        if (b->base != NULL && !op_buffer_sentinels(b)) {
            fprintf(stderr, "%s (exec %s): wrote around %s %d\n", trial->line,
                    vd_dtype_name(trial->dtype), i < 0 ? "the result" : "source", i);
            failures++;
        }
        op_buffer_destroy(b);
    }
    vd_exec_destroy(x);
    return failures + (st != VD_OK);
}

int op_trial_run(const op_devices *devices, const op_trial *trial) {
    op_check check = {.line = trial->line,
                      .dtype = trial->dtype,
                      .result = trial->shape,
                      .expected = trial->expected,
                      .terms = trial->terms};
    int failures = 0;
    for (int i = 0; i < devices->count; i++) {
        void *bytes = calloc(1, vd_tensor_bytes(&trial->shape));
        if (bytes == NULL)
            return 1;
        failures += run_on(devices->be[i], trial, bytes);
        op_check_result(&check, bytes, devices->threads[i]);
    }
    op_check_end(&check);
    return failures + check.failures;
}

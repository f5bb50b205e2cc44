/* The sampler's programs and the guidance's deviation, on one thread: their bits are older than the
 * threads, and beside a network they take no time. */
#include <math.h>

#include "backend/cpu/cpu.h"

static bool is_finite(const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

vd_status vd_cpu_sampler_run(vd_exec *x, float *const *buffer, int count, int64_t elements,
                             const vd_sampler_program *program, int32_t *bad) {
    const float *from[VD_SAMPLER_BUFFERS];
    if (x->dry)
        return VD_OK;
    for (int i = 0; i < count; i++)
        from[i] = buffer[i];
    for (int k = 0; k < program->ops; k++) {
        const vd_sampler_op *op = &program->op[k];
        for (int64_t i = 0; i < elements; i++)
            buffer[op->dst][i] = vd_sampler_value(op, from, i);
    }
    if (bad != NULL && !(is_finite(buffer[0], elements) && is_finite(buffer[count > 1], elements)))
        *bad = 1;
    return VD_OK;
}

/* In two passes: the difference of two large sums would lose what is left. */
static double deviation(const float *values, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)values[i];
    const double mean = sum / (double)count;
    double squares = 0;
    for (int64_t i = 0; i < count; i++)
        squares += ((double)values[i] - mean) * ((double)values[i] - mean);
    return sqrt(squares / (double)(count - 1));
}

vd_status vd_cpu_match_deviation(vd_exec *x, vd_tensor *dst, const vd_tensor *like, double phi) {
    const int64_t count = vd_tensor_elements(dst);
    float *values = dst->data;
    if (x->dry)
        return VD_OK;
    const double own = deviation(values, count);
    if (own == 0)
        return VD_OK;
    const double factor = phi * (deviation(like->data, count) / own) + (1 - phi);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(factor * (double)values[i]);
    return VD_OK;
}

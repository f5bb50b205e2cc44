/* What a sampling step does to the latents, as data: short programs of elementwise operations that
 * may lie in device memory. The one arithmetic of all backends. */
#ifndef VD_BACKEND_SAMPLER_H
#define VD_BACKEND_SAMPLER_H

#include <stdint.h>

#include "backend/sample.h"

enum { VD_SAMPLER_BUFFERS = 8, VD_SAMPLER_OPS = 4, VD_SAMPLER_TERMS = 5 };

typedef enum vd_sampler_kind {
    VD_SAMPLER_SUM,   /* the sum of factor[t] * src[t] over the terms */
    VD_SAMPLER_GUIDE, /* src[0] + factor[0] * (src[2] - src[1]) */
} vd_sampler_kind;

/* Buffers are named by their index. dst = clamp(...), computed in float64, rounded to float32 once;
 * dst may be one of the sources. */
typedef struct vd_sampler_op {
    vd_sampler_kind kind;
    int dst;
    int terms;
    int src[VD_SAMPLER_TERMS];
    double factor[VD_SAMPLER_TERMS];
    double clamp; /* to [-clamp, clamp]; 0: not at all */
} vd_sampler_op;

/* The ops of one call, in order. */
typedef struct vd_sampler_program {
    int ops;
    vd_sampler_op op[VD_SAMPLER_OPS];
} vd_sampler_program;

/* What `op` gives for element i of its buffers. */
VD_HOST_DEVICE static inline float vd_sampler_value(const vd_sampler_op *op,
                                                    const float *const *buffer, int64_t i) {
    double sum = 0;
    if (op->kind == VD_SAMPLER_GUIDE) {
        const double direction = (double)buffer[op->src[2]][i] - (double)buffer[op->src[1]][i];
        sum = (double)buffer[op->src[0]][i] + op->factor[0] * direction;
    } else {
        for (int t = 0; t < op->terms; t++)
            sum += op->factor[t] * (double)buffer[op->src[t]][i];
    }
    if (op->clamp > 0) {
        sum = sum > op->clamp ? op->clamp : sum; /* a NaN stays one */
        sum = sum < -op->clamp ? -op->clamp : sum;
    }
    return (float)sum;
}

#endif

/* The inputs of a UNet's golden case, and a forward on them. Counts its checks in the test that
 * includes it, as check.h does. */
#ifndef VD_TESTS_UNET3D_INPUTS_H
#define VD_TESTS_UNET3D_INPUTS_H

#include <stdlib.h>

#include "tests/check.h"
#include "tests/golden.h"
#include "tests/unet3d/run.h"

typedef struct inputs {
    float *sample, *text;
    double timestep[8];
    vd_tensor sample_shape, text_shape;
} inputs;

static bool inputs_read(const golden_case *c, inputs *in) {
    size_t count = 0;
    *in = (inputs){0};
    in->sample = golden_input(c, "sample", VD_F32, NULL, &in->sample_shape);
    in->text = golden_input(c, "context", VD_F32, NULL, &in->text_shape);
    double *t = golden_input(c, "timestep", VD_F64, &count, NULL);
    const bool good = in->sample != NULL && in->text != NULL && t != NULL &&
                      in->sample_shape.dim[0] <= 8 &&
                      (count == 1 || count == (size_t)in->sample_shape.dim[0]);
    for (int64_t i = 0; good && i < in->sample_shape.dim[0]; i++)
        in->timestep[i] = count == 1 ? t[0] : t[i];
    free(t);
    CHECK(good);
    return good;
}

static void inputs_free(inputs *in) {
    free(in->sample);
    free(in->text);
}

static float *predict(unet_run *run, const inputs *in, const vd_unet_hooks *hooks) {
    float *y = run_forward(run, &in->sample_shape, in->sample, &in->text_shape, in->text,
                           in->timestep, hooks, NULL);
    CHECK_MSG(y != NULL, "%s", vd_error_message());
    return y;
}

static size_t prediction_size(const inputs *in) {
    return (size_t)vd_tensor_elements(&in->sample_shape); /* as many channels out as in */
}

#endif

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
    vd_tensor sample_shape, text_shape; /* the sample of an image model: one frame */
    float *pooled;                      /* SD XL's, and the time ids; NULL in other models */
    double *time_ids;
    int ids; /* of one item */
} inputs;

/* What an image model's case has otherwise: no frame axis, and perhaps the added embedding. */
static bool inputs_read_image(const golden_case *c, inputs *in) {
    vd_tensor *s = &in->sample_shape;
    vd_tensor shape;
    if (s->rank == 4) {
        s->rank = 5;
        s->dim[4] = s->dim[3];
        s->dim[3] = s->dim[2];
        s->dim[2] = 1;
    }
    if (!golden_has_input(c, "text_embeds"))
        return true;
    in->pooled = golden_input(c, "text_embeds", VD_F32, NULL, NULL);
    in->time_ids = golden_input(c, "time_ids", VD_F64, NULL, &shape);
    if (in->pooled == NULL || in->time_ids == NULL)
        return false;
    in->ids = (int)shape.dim[1];
    return true;
}

static bool inputs_read(const golden_case *c, inputs *in) {
    size_t count = 0;
    *in = (inputs){0};
    in->sample = golden_input(c, "sample", VD_F32, NULL, &in->sample_shape);
    in->text = golden_input(c, "context", VD_F32, NULL, &in->text_shape);
    double *t = golden_input(c, "timestep", VD_F64, &count, NULL);
    const bool good =
        in->sample != NULL && in->text != NULL && t != NULL && in->sample_shape.dim[0] <= 8 &&
        (count == 1 || count == (size_t)in->sample_shape.dim[0]) && inputs_read_image(c, in);
    for (int64_t i = 0; good && i < in->sample_shape.dim[0]; i++)
        in->timestep[i] = count == 1 ? t[0] : t[i];
    free(t);
    CHECK(good);
    return good;
}

static void inputs_free(inputs *in) {
    free(in->sample);
    free(in->text);
    free(in->pooled);
    free(in->time_ids);
}

static float *predict(unet_run *run, const inputs *in, const vd_unet_hooks *hooks) {
    if (in->pooled != NULL)
        CHECK_OK(
            vd_unet_set_added(run->u, in->sample_shape.dim[0], in->pooled, in->ids, in->time_ids));
    float *y = run_forward(run, &in->sample_shape, in->sample, &in->text_shape, in->text,
                           in->timestep, hooks, NULL);
    CHECK_MSG(y != NULL, "%s", vd_error_message());
    return y;
}

static size_t prediction_size(const inputs *in) {
    return (size_t)vd_tensor_elements(&in->sample_shape); /* as many channels out as in */
}

#endif

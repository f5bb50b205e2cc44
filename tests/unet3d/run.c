#include "tests/unet3d/run.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/backend_name.h"

bool run_open(unet_run *run, const char *dir, vd_dtype dtype, int threads) {
    *run = (unet_run){0};
    vd_status st;
    VD_TRY(vd_backend_open(check_backend(), threads, &run->be));
    VD_TRY(vd_exec_create(run->be, dtype, &run->x));
    if (getenv("VD_TEST_OFFLOAD") != NULL)
        VD_TRY(vd_backend_set_offload(run->be, true));
    VD_TRY(vd_unet_open(run->be, dir, dtype, &run->u));
    return true;
done:
    fprintf(stderr, "%s\n", vd_error_message());
    run_close(run);
    return false;
}

void run_close(unet_run *run) {
    vd_unet_destroy(run->u);
    vd_exec_destroy(run->x);
    vd_backend_close(run->be);
    *run = (unet_run){0};
}

vd_tensor run_upload(const unet_run *run, const vd_tensor *shape, const void *data) {
    vd_tensor t = *shape;
    t.data = NULL;
    const size_t bytes = vd_tensor_bytes(&t);
    if (vd_backend_alloc(run->be, bytes, &t.data) == VD_OK && data != NULL)
        (void)vd_backend_upload(run->be, t.data, data, bytes);
    return t;
}

/* The arena is empty if all of it can be had in one piece. */
static vd_status check_empty(vd_exec *x, size_t peak_before) {
    vd_tensor all = {0};
    const size_t peak = vd_exec_peak_bytes(x);
    if (peak != peak_before)
        return vd_fail(VD_ERR_BACKEND, "the peak changed from %zu to %zu", peak_before, peak);
    const vd_status st = VD_ALLOC(x, VD_F32, &all, (int64_t)(peak / sizeof(float)));
    vd_exec_free(x, &all);
    return st == VD_OK ? st : vd_fail_in(st, "something was left in the arena");
}

float *run_forward(unet_run *run, const vd_tensor *sample_shape, const float *sample,
                   const vd_tensor *text_shape, const float *text, const double *timestep,
                   const vd_unet_hooks *hooks, size_t *peak_bytes) {
    vd_status st = VD_OK;
    float *result = NULL;
    vd_tensor out_shape = *sample_shape;
    out_shape.dim[1] = run->u->config.out_channels;
    vd_tensor in = run_upload(run, sample_shape, sample);
    vd_tensor states = run_upload(run, text_shape, text);
    vd_tensor out = run_upload(run, &out_shape, NULL);

    vd_exec_reset(run->x);
    VD_TRY(vd_unet_set_context(run->u, run->x, &states));
    VD_TRY(vd_unet_forward(run->u, run->x, &out, &in, timestep, hooks));
    VD_TRY(vd_exec_commit(run->x));
    const size_t peak = vd_exec_peak_bytes(run->x);
    if (peak_bytes != NULL)
        *peak_bytes = peak;
    VD_TRY(vd_unet_set_context(run->u, run->x, &states));
    VD_TRY(vd_unet_forward(run->u, run->x, &out, &in, timestep, hooks));
    VD_TRY(check_empty(run->x, peak));
    result = malloc(vd_tensor_bytes(&out));
    if (result != NULL)
        VD_TRY(vd_backend_download(run->be, result, out.data, vd_tensor_bytes(&out)));
done:
    if (st != VD_OK) {
        free(result);
        result = NULL;
    }
    vd_backend_free(run->be, in.data);
    vd_backend_free(run->be, states.data);
    vd_backend_free(run->be, out.data);
    return result;
}

/* in [n, c, h, w] -> module -> *out, allocated, [n, c', h', w']; both F32. */
static vd_status module_pass(unet_run *run, const vd_tensor *in, int64_t frames,
                             run_module_fn module, void *user, vd_tensor *out) {
    vd_status st;
    vd_exec *x = run->x;
    const int64_t n = in->dim[0];
    const int64_t pixels = in->dim[2] * in->dim[3];
    vd_unet_pass pass = {.x = x, .batch = n / frames, .frames = frames};
    const vd_tensor planes = VD_VIEW(in->data, VD_F32, n, in->dim[1], pixels);
    vd_tensor h = {0};
    VD_TRY(VD_ALLOC(x, run->u->dtype, &h, n, in->dim[2], in->dim[3], in->dim[1]));
    vd_tensor points = VD_VIEW(h.data, h.dtype, n, pixels, h.dim[3]);
    VD_TRY(vd_transpose(x, &points, &planes));
    VD_TRY(module(user, &pass, &h));
    VD_TRY(VD_ALLOC(x, VD_F32, out, n, h.dim[3], h.dim[1], h.dim[2]));
    points = VD_VIEW(h.data, h.dtype, n, h.dim[1] * h.dim[2], h.dim[3]);
    vd_tensor out_planes = VD_VIEW(out->data, VD_F32, n, h.dim[3], h.dim[1] * h.dim[2]);
    VD_TRY(vd_transpose(x, &out_planes, &points));
done:
    vd_exec_free(x, &h);
    return st;
}

float *run_module(unet_run *run, const vd_tensor *x_shape, const float *x, int64_t frames,
                  run_module_fn module, void *user, vd_tensor *out) {
    vd_status st;
    float *result = NULL;
    vd_tensor device = {0};
    vd_tensor in = run_upload(run, x_shape, x);

    vd_exec_reset(run->x);
    VD_TRY(module_pass(run, &in, frames, module, user, &device));
    vd_exec_free(run->x, &device);
    VD_TRY(vd_exec_commit(run->x));
    const size_t peak = vd_exec_peak_bytes(run->x);
    VD_TRY(module_pass(run, &in, frames, module, user, &device));
    result = malloc(vd_tensor_bytes(&device));
    if (result != NULL)
        VD_TRY(vd_backend_download(run->be, result, device.data, vd_tensor_bytes(&device)));
    *out = device;
    out->data = NULL;
    vd_exec_free(run->x, &device);
    VD_TRY(check_empty(run->x, peak));
done:
    if (st != VD_OK) {
        free(result);
        result = NULL;
    }
    vd_backend_free(run->be, in.data);
    return result;
}

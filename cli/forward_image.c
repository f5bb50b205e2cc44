/* Modules that are one operation on images: conv (re-dilated), resize, fourier_filter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "cli/forward.h"
#include "unet3d/dispersion.h"
#include "unet3d/redilate.h"

/* ---- one operation on images ---------------------------------------------------------------- */

typedef vd_status (*image_op)(const void *user, vd_exec *x, vd_tensor *dst, const vd_tensor *src);

typedef struct image_run {
    vd_backend *be;
    vd_exec *x;
    vd_dtype dtype;
} image_run;

/* F32 planes [n, c, h, w] on the device -> op on channels-last images -> planes. */
static vd_status image_pass(const image_run *r, vd_tensor *out, const vd_tensor *in, image_op op,
                            const void *user) {
    vd_status st = VD_OK;
    const int64_t *from = in->dim, *to = out->dim;
    vd_tensor src = {0}, dst = {0};
    vd_tensor in_planes = VD_VIEW(in->data, VD_F32, from[0], from[1], from[2] * from[3]);
    vd_tensor out_planes = VD_VIEW(out->data, VD_F32, to[0], to[1], to[2] * to[3]);
    VD_TRY(VD_ALLOC(r->x, r->dtype, &src, from[0], from[2], from[3], from[1]));
    vd_tensor src_points = VD_VIEW(src.data, r->dtype, from[0], from[2] * from[3], from[1]);
    VD_TRY(vd_transpose(r->x, &src_points, &in_planes));
    VD_TRY(VD_ALLOC(r->x, r->dtype, &dst, to[0], to[2], to[3], to[1]));
    VD_TRY(op(user, r->x, &dst, &src));
    vd_tensor dst_points = VD_VIEW(dst.data, r->dtype, to[0], to[2] * to[3], to[1]);
    VD_TRY(vd_transpose(r->x, &out_planes, &dst_points));
done:
    vd_exec_free(r->x, &src);
    vd_exec_free(r->x, &dst);
    return st;
}

/* in.INPUT [n, c, h, w] -> op -> OUTPUT [n, channels, height, width]. */
static vd_status run_images(forward_case *c, const image_run *r, const char *input,
                            const char *output, const int64_t size[3], image_op op,
                            const void *user) {
    vd_status st = VD_OK;
    float *values = NULL;
    vd_tensor in = {0}, out = {0};
    VD_TRY(forward_input(c, input, &values, &in));
    in.dtype = VD_F32;
    if (in.rank != 4 || vd_tensor_elements(&in) < 1) {
        st = vd_fail(VD_ERR_INPUT, "%s: in.%s is not [n, c, h, w]", c->name, input);
        goto done;
    }
    out = VD_VIEW(NULL, VD_F32, in.dim[0], size[0], size[1], size[2]);
    VD_TRY(forward_to_device(r->be, values, &in));
    VD_TRY(forward_to_device(r->be, NULL, &out));
    vd_exec_reset(r->x);
    VD_TRY(image_pass(r, &out, &in, op, user));
    VD_TRY(vd_exec_commit(r->x));
    VD_TRY(image_pass(r, &out, &in, op, user));
    VD_TRY(forward_add_device(c, r->be, output, &out));
done:
    vd_backend_free(r->be, in.data);
    vd_backend_free(r->be, out.data);
    free(values);
    return st;
}

/* ---- module conv ---------------------------------------------------------------------------- */

typedef struct conv_job {
    vd_conv_layer layer;
    int stride;
    vd_redilation factor;
    const vd_kernel_map *map; /* NULL: the layer's own kernel */
} conv_job;

static vd_status conv_op(const void *user, vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    const conv_job *job = user;
    return vd_redilate_conv(x, dst, src, &job->layer, NULL, NULL, job->stride, job->factor,
                            job->map);
}

static vd_status make_layer(const forward_case *c, const image_run *r, vd_conv_layer *layer) {
    vd_status st = VD_OK;
    vd_weight_part part = {0};
    vd_tensor bias;
    if (!c->inputs || !vd_checkpoint_find(c->inputs, "in.weight", &part.tensor) ||
        !vd_checkpoint_find(c->inputs, "in.bias", &bias) || part.tensor.rank != 4 ||
        bias.rank != 1 || bias.dim[0] != part.tensor.dim[0])
        return vd_fail(VD_ERR_INPUT, "%s: wants in.weight [out, in, k, k] and in.bias [out]",
                       c->name);
    const int64_t *dim = part.tensor.dim;
    if (dim[2] % 2 != 1 || dim[3] % 2 != 1 || dim[2] > 31 || dim[3] > 31)
        return vd_fail(VD_ERR_INPUT, "%s: the kernel is not odd, or larger than 31", c->name);
    part.columns = dim[1];
    *layer = (vd_conv_layer){
        .in = dim[1], .out = dim[0], .kernel_h = (int)dim[2], .kernel_w = (int)dim[3]};
    VD_TRY(vd_weight_create_conv(r->be, &part, r->dtype, &layer->w));
    VD_TRY(vd_weight_create_vector(r->be, &bias, 1, &layer->bias));
done:
    return st;
}

/* in.x_HxW -> output. */
static vd_status run_job(forward_case *c, const image_run *r, const conv_job *job, int64_t h,
                         int64_t w, const char *output) {
    char input[64];
    const int64_t size[3] = {job->layer.out, vd_redilate_sizes(h, job->factor.h, job->stride).out,
                             vd_redilate_sizes(w, job->factor.w, job->stride).out};
    if (size[1] < 1 || size[2] < 1)
        return vd_json_fail(c->doc, c->settings, "stride %d leaves nothing of %lld x %lld",
                            job->stride, (long long)w, (long long)h);
    snprintf(input, sizeof input, "x_%lldx%lld", (long long)h, (long long)w);
    return run_images(c, r, input, output, size, conv_op, job);
}

enum { MAX_SIDE = 1 << 14 };

/* One entry {h, w, d} of `sizes`: in.x_HxW -> y_HxW_dD. */
static vd_status run_size(forward_case *c, const image_run *r, conv_job *job,
                          const vd_json_value *entry) {
    vd_status st = VD_OK;
    int64_t h = 0, w = 0;
    double d = 0;
    char output[96];
    VD_TRY(vd_json_int(c->doc, entry, "h", 1, MAX_SIDE, 0, &h));
    VD_TRY(vd_json_int(c->doc, entry, "w", 1, MAX_SIDE, 0, &w));
    VD_TRY(vd_json_double(c->doc, entry, "d", 1, 16, 0, &d));
    if (h == 0 || w == 0 || d == 0) {
        st = vd_json_fail(c->doc, entry, "an entry of sizes has h, w and d");
        goto done;
    }
    job->factor = (vd_redilation){d, d};
    snprintf(output, sizeof output, "y_%lldx%lld_d%g", (long long)h, (long long)w, d);
    VD_TRY(run_job(c, r, job, h, w, output));
done:
    return st;
}

/* One output y_kK_sS_HxW_dD: in.x_HxW through the kernel that setting kK enlarges. */
static vd_status run_dispersed(forward_case *c, const image_run *r, conv_job *job,
                               const char *output) {
    vd_status st = VD_OK;
    vd_dispersion matrix = {0};
    int taps = 0, stride = 0, h = 0, w = 0;
    double d = 0;
    char key[32];
    if (sscanf(output, "y_k%d_s%d_%dx%d_d%lf", &taps, &stride, &h, &w, &d) != 5 || stride < 1 ||
        stride > 16 || h < 1 || h > MAX_SIDE || w < 1 || w > MAX_SIDE || !(d > 0 && d <= 16))
        return vd_json_fail(c->doc, c->entry,
                            "expected an output name such as y_k5_s1_8x12_d1.5, not \"%s\"",
                            output);
    snprintf(key, sizeof key, "k%d", taps);
    const vd_json_value *list = vd_json_get(c->settings, key);
    if (!list)
        return vd_json_fail(c->doc, c->settings, "has no matrix \"%s\"", key);
    VD_TRY(vd_dispersion_read(c->doc, list, &matrix));
    const vd_kernel_map map = {.taps = (int)matrix.large, .values = matrix.R};
    job->map = &map;
    job->stride = stride;
    job->factor = (vd_redilation){d, d};
    VD_TRY(run_job(c, r, job, h, w, output));
done:
    job->map = NULL;
    vd_dispersion_clear(&matrix);
    return st;
}

static vd_status run_conv(forward_case *c, const image_run *r) {
    vd_status st = VD_OK;
    conv_job job = {0};
    int64_t stride = 1;
    const vd_json_value *sizes = vd_json_get(c->settings, "sizes");
    const vd_json_value *outputs = vd_json_get(c->entry, "outputs");
    const bool dispersed = strcmp(c->group, "disperse") == 0;
    VD_TRY(vd_json_int(c->doc, c->settings, "stride", 1, 16, 1, &stride));
    if (!dispersed && (!sizes || vd_json_type_of(sizes) != VD_JSON_ARRAY)) {
        st = vd_json_fail(c->doc, c->settings, "the case has no list `sizes`");
        goto done;
    }
    job.stride = (int)stride;
    VD_TRY(make_layer(c, r, &job.layer));
    for (const vd_json_value *v = dispersed ? NULL : vd_json_first(sizes); v; v = vd_json_next(v))
        VD_TRY(run_size(c, r, &job, v));
    for (const vd_json_value *v = dispersed && outputs ? vd_json_first(outputs) : NULL; v;
         v = vd_json_next(v))
        VD_TRY(run_dispersed(c, r, &job, vd_json_key(v)));
done:
    vd_conv_layer_destroy(r->be, &job.layer);
    return st;
}

/* ---- module resize -------------------------------------------------------------------------- */

static vd_status resize_op(const void *user, vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    (void)user;
    return vd_resize_bilinear(x, dst, src);
}

/* Outputs y_HxW: in.x at that size. */
static vd_status run_resize(forward_case *c, const image_run *r) {
    vd_status st = VD_OK;
    const vd_json_value *outputs = vd_json_get(c->entry, "outputs");
    vd_tensor x;
    bool corners = false, antialias = false;
    VD_TRY(vd_json_flag(c->doc, c->settings, "align_corners", false, &corners));
    VD_TRY(vd_json_flag(c->doc, c->settings, "antialias", false, &antialias));
    if (corners || antialias) {
        st = vd_json_fail(c->doc, c->settings, "align_corners and antialias are always false here");
        goto done;
    }
    if (!c->inputs || !vd_checkpoint_find(c->inputs, "in.x", &x) || x.rank != 4) {
        st = vd_fail(VD_ERR_INPUT, "%s: wants in.x [n, c, h, w]", c->name);
        goto done;
    }
    for (const vd_json_value *v = outputs ? vd_json_first(outputs) : NULL; v; v = vd_json_next(v)) {
        int h = 0, w = 0;
        if (sscanf(vd_json_key(v), "y_%dx%d", &h, &w) != 2 || h < 1 || w < 1 || h > 16384 ||
            w > 16384) {
            st = vd_json_fail(c->doc, v, "expected an output name such as y_8x14");
            goto done;
        }
        const int64_t size[3] = {x.dim[1], h, w};
        VD_TRY(run_images(c, r, "x", vd_json_key(v), size, resize_op, NULL));
    }
done:
    return st;
}

/* ---- module fourier_filter ------------------------------------------------------------------ */

static vd_status filter_op(const void *user, vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    const double *factor = user;
    const vd_status st = vd_activate(x, dst, src, VD_ACT_NONE);
    return st == VD_OK ? vd_scale_low_frequencies(x, dst, *factor) : st;
}

/* Each in.x_HxW gives y_HxW. */
static vd_status run_filter(forward_case *c, const image_run *r) {
    vd_status st = VD_OK;
    const vd_json_value *outputs = vd_json_get(c->entry, "outputs");
    int64_t threshold = 1;
    double factor = 1;
    char input[64], key[80];
    vd_tensor x;
    VD_TRY(vd_json_int(c->doc, c->settings, "threshold", 1, 1, 1, &threshold));
    VD_TRY(vd_json_double(c->doc, c->settings, "scale", 0, 16, 1, &factor));
    for (const vd_json_value *v = outputs ? vd_json_first(outputs) : NULL; v; v = vd_json_next(v)) {
        const char *output = vd_json_key(v);
        snprintf(input, sizeof input, "x%s", output[0] == 'y' ? output + 1 : "");
        snprintf(key, sizeof key, "in.%s", input);
        if (!c->inputs || !vd_checkpoint_find(c->inputs, key, &x) || x.rank != 4) {
            st = vd_json_fail(c->doc, v, "wants an input %s [n, c, h, w]", key);
            goto done;
        }
        const int64_t size[3] = {x.dim[1], x.dim[2], x.dim[3]};
        VD_TRY(run_images(c, r, input, output, size, filter_op, &factor));
    }
done:
    return st;
}

/* ---- choosing ------------------------------------------------------------------------------- */

vd_status forward_image(forward_case *c) {
    static const struct {
        const char *module;
        vd_status (*run)(forward_case *c, const image_run *r);
    } modules[] = {{"conv", run_conv}, {"resize", run_resize}, {"fourier_filter", run_filter}};
    vd_status st = VD_OK;
    image_run r = {0};
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        if (strcmp(c->module, modules[i].module) != 0)
            continue;
        VD_TRY(forward_open(c, &r.be, &r.x, &r.dtype));
        VD_TRY(modules[i].run(c, &r));
        goto done;
    }
    st = vd_fail(VD_ERR_USAGE, "forward: %s: cannot run module \"%s\" of group %s", c->name,
                 c->module, c->group);
done:
    vd_exec_destroy(r.x);
    vd_backend_close(r.be);
    return st;
}

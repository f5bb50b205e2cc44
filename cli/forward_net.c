/* Groups unet and vae. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "cli/forward.h"
#include "encode/vae.h"
#include "unet3d/method_plan.h"
#include "unet3d/unet3d.h"

vd_status forward_to_device(vd_backend *be, const float *values, vd_tensor *t) {
    vd_status st = vd_backend_alloc(be, vd_tensor_bytes(t), &t->data);
    return st == VD_OK && values ? vd_backend_upload(be, t->data, values, vd_tensor_bytes(t)) : st;
}

vd_status forward_add_device(forward_case *c, vd_backend *be, const char *name,
                             const vd_tensor *t) {
    float *values = NULL;
    vd_status st = forward_floats((size_t)vd_tensor_elements(t), &values);
    if (st == VD_OK)
        st = vd_backend_download(be, values, t->data, vd_tensor_bytes(t));
    if (st != VD_OK) {
        free(values);
        return st;
    }
    return forward_add(c, name, values, t->rank, t->dim);
}

/* Outputs dimN: the sinusoids of each timestep, N wide. */
static vd_status timestep_embeddings(forward_case *c) {
    vd_status st = VD_OK;
    float *t = NULL;
    vd_tensor shape;
    const vd_json_value *outputs = vd_json_get(c->entry, "outputs");
    VD_TRY(forward_input(c, "t", &t, &shape));
    int64_t rows = vd_tensor_elements(&shape);
    for (const vd_json_value *v = outputs ? vd_json_first(outputs) : NULL; v; v = vd_json_next(v)) {
        int width = 0;
        float *values = NULL;
        if (sscanf(vd_json_key(v), "dim%d", &width) != 1 || width < 1 || width > 65536) {
            st = vd_json_fail(c->doc, v, "expected an output name such as dim320");
            goto done;
        }
        VD_TRY(forward_floats((size_t)rows * (size_t)width, &values));
        for (int64_t r = 0; r < rows; r++)
            vd_timestep_embedding(values + r * width, width, (double)t[r]);
        VD_TRY(FORWARD_ADD(c, vd_json_key(v), values, rows, width));
    }
done:
    free(t);
    return st;
}

typedef struct unet_run {
    vd_backend *be;
    vd_exec *x;
    vd_unet *unet;
    float *sample, *context, *timestep;
    double *t;
    bool image; /* the sample has no frame axis: it is given one of length 1 here */
    vd_tensor sample_dev, context_dev, output_dev;
    vd_settings *settings;
    vd_method_plan *plan;
    vd_unet_hooks hooks;
} unet_run;

/* The method's settings at the case's step, if it has any. */
static vd_status read_method(forward_case *c, unet_run *u) {
    enum { MAX_STEP = 1000 };
    static const char *const others[] = {"step", NULL};
    vd_status st = VD_OK;
    int64_t step = 0;
    if (vd_json_size(c->settings) == 0)
        return VD_OK;
    VD_TRY(vd_json_int(c->doc, c->settings, "step", 0, MAX_STEP, 0, &step));
    VD_TRY(vd_settings_parse(c->doc, c->settings, others, c->name, &u->settings));
    VD_TRY(vd_method_plan_create(u->settings, vd_unet_spatial_paths(u->unet), (int)step + 1,
                                 &u->plan));
    u->hooks.method = vd_method_plan_at(u->plan, (int)step);
done:
    return st;
}

/* The added embedding's inputs: text_embeds [B, W] and time_ids [B, ids]. */
static vd_status read_added(forward_case *c, unet_run *u) {
    vd_status st = VD_OK;
    float *pooled = NULL, *ids = NULL;
    double *time_ids = NULL;
    vd_tensor pooled_shape, ids_shape;
    const vd_unet_config *config = vd_unet_get_config(u->unet);
    if (config->added_width == 0)
        return VD_OK;
    VD_TRY(forward_input(c, "text_embeds", &pooled, &pooled_shape));
    VD_TRY(forward_input(c, "time_ids", &ids, &ids_shape));
    const int64_t batch = u->sample_dev.dim[0];
    if (pooled_shape.rank != 2 || ids_shape.rank != 2 || pooled_shape.dim[0] != batch ||
        ids_shape.dim[0] != batch || ids_shape.dim[1] > config->added_width ||
        pooled_shape.dim[1] + ids_shape.dim[1] * config->added_time_dim != config->added_width) {
        st = vd_fail(VD_ERR_INPUT,
                     "%s: wants in.text_embeds [B, W] and in.time_ids [B, N] with W + %lld N = "
                     "%lld",
                     c->name, (long long)config->added_time_dim, (long long)config->added_width);
        goto done;
    }
    const size_t count = (size_t)vd_tensor_elements(&ids_shape);
    time_ids = malloc((count + 1) * sizeof *time_ids);
    if (!time_ids) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for time ids");
        goto done;
    }
    vd_convert_values(time_ids, VD_F64, ids, VD_F32, count);
    VD_TRY(vd_unet_set_added(u->unet, batch, pooled, (int)ids_shape.dim[1], time_ids));
done:
    free(pooled);
    free(ids);
    free(time_ids);
    return st;
}

static vd_status read_unet_inputs(forward_case *c, unet_run *u, vd_tensor *t_shape) {
    vd_status st = VD_OK;
    VD_TRY(forward_input(c, "sample", &u->sample, &u->sample_dev));
    VD_TRY(forward_input(c, "context", &u->context, &u->context_dev));
    VD_TRY(forward_input(c, "timestep", &u->timestep, t_shape));
    u->sample_dev.dtype = u->context_dev.dtype = VD_F32;
    u->image = !vd_unet_get_config(u->unet)->temporal && u->sample_dev.rank == 4;
    if (u->image) {
        const int64_t *d = u->sample_dev.dim;
        u->sample_dev = VD_VIEW(NULL, VD_F32, d[0], d[1], 1, d[2], d[3]);
    }
    if (u->sample_dev.rank != 5 || u->context_dev.rank != 3 ||
        u->context_dev.dim[0] != u->sample_dev.dim[0]) {
        st = vd_fail(VD_ERR_INPUT,
                     "%s: wants in.sample [B, C, F, H, W] and in.context [B, T, D] of one batch",
                     c->name);
        goto done;
    }
    int64_t batch = u->sample_dev.dim[0], given = vd_tensor_elements(t_shape);
    if (given != 1 && given != batch) {
        st = vd_fail(VD_ERR_INPUT, "%s: in.timestep has %lld values for a batch of %lld", c->name,
                     (long long)given, (long long)batch);
        goto done;
    }
    u->t = malloc((size_t)batch * sizeof *u->t);
    if (!u->t) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for timesteps");
        goto done;
    }
    for (int64_t b = 0; b < batch; b++)
        u->t[b] = (double)u->timestep[given == 1 ? 0 : b];
    VD_TRY(read_added(c, u));
done:
    return st;
}

static vd_status run_unet(unet_run *u) {
    vd_status st = VD_OK;
    for (int dry = 1; dry >= 0; dry--) {
        VD_TRY(vd_unet_set_context(u->unet, u->x, &u->context_dev));
        VD_TRY(vd_unet_forward(u->unet, u->x, &u->output_dev, &u->sample_dev, u->t, &u->hooks));
        if (dry)
            VD_TRY(vd_exec_commit(u->x));
    }
done:
    return st;
}

vd_status forward_unet(forward_case *c) {
    vd_status st = VD_OK;
    unet_run u = {0};
    vd_tensor t_shape;
    vd_dtype dtype;
    char *folder = NULL;
    if (strcmp(c->module, "time_proj") == 0)
        return timestep_embeddings(c);
    VD_TRY(forward_component(c, "unet", &folder));
    VD_TRY(forward_open(c, &u.be, &u.x, &dtype));
    VD_TRY(vd_unet_open(u.be, folder, dtype, &u.unet));
    VD_TRY(read_method(c, &u));
    VD_TRY(read_unet_inputs(c, &u, &t_shape));
    u.output_dev = u.sample_dev;
    u.output_dev.dim[1] = vd_unet_get_config(u.unet)->out_channels;
    VD_TRY(forward_to_device(u.be, u.sample, &u.sample_dev));
    VD_TRY(forward_to_device(u.be, u.context, &u.context_dev));
    VD_TRY(forward_to_device(u.be, NULL, &u.output_dev));
    VD_TRY(run_unet(&u));
    vd_tensor output = u.output_dev;
    if (u.image)
        output = VD_VIEW(u.output_dev.data, VD_F32, output.dim[0], output.dim[1], output.dim[3],
                         output.dim[4]);
    VD_TRY(forward_add_device(c, u.be, "sample", &output));
done:
    if (u.be) {
        vd_backend_free(u.be, u.sample_dev.data);
        vd_backend_free(u.be, u.context_dev.data);
        vd_backend_free(u.be, u.output_dev.data);
    }
    vd_method_plan_destroy(u.plan);
    vd_settings_destroy(u.settings);
    vd_exec_destroy(u.x);
    vd_unet_destroy(u.unet);
    vd_backend_close(u.be);
    free(u.sample);
    free(u.context);
    free(u.timestep);
    free(u.t);
    free(folder);
    return st;
}

/* ---- vae ----------------------------------------------------------------------------------- */

/* Bytes of pixels in [-1, 1]: `round` as this program writes frames, `truncate` as diffusers'
 * export_to_video does. */
static vd_status postprocess(forward_case *c) {
    vd_status st = VD_OK;
    float *image = NULL, *rounded = NULL, *truncated = NULL;
    unsigned char *bytes = NULL;
    vd_tensor shape;
    VD_TRY(forward_input(c, "image", &image, &shape));
    size_t count = (size_t)vd_tensor_elements(&shape);
    VD_TRY(forward_floats(count, &rounded));
    VD_TRY(forward_floats(count, &truncated));
    bytes = malloc(count + 1);
    if (!bytes) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for %zu bytes", count);
        goto done;
    }
    vd_vae_to_bytes(bytes, image, count);
    for (size_t i = 0; i < count; i++) {
        float unit = image[i] / 2 + 0.5F;
        unit = unit > 0 ? (unit < 1 ? unit : 1) : 0;
        rounded[i] = (float)bytes[i];
        truncated[i] = (float)(unsigned char)(255 * unit);
    }
    st = forward_add(c, "round", rounded, shape.rank, shape.dim);
    rounded = NULL;
    if (st != VD_OK)
        goto done;
    st = forward_add(c, "truncate", truncated, shape.rank, shape.dim);
    truncated = NULL;
done:
    free(image);
    free(rounded);
    free(truncated);
    free(bytes);
    return st;
}

typedef struct vae_run {
    vd_backend *be;
    vd_exec *x;
    vd_vae *vae;
    vd_tensor planes, src, dst, out; /* device: [n, c, h, w] in, channels-last in and out, out */
} vae_run;

static vd_status run_vae(vae_run *v, bool decode) {
    vd_status st = VD_OK;
    vd_tensor in_planes = VD_VIEW(v->planes.data, VD_F32, v->planes.dim[0], v->planes.dim[1],
                                  v->planes.dim[2] * v->planes.dim[3]);
    vd_tensor in_rows =
        VD_VIEW(v->src.data, VD_F32, v->src.dim[0], v->src.dim[1] * v->src.dim[2], v->src.dim[3]);
    vd_tensor out_rows =
        VD_VIEW(v->dst.data, VD_F32, v->dst.dim[0], v->dst.dim[1] * v->dst.dim[2], v->dst.dim[3]);
    vd_tensor out_planes =
        VD_VIEW(v->out.data, VD_F32, v->out.dim[0], v->out.dim[1], v->out.dim[2] * v->out.dim[3]);
    for (int dry = 1; dry >= 0; dry--) {
        VD_TRY(vd_transpose(v->x, &in_rows, &in_planes));
        VD_TRY(decode ? vd_vae_decode(v->vae, v->x, &v->dst, &v->src)
                      : vd_vae_encode(v->vae, v->x, &v->dst, &v->src));
        VD_TRY(vd_transpose(v->x, &out_planes, &out_rows));
        if (dry)
            VD_TRY(vd_exec_commit(v->x));
    }
done:
    return st;
}

/* Splits moments [n, 2C, h, w] into mean and clamped log variance. */
static vd_status add_moments(forward_case *c, const vae_run *v) {
    vd_status st = VD_OK;
    float *all = NULL, *mean = NULL, *logvar = NULL;
    int64_t n = v->out.dim[0], half = v->out.dim[1] / 2;
    size_t part = (size_t)(half * v->out.dim[2] * v->out.dim[3]);
    VD_TRY(forward_floats((size_t)n * 2 * part, &all));
    VD_TRY(forward_floats((size_t)n * part, &mean));
    VD_TRY(forward_floats((size_t)n * part, &logvar));
    VD_TRY(vd_backend_download(v->be, all, v->out.data, vd_tensor_bytes(&v->out)));
    for (int64_t i = 0; i < n; i++) {
        const float *item = all + (size_t)i * 2 * part;
        memcpy(mean + (size_t)i * part, item, part * sizeof *mean);
        for (size_t k = 0; k < part; k++) {
            float lv = item[part + k];
            logvar[(size_t)i * part + k] = lv < -30 ? -30 : lv > 20 ? 20 : lv;
        }
    }
    st = FORWARD_ADD(c, "mean", mean, n, half, v->out.dim[2], v->out.dim[3]);
    mean = NULL;
    if (st != VD_OK)
        goto done;
    st = FORWARD_ADD(c, "logvar", logvar, n, half, v->out.dim[2], v->out.dim[3]);
    logvar = NULL;
done:
    free(all);
    free(mean);
    free(logvar);
    return st;
}

static vd_status vae_tensors(forward_case *c, vae_run *v, bool decode, const float *values) {
    vd_status st = VD_OK;
    const vd_vae_config *config = vd_vae_get_config(v->vae);
    int64_t channels = decode ? config->latent_channels : config->image_channels;
    int64_t scale = vd_vae_scale(config);
    int64_t out_channels = decode ? config->image_channels : 2 * config->latent_channels;
    const int64_t *dim = v->planes.dim;
    int64_t h = decode ? dim[2] * scale : dim[2] / scale;
    int64_t w = decode ? dim[3] * scale : dim[3] / scale;
    if (v->planes.rank != 4 || dim[1] != channels || h < 1 || w < 1 ||
        (!decode && (dim[2] % scale || dim[3] % scale))) {
        char found[96];
        return vd_fail(VD_ERR_INPUT, "%s: the input is %s; wanted [n, %lld, h, w]%s", c->name,
                       vd_tensor_describe(&v->planes, found, sizeof found), (long long)channels,
                       decode ? "" : " with sides that the autoencoder divides");
    }
    v->src = VD_VIEW(NULL, VD_F32, dim[0], dim[2], dim[3], channels);
    v->dst = VD_VIEW(NULL, VD_F32, dim[0], h, w, out_channels);
    v->out = VD_VIEW(NULL, VD_F32, dim[0], out_channels, h, w);
    VD_TRY(forward_to_device(v->be, values, &v->planes));
    VD_TRY(forward_to_device(v->be, NULL, &v->src));
    VD_TRY(forward_to_device(v->be, NULL, &v->dst));
    VD_TRY(forward_to_device(v->be, NULL, &v->out));
done:
    return st;
}

vd_status forward_vae(forward_case *c) {
    static const char *const unknown[] = {"tile_latent_min_size", "sync_group_norm", NULL};
    vd_status st = VD_OK;
    vae_run v = {0};
    vd_dtype dtype;
    float *values = NULL;
    char *folder = NULL;
    bool decode = forward_has_input(c, "latent");
    if (strcmp(c->module, "postprocess") == 0)
        return postprocess(c);
    if (strcmp(c->module, "vae") != 0)
        return vd_fail(VD_ERR_USAGE, "forward: %s: cannot run module \"%s\" of group vae", c->name,
                       c->module);
    VD_TRY(forward_refuse_settings(c, unknown));
    VD_TRY(forward_component(c, "vae", &folder));
    VD_TRY(forward_input(c, decode ? "latent" : "image", &values, &v.planes));
    v.planes.dtype = VD_F32;
    VD_TRY(forward_open(c, &v.be, &v.x, &dtype));
    VD_TRY(vd_vae_open(v.be, folder, decode ? VD_VAE_DECODER : VD_VAE_ENCODER, dtype, &v.vae));
    VD_TRY(vae_tensors(c, &v, decode, values));
    VD_TRY(run_vae(&v, decode));
    if (decode)
        VD_TRY(forward_add_device(c, v.be, "image", &v.out));
    else
        VD_TRY(add_moments(c, &v));
done:
    if (v.be) {
        vd_backend_free(v.be, v.planes.data);
        vd_backend_free(v.be, v.src.data);
        vd_backend_free(v.be, v.dst.data);
        vd_backend_free(v.be, v.out.data);
    }
    vd_exec_destroy(v.x);
    vd_vae_destroy(v.vae);
    vd_backend_close(v.be);
    free(values);
    free(folder);
    return st;
}

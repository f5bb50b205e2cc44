/* Group unet. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "cli/forward.h"
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

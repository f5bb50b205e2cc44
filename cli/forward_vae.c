/* Group vae: whole decodes and encodes, tiled decodes, the tiles' group norm, bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "cli/forward.h"
#include "encode/vae_impl.h"

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

/* Module group_norm: tiles in.tile0, in.tile1, ... as [n, c, h, w], with shared statistics. */
enum { MAX_TILES = 16 };

typedef struct norm_run {
    vd_backend *be;
    vd_exec *x;
    vd_norm_layer norm;
    size_t count;
    vd_tensor planes[MAX_TILES], rows[MAX_TILES]; /* device: [n, c, h*w] and channels-last */
    int64_t dim[MAX_TILES][4];
} norm_run;

static vd_status read_vector(const forward_case *c, norm_run *r, const char *name,
                             vd_weight **out) {
    float *values = NULL;
    vd_tensor t;
    vd_status st = forward_input(c, name, &values, &t);
    if (st != VD_OK)
        return st;
    t.data = values;
    t.dtype = VD_F32;
    st = vd_weight_create_vector(r->be, &t, 1, out);
    free(values);
    return st;
}

static vd_status read_tiles(const forward_case *c, norm_run *r) {
    vd_status st = VD_OK;
    char name[32];
    float *values = NULL;
    vd_tensor t;
    for (; r->count < MAX_TILES; r->count++) {
        snprintf(name, sizeof name, "tile%zu", r->count);
        if (!forward_has_input(c, name))
            break;
        VD_TRY(forward_input(c, name, &values, &t));
        if (t.rank != 4) {
            st = vd_fail(VD_ERR_INPUT, "%s: in.%s must be [n, c, h, w]", c->name, name);
            goto done;
        }
        memcpy(r->dim[r->count], t.dim, sizeof r->dim[0]);
        r->planes[r->count] = VD_VIEW(NULL, VD_F32, t.dim[0], t.dim[1], t.dim[2] * t.dim[3]);
        r->rows[r->count] = VD_VIEW(NULL, VD_F32, t.dim[0], t.dim[2] * t.dim[3], t.dim[1]);
        VD_TRY(forward_to_device(r->be, values, &r->planes[r->count]));
        VD_TRY(forward_to_device(r->be, NULL, &r->rows[r->count]));
        free(values);
        values = NULL;
    }
    if (r->count == 0)
        st = vd_fail(VD_ERR_INPUT, "%s: has no in.tile0", c->name);
done:
    free(values);
    return st;
}

static vd_status run_norm(norm_run *r) {
    vd_status st = VD_OK;
    for (int dry = 1; dry >= 0; dry--) {
        for (size_t i = 0; i < r->count; i++)
            VD_TRY(vd_transpose(r->x, &r->rows[i], &r->planes[i]));
        VD_TRY(vd_vae_sync_norm(r->x, &r->norm, r->rows, r->rows, r->count, VD_ACT_NONE));
        for (size_t i = 0; i < r->count; i++)
            VD_TRY(vd_transpose(r->x, &r->planes[i], &r->rows[i]));
        if (dry)
            VD_TRY(vd_exec_commit(r->x));
    }
done:
    return st;
}

static vd_status sync_norm(forward_case *c) {
    vd_status st = VD_OK;
    norm_run r = {0};
    vd_dtype dtype;
    int64_t groups = 0;
    double eps = 0;
    char name[32];
    VD_TRY(vd_json_int(c->doc, c->settings, "groups", 1, 65536, 32, &groups));
    VD_TRY(vd_json_double(c->doc, c->settings, "eps", 0, 1, 1e-6, &eps));
    VD_TRY(forward_open(c, &r.be, &r.x, &dtype));
    r.norm.groups = (int)groups;
    r.norm.eps = (float)eps;
    VD_TRY(read_vector(c, &r, "weight", &r.norm.scale));
    VD_TRY(read_vector(c, &r, "bias", &r.norm.shift));
    VD_TRY(read_tiles(c, &r));
    VD_TRY(run_norm(&r));
    for (size_t i = 0; i < r.count; i++) {
        const int64_t *d = r.dim[i];
        const vd_tensor out = VD_VIEW(r.planes[i].data, VD_F32, d[0], d[1], d[2], d[3]);
        snprintf(name, sizeof name, "tile%zu", i);
        VD_TRY(forward_add_device(c, r.be, name, &out));
    }
done:
    for (size_t i = 0; r.be && i < MAX_TILES; i++) {
        vd_backend_free(r.be, r.planes[i].data);
        vd_backend_free(r.be, r.rows[i].data);
    }
    vd_norm_layer_destroy(r.be, &r.norm);
    vd_exec_destroy(r.x);
    vd_backend_close(r.be);
    return st;
}

typedef struct vae_run {
    vd_backend *be;
    vd_exec *x;
    vd_vae *vae;
    vd_vae_tiling tiling;
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
        VD_TRY(decode ? vd_vae_decode_tiled(v->vae, v->x, &v->dst, &v->src, &v->tiling)
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

/* Whole, unless the settings name a tile. */
static vd_status read_tiling(const forward_case *c, vae_run *v) {
    vd_status st = VD_OK;
    bool sync = false;
    vd_vae_tiling *t = &v->tiling;
    *t = vd_vae_tiling_defaults(vd_vae_get_config(v->vae), VD_VAE_WHOLE);
    if (!vd_json_get(c->settings, "tile_latent_min_size"))
        return VD_OK;
    VD_TRY(vd_json_flag(c->doc, c->settings, "sync_group_norm", false, &sync));
    t->mode = sync ? VD_VAE_SYNC_TILES : VD_VAE_TILES;
    VD_TRY(vd_json_int(c->doc, c->settings, "tile_latent_min_size", 1, 1 << 16, t->tile_latents,
                       &t->tile_latents));
    VD_TRY(vd_json_int(c->doc, c->settings, "tile_sample_min_size", 1, 1 << 20, t->tile_px,
                       &t->tile_px));
    VD_TRY(vd_json_double(c->doc, c->settings, "tile_overlap_factor", 0, 0.5, t->overlap,
                          &t->overlap));
done:
    return st;
}

vd_status forward_vae(forward_case *c) {
    vd_status st = VD_OK;
    vae_run v = {0};
    vd_dtype dtype;
    float *values = NULL;
    char *folder = NULL;
    bool decode = forward_has_input(c, "latent");
    if (strcmp(c->module, "postprocess") == 0)
        return postprocess(c);
    if (strcmp(c->module, "group_norm") == 0)
        return sync_norm(c);
    if (strcmp(c->module, "vae") != 0)
        return vd_fail(VD_ERR_USAGE, "forward: %s: cannot run module \"%s\" of group vae", c->name,
                       c->module);
    VD_TRY(forward_component(c, "vae", &folder));
    VD_TRY(forward_input(c, decode ? "latent" : "image", &values, &v.planes));
    v.planes.dtype = VD_F32;
    VD_TRY(forward_open(c, &v.be, &v.x, &dtype));
    VD_TRY(vd_vae_open(v.be, folder, decode ? VD_VAE_DECODER : VD_VAE_ENCODER, dtype, &v.vae));
    VD_TRY(read_tiling(c, &v));
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

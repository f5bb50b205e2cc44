#include "backend/layers.h"

#include <stdlib.h>
#include <string.h>

#include "core/text.h"

vd_status vd_load_check(const vd_loader *l, const char *what) {
    size_t left, total;
    if (vd_backend_on_host(l->be) || vd_backend_offloads(l->be))
        return vd_checkpoint_check_memory(l->ck, l->dtype, what);
    const size_t bytes = vd_checkpoint_packed_bytes(l->ck, l->dtype);
    if (!vd_backend_memory(l->be, &left, &total) || bytes <= left)
        return VD_OK;
    return vd_fail(VD_ERR_MEMORY,
                   "%s: the %s would take %.2f GB of the device's memory in %s and %.2f of its "
                   "%.2f GB are free: --offload leaves the UNet's weights on the host; or a 16-bit "
                   "--dtype, or --backend cpu",
                   vd_checkpoint_path(l->ck), what, (double)bytes / 1e9, vd_dtype_name(l->dtype),
                   (double)left / 1e9, (double)total / 1e9);
}

/* PREFIX.LEAF from the checkpoint; data NULL if it is not there (the checkpoint remembers). */
static vd_status take(const vd_loader *l, const char *prefix, const char *leaf, int rank,
                      const int64_t *dim, vd_tensor *out) {
    char *name = vd_format("%s.%s", prefix, leaf);
    *out = (vd_tensor){0};
    if (name == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the name of a tensor");
    *out = vd_checkpoint_take(l->ck, name, rank, dim);
    free(name);
    return VD_OK;
}

/* "PREFIX/LAST.../LAST": all fused layers; they differ in the last part of their path. */
static vd_status name_fused(vd_weight *w, const char *const *prefixes, int count) {
    char *name = vd_format("%s", prefixes[0]);
    for (int i = 1; i < count && name != NULL; i++) {
        const char *dot = strrchr(prefixes[i], '.');
        char *longer = vd_format("%s/%s", name, dot != NULL ? dot + 1 : prefixes[i]);
        free(name);
        name = longer;
    }
    const vd_status st = name != NULL ? vd_weight_set_layer(w, name)
                                      : vd_fail(VD_ERR_MEMORY, "no memory for a layer's name");
    free(name);
    return st;
}

/* A matrix [out, in], stored as such or as a 1x1 kernel. */
static vd_status take_matrix(const vd_loader *l, const char *prefix, int64_t out_rows, int64_t in,
                             vd_tensor *out) {
    char *name = vd_format("%s.weight", prefix);
    *out = (vd_tensor){0};
    if (name == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the name of a tensor");
    vd_tensor found;
    const int64_t dim[4] = {out_rows, in, 1, 1};
    bool kernel = vd_checkpoint_find(l->ck, name, &found) && found.rank == 4;
    *out = vd_checkpoint_take(l->ck, name, kernel ? 4 : 2, dim);
    free(name);
    out->rank = 2;
    return VD_OK;
}

static vd_status load_vector(const vd_loader *l, const char *prefix, const char *leaf,
                             int64_t length, vd_weight **out) {
    vd_tensor t;
    vd_status st = take(l, prefix, leaf, 1, (int64_t[]){length}, &t);
    if (st != VD_OK || t.data == NULL)
        return st;
    st = vd_weight_create_vector(l->be, &t, 1, out);
    return st == VD_OK ? VD_OK : vd_fail_in(st, "%s.%s", prefix, leaf);
}

static vd_status load_part(const vd_loader *l, const char *prefix, const vd_weight_part *part,
                           vd_weight **out) {
    vd_status st = vd_weight_create_linear(l->be, part, 1, l->dtype, out);
    if (st == VD_OK)
        st = vd_weight_set_layer(*out, prefix);
    return st == VD_OK ? VD_OK : vd_fail_in(st, "%s.weight", prefix);
}

vd_status vd_load_linear(const vd_loader *l, const char *prefix, int64_t out, int64_t in, bool bias,
                         vd_linear_layer *layer) {
    *layer = (vd_linear_layer){0};
    vd_status st;
    vd_weight_part part = {.columns = in};
    VD_TRY(take_matrix(l, prefix, out, in, &part.tensor));
    if (part.tensor.data != NULL)
        VD_TRY(load_part(l, prefix, &part, &layer->w));
    if (bias)
        VD_TRY(load_vector(l, prefix, "bias", out, &layer->bias));
done:
    if (st != VD_OK)
        vd_linear_layer_destroy(l->be, layer);
    return st;
}

vd_status vd_load_fused_linear(const vd_loader *l, const char *const *prefixes, int count,
                               int64_t out_each, int64_t in, bool bias, vd_linear_layer *layer) {
    *layer = (vd_linear_layer){0};
    vd_status st;
    bool whole = true;
    vd_weight_part *parts = calloc((size_t)count, sizeof *parts);
    vd_tensor *biases = calloc((size_t)count, sizeof *biases);
    if (parts == NULL || biases == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "%s: no memory to fuse %d matrices", prefixes[0], count);
        goto done;
    }
    for (int i = 0; i < count; i++) {
        parts[i].columns = in;
        VD_TRY(take_matrix(l, prefixes[i], out_each, in, &parts[i].tensor));
        whole = whole && parts[i].tensor.data != NULL;
        if (!bias)
            continue;
        VD_TRY(take(l, prefixes[i], "bias", 1, &out_each, &biases[i]));
        whole = whole && biases[i].data != NULL;
    }
    if (whole) {
        VD_TRY(vd_weight_create_linear(l->be, parts, count, l->dtype, &layer->w));
        VD_TRY(name_fused(layer->w, prefixes, count));
    }
    if (whole && bias)
        VD_TRY(vd_weight_create_vector(l->be, biases, count, &layer->bias));
done:
    free(parts);
    free(biases);
    if (st != VD_OK)
        vd_linear_layer_destroy(l->be, layer);
    return st;
}

vd_status vd_load_split_linear(const vd_loader *l, const char *prefix, int64_t out, int64_t in_a,
                               int64_t in_b, vd_linear_layer *a, vd_linear_layer *b) {
    *a = *b = (vd_linear_layer){0};
    vd_status st;
    vd_weight_part part = {.columns = in_a};
    VD_TRY(take_matrix(l, prefix, out, in_a + in_b, &part.tensor));
    if (part.tensor.data != NULL) {
        VD_TRY(load_part(l, prefix, &part, &a->w));
        part.first_column = in_a;
        part.columns = in_b;
        VD_TRY(load_part(l, prefix, &part, &b->w));
    }
    VD_TRY(load_vector(l, prefix, "bias", out, &a->bias));
done:
    if (st != VD_OK) {
        vd_linear_layer_destroy(l->be, a);
        vd_linear_layer_destroy(l->be, b);
    }
    return st;
}

vd_status vd_load_conv(const vd_loader *l, const char *prefix, int64_t out, int64_t in,
                       int kernel_h, int kernel_w, bool temporal, vd_conv_layer *layer) {
    *layer = (vd_conv_layer){.in = in, .out = out, .kernel_h = kernel_h, .kernel_w = kernel_w};
    vd_status st;
    vd_weight_part part = {.columns = in};
    VD_TRY(take(l, prefix, "weight", temporal ? 5 : 4, (int64_t[]){out, in, kernel_h, kernel_w, 1},
                &part.tensor));
    part.tensor.rank = 4;
    if (part.tensor.data != NULL) {
        VD_TRY(vd_weight_create_conv(l->be, &part, l->dtype, &layer->w));
        VD_TRY(vd_weight_set_layer(layer->w, prefix));
    }
    VD_TRY(load_vector(l, prefix, "bias", out, &layer->bias));
done:
    if (st != VD_OK) {
        vd_fail_in(st, "%s", prefix);
        vd_conv_layer_destroy(l->be, layer);
    }
    return st;
}

vd_status vd_load_norm(const vd_loader *l, const char *prefix, int64_t channels, int groups,
                       float eps, vd_norm_layer *layer) {
    *layer = (vd_norm_layer){.eps = eps, .groups = groups};
    vd_status st;
    VD_TRY(load_vector(l, prefix, "weight", channels, &layer->scale));
    if (layer->scale != NULL)
        VD_TRY(vd_weight_set_layer(layer->scale, prefix));
    VD_TRY(load_vector(l, prefix, "bias", channels, &layer->shift));
done:
    if (st != VD_OK)
        vd_norm_layer_destroy(l->be, layer);
    return st;
}

void vd_linear_layer_destroy(vd_backend *be, vd_linear_layer *layer) {
    vd_weight_destroy(be, layer->w);
    vd_weight_destroy(be, layer->bias);
    *layer = (vd_linear_layer){0};
}

void vd_conv_layer_destroy(vd_backend *be, vd_conv_layer *layer) {
    vd_weight_destroy(be, layer->w);
    vd_weight_destroy(be, layer->bias);
    *layer = (vd_conv_layer){0};
}

void vd_norm_layer_destroy(vd_backend *be, vd_norm_layer *layer) {
    vd_weight_destroy(be, layer->scale);
    vd_weight_destroy(be, layer->shift);
    *layer = (vd_norm_layer){0};
}

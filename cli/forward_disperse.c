/* Group disperse: dispersion matrices, the kernels that they make, layers and UNets with them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/forward.h"
#include "unet3d/disperse.h"
#include "unet3d/dispersion.h"

static vd_status matrix(forward_case *c) {
    vd_status st = VD_OK;
    vd_dispersion n = {0};
    VD_TRY(vd_json_int(c->doc, c->settings, "small", 0, INT32_MAX, 0, &n.small));
    VD_TRY(vd_json_int(c->doc, c->settings, "large", 0, INT32_MAX, 0, &n.large));
    VD_TRY(vd_json_int(c->doc, c->settings, "n", 0, INT32_MAX, 0, &n.size));
    VD_TRY(vd_json_int(c->doc, c->settings, "scale", 0, INT32_MAX, 0, &n.scale));
    VD_TRY(vd_json_double(c->doc, c->settings, "eta", -INFINITY, INFINITY, 0, &n.eta));
    st = vd_dispersion_solve(&n);
    if (st == VD_ERR_USAGE) /* the parameters come from a file */
        st = vd_fail_in(VD_ERR_INPUT, "%s: %s", c->manifest_path, c->name);
    VD_TRY(st);
    int64_t dim[] = {n.large * n.large, n.small * n.small};
    st = forward_add_values(c, "R", n.R, VD_F64, 2, dim);
done:
    return st;
}

/* in.weight [out, in, small, small] times one matrix. */
static vd_status add_kernel(forward_case *c, const char *output, const vd_dispersion *n,
                            const float *weight, const vd_tensor *shape) {
    vd_status st = VD_OK;
    float *values = NULL;
    if (shape->rank != 4 || shape->dim[2] != n->small || shape->dim[3] != n->small) {
        char text[96];
        return vd_fail(VD_ERR_INPUT, "%s: in.weight is %s, not [out, in, %lld, %lld]", c->name,
                       vd_tensor_describe(shape, text, sizeof text), (long long)n->small,
                       (long long)n->small);
    }
    vd_tensor large = VD_VIEW(NULL, VD_F32, shape->dim[0], shape->dim[1], n->large, n->large);
    if (vd_tensor_elements(&large) < 0) {
        st = vd_fail(VD_ERR_INPUT, "%s: in.weight is too large", c->name);
        goto done;
    }
    VD_TRY(forward_floats((size_t)vd_tensor_elements(&large), &values));
    vd_disperse_kernel(values, weight, shape->dim[0] * shape->dim[1], n->small, n->large, n->R);
    st = forward_add(c, output, values, large.rank, large.dim);
done:
    return st;
}

/* Each setting names a matrix, and an output. */
static vd_status kernels(forward_case *c) {
    vd_status st = VD_OK;
    float *weight = NULL;
    vd_tensor shape;
    VD_TRY(forward_input(c, "weight", &weight, &shape));
    for (const vd_json_value *v = vd_json_first(c->settings); v; v = vd_json_next(v)) {
        vd_dispersion n;
        if (!forward_wants(c, vd_json_key(v)))
            continue;
        VD_TRY(vd_dispersion_read(c->doc, v, &n));
        st = add_kernel(c, vd_json_key(v), &n, weight, &shape);
        vd_dispersion_clear(&n);
        VD_TRY(st);
    }
done:
    free(weight);
    return st;
}

vd_status forward_disperse(forward_case *c) {
    if (strcmp(c->module, "dispersion_matrix") == 0)
        return matrix(c);
    if (c->module[0] == '\0')
        return kernels(c);
    return strcmp(c->module, "unet") == 0 ? forward_unet(c) : forward_image(c);
}

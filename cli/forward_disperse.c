/* Group disperse: dispersion matrices and the kernels that they make. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/forward.h"
#include "core/text.h"
#include "unet3d/disperse.h"

typedef struct dispersion_name {
    int64_t small, large, size, scale;
    double eta;
} dispersion_name;

static vd_status solve(const forward_case *c, const dispersion_name *n, double **R) {
    vd_status st = VD_OK;
    *R = NULL;
    /* Bounds the allocation; the solver says what is wrong with an impossible size. */
    if (n->small >= 1 && n->large > n->small && n->large <= VD_DISPERSE_MAX_KERNEL) {
        *R = calloc((size_t)(n->large * n->large * n->small * n->small), sizeof **R);
        if (!*R)
            return vd_fail(VD_ERR_MEMORY, "no memory for a dispersion matrix");
    }
    st = vd_disperse_solve(n->small, n->large, n->size, n->scale, n->eta, *R);
    if (st != VD_OK) {
        free(*R);
        *R = NULL;
    }
    /* The parameters come from a file. */
    return st == VD_ERR_USAGE ? vd_fail_in(VD_ERR_INPUT, "%s: %s", c->manifest_path, c->name) : st;
}

static vd_status matrix(forward_case *c) {
    vd_status st = VD_OK;
    dispersion_name n = {0};
    double *R = NULL;
    VD_TRY(vd_json_int(c->doc, c->settings, "small", 0, INT32_MAX, 0, &n.small));
    VD_TRY(vd_json_int(c->doc, c->settings, "large", 0, INT32_MAX, 0, &n.large));
    VD_TRY(vd_json_int(c->doc, c->settings, "n", 0, INT32_MAX, 0, &n.size));
    VD_TRY(vd_json_int(c->doc, c->settings, "scale", 0, INT32_MAX, 0, &n.scale));
    VD_TRY(vd_json_double(c->doc, c->settings, "eta", -INFINITY, INFINITY, 0, &n.eta));
    VD_TRY(solve(c, &n, &R));
    int64_t dim[] = {n.large * n.large, n.small * n.small};
    st = forward_add_values(c, "R", R, VD_F64, 2, dim);
done:
    return st;
}

/* A matrix by name: [small, large, size, scale, "eta"]. */
static vd_status read_name(const forward_case *c, const vd_json_value *list, dispersion_name *n) {
    int64_t *whole[] = {&n->small, &n->large, &n->size, &n->scale};
    const vd_json_value *v = vd_json_type_of(list) == VD_JSON_ARRAY ? vd_json_first(list) : NULL;
    for (int i = 0; i < 4; i++, v = v ? vd_json_next(v) : NULL) {
        double number = v && vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : -1;
        if (!(number >= 0 && number <= 1e6 && number == floor(number)))
            return vd_json_fail(c->doc, list, "must be [small, large, size, scale, \"eta\"]");
        *whole[i] = (int64_t)number;
    }
    if (vd_json_size(list) != 5 || !v || vd_json_type_of(v) != VD_JSON_STRING ||
        !vd_parse_double(vd_json_string(v), &n->eta))
        return vd_json_fail(c->doc, list, "must be [small, large, size, scale, \"eta\"]");
    return VD_OK;
}

/* in.weight [out, in, small, small] times one matrix. */
static vd_status add_kernel(forward_case *c, const char *output, const dispersion_name *n,
                            const float *weight, const vd_tensor *shape) {
    vd_status st = VD_OK;
    double *R = NULL;
    float *values = NULL;
    if (shape->rank != 4 || shape->dim[2] != n->small || shape->dim[3] != n->small) {
        char text[96];
        return vd_fail(VD_ERR_INPUT, "%s: in.weight is %s, not [out, in, %lld, %lld]", c->name,
                       vd_tensor_describe(shape, text, sizeof text), (long long)n->small,
                       (long long)n->small);
    }
    VD_TRY(solve(c, n, &R));
    vd_tensor large = VD_VIEW(NULL, VD_F32, shape->dim[0], shape->dim[1], n->large, n->large);
    if (vd_tensor_elements(&large) < 0) {
        st = vd_fail(VD_ERR_INPUT, "%s: in.weight is too large", c->name);
        goto done;
    }
    VD_TRY(forward_floats((size_t)vd_tensor_elements(&large), &values));
    vd_disperse_kernel(values, weight, shape->dim[0] * shape->dim[1], n->small, n->large, R);
    st = forward_add(c, output, values, large.rank, large.dim);
done:
    free(R);
    return st;
}

/* Each setting names a matrix, and an output. */
static vd_status kernels(forward_case *c) {
    vd_status st = VD_OK;
    float *weight = NULL;
    vd_tensor shape;
    VD_TRY(forward_input(c, "weight", &weight, &shape));
    for (const vd_json_value *v = vd_json_first(c->settings); v; v = vd_json_next(v)) {
        dispersion_name n = {0};
        if (!forward_wants(c, vd_json_key(v)))
            continue;
        VD_TRY(read_name(c, v, &n));
        VD_TRY(add_kernel(c, vd_json_key(v), &n, weight, &shape));
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
    return vd_fail(VD_ERR_USAGE, "forward: %s: module \"%s\" of group disperse is not implemented",
                   c->name, c->module);
}

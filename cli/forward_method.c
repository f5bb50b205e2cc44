/* Groups redilate, freeu, attention_scale: whole UNets, operations on images, tables of sizes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/forward.h"
#include "unet3d/method_plan.h"

/* ---- tables --------------------------------------------------------------------------------- */

enum { MAX_COUNT = 1 << 20, MAX_FACTOR = 1 << 10 };

/* in.NAME in double, each in min .. max; `count` values, or any number if *count is 0. malloc'ed.
 */
static vd_status read_column(const forward_case *c, const char *name, double min, double max,
                             size_t *count, double **out) {
    vd_status st = VD_OK;
    char key[32];
    vd_tensor t;
    double *values = NULL;
    *out = NULL;
    snprintf(key, sizeof key, "in.%s", name);
    if (!c->inputs || !vd_checkpoint_find(c->inputs, key, &t) || vd_tensor_elements(&t) < 1 ||
        (*count != 0 && (size_t)vd_tensor_elements(&t) != *count))
        return vd_fail(VD_ERR_INPUT, "%s: wants %s, as long as the other columns", c->name, key);
    *count = (size_t)vd_tensor_elements(&t);
    values = malloc(*count * sizeof *values);
    if (!values)
        return vd_fail(VD_ERR_MEMORY, "no memory for %zu values", *count);
    vd_convert_values(values, VD_F64, t.data, t.dtype, *count);
    for (size_t i = 0; i < *count; i++) {
        if (values[i] >= min && values[i] <= max)
            continue;
        st = vd_fail(VD_ERR_INPUT, "%s: %s holds %g, outside %g to %g", c->name, key, values[i],
                     min, max);
        goto done;
    }
    *out = values;
    values = NULL;
done:
    free(values);
    return st;
}

static vd_status add_column(forward_case *c, const char *name, float **values, size_t count) {
    float *taken = *values;
    *values = NULL;
    return FORWARD_ADD(c, name, taken, (int64_t)count);
}

/* h, d -> dilation, inner. */
static vd_status table_of_sizes(forward_case *c) {
    vd_status st = VD_OK;
    size_t count = 0;
    double *h = NULL, *d = NULL;
    float *dilation = NULL, *inner = NULL;
    VD_TRY(read_column(c, "h", 1, MAX_COUNT, &count, &h));
    VD_TRY(read_column(c, "d", 1, MAX_FACTOR, &count, &d));
    VD_TRY(forward_floats(count, &dilation));
    VD_TRY(forward_floats(count, &inner));
    for (size_t i = 0; h && d && i < count; i++) {
        const vd_redilate_axis axis = vd_redilate_sizes((int64_t)h[i], d[i], 1);
        dilation[i] = (float)axis.dilation;
        inner[i] = (float)axis.inner;
    }
    VD_TRY(add_column(c, "dilation", &dilation, count));
    VD_TRY(add_column(c, "inner", &inner, count));
done:
    free(h);
    free(d);
    free(dilation);
    free(inner);
    return st;
}

/* d, tau, step -> dilation. */
static vd_status table_of_steps(forward_case *c) {
    vd_status st = VD_OK;
    size_t count = 0;
    double *d = NULL, *tau = NULL, *step = NULL;
    float *dilation = NULL;
    VD_TRY(read_column(c, "d", 1, MAX_FACTOR, &count, &d));
    VD_TRY(read_column(c, "tau", 1, MAX_COUNT, &count, &tau));
    VD_TRY(read_column(c, "step", 0, MAX_COUNT, &count, &step));
    VD_TRY(forward_floats(count, &dilation));
    for (size_t i = 0; d && tau && step && i < count; i++)
        dilation[i] = (float)vd_progressive_factor(d[i], (int)tau[i], (int)step[i]);
    VD_TRY(add_column(c, "dilation", &dilation, count));
done:
    free(d);
    free(tau);
    free(step);
    free(dilation);
    return st;
}

/* ---- the groups ----------------------------------------------------------------------------- */

vd_status forward_method(forward_case *c) {
    if (strcmp(c->module, "unet") == 0)
        return forward_unet(c);
    if (c->module[0] == '\0' && strcmp(c->group, "redilate") == 0)
        return forward_has_input(c, "tau") ? table_of_steps(c) : table_of_sizes(c);
    return forward_image(c);
}

#include "unet3d/dispersion.h"

#include <math.h>
#include <stdlib.h>

#include "core/text.h"
#include "unet3d/disperse.h"

vd_status vd_dispersion_solve(vd_dispersion *d) {
    d->R = NULL;
    /* Bounds the allocation; the solver says what is wrong with an impossible size. */
    if (d->small >= 1 && d->large > d->small && d->large <= VD_DISPERSE_MAX_KERNEL) {
        d->R = calloc((size_t)(d->large * d->large * d->small * d->small), sizeof *d->R);
        if (d->R == NULL)
            return vd_fail(VD_ERR_MEMORY, "no memory for a dispersion matrix");
    }
    const vd_status st = vd_disperse_solve(d->small, d->large, d->size, d->scale, d->eta, d->R);
    if (st != VD_OK)
        vd_dispersion_clear(d);
    return st;
}

static bool read_whole(const vd_json_value *v, int64_t *out) {
    const double number =
        v != NULL && vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : -1;
    if (!(number >= 0 && number <= INT32_MAX && number == floor(number)))
        return false;
    *out = (int64_t)number;
    return true;
}

static bool read_eta(const vd_json_value *v, double *out) {
    if (v != NULL && vd_json_type_of(v) == VD_JSON_STRING)
        return vd_parse_double(vd_json_string(v), out);
    if (v == NULL || vd_json_type_of(v) != VD_JSON_NUMBER)
        return false;
    *out = vd_json_number(v);
    return true;
}

vd_status vd_dispersion_read(const vd_json *doc, const vd_json_value *list, vd_dispersion *out) {
    int64_t *const whole[4] = {&out->small, &out->large, &out->size, &out->scale};
    const bool is_list = vd_json_type_of(list) == VD_JSON_ARRAY && vd_json_size(list) == 5;
    const vd_json_value *v = is_list ? vd_json_first(list) : NULL;
    bool good = is_list;
    *out = (vd_dispersion){0};
    for (int i = 0; i < 4 && good; i++, v = vd_json_next(v))
        good = read_whole(v, whole[i]);
    if (!good || !read_eta(v, &out->eta))
        return vd_json_fail(doc, list,
                            "must be [small, large, size, scale, eta], such as "
                            "[3, 5, 3, 2, 0.05]");
    const vd_status st = vd_dispersion_solve(out);
    if (st != VD_ERR_USAGE && st != VD_ERR_INPUT)
        return st;
    return vd_json_fail(doc, list, "%s", vd_error_message()); /* they come from a file */
}

void vd_dispersion_clear(vd_dispersion *d) {
    free(d->R);
    *d = (vd_dispersion){0};
}

/* Dispersion matrices as settings and parity cases name them: [small, large, size, scale, eta]. */
#ifndef VD_UNET3D_DISPERSION_H
#define VD_UNET3D_DISPERSION_H

#include "core/json.h"

typedef struct vd_dispersion {
    int64_t small, large, size, scale; /* as in vd_disperse_solve */
    double eta;
    double *R; /* solved, [large^2, small^2]; owned; NULL: there is none */
} vd_dispersion;

/* Solves for R from the other members. *d keeps none after a failure; vd_disperse_solve has the
 * errors. */
vd_status vd_dispersion_solve(vd_dispersion *d);

/* Reads the five values, eta as a number or as text ("0.05"), and solves. VD_ERR_INPUT with the
 * JSON path, also for values that are out of range or do not determine R. */
vd_status vd_dispersion_read(const vd_json *doc, const vd_json_value *list, vd_dispersion *out);
void vd_dispersion_clear(vd_dispersion *d);

#endif

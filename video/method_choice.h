/* From a method's name to settings: finds the row of the configs folder that is nearest to the
 * model and size, and fits it to the size, the steps and the scheduler. HACKING.md has the rule. */
#ifndef VD_VIDEO_METHOD_CHOICE_H
#define VD_VIDEO_METHOD_CHOICE_H

#include "video/config_row.h"
#include "video/scheduler.h"
#include "video/vidilate.h"

/* Below this ratio of output to training size, along both axes, nothing is done. */
#define VD_METHOD_MIN_RATIO 1.2

/* What a row's settings are fitted to. */
typedef struct vd_method_fit {
    const vd_config_row *row;
    double ratio[2];               /* output / training side: width, height */
    bool turned;                   /* the row is for the same size turned: its axes change places */
    bool exact;                    /* the row is for just this ratio: its factors stay */
    const vd_scheduler *scheduler; /* of the run */
} vd_method_fit;

/* The row that fits best, or false if none was made for this network. Fills row, turned and
 * exact. */
bool vd_method_nearest_row(const vd_config_rows *rows, const vd_unet_config *c,
                           const int64_t trained_px[2], vd_method_fit *fit);

/* A window of `tau` of the row's steps, in calls of the run: those that are as noisy. At least one
 * unless tau is 0, and where there are two or more, not the last. */
int vd_method_fit_tau(const vd_method_fit *fit, int64_t tau);

/* A factor of the row along width (0) or height (1): 1 + (factor - 1) * (ratio - 1) / (row's ratio
 * - 1), to two decimals, from 1 to 16. */
double vd_method_fit_factor(const vd_method_fit *fit, double factor, int axis);

/* Writes the settings of `method` ("auto", "redilate", ...) from the row, fitted, as members of the
 * object that is open. */
void vd_method_put(vd_json_writer *w, const vd_method_fit *fit, const char *method);

#endif

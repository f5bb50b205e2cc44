/* Published and tuned settings: the files of a configs folder (configs/README.md), each a row of a
 * table that says for which model, training size and output size its settings were made. */
#ifndef VD_VIDEO_CONFIG_ROW_H
#define VD_VIDEO_CONFIG_ROW_H

#include "core/json.h"
#include "unet3d/config.h"

typedef struct vd_config_row {
    char *name;                  /* of the file, without .json */
    vd_json *doc;                /* its settings, and "for" and "about" */
    const char *model_class;     /* borrowed from doc */
    const vd_json_value *widths; /* block_out_channels */
    int64_t cross_attention_dim;
    int64_t trained_px[2], size_px[2]; /* width, height */
    int steps;                         /* of the run that the taus count */
} vd_config_row;

typedef struct vd_config_rows {
    vd_config_row *row; /* in the order of their names */
    size_t count;
} vd_config_rows;

/* Reads all of DIR's *.json. VD_ERR_INPUT: no such folder, or a file whose "for" is missing or
 * wrong, or whose settings are. vd_config_rows_free accepts a zeroed one. */
vd_status vd_config_rows_read(const char *dir, vd_config_rows *out);
void vd_config_rows_free(vd_config_rows *rows);

/* One row from a document, which it takes over, also on failure. */
vd_status vd_config_row_parse(vd_json *doc, const char *name, vd_config_row *out);
void vd_config_row_free(vd_config_row *row);

/* Was the row made for networks of this shape? */
bool vd_config_row_fits(const vd_config_row *row, const vd_unet_config *c);

/* "UNet3DConditionModel" */
const char *vd_config_row_class(const vd_unet_config *c);

/* Output side / training side along width (0) or height (1). */
double vd_config_row_ratio(const vd_config_row *row, int axis);

#endif

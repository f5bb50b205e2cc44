#include "video/config_row.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "unet3d/settings.h"

enum { MAX_ROWS = 10000, MAX_SIDE_PX = 16384 };

static vd_status no_memory(void) {
    return vd_fail(VD_ERR_MEMORY, "no memory for the settings of a configs folder");
}

/* [width, height] */
static vd_status read_size(const vd_json *doc, const vd_json_value *object, const char *key,
                           int64_t out[2]) {
    const vd_json_value *pair = vd_json_get(object, key);
    if (pair == NULL || vd_json_type_of(pair) != VD_JSON_ARRAY || vd_json_size(pair) != 2)
        return vd_json_fail(doc, pair ? pair : object, "\"%s\" must be [width, height]", key);
    const vd_json_value *v = vd_json_first(pair);
    for (int i = 0; i < 2; i++, v = vd_json_next(v)) {
        const double px = vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : 0;
        if (!(px >= 1 && px <= MAX_SIDE_PX) || px != (double)(int64_t)px)
            return vd_json_fail(doc, v, "must be whole pixels from 1 to %d", MAX_SIDE_PX);
        out[i] = (int64_t)px;
    }
    return VD_OK;
}

static vd_status read_match(vd_config_row *row) {
    static const char *const keys[] = {
        "class", "block_out_channels", "cross_attention_dim", "trained", "size", "steps", NULL};
    vd_status st;
    int64_t steps = 0;
    const vd_json *doc = row->doc;
    const vd_json_value *match = vd_json_get(vd_json_root(doc), "for");
    if (match == NULL || vd_json_type_of(match) != VD_JSON_OBJECT)
        return vd_json_fail(doc, vd_json_root(doc),
                            "a file of a configs folder needs \"for\", the model and size that "
                            "its settings are for");
    VD_TRY(vd_json_only_keys(doc, match, keys));
    VD_TRY(vd_json_text(doc, match, "class", NULL, &row->model_class));
    row->widths = vd_json_get(match, "block_out_channels");
    if (row->model_class == NULL || row->widths == NULL ||
        vd_json_type_of(row->widths) != VD_JSON_ARRAY)
        return vd_json_fail(doc, match, "needs \"class\" and the list \"block_out_channels\"");
    VD_TRY(
        vd_json_int(doc, match, "cross_attention_dim", 1, 1 << 20, 0, &row->cross_attention_dim));
    VD_TRY(vd_json_int(doc, match, "steps", 1, 1000, 50, &steps));
    VD_TRY(read_size(doc, match, "trained", row->trained_px));
    VD_TRY(read_size(doc, match, "size", row->size_px));
    row->steps = (int)steps;
done:
    return st;
}

vd_status vd_config_row_parse(vd_json *doc, const char *name, vd_config_row *out) {
    vd_status st;
    vd_settings *settings = NULL;
    *out = (vd_config_row){.doc = doc, .name = vd_format("%s", name)};
    if (out->name == NULL) {
        st = no_memory();
        goto done;
    }
    VD_TRY(vd_settings_parse(doc, vd_json_root(doc), vd_settings_row_keys, name, &settings));
    VD_TRY(read_match(out));
    VD_TRY(vd_settings_check_steps(settings, out->steps));
done:
    vd_settings_destroy(settings);
    if (st != VD_OK)
        vd_config_row_free(out);
    return st;
}

void vd_config_row_free(vd_config_row *row) {
    vd_json_destroy(row->doc);
    free(row->name);
    *row = (vd_config_row){0};
}

static vd_status read_row(const char *dir, const char *file, vd_config_row *row) {
    vd_status st;
    vd_json *doc = NULL;
    char *path = vd_format("%s/%s", dir, file);
    char *name = vd_format("%.*s", (int)(strlen(file) - strlen(".json")), file);
    if (path == NULL || name == NULL) {
        st = no_memory();
        goto done;
    }
    VD_TRY(vd_json_read(path, "settings", &doc));
    VD_TRY(vd_config_row_parse(doc, name, row));
done:
    free(path);
    free(name);
    return st;
}

static int is_row(const struct dirent *entry) {
    const size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

/* Not alphasort, which follows the locale. */
static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

vd_status vd_config_rows_read(const char *dir, vd_config_rows *out) {
    vd_status st = VD_OK;
    struct dirent **names = NULL;
    *out = (vd_config_rows){0};
    const int count = scandir(dir, &names, is_row, by_name);
    if (count < 0)
        return vd_fail(VD_ERR_INPUT, "%s: cannot read this folder of settings", dir);
    if (count > MAX_ROWS) {
        st = vd_fail(VD_ERR_INPUT, "%s: more than %d files of settings", dir, MAX_ROWS);
        goto done;
    }
    out->row = calloc((size_t)count + 1, sizeof *out->row);
    if (out->row == NULL) {
        st = no_memory();
        goto done;
    }
    for (; out->count < (size_t)count; out->count++)
        VD_TRY(read_row(dir, names[out->count]->d_name, &out->row[out->count]));
done:
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    if (st != VD_OK)
        vd_config_rows_free(out);
    return st;
}

void vd_config_rows_free(vd_config_rows *rows) {
    for (size_t i = 0; rows->row != NULL && i < rows->count; i++)
        vd_config_row_free(&rows->row[i]);
    free(rows->row);
    *rows = (vd_config_rows){0};
}

const char *vd_config_row_class(const vd_unet_config *c) {
    return c->temporal ? "UNet3DConditionModel" : "UNet2DConditionModel";
}

bool vd_config_row_fits(const vd_config_row *row, const vd_unet_config *c) {
    if (strcmp(row->model_class, vd_config_row_class(c)) != 0 ||
        vd_json_size(row->widths) != (size_t)c->levels)
        return false;
    if (row->cross_attention_dim != 0 && row->cross_attention_dim != c->cross_attention_dim)
        return false;
    const vd_json_value *v = vd_json_first(row->widths);
    for (int i = 0; i < c->levels; i++, v = vd_json_next(v))
        if (vd_json_type_of(v) != VD_JSON_NUMBER || vd_json_number(v) != (double)c->channels[i])
            return false;
    return true;
}

double vd_config_row_ratio(const vd_config_row *row, int axis) {
    return (double)row->size_px[axis] / (double)row->trained_px[axis];
}

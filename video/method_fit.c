/* A row's settings, fitted to another size, step count and scheduler. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "unet3d/settings.h"
#include "video/method_choice.h"

static const double max_factor = 16;
/* What dispersion divides every factor by: below it there is nothing to divide. */
static const double disperse_divisor = 2;

/* ---- which row ------------------------------------------------------------------------------ */

static double row_ratio(const vd_method_fit *fit, int axis) {
    return vd_config_row_ratio(fit->row, fit->turned ? 1 - axis : axis);
}

/* How far the row's size is from the wanted one, in octaves summed over the axes. */
static double distance(const vd_method_fit *fit) {
    double sum = 0;
    for (int axis = 0; axis < 2; axis++)
        sum += fabs(log2(fit->ratio[axis] / row_ratio(fit, axis)));
    return sum;
}

bool vd_method_nearest_row(const vd_config_rows *rows, const vd_unet_config *c,
                           const int64_t trained_px[2], vd_method_fit *fit) {
    static const double same = 0.03, alike = 0.1, other_training = 0.01;
    double best = INFINITY;
    vd_method_fit found = *fit;
    for (size_t i = 0; i < 2 * rows->count; i++) {
        vd_method_fit one = *fit;
        one.row = &rows->row[i / 2];
        one.turned = i % 2 == 1;
        if (!vd_config_row_fits(one.row, c))
            continue;
        double d = distance(&one);
        one.exact = d < same;
        /* Of a row that stretches its axes differently nothing can be said about other sizes. */
        if (!one.exact && fabs(log2(row_ratio(&one, 0) / row_ratio(&one, 1))) > alike)
            continue;
        if (memcmp(one.row->trained_px, trained_px, sizeof one.row->trained_px) != 0)
            d += other_training;
        if (d < best) {
            best = d;
            found = one;
        }
    }
    *fit = found;
    return best < INFINITY;
}

/* ---- numbers -------------------------------------------------------------------------------- */

int vd_method_fit_tau(const vd_method_fit *fit, int64_t tau) {
    const int calls = vd_scheduler_calls(fit->scheduler);
    /* Where the row's plain steps begin; timesteps may have been rounded up to it. */
    const double plain =
        vd_scheduler_timestep(fit->scheduler, 0) * (1 - (double)tau / fit->row->steps) + 0.5;
    int count = 0;
    if (tau == 0)
        return 0;
    while (count < calls && vd_scheduler_timestep(fit->scheduler, count) > plain)
        count++;
    if (count == calls && calls > 1)
        count--;
    return count > 0 ? count : 1;
}

double vd_method_fit_factor(const vd_method_fit *fit, double factor, int axis) {
    const double own = row_ratio(fit, axis), ratio = fit->ratio[axis];
    if (fit->exact)
        return factor;
    if (ratio <= 1 || own <= 1)
        return 1;
    const double scaled = 1 + (factor - 1) * (ratio - 1) / (own - 1);
    return fmin(fmax(round(scaled * 100) / 100, 1), max_factor);
}

/* A table's value is one factor or [of the height, of the width]. */
static vd_redilation fit_entry(const vd_method_fit *fit, const vd_json_value *v) {
    const bool pair = vd_json_type_of(v) == VD_JSON_ARRAY;
    const vd_json_value *first = pair ? vd_json_first(v) : v;
    const vd_json_value *second = pair ? vd_json_next(first) : v;
    const vd_json_value *height = fit->turned ? second : first;
    const vd_json_value *width = fit->turned ? first : second;
    return (vd_redilation){.h = vd_method_fit_factor(fit, vd_json_number(height), 1),
                           .w = vd_method_fit_factor(fit, vd_json_number(width), 0)};
}

/* ---- members -------------------------------------------------------------------------------- */

static const vd_json_value *member(const vd_method_fit *fit, const char *key) {
    return vd_json_get(vd_json_root(fit->row->doc), key);
}

static bool put_table(vd_json_writer *w, const vd_method_fit *fit, const char *key,
                      const vd_json_value *table) {
    if (table == NULL)
        return false;
    vd_json_begin_object(w, key);
    for (const vd_json_value *v = vd_json_first(table); v != NULL; v = vd_json_next(v)) {
        const vd_redilation f = fit_entry(fit, v);
        if (f.h == f.w) {
            vd_json_put_double(w, vd_json_key(v), f.h);
            continue;
        }
        vd_json_begin_array(w, vd_json_key(v));
        vd_json_put_double(w, NULL, f.h);
        vd_json_put_double(w, NULL, f.w);
        vd_json_end(w);
    }
    vd_json_end(w);
    return true;
}

/* All steps if the row has no such window. */
static void put_tau(vd_json_writer *w, const vd_method_fit *fit, const char *key,
                    const vd_json_value *tau) {
    if (tau != NULL)
        vd_json_put_int(w, key, vd_method_fit_tau(fit, (int64_t)vd_json_number(tau)));
}

/* The progressive rule lifts all factors to 2 at least, also along an axis that needs less. */
static bool is_progressive(const vd_method_fit *fit) {
    const vd_json_value *flag = member(fit, "progressive");
    return flag != NULL && vd_json_bool(flag) &&
           (fit->exact || (fit->ratio[0] >= 2 && fit->ratio[1] >= 2));
}

static void put_redilation(vd_json_writer *w, const vd_method_fit *fit) {
    put_table(w, fit, "dilate", member(fit, "dilate"));
    put_tau(w, fit, "dilate_tau", member(fit, "dilate_tau"));
    vd_json_put_bool(w, "progressive", is_progressive(fit));
}

static void put_noise_damping(vd_json_writer *w, const vd_method_fit *fit, bool asked) {
    if (!put_table(w, fit, "ndcfg_dilate", member(fit, "ndcfg_dilate"))) {
        if (!asked)
            return;
        vd_json_begin_object(w, "ndcfg_dilate");
        vd_json_end(w);
    }
    const vd_json_value *tau = member(fit, "ndcfg_tau");
    if (asked && (tau == NULL || vd_json_number(tau) == 0))
        tau = member(fit, "dilate_tau");
    put_tau(w, fit, "ndcfg_tau", tau);
}

/* Is every layer that `name` covers re-dilated by enough that a dispersed kernel can take half? */
static bool can_disperse(const vd_method_fit *fit, const char *name) {
    const vd_json_value *table = member(fit, "dilate");
    const vd_json_value *v = table != NULL ? vd_json_get(table, name) : NULL;
    if (v == NULL)
        return false;
    const vd_redilation f = fit_entry(fit, v);
    return is_progressive(fit) || (f.h >= disperse_divisor && f.w >= disperse_divisor);
}

/* Without a list of its own: the middle block and its two neighbours. */
static bool is_deep(const vd_method_fit *fit, const char *name) {
    char deepest[32];
    snprintf(deepest, sizeof deepest, "down_blocks.%zu", vd_json_size(fit->row->widths) - 1);
    return strncmp(name, "mid_block", strlen("mid_block")) == 0 ||
           strncmp(name, "up_blocks.0", strlen("up_blocks.0")) == 0 ||
           strncmp(name, deepest, strlen(deepest)) == 0;
}

static bool is_dispersed(const vd_method_fit *fit, const char *name, bool listed) {
    return can_disperse(fit, name) && (listed || is_deep(fit, name));
}

/* Nothing where no factor leaves anything to halve. */
static void put_dispersion(vd_json_writer *w, const vd_method_fit *fit, bool asked) {
    static const double published[5] = {3, 5, 3, 2, 0.05};
    const vd_json_value *list = member(fit, "disperse"), *r = member(fit, "R");
    const vd_json_value *tau = member(fit, "inflate_tau");
    const bool listed = list != NULL, on = tau != NULL && vd_json_number(tau) > 0;
    size_t count = 0;
    if (!asked && (!on || !listed))
        return;
    for (const vd_json_value *v = vd_json_first(listed ? list : member(fit, "dilate")); v != NULL;
         v = vd_json_next(v)) {
        const char *name = listed ? vd_json_string(v) : vd_json_key(v);
        if (!is_dispersed(fit, name, listed))
            continue;
        if (count++ == 0)
            vd_json_begin_array(w, "disperse");
        vd_json_put_string(w, NULL, name);
    }
    if (count == 0)
        return;
    vd_json_end(w);
    if (r != NULL) {
        vd_json_put_value(w, "R", r);
    } else {
        vd_json_begin_array(w, "R");
        for (int i = 0; i < 5; i++)
            vd_json_put_double(w, NULL, published[i]);
        vd_json_end(w);
    }
    put_tau(w, fit, "inflate_tau", on ? tau : member(fit, "dilate_tau"));
}

static void put_freeu(vd_json_writer *w, const vd_method_fit *fit) {
    /* diffusers' advice for models in general: FreeU's own values for SD 2.1. */
    static const double general[4] = {1.1, 1.2, 0.9, 0.2};
    static const char *const keys[4] = {"b1", "b2", "s1", "s2"};
    const vd_json_value *own = member(fit, "freeu");
    if (own != NULL) {
        vd_json_put_value(w, "freeu", own);
        return;
    }
    vd_json_begin_object(w, "freeu");
    for (int i = 0; i < 4; i++)
        vd_json_put_double(w, keys[i], general[i]);
    vd_json_put_string(w, "rule", "up_block_index");
    vd_json_end(w);
}

static void put_attention_scale(vd_json_writer *w, const vd_method_fit *fit) {
    vd_json_begin_object(w, "attention_scale");
    vd_json_put_double(w, "ratio", fit->ratio[0] * fit->ratio[1]);
    vd_json_end(w);
}

/* Without a window of its own: the noisier half. */
static void put_low_res(vd_json_writer *w, const vd_method_fit *fit, bool asked) {
    const vd_json_value *tau = member(fit, "low_res_tau");
    const int64_t half = fit->row->steps / 2;
    if (tau != NULL || asked)
        vd_json_put_int(w, "low_res_tau",
                        vd_method_fit_tau(fit, tau != NULL ? (int64_t)vd_json_number(tau) : half));
}

void vd_method_put(vd_json_writer *w, const vd_method_fit *fit, const char *method) {
    if (strcmp(method, "freeu") == 0) {
        put_freeu(w, fit);
    } else if (strcmp(method, "attn-scale") == 0) {
        put_attention_scale(w, fit);
    } else {
        /* low-res guides the run that auto would make. */
        const bool low_res = strcmp(method, "low-res") == 0;
        const bool own = low_res || strcmp(method, "auto") == 0;
        put_redilation(w, fit);
        if (own || strcmp(method, "ndcfg") == 0)
            put_noise_damping(w, fit, !own);
        if (own || strcmp(method, "disperse") == 0)
            put_dispersion(w, fit, !own);
        if (own)
            put_low_res(w, fit, low_res);
    }
}

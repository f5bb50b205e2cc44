#include "unet3d/settings.h"

#include <stdlib.h>
#include <string.h>

static void free_entries(vd_dilate_entry *entries, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(entries[i].name);
    free(entries);
}

void vd_settings_destroy(vd_settings *s) {
    if (s == NULL)
        return;
    free_entries(s->dilate, s->dilate_count);
    free_entries(s->ndcfg_dilate, s->ndcfg_count);
    for (size_t i = 0; i < s->disperse_count; i++)
        free(s->disperse[i]);
    free(s->disperse);
    vd_dispersion_clear(&s->dispersion);
    free(s->origin);
    free(s);
}

/* ---- writing -------------------------------------------------------------------------------- */

static void put_dilate(vd_json_writer *w, const char *key, const vd_dilate_entry *entries,
                       size_t count) {
    vd_json_begin_object(w, key);
    for (size_t i = 0; i < count; i++) {
        const vd_dilate_entry *entry = &entries[i];
        if (entry->factor.h == entry->factor.w) {
            vd_json_put_double(w, entry->name, entry->factor.h);
            continue;
        }
        vd_json_begin_array(w, entry->name);
        vd_json_put_double(w, NULL, entry->factor.h);
        vd_json_put_double(w, NULL, entry->factor.w);
        vd_json_end(w);
    }
    vd_json_end(w);
}

static void put_tau(vd_json_writer *w, const char *key, int tau) {
    if (tau != VD_ALL_STEPS)
        vd_json_put_int(w, key, tau);
}

static void put_disperse(vd_json_writer *w, const vd_settings *s) {
    const vd_dispersion *d = &s->dispersion;
    vd_json_begin_array(w, "disperse");
    for (size_t i = 0; i < s->disperse_count; i++)
        vd_json_put_string(w, NULL, s->disperse[i]);
    vd_json_end(w);
    put_tau(w, "inflate_tau", s->inflate_tau);
    vd_json_begin_array(w, "R");
    vd_json_put_int(w, NULL, d->small);
    vd_json_put_int(w, NULL, d->large);
    vd_json_put_int(w, NULL, d->size);
    vd_json_put_int(w, NULL, d->scale);
    vd_json_put_double(w, NULL, d->eta);
    vd_json_end(w);
}

static void put_freeu(vd_json_writer *w, const vd_freeu *f) {
    vd_json_begin_object(w, "freeu");
    vd_json_put_double(w, "b1", f->b1);
    vd_json_put_double(w, "b2", f->b2);
    vd_json_put_double(w, "s1", f->s1);
    vd_json_put_double(w, "s2", f->s2);
    if (f->rule == VD_FREEU_BY_BLOCK) {
        vd_json_put_string(w, "rule", "up_block_index");
    } else {
        vd_json_put_string(w, "rule", "channels");
        vd_json_put_int(w, "c1", f->c1);
        vd_json_put_int(w, "c2", f->c2);
    }
    vd_json_end(w);
}

void vd_settings_put(vd_json_writer *w, const char *key, const vd_settings *s) {
    vd_json_begin_object(w, key);
    if (s->dilate_count > 0) {
        put_dilate(w, "dilate", s->dilate, s->dilate_count);
        put_tau(w, "dilate_tau", s->dilate_tau);
        vd_json_put_bool(w, "progressive", s->progressive);
    }
    if (s->ndcfg_count > 0)
        put_dilate(w, "ndcfg_dilate", s->ndcfg_dilate, s->ndcfg_count);
    if (s->ndcfg_count > 0 || s->ndcfg_tau > 0)
        put_tau(w, "ndcfg_tau", s->ndcfg_tau);
    if (s->disperse_count > 0)
        put_disperse(w, s);
    if (s->freeu.rule != VD_FREEU_OFF)
        put_freeu(w, &s->freeu);
    if (s->attention_ratio > 0) {
        vd_json_begin_object(w, "attention_scale");
        vd_json_put_double(w, "ratio", s->attention_ratio);
        vd_json_end(w);
    }
    if (s->low_res_tau > 0)
        put_tau(w, "low_res_tau", s->low_res_tau);
    vd_json_end(w);
}

/* ---- windows -------------------------------------------------------------------------------- */

vd_status vd_settings_check_steps(const vd_settings *s, int steps) {
    const struct {
        const char *key;
        int tau;
    } windows[] = {{"dilate_tau", s->dilate_tau},
                   {"ndcfg_tau", s->ndcfg_tau},
                   {"inflate_tau", s->inflate_tau},
                   {"low_res_tau", s->low_res_tau}};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++)
        if (windows[i].tau != VD_ALL_STEPS && windows[i].tau > steps)
            return vd_fail(VD_ERR_INPUT,
                           "%s: %s is %d and the run has %d steps; lower it or take more steps",
                           s->origin, windows[i].key, windows[i].tau, steps);
    return VD_OK;
}

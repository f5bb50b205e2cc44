#include "review/review.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "review/parts.h"

vd_status vd_review_finish(vd_review *r) {
    size_t kept = 0;
    for (size_t i = 0; i < r->clip_count; i++)
        if (r->clips[i].path_count > 0)
            r->clips[kept++] = r->clips[i];
    r->clip_count = kept;
    vd_status st = vd_review_check(r);
    return st == VD_OK ? vd_review_set_marks(r) : st;
}

void vd_review_close(vd_review *r) {
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->clip_count; i++)
        vd_review_clip_free(&r->clips[i]);
    for (size_t i = 0; i < r->left_out_count; i++) {
        free(r->left_out[i].file);
        free(r->left_out[i].reason);
    }
    free(r->clips);
    free(r->left_out);
    free(r->dir);
    free(r);
}

/* Four digits are more than a score means. */
static double rounded(double v) {
    return round(v * 1e4) / 1e4;
}

static void put_scores(vd_json_writer *w, const vd_clip_scores *s) {
    vd_json_begin_object(w, "scores");
    vd_json_put_double(w, "flicker", rounded(s->flicker));
    vd_json_put_double(w, "motion", rounded(s->motion));
    vd_json_put_double(w, "sharpness", rounded(s->sharpness));
    vd_json_put_double(w, "repetition", rounded(s->repetition));
    vd_json_put_int(w, "black_frames", s->black_frames);
    vd_json_put_int(w, "flat_frames", s->flat_frames);
    vd_json_put_int(w, "frozen_frames", s->frozen_frames);
    vd_json_end(w);
}

static vd_status put_clip(vd_json_writer *w, const vd_review_clip *clip) {
    vd_json *doc = NULL;
    vd_status st = VD_OK;
    vd_json_put_string(w, "file", clip->file);
    vd_json_put_string(w, "id", clip->id);
    vd_json_put_int(w, "width", clip->width_px);
    vd_json_put_int(w, "height", clip->height_px);
    vd_json_put_int(w, "frames", clip->frames);
    vd_json_put_double(w, "fps", clip->fps);
    vd_json_put_int(w, "bytes", clip->bytes);
    vd_json_put_string(w, "codec", clip->codec);
    put_scores(w, &clip->scores);
    vd_json_begin_array(w, "marks");
    for (int m = 0; m < VD_MARK_COUNT; m++)
        if (clip->marks & (1U << m))
            vd_json_put_string(w, NULL, vd_review_mark_name((vd_review_mark)m));
    vd_json_end(w);
    if (clip->settings == NULL) {
        vd_json_put_null(w, "settings");
    } else {
        VD_TRY(vd_json_parse(clip->settings, strlen(clip->settings), clip->file, &doc));
        vd_json_put_value(w, "settings", vd_json_root(doc));
    }
done:
    vd_json_destroy(doc);
    return st;
}

vd_status vd_review_put(const vd_review *r, vd_json_writer *w, vd_review_src_fn src, void *user) {
    vd_status st = VD_OK;
    vd_json_begin_array(w, "clips");
    for (size_t i = 0; i < r->clip_count; i++) {
        vd_json_begin_object(w, NULL);
        VD_TRY(put_clip(w, &r->clips[i]));
        if (src != NULL) {
            const char *address = src(user, i);
            vd_json_put_bool(w, "copy", r->clips[i].is_copy);
            if (address != NULL)
                vd_json_put_string(w, "src", address);
        }
        vd_json_end(w);
    }
    vd_json_end(w);
    vd_json_begin_array(w, "left_out");
    for (size_t i = 0; i < r->left_out_count; i++) {
        vd_json_begin_object(w, NULL);
        vd_json_put_string(w, "file", r->left_out[i].file);
        vd_json_put_string(w, "reason", r->left_out[i].reason);
        vd_json_end(w);
    }
    vd_json_end(w);
done:
    return st;
}

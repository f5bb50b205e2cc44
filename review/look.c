/* Decoding a clip: scores, small frames, identity, and a copy where a browser cannot play it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "core/sha256.h"
#include "core/text.h"
#include "encode/frames.h"
#include "encode/sink.h"
#include "review/parts.h"

typedef struct looker {
    vd_review_clip *clip;
    int64_t own_width_px, own_height_px; /* the model's; 0: unknown */
    vd_scorer *scorer;
    vd_frame_sink *copy; /* NULL: none is needed */
    char *copy_path;
    int64_t seen;
} looker;

void vd_resize_rgb(uint8_t *to, int to_width, int to_height, const uint8_t *from, int64_t width,
                   int64_t height) {
    for (int y = 0; y < to_height; y++) {
        const int64_t top = y * height / to_height;
        int64_t bottom = (y + 1) * height / to_height;
        bottom = bottom > top ? bottom : top + 1;
        for (int x = 0; x < to_width; x++) {
            const int64_t left = x * width / to_width;
            int64_t right = (x + 1) * width / to_width, sum[3] = {0};
            right = right > left ? right : left + 1;
            for (int64_t v = top; v < bottom; v++)
                for (int64_t u = left; u < right; u++)
                    for (int c = 0; c < 3; c++)
                        sum[c] += from[3 * (v * width + u) + c];
            for (int c = 0; c < 3; c++)
                *to++ = (uint8_t)(sum[c] / ((bottom - top) * (right - left)));
        }
    }
}

/* Which of the strip's frames is frame `index` of `count`; -1: none. */
static int strip_place(int64_t index, int64_t count, int strip_count) {
    for (int i = 0; i < strip_count; i++)
        if (index == (strip_count > 1 ? i * (count - 1) / (strip_count - 1) : 0))
            return i;
    return -1;
}

static vd_status begin_strip(vd_review_clip *clip) {
    const double longer =
        (double)(clip->width_px > clip->height_px ? clip->width_px : clip->height_px);
    vd_strip *s = &clip->strip;
    s->count = clip->frames < VD_STRIP_FRAMES ? (int)clip->frames : VD_STRIP_FRAMES;
    s->width = (int)((double)clip->width_px / longer * VD_STRIP_SIDE);
    s->height = (int)((double)clip->height_px / longer * VD_STRIP_SIDE);
    s->width = s->width > 0 ? s->width : 1;
    s->height = s->height > 0 ? s->height : 1;
    s->rgb = calloc((size_t)s->count * (size_t)s->width * (size_t)s->height, 3);
    return s->rgb != NULL ? VD_OK : vd_fail(VD_ERR_MEMORY, "not enough memory for small frames");
}

static vd_status begin_copy(looker *l) {
    vd_sink_options options = VD_SINK_OPTIONS_DEFAULT;
    options.path = l->copy_path;
    options.width_px = l->clip->width_px;
    options.height_px = l->clip->height_px;
    options.fps = l->clip->fps;
    options.frame_count = l->clip->frames;
    options.crf = 8;
    return vd_frame_sink_open(&options, &l->copy);
}

static vd_status begin(looker *l, int64_t width_px, int64_t height_px) {
    l->clip->width_px = width_px;
    l->clip->height_px = height_px;
    vd_status st = begin_strip(l->clip);
    if (st == VD_OK)
        st = vd_scorer_create(width_px, height_px, l->own_width_px, l->own_height_px, &l->scorer);
    return st == VD_OK && l->copy_path != NULL ? begin_copy(l) : st;
}

static vd_status look_at_frame(void *user, const uint8_t *rgb, int64_t width_px,
                               int64_t height_px) {
    looker *l = user;
    vd_review_clip *clip = l->clip;
    vd_status st = l->seen == 0 ? begin(l, width_px, height_px) : VD_OK;
    if (st != VD_OK)
        return st;
    if (width_px != clip->width_px || height_px != clip->height_px)
        return vd_fail(VD_ERR_INPUT, "frame %lld has another size", (long long)l->seen);
    vd_scorer_add(l->scorer, rgb);
    const vd_strip *s = &clip->strip;
    const int place = strip_place(l->seen, clip->frames, s->count);
    if (place >= 0 && s->rgb != NULL)
        vd_resize_rgb(s->rgb + (size_t)place * (size_t)s->width * (size_t)s->height * 3, s->width,
                      s->height, rgb, width_px, height_px);
    if (l->copy != NULL && l->seen < clip->frames)
        st = vd_frame_sink_write(l->copy, rgb);
    l->seen++;
    return st;
}

/* What Chromium, Firefox and Safari all play. */
static bool plays_in_browsers(const vd_review_clip *clip) {
    const char *dot = strrchr(clip->file, '.');
    return dot != NULL && (strcasecmp(dot, ".mp4") == 0 || strcasecmp(dot, ".mov") == 0) &&
           strcmp(clip->codec, "h264") == 0 && strcmp(clip->pix_fmt, "yuv420p") == 0;
}

/* The numbers that the settings tell; `frames` stays as it is where they do not. */
static vd_status read_settings(looker *l, int64_t *frames) {
    vd_json *doc = NULL;
    const char *size = NULL;
    vd_status st = VD_OK;
    char *end = NULL;
    if (l->clip->settings == NULL)
        return VD_OK;
    VD_TRY(vd_json_parse(l->clip->settings, strlen(l->clip->settings), l->clip->file, &doc));
    const vd_json_value *root = vd_json_root(doc);
    VD_TRY(vd_json_int(doc, root, "frames", 1, 1000000, *frames, frames));
    VD_TRY(vd_json_text(doc, root, "model-size", "", &size));
    const long width = strtol(size, &end, 10), height = *end == 'x' ? strtol(end + 1, NULL, 10) : 0;
    if (width > 0 && height > 0 && width <= 16384 && height <= 16384) {
        l->own_width_px = width;
        l->own_height_px = height;
    }
    if (l->clip->fps == 0)
        VD_TRY(vd_json_double(doc, root, "fps", 0.1, 1000, 8, &l->clip->fps));
done:
    vd_json_destroy(doc);
    return st;
}

/* Size of the files, and the beginning of the SHA-256 of their bytes. */
static vd_status identify(vd_review_clip *clip) {
    static _Thread_local uint8_t buffer[1 << 16];
    uint8_t digest[VD_SHA256_BYTES];
    char hex[VD_SHA256_HEX_BYTES];
    vd_sha256_state sha;
    vd_sha256_begin(&sha);
    clip->bytes = 0;
    for (size_t i = 0; i < clip->path_count; i++) {
        FILE *file = fopen(clip->paths[i], "rbe");
        if (file == NULL)
            return vd_fail(VD_ERR_INPUT, "%s: %s", clip->paths[i], strerror(errno));
        for (size_t got; (got = fread(buffer, 1, sizeof buffer, file)) > 0;) {
            vd_sha256_add(&sha, buffer, got);
            clip->bytes += (int64_t)got;
        }
        const bool failed = ferror(file) != 0;
        (void)fclose(file);
        if (failed)
            return vd_fail(VD_ERR_INPUT, "%s: reading failed", clip->paths[i]);
    }
    vd_sha256_end(&sha, digest);
    (void)snprintf(clip->id, sizeof clip->id, "%.16s", vd_sha256_hex(digest, hex));
    return VD_OK;
}

/* Frames, scores and the copy, if the file is whole. */
static vd_status read_clip(looker *l) {
    vd_review_clip *clip = l->clip;
    int64_t wanted = clip->frames;
    vd_status st = VD_OK;
    VD_TRY(read_settings(l, &wanted));
    VD_TRY(identify(clip));
    if (!(clip->fps >= 0.1 && clip->fps <= 1000))
        clip->fps = 8;
    for (size_t i = 0; i < clip->path_count; i++)
        VD_TRY(vd_frames_read(clip->paths[i], 0, look_at_frame, l));
    if (l->seen != wanted || l->seen != clip->frames) {
        st = vd_fail(VD_ERR_INPUT, "is damaged: holds %lld of %lld frames", (long long)l->seen,
                     (long long)(l->seen != wanted ? wanted : clip->frames));
        goto done;
    }
    vd_scorer_finish(l->scorer, &clip->scores);
    if (l->copy != NULL)
        VD_TRY(vd_frame_sink_finish(l->copy));
done:
    return st;
}

vd_status vd_review_look(vd_review *review, size_t index, const char *work_dir) {
    vd_review_clip *clip = &review->clips[index];
    looker l = {.clip = clip};
    vd_status st = VD_OK;
    if (!plays_in_browsers(clip)) {
        l.copy_path = vd_format("%s/.review-%ld-%zu.mp4", work_dir, (long)getpid(), index);
        if (l.copy_path == NULL)
            return vd_fail(VD_ERR_MEMORY, "%s: not enough memory", clip->file);
    }
    st = read_clip(&l);
    vd_frame_sink_destroy(l.copy);
    vd_scorer_destroy(l.scorer);
    if (st == VD_ERR_INPUT) {
        free(l.copy_path);
        st = vd_review_leave_out(review, clip->file, vd_error_message());
        vd_review_clip_free(clip);
        return st;
    }
    if (st == VD_OK) {
        clip->is_copy = l.copy_path != NULL;
        clip->shown = clip->is_copy ? l.copy_path : strdup(clip->paths[0]);
        if (clip->shown == NULL)
            st = vd_fail(VD_ERR_MEMORY, "%s: not enough memory", clip->file);
    } else {
        free(l.copy_path);
    }
    return st;
}

void vd_review_clip_free(vd_review_clip *clip) {
    if (clip->is_copy && clip->shown != NULL)
        (void)unlink(clip->shown);
    for (size_t i = 0; i < clip->path_count; i++)
        free(clip->paths[i]);
    free(clip->paths);
    free(clip->file);
    free(clip->settings);
    free(clip->strip.rgb);
    free(clip->shown);
    *clip = (vd_review_clip){0};
}

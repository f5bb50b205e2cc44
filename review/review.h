/* A folder of rendered clips, looked at: what they are, their scores, which are the worst; then as
 * a page, as contact sheets, or as JSON.
 *
 *     VD_TRY(vd_review_open("out", &review));
 *     for (size_t i = 0; i < review->clip_count; i++)
 *         VD_TRY(vd_review_look(review, i, "out"));
 *     VD_TRY(vd_review_finish(review));
 *     VD_TRY(vd_page_write(review, "out/review.html", VD_EMBED_AUTO, &page));
 * done:
 *     vd_review_close(review);
 */
#ifndef VD_REVIEW_REVIEW_H
#define VD_REVIEW_REVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/json.h"
#include "core/status.h"
#include "review/scores.h"

/* What a clip is marked for; the names are those of vd_review_mark_name. */
typedef enum vd_review_mark {
    VD_MARK_BLACK,   /* holds black frames */
    VD_MARK_FLAT,    /* holds frames of one other colour */
    VD_MARK_FROZEN,  /* at least half of the frames repeat the one before */
    VD_MARK_FLICKER, /* these four: see marks.c */
    VD_MARK_REPETITION,
    VD_MARK_BLUR,
    VD_MARK_STILL,
    VD_MARK_COUNT,
} vd_review_mark;

const char *vd_review_mark_name(vd_review_mark mark);

enum { VD_STRIP_FRAMES = 8, VD_STRIP_SIDE = 128 };

/* Frames of a clip made small, for contact sheets: [count][height][width][3], evenly over its
 * length; both sides at most VD_STRIP_SIDE. */
typedef struct vd_strip {
    uint8_t *rgb;
    int count, width, height;
} vd_strip;

typedef struct vd_review_clip {
    char *file;   /* name in the folder; of PNG frames, the first one's */
    char **paths; /* the video, or the PNG frames in order */
    size_t path_count;
    char *settings; /* the JSON object that it was rendered with, as text; NULL: none */
    char id[17];    /* of its bytes: another once it is rendered again */
    char codec[32], pix_fmt[32]; /* as FFmpeg names them */
    int64_t width_px, height_px, frames, bytes;
    double fps;
    vd_clip_scores scores;
    unsigned marks; /* bits 1 << vd_review_mark */
    vd_strip strip;
    char *shown; /* the file that a browser can play: the video itself or a copy, to be removed */
    bool is_copy;
} vd_review_clip;

/* A file of the folder that is no clip. */
typedef struct vd_left_out {
    char *file, *reason;
} vd_left_out;

typedef struct vd_review {
    char *dir;
    vd_review_clip *clips; /* by name, numbers in it by value */
    size_t clip_count;
    vd_left_out *left_out;
    size_t left_out_count;
} vd_review;

/* Lists the clips of a folder, not of those below: videos, and PNG frames with numbers in their
 * names. Hidden files, .json, .jsonl, .html, .safetensors and our own contact sheets are passed
 * over. VD_ERR_INPUT: no folder, or no clip in it. NULL on failure. */
vd_status vd_review_open(const char *dir, vd_review **out);

/* Decodes a clip, once. A damaged one is put among those left out: its path_count is 0 then. What a
 * browser cannot play is written as H.264 to a hidden file in `work_dir`. VD_ERR_MEMORY,
 * VD_ERR_OUTPUT. */
vd_status vd_review_look(vd_review *review, size_t clip, const char *work_dir);

/* Drops those that were damaged and marks the worst. VD_ERR_INPUT: none is left. */
vd_status vd_review_finish(vd_review *review);

/* Removes the copies and frees. NULL is legal. */
void vd_review_close(vd_review *review);

/* The clips and what was left out as members of the open object. `src` may be NULL; else it gives
 * the address of a clip, NULL for one inside the page. */
typedef const char *(*vd_review_src_fn)(void *user, size_t clip);
vd_status vd_review_put(const vd_review *review, vd_json_writer *w, vd_review_src_fn src,
                        void *user);

/* ---- page.c -------------------------------------------------------------------------------- */

typedef enum vd_embed {
    VD_EMBED_AUTO, /* unless the page would be larger than VD_PAGE_BYTES_MAX */
    VD_EMBED_ALWAYS,
    VD_EMBED_NEVER, /* clips are named relative to the page; copies for the browser are inside */
} vd_embed;

#define VD_PAGE_BYTES_MAX ((int64_t)64 << 20)

typedef struct vd_page_info {
    bool embedded;          /* all clips are inside */
    int64_t bytes;          /* of the page */
    int64_t embedded_bytes; /* of the page with all clips inside, estimated */
} vd_page_info;

/* Whether a page can be written there: VD_ERR_OUTPUT. */
vd_status vd_page_check(const char *path);

/* Writes the page; it appears whole or not at all. `program` is the name and version shown. */
vd_status vd_page_write(const vd_review *review, const char *path, const char *program,
                        vd_embed embed, vd_page_info *out);

/* ---- sheet.c ------------------------------------------------------------------------------- */

/* Contact sheets, a clip a row: `path` holds one %d or %0Nd, see encode/sink.h. VD_ERR_USAGE: it
 * does not; VD_ERR_OUTPUT. */
vd_status vd_sheets_check(const char *path);
vd_status vd_sheets_write(const vd_review *review, const char *path, int *pages);

#endif

/* What a kind of sink is made of; for encode/ only. */
#ifndef VD_ENCODE_SINK_KIND_H
#define VD_ENCODE_SINK_KIND_H

#include "encode/sink.h"

#define VD_SINK_SIZE_KEY "vidilate:size"

typedef struct vd_sink_kind {
    /* Beyond the common checks, which have passed. */
    vd_status (*check)(const vd_sink_options *options);
    /* `options` is borrowed for the call. */
    vd_status (*open)(const vd_sink_options *options, void **state);
    vd_status (*write)(void *state, const uint8_t *rgb);
    vd_status (*finish)(void *state);
    /* Removes what is not finished; NULL is legal. */
    void (*destroy)(void *state);
} vd_sink_kind;

extern const vd_sink_kind vd_sink_kind_video;
extern const vd_sink_kind vd_sink_kind_png;
extern const vd_sink_kind vd_sink_kind_none; /* hash: and null: */

/* The file of frame `number` (from 1) of a pattern such as f%04d.png; malloc'ed. */
vd_status vd_png_frame_name(const char *path, int64_t number, char **out);

/* Whether `name`, without folder, is a frame of the pattern. */
bool vd_png_is_frame(const char *path, const char *name);

#endif

/* Reading back what a video or PNG file is and carries.
 *
 *     VD_TRY(vd_probe("clip.mp4", VD_PROBE_HEADERS, 1, &info));
 *     const char *prompt = vd_media_info_get(info, "vidilate:prompt");
 */
#ifndef VD_ENCODE_PROBE_H
#define VD_ENCODE_PROBE_H

#include "core/status.h"
#include "encode/sink.h"

typedef enum vd_probe_depth {
    VD_PROBE_HEADERS, /* frames are counted by the container's packets */
    VD_PROBE_DECODE,  /* every frame is decoded and must decode without error */
} vd_probe_depth;

/* Names are FFmpeg's; "unknown" where the file does not say. */
typedef struct vd_media_info {
    char container[32]; /* "mov", "matroska", "png" */
    char codec[32];
    char pix_fmt[32];
    char color_primaries[32];
    char color_transfer[32];
    char color_space[32];
    char color_range[32];
    int width_px; /* as coded: see vidilate:size for the size before padding */
    int height_px;
    int fps_num; /* 0/1 where there is no rate (PNG) */
    int fps_den;
    int64_t frame_count;
    double start_s;    /* time of the first frame */
    double duration_s; /* 0 for PNG */
    vd_metadata *metadata;
    size_t metadata_count;
} vd_media_info;

/* Reads an MP4, MOV, Matroska, WebM or PNG file; `threads` is for decoding. NULL on failure; the
 * caller destroys it. VD_ERR_INPUT: unreadable, another kind of file, damaged, no video in it. */
vd_status vd_probe(const char *path, vd_probe_depth depth, int threads, vd_media_info **out);

/* The value of a key, in any case of letters; NULL if there is none. Owned by `info`. */
const char *vd_media_info_get(const vd_media_info *info, const char *key);

/* NULL is legal. */
void vd_media_info_destroy(vd_media_info *info);

#endif

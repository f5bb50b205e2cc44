/* Frames in, files out: one interface for MP4 and its relatives, PNG frames, a hash and nothing.
 *
 *     vd_sink_options options = VD_SINK_OPTIONS_DEFAULT;
 *     options.path = "clip.mp4";
 *     options.width_px = 512, options.height_px = 320;
 *     options.fps = 8, options.frame_count = 16;
 *     VD_TRY(vd_sink_options_check(&options));     before the render: hours may lie between
 *     VD_TRY(vd_frame_sink_open(&options, &sink));
 *     for (int i = 0; i < 16; i++)
 *         VD_TRY(vd_frame_sink_write(sink, rgb[i]));
 *     VD_TRY(vd_frame_sink_finish(sink));          clip.mp4 appears here, verified
 * done:
 *     vd_frame_sink_destroy(sink);                 nothing remains of a file not finished
 */
#ifndef VD_ENCODE_SINK_H
#define VD_ENCODE_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/sha256.h"
#include "core/status.h"

/* One metadata entry. Keys: 1..79 of [A-Za-z0-9_.:] (what MP4, Matroska and PNG all keep; Matroska
 * upper-cases them). Values: UTF-8, any text. */
typedef struct vd_metadata {
    const char *key;
    const char *value;
} vd_metadata;

/* All pointers are borrowed for the call only. */
typedef struct vd_sink_options {
    /* What to write, chosen by its form:
     *   NAME.mp4 .mov .mkv .webm  a video in that container
     *   NAME%04d.png              one PNG a frame, numbered from 1; exactly one %d or %0Nd in the
     *                             file's name ("%%" is a percent sign); NAME.png if there is only
     *                             one frame
     *   hash:                     nothing but the digest
     *   null:                     nothing (the digest is there all the same) */
    const char *path;
    int64_t width_px;    /* 1..16384 */
    int64_t height_px;   /* 1..16384 */
    double fps;          /* 0.1..1000; see vd_fps_rational */
    int64_t frame_count; /* 1..1000000; finish fails unless as many were written */
    const char *codec;   /* any video encoder of libavcodec by its name */
    const char *pix_fmt; /* a format that the encoder takes; PNG frames are always rgb24 */
    double crf;          /* 0..51, AV1 and VP9 0..63; lossless codecs do not use it */
    int threads;         /* >= 1, of the read-back check. Encoders always run on one, because the
                            bytes that x264 and x265 write depend on their thread count. */
    const char *comment; /* what ordinary players show as the comment; NULL for none */
    const vd_metadata *metadata;
    size_t metadata_count;
} vd_sink_options;

#define VD_SINK_OPTIONS_DEFAULT                                                                    \
    (vd_sink_options) {                                                                            \
        .codec = "libx264", .pix_fmt = "yuv420p", .crf = 18, .threads = 1                          \
    }

typedef struct vd_frame_sink vd_frame_sink;

/* The frame rate as a fraction: the NTSC rates within 0.0005 (23.976 -> 24000/1001), exact decimals
 * of up to four places (12.5 -> 25/2), else the one with the smallest denominator up to 1001 within
 * 1e-7 of it (8.3333333 -> 25/3). VD_ERR_USAGE: outside 0.1..1000, NaN, or none of these. */
vd_status vd_fps_rational(double fps, int *num, int *den);

/* The file in which frame `number` (from 1) of an output lies: the video, or one of the pictures.
 * malloc'ed; NULL for hash: and null:. VD_ERR_USAGE: the path has no known form. */
vd_status vd_sink_file(const char *path, int64_t number, char **out);

/* Removes temporary files of the output that a killed process left: of processes of this machine
 * that are no more, or with `all`, of any. */
void vd_sink_sweep(const char *path, bool all);

/* Everything that can be known before the first frame: the path's form, sizes, rates, metadata;
 * that the encoder exists, takes these settings (it is opened and closed) and fits the container;
 * that the folder can be written (a file is made and removed).
 * VD_ERR_USAGE; VD_ERR_OUTPUT: the folder is missing or cannot be written, the target is a
 * folder; VD_ERR_MEMORY. */
vd_status vd_sink_options_check(const vd_sink_options *options);

/* What an output will take, about: measured with libx264 and libx265 at their default presets, on
 * pictures with noise, from 64x64 to 2048x2048 and 4 to 64 frames. */
typedef struct vd_sink_needs {
    size_t write_bytes, finish_bytes; /* memory while frames come, and at the end with the check */
    uint64_t file_bytes;              /* on the disk; rather too much */
    double seconds;                   /* of one processor */
} vd_sink_needs;

/* Options that vd_sink_options_check passes. */
void vd_sink_estimate(const vd_sink_options *options, vd_sink_needs *out);

/* Checks as above and opens. Files are written beside the target as .NAME.part-PID-N.EXT and
 * renamed by finish. Video in a format with subsampled chroma has its odd sizes padded to even by
 * repeating the last column or row (no 4:2:0 codec can signal an odd size or crop); every file
 * carries the true size as metadata vidilate:size, "WxH". Same frames and options: same bytes.
 * NULL on failure; the caller destroys it. */
vd_status vd_frame_sink_open(const vd_sink_options *options, vd_frame_sink **out);

/* One frame: [height, width, 3] bytes, RGB, tightly packed. VD_ERR_OUTPUT: writing or encoding
 * failed; VD_ERR_USAGE: one more than frame_count, or the sink has failed or is finished. */
vd_status vd_frame_sink_write(vd_frame_sink *sink, const uint8_t *rgb);

/* Ends the file, reads it back (every frame decoded; number, size, format, rate and colour tags
 * compared) and renames it to the target. On failure nothing remains, an older file at the target
 * stays as it was; only PNG frames already renamed when a later rename fails are removed. */
vd_status vd_frame_sink_finish(vd_frame_sink *sink);

/* Frees; removes all that was written if finish did not succeed. NULL is legal. */
void vd_frame_sink_destroy(vd_frame_sink *sink);

/* SHA-256, in hexadecimal, over the bytes of all frames written so far, in order, whatever the
 * kind. */
void vd_frame_sink_digest(const vd_frame_sink *sink, char hex[VD_SHA256_HEX_BYTES]);

#endif

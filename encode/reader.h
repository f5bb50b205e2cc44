/* The packets and decoded pictures of one video or PNG file; for encode/ only.
 *
 *     vd_reader r = {0};
 *     VD_TRY(vd_reader_open(&r, path));
 *     VD_TRY(vd_reader_open_decoder(&r, threads));     left out: packets are only counted
 *     VD_TRY(vd_reader_run(&r, on_picture, user));
 * done:
 *     vd_reader_close(&r);
 */
#ifndef VD_ENCODE_READER_H
#define VD_ENCODE_READER_H

#include <stdbool.h>
#include <stdint.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

#include "core/status.h"

typedef struct vd_reader {
    const char *path; /* borrowed */
    bool png;
    AVFormatContext *demuxer;
    int index;               /* of the video among the streams */
    AVCodecContext *decoder; /* NULL unless frames are decoded */
    AVPacket *packet;
    AVFrame *frame;
    int64_t frames; /* decoded, or without a decoder packets seen */
} vd_reader;

/* A picture in the order of showing, borrowed for the call; another status than VD_OK ends the
 * run. */
typedef vd_status (*vd_reader_fn)(void *user, const AVFrame *picture);

/* VD_ERR_INPUT: unreadable, neither MP4, MOV, Matroska, WebM nor PNG, damaged, no video in it. */
vd_status vd_reader_open(vd_reader *r, const char *path);

/* Damage is an error from then on, where a player would show what is left. */
vd_status vd_reader_open_decoder(vd_reader *r, int threads);

/* Through the whole file. `fn` may be NULL. */
vd_status vd_reader_run(vd_reader *r, vd_reader_fn fn, void *user);

/* The video's stream; the reader is open. */
const AVStream *vd_reader_stream(const vd_reader *r);

/* A zeroed one is legal. */
void vd_reader_close(vd_reader *r);

#endif

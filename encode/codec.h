/* Choosing and opening a video encoder; for encode/ only. */
#ifndef VD_ENCODE_CODEC_H
#define VD_ENCODE_CODEC_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

#include "encode/sink.h"

/* The muxer of a path by its extension; NULL if it is none of ours. */
const AVOutputFormat *vd_video_format(const char *path);

/* Opens the encoder that the options name, for a stream in `format`, its size padded to what the
 * pixel format can hold. NULL on failure. VD_ERR_USAGE: no such encoder, a pixel format or crf
 * that it does not take, a container that cannot hold it, or it refuses these settings. */
vd_status vd_codec_open(const vd_sink_options *options, const AVOutputFormat *format,
                        AVCodecContext **out);

/* Closes an encoder that was sent so many frames. NULL is legal. */
void vd_codec_close(AVCodecContext **codec, int64_t frames_sent);

#endif

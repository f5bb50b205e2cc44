/* Video files by libavcodec and libavformat: MP4, MOV, Matroska, WebM. */
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavutil/avstring.h>
#include <libavutil/pixdesc.h>

#include "core/log.h"
#include "core/text.h"
#include "encode/av.h"
#include "encode/codec.h"
#include "encode/convert.h"
#include "encode/part_file.h"
#include "encode/probe.h"
#include "encode/sink_kind.h"

typedef struct video_sink {
    vd_part_file part;
    AVCodecContext *encoder;
    AVFormatContext *muxer;
    vd_converter *converter;
    AVPacket *packet;
    int64_t frames;
    int threads;
} video_sink;

static void video_destroy(void *state) {
    video_sink *s = state;
    if (s == NULL)
        return;
    if (s->muxer != NULL)
        (void)avio_closep(&s->muxer->pb);
    avformat_free_context(s->muxer);
    vd_codec_close(&s->encoder, s->frames);
    av_packet_free(&s->packet);
    vd_converter_destroy(s->converter);
    vd_part_file_discard(&s->part);
    free(s);
}

static void warn_unplayable(const AVCodecContext *c, const vd_sink_options *options) {
    if (c->codec_id != AV_CODEC_ID_H264)
        return;
    if (c->pix_fmt != AV_PIX_FMT_YUV420P && c->pix_fmt != AV_PIX_FMT_NV12)
        vd_log(VD_LOG_WARNING, "pix-fmt %s: QuickTime and some browsers play H.264 in yuv420p only",
               options->pix_fmt);
    else if (options->crf < 1 && strcmp(options->codec, "libx264") == 0)
        vd_log(VD_LOG_WARNING, "crf %g: QuickTime and some browsers do not play lossless H.264",
               options->crf);
}

static vd_status video_check(const vd_sink_options *options) {
    AVCodecContext *encoder = NULL;
    vd_part_file part = {0};
    vd_status st = vd_codec_open(options, vd_video_format(options->path), &encoder);
    if (st == VD_OK)
        st = vd_part_file_create(&part, options->path);
    if (st == VD_OK)
        warn_unplayable(encoder, options);
    vd_part_file_discard(&part);
    vd_codec_close(&encoder, 0);
    return st;
}

static int set_metadata(AVFormatContext *muxer, const vd_sink_options *options) {
    char size[32];
    (void)snprintf(size, sizeof size, "%" PRId64 "x%" PRId64, options->width_px,
                   options->height_px);
    int error = av_dict_set(&muxer->metadata, VD_SINK_SIZE_KEY, size, 0);
    for (size_t i = 0; i < options->metadata_count && error >= 0; i++)
        error =
            av_dict_set(&muxer->metadata, options->metadata[i].key, options->metadata[i].value, 0);
    if (options->comment != NULL && error >= 0)
        error = av_dict_set(&muxer->metadata, "comment", options->comment, 0);
    return error;
}

/* The index first, any metadata key, the colour box; and a time scale in which the length of the
 * whole is as exact as that of the frames (FFmpeg's own is milliseconds). */
static int set_muxer_options(const AVCodecContext *encoder, AVDictionary **options) {
    int scale = encoder->time_base.den;
    while (scale < 10000)
        scale *= 2;
    int error = av_dict_set(options, "movflags", "+faststart+use_metadata_tags+write_colr", 0);
    return error < 0 ? error : av_dict_set_int(options, "movie_timescale", scale, 0);
}

static vd_status open_muxer(video_sink *s, const vd_sink_options *options,
                            const AVOutputFormat *format) {
    vd_status st = VD_OK;
    AVDictionary *muxer_options = NULL;
    /* "file:", because libavformat would take a colon in a name for a protocol. */
    char *url = vd_format("file:%s", s->part.temp);
    int error = url == NULL ? AVERROR(ENOMEM) : 0;
    if (error >= 0)
        error = avformat_alloc_output_context2(&s->muxer, format, NULL, url);
    AVStream *stream = error >= 0 ? avformat_new_stream(s->muxer, NULL) : NULL;
    if (stream == NULL) {
        st = vd_av_fail(VD_ERR_OUTPUT, AVERROR(ENOMEM), options->path, "cannot begin the file");
        goto done;
    }
    s->muxer->flags |= AVFMT_FLAG_BITEXACT;
    stream->time_base = s->encoder->time_base;
    stream->avg_frame_rate = s->encoder->framerate;
    stream->r_frame_rate = s->encoder->framerate;
    error = avcodec_parameters_from_context(stream->codecpar, s->encoder);
    if (error >= 0)
        error = set_metadata(s->muxer, options);
    if (error >= 0 && av_match_name(format->name, "mp4,mov"))
        error = set_muxer_options(s->encoder, &muxer_options);
    if (error >= 0)
        error = avio_open2(&s->muxer->pb, url, AVIO_FLAG_WRITE, NULL, NULL);
    if (error >= 0)
        error = avformat_write_header(s->muxer, &muxer_options);
    if (error < 0)
        st = vd_av_fail(VD_ERR_OUTPUT, error, options->path, "cannot begin the file");
done:
    av_dict_free(&muxer_options);
    free(url);
    return st;
}

static vd_status video_open(const vd_sink_options *options, void **state) {
    const AVOutputFormat *format = vd_video_format(options->path);
    vd_status st = VD_OK;
    *state = NULL;
    video_sink *s = calloc(1, sizeof *s);
    if (s == NULL || (s->packet = av_packet_alloc()) == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "%s: not enough memory", options->path);
        goto done;
    }
    s->threads = options->threads;
    VD_TRY(vd_codec_open(options, format, &s->encoder));
    VD_TRY(vd_converter_create(s->encoder, (int)options->width_px, (int)options->height_px,
                               &s->converter));
    VD_TRY(vd_part_file_create(&s->part, options->path));
    VD_TRY(open_muxer(s, options, format));
    *state = s;
    s = NULL;
done:
    video_destroy(s);
    return st;
}

/* Hands a frame (NULL: no more) to the encoder and what comes out to the file. */
static vd_status encode(video_sink *s, const AVFrame *frame) {
    const AVStream *stream = s->muxer->streams[0];
    int error = avcodec_send_frame(s->encoder, frame);
    while (error >= 0) {
        error = avcodec_receive_packet(s->encoder, s->packet);
        if (error == AVERROR(EAGAIN) || error == AVERROR_EOF)
            return VD_OK;
        if (error < 0)
            break;
        s->packet->stream_index = 0;
        s->packet->duration = 1;
        av_packet_rescale_ts(s->packet, s->encoder->time_base, stream->time_base);
        error = av_interleaved_write_frame(s->muxer, s->packet);
        if (error >= 0)
            error = s->muxer->pb->error;
        if (error < 0)
            return vd_av_fail(VD_ERR_OUTPUT, error, s->part.target, "writing failed");
    }
    return vd_av_fail(VD_ERR_OUTPUT, error, s->part.target, "encoding failed");
}

static vd_status video_write(void *state, const uint8_t *rgb) {
    video_sink *s = state;
    AVFrame *frame = NULL;
    vd_status st = vd_converter_run(s->converter, rgb, &frame);
    if (st != VD_OK)
        return st;
    frame->pts = s->frames++;
    return encode(s, frame);
}

/* Formats that come back under another name (nv12 as yuv420p, bgr0 as gbrp) count as the same. */
static bool same_sampling(const char *read, enum AVPixelFormat written) {
    const AVPixFmtDescriptor *a = av_pix_fmt_desc_get(av_get_pix_fmt(read));
    const AVPixFmtDescriptor *b = av_pix_fmt_desc_get(written);
    return a != NULL && a->nb_components == b->nb_components &&
           a->comp[0].depth == b->comp[0].depth && a->log2_chroma_w == b->log2_chroma_w &&
           a->log2_chroma_h == b->log2_chroma_h &&
           (a->flags & AV_PIX_FMT_FLAG_RGB) == (b->flags & AV_PIX_FMT_FLAG_RGB);
}

static bool same_colour(const vd_media_info *info, const AVCodecContext *c) {
    return strcmp(info->color_range, av_color_range_name(c->color_range)) == 0 &&
           strcmp(info->color_space, av_color_space_name(c->colorspace)) == 0 &&
           strcmp(info->color_primaries, av_color_primaries_name(c->color_primaries)) == 0 &&
           strcmp(info->color_transfer, av_color_transfer_name(c->color_trc)) == 0;
}

static vd_status compare(const video_sink *s, const vd_media_info *info) {
    const AVCodecContext *c = s->encoder;
    const char *path = s->part.target;
    if (info->frame_count != s->frames)
        return vd_fail(VD_ERR_OUTPUT, "%s: reads back with %" PRId64 " of %" PRId64 " frames", path,
                       info->frame_count, s->frames);
    if (info->width_px != c->width || info->height_px != c->height ||
        !same_sampling(info->pix_fmt, c->pix_fmt))
        return vd_fail(VD_ERR_OUTPUT, "%s: reads back as %dx%d %s, not %dx%d %s", path,
                       info->width_px, info->height_px, info->pix_fmt, c->width, c->height,
                       av_get_pix_fmt_name(c->pix_fmt));
    /* Matroska's times are milliseconds. */
    const double fps = av_q2d(c->framerate), read = (double)info->fps_num / info->fps_den;
    const double tolerance = av_match_name(info->container, "mov") ? 1e-9 : 1e-3;
    if (!(fabs(read - fps) <= tolerance * fps))
        return vd_fail(VD_ERR_OUTPUT, "%s: reads back with %g frames/s, not %g", path, read, fps);
    if (!same_colour(info, c))
        return vd_fail(VD_ERR_OUTPUT, "%s: reads back with the colour tags %s/%s/%s/%s", path,
                       info->color_primaries, info->color_transfer, info->color_space,
                       info->color_range);
    return VD_OK;
}

static vd_status verify(const video_sink *s) {
    vd_media_info *info = NULL;
    const vd_probe_depth depth =
        avcodec_find_decoder(s->encoder->codec_id) != NULL ? VD_PROBE_DECODE : VD_PROBE_HEADERS;
    vd_status st = vd_probe(s->part.temp, depth, s->threads, &info);
    if (st == VD_OK)
        st = compare(s, info);
    else if (st == VD_ERR_INPUT)
        st = vd_fail_in(VD_ERR_OUTPUT, "%s: does not read back", s->part.target);
    vd_media_info_destroy(info);
    return st;
}

static vd_status video_finish(void *state) {
    video_sink *s = state;
    vd_status st = encode(s, NULL);
    if (st != VD_OK)
        return st;
    int error = av_write_trailer(s->muxer);
    if (error >= 0)
        error = s->muxer->pb->error;
    int close_error = avio_closep(&s->muxer->pb);
    if (error >= 0)
        error = close_error;
    if (error < 0)
        return vd_av_fail(VD_ERR_OUTPUT, error, s->part.target, "writing failed");
    st = verify(s);
    return st == VD_OK ? vd_part_file_commit(&s->part) : st;
}

const vd_sink_kind vd_sink_kind_video = {video_check, video_open, video_write, video_finish,
                                         video_destroy};

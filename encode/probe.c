#include "encode/probe.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>

#include "core/text.h"
#include "encode/av.h"
#include "encode/png_text.h"

#define PNG_BYTES_MAX ((size_t)1 << 30)
#define PIXELS_MAX ((int64_t)16384 * 16384)

typedef struct reader {
    const char *path;
    AVFormatContext *demuxer;
    int index;               /* of the video among the streams */
    AVCodecContext *decoder; /* NULL unless frames are decoded */
    AVPacket *packet;
    AVFrame *frame;
    int64_t frames;
} reader;

/* The demuxer is there once open_demuxer has succeeded, which the analyzer does not see. */
static const AVStream *stream_of(const reader *r) {
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference)
    return r->demuxer->streams[r->index];
}

static void close_reader(reader *r) {
    avformat_close_input(&r->demuxer);
    avcodec_free_context(&r->decoder);
    av_packet_free(&r->packet);
    av_frame_free(&r->frame);
}

/* Only local files and these containers: others (playlists, scripts) can name further files. */
static vd_status open_demuxer(reader *r, bool png) {
    vd_status st = VD_OK;
    AVDictionary *options = NULL;
    char *url = vd_format("file:%s", r->path);
    int error = url == NULL ? AVERROR(ENOMEM) : 0;
    if (error >= 0)
        error = av_dict_set(&options, "protocol_whitelist", "file", 0);
    if (error >= 0)
        error = av_dict_set(&options, "format_whitelist", "mov,matroska,png_pipe", 0);
    if (error >= 0)
        error = avformat_open_input(&r->demuxer, url, png ? av_find_input_format("png_pipe") : NULL,
                                    &options);
    if (error < 0) {
        st = vd_av_fail(VD_ERR_INPUT, error, r->path, "is no MP4, MOV, Matroska, WebM or PNG file");
        goto done;
    }
    error = avformat_find_stream_info(r->demuxer, NULL);
    if (error < 0) {
        st = vd_av_fail(VD_ERR_INPUT, error, r->path, "is damaged");
        goto done;
    }
    r->index = av_find_best_stream(r->demuxer, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    if (r->index < 0)
        st = vd_fail(VD_ERR_INPUT, "%s: holds no video", r->path);
done:
    av_dict_free(&options);
    free(url);
    return st;
}

static vd_status open_decoder(reader *r, int threads) {
    const AVCodecParameters *parameters = stream_of(r)->codecpar;
    const AVCodec *codec = avcodec_find_decoder(parameters->codec_id);
    if (codec == NULL)
        return vd_fail(VD_ERR_INPUT, "%s: this libavcodec cannot decode %s", r->path,
                       avcodec_get_name(parameters->codec_id));
    r->decoder = avcodec_alloc_context3(codec);
    if (r->decoder == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory to decode", r->path);
    int error = avcodec_parameters_to_context(r->decoder, parameters);
    r->decoder->pkt_timebase = stream_of(r)->time_base;
    r->decoder->thread_count = threads;
    r->decoder->max_pixels = PIXELS_MAX;
    r->decoder->err_recognition = AV_EF_CRCCHECK | AV_EF_EXPLODE;
    if (error >= 0)
        error = avcodec_open2(r->decoder, codec, NULL);
    return error < 0 ? vd_av_fail(VD_ERR_INPUT, error, r->path, "cannot be decoded") : VD_OK;
}

/* Hands a packet (NULL: no more) to the decoder and counts the frames that come out. */
static vd_status decode(reader *r, const AVPacket *packet) {
    const AVCodecParameters *told = stream_of(r)->codecpar;
    int error = avcodec_send_packet(r->decoder, packet);
    while (error >= 0) {
        error = avcodec_receive_frame(r->decoder, r->frame);
        if (error == AVERROR(EAGAIN) || error == AVERROR_EOF)
            return VD_OK;
        if (error < 0)
            break;
        if (r->frame->decode_error_flags != 0)
            error = AVERROR_INVALIDDATA;
        else if (r->frame->width != told->width || r->frame->height != told->height)
            return vd_fail(VD_ERR_INPUT, "%s: frame %lld is %dx%d, not %dx%d", r->path,
                           (long long)r->frames, r->frame->width, r->frame->height, told->width,
                           told->height);
        else
            r->frames++;
        av_frame_unref(r->frame);
    }
    return vd_fail(VD_ERR_INPUT, "%s: is damaged at frame %lld", r->path, (long long)r->frames);
}

static vd_status count_frames(reader *r) {
    vd_status st = VD_OK;
    int error = 0;
    r->packet = av_packet_alloc();
    r->frame = av_frame_alloc();
    if (r->packet == NULL || r->frame == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory", r->path);
    while (st == VD_OK && (error = av_read_frame(r->demuxer, r->packet)) >= 0) {
        if (r->packet->stream_index == r->index) {
            if (r->decoder != NULL)
                st = decode(r, r->packet);
            else if ((r->packet->flags & AV_PKT_FLAG_DISCARD) == 0)
                r->frames++;
        }
        av_packet_unref(r->packet);
    }
    if (st == VD_OK && error != AVERROR_EOF)
        st = vd_av_fail(VD_ERR_INPUT, error, r->path, "is damaged");
    if (st == VD_OK && r->decoder != NULL)
        st = decode(r, NULL);
    return st;
}

static void put_name(char out[32], const char *name) {
    (void)snprintf(out, 32, "%s", name != NULL ? name : "unknown");
}

static void fill_info(const reader *r, vd_media_info *info) {
    const AVStream *stream = stream_of(r);
    const AVCodecParameters *p = stream->codecpar;
    AVRational fps = stream->avg_frame_rate;
    if (fps.num <= 0 || fps.den <= 0)
        fps = stream->r_frame_rate;
    if (fps.num <= 0 || fps.den <= 0)
        fps = (AVRational){0, 1};
    put_name(info->container, r->demuxer->iformat->name);
    info->container[strcspn(info->container, ",")] = '\0';
    put_name(info->codec, avcodec_get_name(p->codec_id));
    put_name(info->pix_fmt, av_get_pix_fmt_name((enum AVPixelFormat)p->format));
    put_name(info->color_primaries, av_color_primaries_name(p->color_primaries));
    put_name(info->color_transfer, av_color_transfer_name(p->color_trc));
    put_name(info->color_space, av_color_space_name(p->color_space));
    put_name(info->color_range, av_color_range_name(p->color_range));
    info->width_px = p->width;
    info->height_px = p->height;
    info->fps_num = fps.num;
    info->fps_den = fps.den;
    info->frame_count = r->frames;
    if (stream->start_time != AV_NOPTS_VALUE)
        info->start_s = (double)stream->start_time * av_q2d(stream->time_base);
    if (stream->duration != AV_NOPTS_VALUE)
        info->duration_s = (double)stream->duration * av_q2d(stream->time_base);
    else if (r->demuxer->duration != AV_NOPTS_VALUE)
        info->duration_s = (double)r->demuxer->duration / AV_TIME_BASE;
}

/* Grows at powers of two. */
static vd_status add_entry(vd_media_info *info, const char *key, size_t key_bytes,
                           const char *value, size_t value_bytes) {
    const size_t n = info->metadata_count;
    if ((n & (n - 1)) == 0) {
        vd_metadata *grown = realloc(info->metadata, (n == 0 ? 1 : 2 * n) * sizeof *info->metadata);
        if (grown == NULL)
            return vd_fail(VD_ERR_MEMORY, "not enough memory for metadata");
        info->metadata = grown;
    }
    vd_metadata entry = {strndup(key, key_bytes), strndup(value, value_bytes)};
    info->metadata[info->metadata_count++] = entry;
    if (entry.key == NULL || entry.value == NULL)
        return vd_fail(VD_ERR_MEMORY, "not enough memory for metadata");
    return VD_OK;
}

static vd_status add_container_metadata(const reader *r, vd_media_info *info) {
    const AVDictionaryEntry *entry = NULL;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): as in stream_of
    const AVDictionary *all = r->demuxer->metadata;
    while ((entry = av_dict_get(all, "", entry, AV_DICT_IGNORE_SUFFIX)) != NULL) {
        vd_status st =
            add_entry(info, entry->key, strlen(entry->key), entry->value, strlen(entry->value));
        if (st != VD_OK)
            return st;
    }
    return VD_OK;
}

/* libavformat does not read iTXt chunks, and has no rate or length to tell. */
static vd_status finish_png(const char *path, vd_media_info *info) {
    char *data = NULL;
    size_t bytes = 0, offset = 0;
    vd_png_text text;
    vd_status st = VD_OK;
    (void)snprintf(info->container, sizeof info->container, "png");
    info->fps_num = 0;
    info->fps_den = 1;
    info->start_s = 0;
    info->duration_s = 0;
    VD_TRY(vd_read_file(path, PNG_BYTES_MAX, &data, &bytes));
    for (;;) {
        st = vd_png_text_next((const uint8_t *)data, bytes, &offset, &text);
        if (st != VD_OK) {
            st = vd_fail_in(st, "%s", path);
            goto done;
        }
        if (text.key == NULL)
            break;
        VD_TRY(add_entry(info, text.key, text.key_bytes, text.value, text.value_bytes));
    }
done:
    free(data);
    return st;
}

/* Whether the path is a readable file, and whether a PNG. */
static vd_status look(const char *path, bool *png) {
    struct stat status;
    uint8_t head[8];
    *png = false;
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return vd_fail(VD_ERR_INPUT, "%s: %s", path, strerror(errno));
    bool regular = fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode);
    *png = regular && fread(head, sizeof head, 1, file) == 1 && vd_png_is(head, sizeof head);
    (void)fclose(file);
    return regular ? VD_OK : vd_fail(VD_ERR_INPUT, "%s: is not a file", path);
}

vd_status vd_probe(const char *path, vd_probe_depth depth, int threads, vd_media_info **out) {
    reader r = {.path = path};
    bool png = false;
    vd_status st = VD_OK;
    *out = NULL;
    vd_av_init();
    vd_media_info *info = calloc(1, sizeof *info);
    if (info == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory", path);
    VD_TRY(look(path, &png));
    VD_TRY(open_demuxer(&r, png));
    if (depth == VD_PROBE_DECODE)
        VD_TRY(open_decoder(&r, threads));
    VD_TRY(count_frames(&r));
    fill_info(&r, info);
    VD_TRY(png ? finish_png(path, info) : add_container_metadata(&r, info));
    *out = info;
    info = NULL;
done:
    close_reader(&r);
    vd_media_info_destroy(info);
    return st;
}

const char *vd_media_info_get(const vd_media_info *info, const char *key) {
    for (size_t i = 0; i < info->metadata_count; i++) {
        if (strcasecmp(info->metadata[i].key, key) == 0)
            return info->metadata[i].value;
    }
    return NULL;
}

void vd_media_info_destroy(vd_media_info *info) {
    if (info == NULL)
        return;
    for (size_t i = 0; i < info->metadata_count; i++) {
        free((char *)info->metadata[i].key);
        free((char *)info->metadata[i].value);
    }
    free(info->metadata);
    free(info);
}

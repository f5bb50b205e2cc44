#include "encode/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/text.h"
#include "encode/av.h"
#include "encode/png_text.h"

#define PIXELS_MAX ((int64_t)16384 * 16384)

/* The demuxer is there once open_demuxer has succeeded, which the analyzer does not see. */
const AVStream *vd_reader_stream(const vd_reader *r) {
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference)
    return r->demuxer->streams[r->index];
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

/* Only local files and these containers: others (playlists, scripts) can name further files. */
static vd_status open_demuxer(vd_reader *r) {
    vd_status st = VD_OK;
    AVDictionary *options = NULL;
    char *url = vd_format("file:%s", r->path);
    int error = url == NULL ? AVERROR(ENOMEM) : 0;
    if (error >= 0)
        error = av_dict_set(&options, "protocol_whitelist", "file", 0);
    if (error >= 0)
        error = av_dict_set(&options, "format_whitelist", "mov,matroska,png_pipe", 0);
    if (error >= 0)
        error = avformat_open_input(&r->demuxer, url,
                                    r->png ? av_find_input_format("png_pipe") : NULL, &options);
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

vd_status vd_reader_open_decoder(vd_reader *r, int threads) {
    const AVCodecParameters *parameters = vd_reader_stream(r)->codecpar;
    const AVCodec *codec = avcodec_find_decoder(parameters->codec_id);
    if (codec == NULL)
        return vd_fail(VD_ERR_INPUT, "%s: this libavcodec cannot decode %s", r->path,
                       avcodec_get_name(parameters->codec_id));
    r->decoder = avcodec_alloc_context3(codec);
    if (r->decoder == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory to decode", r->path);
    int error = avcodec_parameters_to_context(r->decoder, parameters);
    r->decoder->pkt_timebase = vd_reader_stream(r)->time_base;
    r->decoder->thread_count = threads;
    r->decoder->max_pixels = PIXELS_MAX;
    r->decoder->err_recognition = AV_EF_CRCCHECK | AV_EF_EXPLODE;
    if (error >= 0)
        error = avcodec_open2(r->decoder, codec, NULL);
    return error < 0 ? vd_av_fail(VD_ERR_INPUT, error, r->path, "cannot be decoded") : VD_OK;
}

/* Hands a packet (NULL: no more) to the decoder, counts the frames that come out and passes them
 * on. */
static vd_status decode(vd_reader *r, const AVPacket *packet, vd_reader_fn fn, void *user) {
    const AVCodecParameters *told = vd_reader_stream(r)->codecpar;
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
        vd_status st = error == 0 && fn != NULL ? fn(user, r->frame) : VD_OK;
        if (st != VD_OK)
            return st;
        if (error == 0)
            r->frames++;
        av_frame_unref(r->frame);
    }
    return vd_fail(VD_ERR_INPUT, "%s: is damaged at frame %lld", r->path, (long long)r->frames);
}

vd_status vd_reader_run(vd_reader *r, vd_reader_fn fn, void *user) {
    vd_status st = VD_OK;
    int error = 0;
    r->packet = av_packet_alloc();
    r->frame = av_frame_alloc();
    if (r->packet == NULL || r->frame == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory", r->path);
    while (st == VD_OK && (error = av_read_frame(r->demuxer, r->packet)) >= 0) {
        if (r->packet->stream_index == r->index) {
            if (r->decoder != NULL)
                st = decode(r, r->packet, fn, user);
            else if ((r->packet->flags & AV_PKT_FLAG_DISCARD) == 0)
                r->frames++;
        }
        av_packet_unref(r->packet);
    }
    if (st == VD_OK && error != AVERROR_EOF)
        st = vd_av_fail(VD_ERR_INPUT, error, r->path, "is damaged");
    if (st == VD_OK && r->decoder != NULL)
        st = decode(r, NULL, fn, user);
    return st;
}

void vd_reader_close(vd_reader *r) {
    avformat_close_input(&r->demuxer);
    avcodec_free_context(&r->decoder);
    av_packet_free(&r->packet);
    av_frame_free(&r->frame);
}

vd_status vd_reader_open(vd_reader *r, const char *path) {
    *r = (vd_reader){.path = path};
    vd_av_init();
    vd_status st = look(path, &r->png);
    return st == VD_OK ? open_demuxer(r) : st;
}

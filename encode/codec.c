#include "encode/codec.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <libavutil/avstring.h>
#include <libavutil/cpu.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>

#include "encode/av.h"

/* Encoders named in messages, if this libavcodec has them. */
static const char *const usual_encoders[] = {"libx264",    "libx264rgb", "libx265",   "libaom-av1",
                                             "libsvtav1",  "libvpx-vp9", "mpeg4",     "ffv1",
                                             "h264_nvenc", "hevc_nvenc", "av1_nvenc", NULL};

/* No info: that text holds the machine's instruction sets. */
#define X265_PARAMS "log-level=none:pools=none:frame-threads=1:info=0"

/* Options of single encoders: made so that the bytes depend on frames and settings alone, that the
 * library is silent, and that it ends in reasonable time on one thread. */
static const struct {
    const char *encoder, *name, *value;
} encoder_options[] = {
    {"libaom-av1", "cpu-used", "6"}, {"libaom-av1", "row-mt", "0"},
    {"libsvtav1", "preset", "8"},    {"libsvtav1", "svtav1-params", "lp=1"},
    {"libvpx-vp9", "cpu-used", "4"}, {"libvpx-vp9", "row-mt", "0"},
    {"ffv1", "level", "3"},
};

const AVOutputFormat *vd_video_format(const char *path) {
    static const struct {
        const char *extension, *muxer;
    } formats[] = {{".mp4", "mp4"}, {".mov", "mov"}, {".mkv", "matroska"}, {".webm", "webm"}};
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash != NULL ? slash : path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof formats / sizeof formats[0]; i++) {
        if (strcasecmp(dot, formats[i].extension) == 0)
            return av_guess_format(formats[i].muxer, NULL, NULL);
    }
    return NULL;
}

/* The encoder's pixel formats, ended by AV_PIX_FMT_NONE; NULL if it does not say. */
static const enum AVPixelFormat *encoder_formats(const AVCodec *codec) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(61, 13, 100)
    const void *formats = NULL;
    if (avcodec_get_supported_config(NULL, codec, AV_CODEC_CONFIG_PIX_FORMAT, 0, &formats, NULL) <
        0)
        return NULL;
    return formats;
#else
    return codec->pix_fmts;
#endif
}

/* Colour without alpha, of 8 bits or more, filled from the CPU, limited range if YUV. */
static bool format_usable(const AVCodec *codec, enum AVPixelFormat format) {
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(format);
    const uint64_t unwanted = AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_PAL |
                              AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_ALPHA |
                              AV_PIX_FMT_FLAG_BAYER | AV_PIX_FMT_FLAG_FLOAT;
    if (d == NULL || d->nb_components < 3 || (d->flags & unwanted) != 0 || d->comp[0].depth < 8)
        return false;
    if (strncmp(d->name, "yuvj", 4) == 0)
        return false;
    /* Graphics cards turn RGB into YUV themselves, and not as BT.709. */
    return (d->flags & AV_PIX_FMT_FLAG_RGB) == 0 ||
           (codec->capabilities & (AV_CODEC_CAP_HARDWARE | AV_CODEC_CAP_HYBRID)) == 0;
}

static vd_status find_encoder(const char *name, const AVCodec **out) {
    char list[256] = "";
    *out = avcodec_find_encoder_by_name(name);
    if (*out != NULL && (*out)->type == AVMEDIA_TYPE_VIDEO)
        return VD_OK;
    for (size_t i = 0; usual_encoders[i] != NULL; i++) {
        if (avcodec_find_encoder_by_name(usual_encoders[i]) != NULL)
            av_strlcatf(list, sizeof list, "%s%s", list[0] != '\0' ? ", " : "", usual_encoders[i]);
    }
    *out = NULL;
    return vd_fail(VD_ERR_USAGE, "codec %s: this libavcodec has no such video encoder; it has %s",
                   name, list);
}

static vd_status find_pix_fmt(const AVCodec *codec, const char *name, enum AVPixelFormat *out) {
    const enum AVPixelFormat wanted = av_get_pix_fmt(name);
    const enum AVPixelFormat *formats = encoder_formats(codec);
    char list[512] = "";
    *out = AV_PIX_FMT_NONE;
    for (size_t i = 0; formats != NULL && formats[i] != AV_PIX_FMT_NONE; i++) {
        if (!format_usable(codec, formats[i]))
            continue;
        if (formats[i] == wanted)
            *out = wanted;
        av_strlcatf(list, sizeof list, "%s%s", list[0] != '\0' ? ", " : "",
                    av_get_pix_fmt_name(formats[i]));
    }
    if (formats == NULL && format_usable(codec, wanted))
        *out = wanted;
    if (*out != AV_PIX_FMT_NONE)
        return VD_OK;
    if (list[0] == '\0')
        return vd_fail(VD_ERR_USAGE, "codec %s: takes no colour frames from memory; use libx264",
                       codec->name);
    return vd_fail(VD_ERR_USAGE, "pix-fmt %s: codec %s takes %s", name, codec->name, list);
}

static const AVOption *find_option(const AVCodec *codec, const char *name) {
    if (codec->priv_class == NULL)
        return NULL;
    return av_opt_find2((void *)&codec->priv_class, name, NULL, 0, AV_OPT_SEARCH_FAKE_OBJ, NULL);
}

static bool is_lossless(const AVCodec *codec) {
    const AVCodecDescriptor *d = avcodec_descriptor_get(codec->id);
    return d != NULL && (d->props & AV_CODEC_PROP_LOSSLESS) != 0 &&
           (d->props & AV_CODEC_PROP_LOSSY) == 0;
}

/* Quality by whichever of crf (x264, x265, AV1, VP9), cq (nvenc) or a fixed quantiser there is. */
static vd_status set_quality(AVCodecContext *c, const AVCodec *codec, double crf) {
    const bool to_63 = codec->id == AV_CODEC_ID_AV1 || codec->id == AV_CODEC_ID_VP9 ||
                       codec->id == AV_CODEC_ID_VP8;
    const double most = to_63 ? 63 : 51;
    if (!(crf >= 0 && crf <= most))
        return vd_fail(VD_ERR_USAGE, "crf %g: codec %s takes 0 to %g", crf, codec->name, most);
    if (is_lossless(codec))
        return VD_OK;
    const AVOption *option = find_option(codec, "crf");
    int error = 0;
    c->bit_rate = 0;
    if (option != NULL) {
        if (option->type == AV_OPT_TYPE_INT && crf != floor(crf))
            return vd_fail(VD_ERR_USAGE, "crf %g: codec %s takes whole numbers", crf, codec->name);
        error = av_opt_set_double(c->priv_data, "crf", crf, 0);
    } else if (find_option(codec, "cq") != NULL) {
        /* To nvenc 0 means "choose yourself". */
        error = av_opt_set_double(c->priv_data, "cq", fmax(crf, 1), 0);
        if (error >= 0)
            error = av_opt_set(c->priv_data, "rc", "vbr", 0);
    } else {
        /* The MPEG-4 quantiser with H.264's step at this QP: 2 q = 2^((QP - 4) / 6). */
        double quantiser = fmin(fmax(exp2((crf - 4) / 6) / 2, 1), 31);
        c->flags |= AV_CODEC_FLAG_QSCALE;
        c->global_quality = (int)lrint(quantiser * FF_QP2LAMBDA);
    }
    if (error < 0)
        return vd_fail(VD_ERR_USAGE, "crf %g: codec %s: %s", crf, codec->name, vd_av_reason(error));
    return VD_OK;
}

static void set_colour(AVCodecContext *c, const AVPixFmtDescriptor *format) {
    c->color_primaries = AVCOL_PRI_BT709;
    if ((format->flags & AV_PIX_FMT_FLAG_RGB) != 0) {
        c->color_trc = AVCOL_TRC_IEC61966_2_1;
        c->colorspace = AVCOL_SPC_RGB;
        c->color_range = AVCOL_RANGE_JPEG;
        return;
    }
    c->color_trc = AVCOL_TRC_BT709;
    c->colorspace = AVCOL_SPC_BT709;
    c->color_range = AVCOL_RANGE_MPEG;
    if (format->log2_chroma_w == 1)
        c->chroma_sample_location = AVCHROMA_LOC_LEFT;
}

static int padded(int64_t size_px, int log2_chroma) {
    const int64_t unit = (int64_t)1 << log2_chroma;
    return (int)((size_px + unit - 1) / unit * unit);
}

static vd_status set_stream(AVCodecContext *c, const vd_sink_options *options,
                            const AVOutputFormat *format) {
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(c->pix_fmt);
    int num = 0, den = 0;
    vd_status st = vd_fps_rational(options->fps, &num, &den);
    if (st != VD_OK)
        return st;
    c->width = padded(options->width_px, d->log2_chroma_w);
    c->height = padded(options->height_px, d->log2_chroma_h);
    c->sample_aspect_ratio = (AVRational){1, 1};
    c->time_base = (AVRational){den, num};
    c->framerate = (AVRational){num, den};
    /* A key frame every two seconds: seeking stays quick. */
    c->gop_size = num >= den ? (int)((int64_t)2 * num / den) : 1;
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    if ((format->flags & AVFMT_GLOBALHEADER) != 0)
        c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    /* Apple's players know HEVC by this tag only. */
    if (c->codec_id == AV_CODEC_ID_HEVC && av_match_name(format->name, "mp4,mov"))
        c->codec_tag = MKTAG('h', 'v', 'c', '1');
    set_colour(c, d);
    return VD_OK;
}

static vd_status check_container(const AVCodec *codec, const AVOutputFormat *format) {
    if (avformat_query_codec(format, codec->id, FF_COMPLIANCE_NORMAL) == 1)
        return VD_OK;
    const char *extension = format->extensions;
    const char *advice = "name the output .mkv";
    if (strcmp(format->name, "webm") == 0)
        advice = "use libvpx-vp9 or an AV1 encoder";
    else if (strcmp(format->name, "matroska") == 0)
        advice = "use libx264 or ffv1";
    return vd_fail(VD_ERR_USAGE, "codec %s: cannot go into a .%.*s file; %s", codec->name,
                   (int)strcspn(extension, ","), extension, advice);
}

static void set_encoder_options(AVCodecContext *c, const AVCodec *codec) {
    for (size_t i = 0; i < sizeof encoder_options / sizeof encoder_options[0]; i++) {
        if (strcmp(encoder_options[i].encoder, codec->name) == 0)
            (void)av_opt_set(c->priv_data, encoder_options[i].name, encoder_options[i].value, 0);
    }
    /* x264's AVX-512 code reads memory that was never written (seen with build 164 at 64x64 and
     * 448x256): the bytes vary from one call to the next. Its AVX2 code does not, and gives what
     * its plain C code gives. */
    if (strncmp(codec->name, "libx264", 7) == 0 && (av_get_cpu_flags() & AV_CPU_FLAG_AVX512) != 0)
        (void)av_opt_set(c->priv_data, "x264-params", "asm=avx2", 0);
    /* x265 has the like with a frame that is a single block of its default size, 64. */
    if (strcmp(codec->name, "libx265") == 0)
        (void)av_opt_set(c->priv_data, "x265-params",
                         c->width <= 64 && c->height <= 64 ? X265_PARAMS ":ctu=32" : X265_PARAMS,
                         0);
}

/* SVT-AV1 writes to stderr by itself and listens to nothing but this variable. */
static void silence_svt(void) {
    (void)setenv("SVT_LOG", "0", 0);
}

vd_status vd_codec_open(const vd_sink_options *options, const AVOutputFormat *format,
                        AVCodecContext **out) {
    const AVCodec *codec = NULL;
    AVCodecContext *c = NULL;
    vd_status st = VD_OK;
    *out = NULL;
    vd_av_init();
    VD_TRY(find_encoder(options->codec, &codec));
    VD_TRY(check_container(codec, format));
    c = avcodec_alloc_context3(codec);
    if (c == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "codec %s: not enough memory", codec->name);
        goto done;
    }
    VD_TRY(find_pix_fmt(codec, options->pix_fmt, &c->pix_fmt));
    VD_TRY(set_quality(c, codec, options->crf));
    VD_TRY(set_stream(c, options, format));
    set_encoder_options(c, codec);
    if (strcmp(codec->name, "libsvtav1") == 0)
        silence_svt();
    vd_av_forget();
    int error = avcodec_open2(c, codec, NULL);
    if (error < 0) {
        st = vd_fail(error == AVERROR(ENOMEM) ? VD_ERR_MEMORY : VD_ERR_USAGE,
                     "codec %s: refuses %" PRId64 "x%" PRId64 " %s at %g frames/s: %s", codec->name,
                     options->width_px, options->height_px, options->pix_fmt, options->fps,
                     vd_av_reason(error));
        goto done;
    }
    *out = c;
    c = NULL;
done:
    avcodec_free_context(&c);
    return st;
}

/* SVT-AV1 1.x never returns from closing an encoder that has seen no frame. */
static void send_blank(AVCodecContext *c) {
    AVFrame *frame = av_frame_alloc();
    if (frame == NULL)
        return;
    frame->format = c->pix_fmt;
    frame->width = c->width;
    frame->height = c->height;
    frame->pts = 0;
    if (av_frame_get_buffer(frame, 0) >= 0) {
        for (int i = 0; i < AV_NUM_DATA_POINTERS && frame->buf[i] != NULL; i++)
            memset(frame->buf[i]->data, 0, frame->buf[i]->size);
        (void)avcodec_send_frame(c, frame);
    }
    av_frame_free(&frame);
}

void vd_codec_close(AVCodecContext **codec, int64_t frames_sent) {
    AVCodecContext *c = *codec;
    if (c != NULL && frames_sent == 0 && strcmp(c->codec->name, "libsvtav1") == 0)
        send_blank(c);
    avcodec_free_context(codec);
}

#include "encode/convert.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <libavutil/frame.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

#include "encode/av.h"

struct vd_converter {
    int width_px, height_px; /* of the RGB given, before padding */
    struct SwsContext *sws;
    AVFrame *rgb; /* padded */
    AVFrame *out;
};

static AVFrame *new_frame(enum AVPixelFormat format, int width_px, int height_px) {
    AVFrame *frame = av_frame_alloc();
    if (frame == NULL)
        return NULL;
    frame->format = format;
    frame->width = width_px;
    frame->height = height_px;
    if (av_frame_get_buffer(frame, 0) < 0)
        av_frame_free(&frame);
    return frame;
}

/* Left siting is what H.264 and HEVC assume of 4:2:0; swscale's unit is 1/256 of a luma pixel. */
static int set_chroma_siting(struct SwsContext *sws, const AVPixFmtDescriptor *format) {
    int error = 0;
    if (format->log2_chroma_w == 1)
        error = av_opt_set_int(sws, "dst_h_chr_pos", 0, 0);
    if (error >= 0 && format->log2_chroma_h == 1)
        error = av_opt_set_int(sws, "dst_v_chr_pos", 128, 0);
    return error;
}

static int open_scaler(vd_converter *c, const AVCodecContext *encoder) {
    const AVPixFmtDescriptor *format = av_pix_fmt_desc_get(encoder->pix_fmt);
    const bool rgb = (format->flags & AV_PIX_FMT_FLAG_RGB) != 0;
    const int flags =
        SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_BITEXACT;
    c->sws = sws_alloc_context();
    if (c->sws == NULL)
        return AVERROR(ENOMEM);
    int error = 0;
    const struct {
        const char *name;
        int value;
    } options[] = {{"srcw", encoder->width},
                   {"srch", encoder->height},
                   {"dstw", encoder->width},
                   {"dsth", encoder->height},
                   {"src_format", AV_PIX_FMT_RGB24},
                   {"dst_format", (int)encoder->pix_fmt},
                   {"sws_flags", flags}};
    for (size_t i = 0; i < sizeof options / sizeof options[0] && error >= 0; i++)
        error = av_opt_set_int(c->sws, options[i].name, options[i].value, 0);
    if (error >= 0)
        error = set_chroma_siting(c->sws, format);
    if (error >= 0)
        error = sws_init_context(c->sws, NULL, NULL);
    if (error >= 0 && !rgb) {
        const int *bt709 = sws_getCoefficients(SWS_CS_ITU709);
        error = sws_setColorspaceDetails(c->sws, bt709, 1, bt709, 0, 0, 1 << 16, 1 << 16);
    }
    return error;
}

vd_status vd_converter_create(const AVCodecContext *encoder, int width_px, int height_px,
                              vd_converter **out) {
    vd_status st = VD_OK;
    *out = NULL;
    vd_converter *c = calloc(1, sizeof *c);
    if (c == NULL)
        return vd_fail(VD_ERR_MEMORY, "not enough memory for the colour conversion");
    c->width_px = width_px;
    c->height_px = height_px;
    c->rgb = new_frame(AV_PIX_FMT_RGB24, encoder->width, encoder->height);
    c->out = new_frame(encoder->pix_fmt, encoder->width, encoder->height);
    if (c->rgb == NULL || c->out == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "not enough memory for frames of %dx%d", encoder->width,
                     encoder->height);
        goto done;
    }
    int error = open_scaler(c, encoder);
    if (error < 0) {
        st = vd_av_fail(VD_ERR_USAGE, error, av_get_pix_fmt_name(encoder->pix_fmt),
                        "no conversion from RGB");
        goto done;
    }
    c->out->color_primaries = encoder->color_primaries;
    c->out->color_trc = encoder->color_trc;
    c->out->colorspace = encoder->colorspace;
    c->out->color_range = encoder->color_range;
    c->out->chroma_location = encoder->chroma_sample_location;
    *out = c;
    c = NULL;
done:
    vd_converter_destroy(c);
    return st;
}

/* Repeats the last column and row into what the frame is larger. */
static void fill_padded(const vd_converter *c, const uint8_t *rgb) {
    const size_t row_bytes = 3 * (size_t)c->width_px, stride = (size_t)c->rgb->linesize[0];
    const int width = c->rgb->width, height = c->rgb->height;
    for (int y = 0; y < height; y++) {
        const int from = y < c->height_px ? y : c->height_px - 1;
        uint8_t *to = c->rgb->data[0] + (size_t)y * stride;
        memcpy(to, rgb + (size_t)from * row_bytes, row_bytes);
        for (int x = c->width_px; x < width; x++)
            memcpy(to + 3 * (size_t)x, to + row_bytes - 3, 3);
    }
}

vd_status vd_converter_run(vd_converter *c, const uint8_t *rgb, AVFrame **out) {
    *out = NULL;
    fill_padded(c, rgb);
    /* The encoder may still hold the last frame's planes. */
    if (av_frame_make_writable(c->out) < 0)
        return vd_fail(VD_ERR_MEMORY, "not enough memory for a frame of %dx%d", c->out->width,
                       c->out->height);
    int rows = sws_scale(c->sws, (const uint8_t *const *)c->rgb->data, c->rgb->linesize, 0,
                         c->rgb->height, c->out->data, c->out->linesize);
    if (rows != c->out->height)
        return vd_fail(VD_ERR_OUTPUT, "colour conversion gave %d of %d rows", rows, c->out->height);
    *out = c->out;
    return VD_OK;
}

void vd_converter_destroy(vd_converter *c) {
    if (c == NULL)
        return;
    sws_freeContext(c->sws);
    av_frame_free(&c->rgb);
    av_frame_free(&c->out);
    free(c);
}

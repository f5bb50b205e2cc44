#include "encode/frames.h"

#include <stdlib.h>
#include <string.h>

#include <libswscale/swscale.h>

#include "encode/reader.h"
#include "encode/sink_kind.h"

typedef struct frame_converter {
    const vd_reader *reader;
    vd_frame_fn fn;
    void *user;
    struct SwsContext *sws;
    AVFrame *rgb;    /* as coded: swscale may write beyond the width */
    uint8_t *packed; /* [height_px, width_px, 3], the true size */
    int width_px, height_px;
} frame_converter;

/* The size before padding; the coded one if the file does not say, or says what cannot be. */
static void find_true_size(frame_converter *c, int coded_width_px, int coded_height_px) {
    const AVDictionaryEntry *entry =
        av_dict_get(c->reader->demuxer->metadata, VD_SINK_SIZE_KEY, NULL, 0);
    long long width = 0, height = 0;
    char *end = NULL;
    if (entry != NULL) {
        width = strtoll(entry->value, &end, 10);
        height = *end == 'x' ? strtoll(end + 1, &end, 10) : 0;
    }
    const bool likely = width > 0 && height > 0 && width <= coded_width_px &&
                        height <= coded_height_px && width + 16 > coded_width_px &&
                        height + 16 > coded_height_px;
    c->width_px = likely ? (int)width : coded_width_px;
    c->height_px = likely ? (int)height : coded_height_px;
}

static vd_status no_memory(const frame_converter *c, const AVFrame *picture) {
    return vd_fail(VD_ERR_MEMORY, "%s: not enough memory for frames of %dx%d", c->reader->path,
                   picture->width, picture->height);
}

static vd_status prepare(frame_converter *c, const AVFrame *picture) {
    const int flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT;
    if (c->packed == NULL) {
        find_true_size(c, picture->width, picture->height);
        c->packed = malloc((size_t)c->width_px * (size_t)c->height_px * 3);
        c->rgb = av_frame_alloc();
        if (c->packed == NULL || c->rgb == NULL)
            return no_memory(c, picture);
        c->rgb->format = AV_PIX_FMT_RGB24;
        c->rgb->width = picture->width;
        c->rgb->height = picture->height;
        if (av_frame_get_buffer(c->rgb, 0) < 0)
            return no_memory(c, picture);
    }
    c->sws = sws_getCachedContext(c->sws, picture->width, picture->height,
                                  (enum AVPixelFormat)picture->format, picture->width,
                                  picture->height, AV_PIX_FMT_RGB24, flags, NULL, NULL, NULL);
    if (c->sws == NULL)
        return no_memory(c, picture);
    /* Sources in RGB have no matrix: the call fails then, which is right. */
    const int *matrix = sws_getCoefficients(
        picture->colorspace == AVCOL_SPC_UNSPECIFIED ? SWS_CS_DEFAULT : (int)picture->colorspace);
    (void)sws_setColorspaceDetails(c->sws, matrix, picture->color_range == AVCOL_RANGE_JPEG,
                                   sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    return VD_OK;
}

static vd_status convert_picture(void *user, const AVFrame *picture) {
    frame_converter *c = user;
    vd_status st = prepare(c, picture);
    if (st != VD_OK)
        return st;
    const int rows = sws_scale(c->sws, (const uint8_t *const *)picture->data, picture->linesize, 0,
                               picture->height, c->rgb->data, c->rgb->linesize);
    if (rows != picture->height)
        return vd_fail(VD_ERR_INPUT, "%s: frame %lld cannot be converted to RGB", c->reader->path,
                       (long long)c->reader->frames);
    const size_t row_bytes = 3 * (size_t)c->width_px;
    for (int y = 0; y < c->height_px; y++)
        memcpy(c->packed + (size_t)y * row_bytes,
               c->rgb->data[0] + (ptrdiff_t)y * c->rgb->linesize[0], row_bytes);
    return c->fn(c->user, c->packed, c->width_px, c->height_px);
}

vd_status vd_frames_read(const char *path, int threads, vd_frame_fn fn, void *user) {
    vd_reader r = {0};
    frame_converter c = {.reader = &r, .fn = fn, .user = user};
    vd_status st = VD_OK;
    VD_TRY(vd_reader_open(&r, path));
    VD_TRY(vd_reader_open_decoder(&r, threads));
    VD_TRY(vd_reader_run(&r, convert_picture, &c));
done:
    sws_freeContext(c.sws);
    free(c.packed);
    av_frame_free(&c.rgb);
    vd_reader_close(&r);
    return st;
}

/* PNG frames, one file each, by libavcodec's encoder. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libavcodec/avcodec.h>
#include <libavutil/opt.h>

#include "core/text.h"
#include "encode/av.h"
#include "encode/convert.h"
#include "encode/part_file.h"
#include "encode/png_text.h"
#include "encode/probe.h"
#include "encode/sink_kind.h"

typedef struct name_pattern {
    char *before, *after; /* around the number */
    int digits;
    bool numbered; /* false: the name of the only frame */
} name_pattern;

typedef struct png_sink {
    name_pattern pattern;
    AVCodecContext *encoder;
    vd_converter *converter;
    AVPacket *packet;
    uint8_t *text; /* chunks that go into every frame */
    size_t text_bytes;
    vd_part_file *parts; /* [frame_count], `frames` of them made */
    int64_t frames;
} png_sink;

static vd_status bad_pattern(const char *path) {
    return vd_fail(VD_ERR_USAGE,
                   "output %s: the name of PNG frames must hold one %%d or %%0Nd (N 1 to 9), such "
                   "as frame%%04d.png; only a single frame needs none",
                   path);
}

/* "%%" stands for '%'; a folder after the number would need making, so there may be none. */
static vd_status parse_pattern(const char *path, int64_t frames, name_pattern *out) {
    const size_t bytes = strlen(path) + 1;
    bool found = false;
    *out = (name_pattern){malloc(bytes), malloc(bytes), 0, false};
    if (out->before == NULL || out->after == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory for a file name", path);
    char *to = out->before;
    for (const char *p = path; *p != '\0'; p++) {
        if (*p != '%') {
            if (*p == '/' && found)
                return bad_pattern(path);
            *to++ = *p;
        } else if (p[1] == '%') {
            *to++ = *p++;
        } else {
            p++;
            if (p[0] == '0' && p[1] >= '1' && p[1] <= '9') {
                out->digits = p[1] - '0';
                p += 2;
            }
            if (*p != 'd' || found)
                return bad_pattern(path);
            found = true;
            *to = '\0';
            to = out->after;
        }
    }
    *to = '\0';
    out->numbered = found;
    return found || frames == 1 ? VD_OK : bad_pattern(path);
}

static void free_pattern(name_pattern *pattern) {
    free(pattern->before);
    free(pattern->after);
    *pattern = (name_pattern){0};
}

static vd_status frame_name(const name_pattern *pattern, int64_t number, char **out) {
    *out = pattern->numbered ? vd_format("%s%0*" PRId64 "%s", pattern->before, pattern->digits,
                                         number, pattern->after)
                             : vd_format("%s", pattern->before);
    return *out ? VD_OK
                : vd_fail(VD_ERR_MEMORY, "frame %" PRId64 ": not enough memory for a name", number);
}

vd_status vd_png_frame_name(const char *path, int64_t number, char **out) {
    name_pattern pattern = {0};
    *out = NULL;
    vd_status st = parse_pattern(path, number, &pattern);
    if (st == VD_OK)
        st = frame_name(&pattern, number, out);
    free_pattern(&pattern);
    return st;
}

bool vd_png_is_frame(const char *path, const char *name) {
    name_pattern pattern = {0};
    bool is = false;
    if (parse_pattern(path, 1, &pattern) == VD_OK) {
        const char *slash = strrchr(pattern.before, '/');
        const char *before = slash != NULL ? slash + 1 : pattern.before;
        size_t n = strlen(before), digits = 0;
        if (pattern.numbered && strncmp(name, before, n) == 0)
            digits = strspn(name + n, "0123456789");
        is = pattern.numbered ? digits > 0 && strcmp(name + n + digits, pattern.after) == 0
                              : strcmp(name, before) == 0;
    }
    free_pattern(&pattern);
    return is;
}

static vd_status create_part(const name_pattern *pattern, int64_t number, vd_part_file *part) {
    char *path = NULL;
    *part = (vd_part_file){0};
    vd_status st = frame_name(pattern, number, &path);
    if (st == VD_OK)
        st = vd_part_file_create(part, path);
    free(path);
    return st;
}

static void png_destroy(void *state) {
    png_sink *s = state;
    if (s == NULL)
        return;
    for (int64_t i = 0; i < s->frames; i++)
        vd_part_file_discard(&s->parts[i]);
    free(s->parts);
    free(s->text);
    av_packet_free(&s->packet);
    avcodec_free_context(&s->encoder);
    vd_converter_destroy(s->converter);
    free_pattern(&s->pattern);
    free(s);
}

static vd_status png_check(const vd_sink_options *options) {
    name_pattern pattern = {0};
    vd_part_file part = {0};
    vd_status st = parse_pattern(options->path, options->frame_count, &pattern);
    if (st == VD_OK)
        st = create_part(&pattern, 1, &part);
    vd_part_file_discard(&part);
    free_pattern(&pattern);
    return st;
}

static vd_status open_encoder(png_sink *s, const vd_sink_options *options) {
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (codec == NULL)
        return vd_fail(VD_ERR_USAGE, "%s: this libavcodec has no PNG encoder; write a video",
                       options->path);
    s->encoder = avcodec_alloc_context3(codec);
    s->packet = av_packet_alloc();
    if (s->encoder == NULL || s->packet == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory", options->path);
    s->encoder->width = (int)options->width_px;
    s->encoder->height = (int)options->height_px;
    s->encoder->pix_fmt = AV_PIX_FMT_RGB24;
    s->encoder->time_base = (AVRational){1, 25}; /* PNG has no time, avcodec_open2 wants one */
    s->encoder->sample_aspect_ratio = (AVRational){1, 1};
    s->encoder->thread_count = 1;
    s->encoder->color_primaries = AVCOL_PRI_BT709;
    s->encoder->color_trc = AVCOL_TRC_IEC61966_2_1;
    s->encoder->colorspace = AVCOL_SPC_RGB;
    s->encoder->color_range = AVCOL_RANGE_JPEG;
    (void)av_opt_set(s->encoder->priv_data, "pred", "mixed", 0);
    int error = avcodec_open2(s->encoder, codec, NULL);
    if (error < 0)
        return vd_av_fail(VD_ERR_USAGE, error, options->path, "PNG encoder");
    return vd_converter_create(s->encoder, s->encoder->width, s->encoder->height, &s->converter);
}

/* The options' entries, the comment and the size. */
static vd_status make_text(png_sink *s, const vd_sink_options *options) {
    char size[32];
    size_t count = 0;
    vd_metadata *all = calloc(options->metadata_count + 2, sizeof *all);
    if (all == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory for metadata", options->path);
    (void)snprintf(size, sizeof size, "%" PRId64 "x%" PRId64, options->width_px,
                   options->height_px);
    all[count++] = (vd_metadata){VD_SINK_SIZE_KEY, size};
    for (size_t i = 0; i < options->metadata_count; i++)
        all[count++] = options->metadata[i];
    if (options->comment != NULL)
        all[count++] = (vd_metadata){"comment", options->comment};
    vd_status st = vd_png_text_write(all, count, &s->text, &s->text_bytes);
    free(all);
    return st;
}

static vd_status png_open(const vd_sink_options *options, void **state) {
    vd_status st = VD_OK;
    *state = NULL;
    vd_av_init();
    png_sink *s = calloc(1, sizeof *s);
    if (s == NULL || (s->parts = calloc((size_t)options->frame_count, sizeof *s->parts)) == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "%s: not enough memory", options->path);
        goto done;
    }
    VD_TRY(png_check(options));
    VD_TRY(parse_pattern(options->path, options->frame_count, &s->pattern));
    VD_TRY(open_encoder(s, options));
    VD_TRY(make_text(s, options));
    *state = s;
    s = NULL;
done:
    png_destroy(s);
    return st;
}

static vd_status store(const png_sink *s, const vd_part_file *part) {
    const uint8_t *png = s->packet->data;
    const size_t bytes = (size_t)s->packet->size;
    FILE *file = fopen(part->temp, "wbe");
    bool good = file != NULL && bytes > VD_PNG_HEADER_BYTES &&
                fwrite(png, VD_PNG_HEADER_BYTES, 1, file) == 1 &&
                fwrite(s->text, s->text_bytes, 1, file) == 1 &&
                fwrite(png + VD_PNG_HEADER_BYTES, bytes - VD_PNG_HEADER_BYTES, 1, file) == 1;
    int error = errno;
    if (file != NULL && fclose(file) != 0 && good) {
        error = errno;
        good = false;
    }
    if (!good)
        return vd_fail(VD_ERR_OUTPUT, "%s: writing failed: %s", part->target, strerror(error));
    return VD_OK;
}

static vd_status png_write(void *state, const uint8_t *rgb) {
    png_sink *s = state;
    AVFrame *frame = NULL;
    vd_status st = VD_OK;
    vd_part_file *part = &s->parts[s->frames++];
    VD_TRY(create_part(&s->pattern, s->frames, part));
    VD_TRY(vd_converter_run(s->converter, rgb, &frame));
    int error = avcodec_send_frame(s->encoder, frame);
    if (error >= 0)
        error = avcodec_receive_packet(s->encoder, s->packet);
    if (error < 0) {
        st = vd_av_fail(VD_ERR_OUTPUT, error, part->target, "PNG encoding failed");
        goto done;
    }
    VD_TRY(store(s, part));
done:
    av_packet_unref(s->packet);
    return st;
}

static vd_status verify(const png_sink *s, const vd_part_file *part) {
    vd_media_info *info = NULL;
    vd_status st = vd_probe(part->temp, VD_PROBE_DECODE, 1, &info);
    if (st == VD_ERR_INPUT)
        return vd_fail_in(VD_ERR_OUTPUT, "%s: does not read back", part->target);
    if (st == VD_OK && (info->width_px != s->encoder->width ||
                        info->height_px != s->encoder->height || info->frame_count != 1))
        st = vd_fail(VD_ERR_OUTPUT, "%s: reads back as %" PRId64 " frames of %dx%d", part->target,
                     info->frame_count, info->width_px, info->height_px);
    vd_media_info_destroy(info);
    return st;
}

static vd_status png_finish(void *state) {
    png_sink *s = state;
    for (int64_t i = 0; i < s->frames; i++) {
        vd_status st = verify(s, &s->parts[i]);
        if (st != VD_OK)
            return st;
    }
    for (int64_t i = 0; i < s->frames; i++) {
        vd_status st = vd_part_file_commit(&s->parts[i]);
        if (st == VD_OK)
            continue;
        while (i-- > 0)
            (void)unlink(s->parts[i].target);
        return st;
    }
    return VD_OK;
}

const vd_sink_kind vd_sink_kind_png = {png_check, png_open, png_write, png_finish, png_destroy};

#include "encode/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <libavutil/pixdesc.h>

#include "core/text.h"
#include "encode/png_text.h"
#include "encode/reader.h"

#define PNG_BYTES_MAX ((size_t)1 << 30)

static void put_name(char out[32], const char *name) {
    (void)snprintf(out, 32, "%s", name != NULL ? name : "unknown");
}

static void fill_info(const vd_reader *r, vd_media_info *info) {
    const AVStream *stream = vd_reader_stream(r);
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

static vd_status add_container_metadata(const vd_reader *r, vd_media_info *info) {
    const AVDictionaryEntry *entry = NULL;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): as in vd_reader_stream
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

vd_status vd_probe(const char *path, vd_probe_depth depth, int threads, vd_media_info **out) {
    vd_reader r = {0};
    vd_status st = VD_OK;
    *out = NULL;
    vd_media_info *info = calloc(1, sizeof *info);
    if (info == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory", path);
    VD_TRY(vd_reader_open(&r, path));
    if (depth == VD_PROBE_DECODE)
        VD_TRY(vd_reader_open_decoder(&r, threads));
    VD_TRY(vd_reader_run(&r, NULL, NULL));
    fill_info(&r, info);
    VD_TRY(r.png ? finish_png(path, info) : add_container_metadata(&r, info));
    *out = info;
    info = NULL;
done:
    vd_reader_close(&r);
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

#include "encode/sink.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/text.h"
#include "encode/codec.h"
#include "encode/part_file.h"
#include "encode/sink_kind.h"

#define SIZE_PX_MAX 16384
#define FRAME_COUNT_MAX 1000000
#define KEY_BYTES_MAX 79

struct vd_frame_sink {
    const vd_sink_kind *kind;
    void *state;
    char *path;
    size_t frame_bytes;
    int64_t frame_count, written;
    bool closed; /* failed or finished */
    vd_sha256_state hash;
};

/* The nearest fraction with this denominator, reduced, if it is near enough. */
static bool fits(double fps, int d, double tolerance, int *num, int *den) {
    const int n = (int)lrint(fps * d);
    if (n < 1 || fabs((double)n / d - fps) > tolerance)
        return false;
    int a = n, b = d;
    while (b != 0) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    *num = n / a;
    *den = d / a;
    return true;
}

vd_status vd_fps_rational(double fps, int *num, int *den) {
    static const int ntsc[] = {12, 15, 24, 30, 48, 60, 90, 120, 240};
    *num = 0;
    *den = 1;
    if (!(fps >= 0.1 && fps <= 1000))
        return vd_fail(VD_ERR_USAGE, "fps %g: must be 0.1 to 1000", fps);
    for (size_t i = 0; i < sizeof ntsc / sizeof ntsc[0]; i++) {
        if (fabs(fps - ntsc[i] * 1000 / 1001.0) < 0.0005) {
            *num = ntsc[i] * 1000;
            *den = 1001;
            return VD_OK;
        }
    }
    for (int d = 1; d <= 10000; d *= 10) {
        if (fits(fps, d, 1e-9 * fps, num, den))
            return VD_OK;
    }
    for (int d = 1; d <= 1001; d++) {
        if (fits(fps, d, 1e-7 * fps, num, den))
            return VD_OK;
    }
    return vd_fail(VD_ERR_USAGE,
                   "fps %.9g: has more decimals than four and is no fraction with a denominator "
                   "up to 1001",
                   fps);
}

static bool has_extension(const char *path, const char *extension) {
    size_t n = strlen(path), m = strlen(extension);
    return n >= m && strcasecmp(path + n - m, extension) == 0;
}

static vd_status choose_kind(const char *path, const vd_sink_kind **out) {
    if (path == NULL || path[0] == '\0')
        return vd_fail(VD_ERR_USAGE, "output: no path given");
    if (strcmp(path, "-") == 0)
        return vd_fail(VD_ERR_USAGE, "output -: a file appears whole or not at all, so standard "
                                     "output cannot be one; name a file");
    if (strcmp(path, "hash:") == 0 || strcmp(path, "null:") == 0)
        *out = &vd_sink_kind_none;
    else if (has_extension(path, ".png"))
        *out = &vd_sink_kind_png;
    else if (vd_video_format(path) != NULL)
        *out = &vd_sink_kind_video;
    else
        return vd_fail(
            VD_ERR_USAGE,
            "output %s: unknown kind; use .mp4, .mov, .mkv, .webm, .png, %%04d.png, hash: or "
            "null:",
            path);
    return VD_OK;
}

vd_status vd_sink_file(const char *path, int64_t number, char **out) {
    const vd_sink_kind *kind = &vd_sink_kind_none;
    *out = NULL;
    vd_status st = choose_kind(path, &kind);
    if (st != VD_OK || kind == &vd_sink_kind_none)
        return st;
    if (kind == &vd_sink_kind_png)
        return vd_png_frame_name(path, number, out);
    *out = strdup(path);
    return *out != NULL ? VD_OK : vd_fail(VD_ERR_MEMORY, "%s: not enough memory", path);
}

void vd_sink_sweep(const char *path, bool all) {
    const vd_sink_kind *kind = &vd_sink_kind_none;
    if (choose_kind(path, &kind) == VD_OK && kind != &vd_sink_kind_none)
        vd_part_file_sweep(path, kind == &vd_sink_kind_png ? vd_png_is_frame : NULL, all);
}

static vd_status check_metadata(const vd_metadata *entry) {
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:";
    if (entry->key == NULL || entry->value == NULL)
        return vd_fail(VD_ERR_USAGE, "metadata: an entry without key or value");
    size_t bytes = strlen(entry->key);
    if (bytes == 0 || bytes > KEY_BYTES_MAX || strspn(entry->key, letters) != bytes)
        return vd_fail(VD_ERR_USAGE,
                       "metadata key \"%s\": must be 1 to %d of A-Z a-z 0-9 _ . :", entry->key,
                       KEY_BYTES_MAX);
    if (!vd_utf8_valid(entry->value, strlen(entry->value)))
        return vd_fail(VD_ERR_USAGE, "metadata %s: the value is not UTF-8", entry->key);
    return VD_OK;
}

static vd_status check_common(const vd_sink_options *o, const vd_sink_kind **kind) {
    int num = 0, den = 0;
    vd_status st = choose_kind(o->path, kind);
    if (st != VD_OK)
        return st;
    if (o->width_px < 1 || o->width_px > SIZE_PX_MAX || o->height_px < 1 ||
        o->height_px > SIZE_PX_MAX)
        return vd_fail(VD_ERR_USAGE, "size %" PRId64 "x%" PRId64 ": must be 1 to %d pixels a side",
                       o->width_px, o->height_px, SIZE_PX_MAX);
    st = vd_fps_rational(o->fps, &num, &den);
    if (st != VD_OK)
        return st;
    if (o->frame_count < 1 || o->frame_count > FRAME_COUNT_MAX)
        return vd_fail(VD_ERR_USAGE, "frames %" PRId64 ": must be 1 to %d", o->frame_count,
                       FRAME_COUNT_MAX);
    if (o->threads < 1)
        return vd_fail(VD_ERR_USAGE, "threads %d: must be at least 1", o->threads);
    if (!(o->crf >= 0 && o->crf <= 63))
        return vd_fail(VD_ERR_USAGE, "crf %g: must be 0 to 51 (AV1 and VP9: 63)", o->crf);
    if (o->codec == NULL || o->pix_fmt == NULL)
        return vd_fail(VD_ERR_USAGE, "output %s: no codec or no pix-fmt given", o->path);
    if (o->metadata_count > 0 && o->metadata == NULL)
        return vd_fail(VD_ERR_USAGE, "metadata: entries missing");
    for (size_t i = 0; i < o->metadata_count && st == VD_OK; i++)
        st = check_metadata(&o->metadata[i]);
    if (st == VD_OK && o->comment != NULL)
        st = check_metadata(&(vd_metadata){"comment", o->comment});
    return st;
}

vd_status vd_sink_options_check(const vd_sink_options *options) {
    const vd_sink_kind *kind = &vd_sink_kind_none;
    vd_status st = check_common(options, &kind);
    return st == VD_OK ? kind->check(options) : st;
}

vd_status vd_frame_sink_open(const vd_sink_options *options, vd_frame_sink **out) {
    const vd_sink_kind *kind = &vd_sink_kind_none;
    vd_frame_sink *sink = NULL;
    *out = NULL;
    vd_status st = VD_OK;
    VD_TRY(check_common(options, &kind));
    sink = calloc(1, sizeof *sink);
    if (sink == NULL || (sink->path = strdup(options->path)) == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "%s: not enough memory", options->path);
        goto done;
    }
    sink->frame_bytes = 3 * (size_t)options->width_px * (size_t)options->height_px;
    sink->frame_count = options->frame_count;
    vd_sha256_begin(&sink->hash);
    sink->kind = kind;
    VD_TRY(kind->open(options, &sink->state));
    *out = sink;
    sink = NULL;
done:
    vd_frame_sink_destroy(sink);
    return st;
}

vd_status vd_frame_sink_write(vd_frame_sink *sink, const uint8_t *rgb) {
    if (sink->closed)
        return vd_fail(VD_ERR_USAGE, "%s: is finished or has failed", sink->path);
    if (sink->written == sink->frame_count)
        return vd_fail(VD_ERR_USAGE, "%s: has its %" PRId64 " frames", sink->path,
                       sink->frame_count);
    vd_status st = sink->kind->write(sink->state, rgb);
    if (st != VD_OK) {
        sink->closed = true;
        return st;
    }
    vd_sha256_add(&sink->hash, rgb, sink->frame_bytes);
    sink->written++;
    return VD_OK;
}

vd_status vd_frame_sink_finish(vd_frame_sink *sink) {
    if (sink->closed)
        return vd_fail(VD_ERR_USAGE, "%s: is finished or has failed", sink->path);
    sink->closed = true;
    if (sink->written != sink->frame_count)
        return vd_fail(VD_ERR_USAGE, "%s: got %" PRId64 " of %" PRId64 " frames", sink->path,
                       sink->written, sink->frame_count);
    return sink->kind->finish(sink->state);
}

void vd_frame_sink_destroy(vd_frame_sink *sink) {
    if (sink == NULL)
        return;
    if (sink->kind != NULL)
        sink->kind->destroy(sink->state);
    free(sink->path);
    free(sink);
}

void vd_frame_sink_digest(const vd_frame_sink *sink, char hex[VD_SHA256_HEX_BYTES]) {
    vd_sha256_state hash = sink->hash;
    uint8_t digest[VD_SHA256_BYTES];
    vd_sha256_end(&hash, digest);
    (void)vd_sha256_hex(digest, hex);
}

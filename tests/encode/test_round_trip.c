/* Files as ffprobe sees them: sizes, rates, times, tags, the order of boxes, the same bytes twice.
 */
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "tests/check.h"
#include "tests/encode/media.h"

typedef struct clip_case {
    const char *name, *codec, *pix_fmt;
    bool required; /* FFmpeg's own encoders and the default; the others may be compiled out */
    int width_px, height_px;
    double fps;
    int64_t frames;
    /* Expected of ffprobe. */
    int coded_width, coded_height;
    const char *codec_name, *tag, *rate;
} clip_case;

static const clip_case cases[] = {
    {"a.mp4", "libx264", "yuv420p", true, 64, 64, 8, 16, 64, 64, "h264", "avc1", "8/1"},
    {"b.mp4", "libx264", "yuv420p", true, 66, 50, 12.5, 16, 66, 50, "h264", "avc1", "25/2"},
    {"c.mp4", "libx264", "yuv420p", true, 65, 63, 23.976, 24, 66, 64, "h264", "avc1", "24000/1001"},
    {"d.mp4", "libx264", "yuv420p", true, 2, 2, 30, 1, 2, 2, "h264", "avc1", "30/1"},
    {"e.mp4", "libx264", "yuv444p", true, 65, 63, 8, 5, 65, 63, "h264", "avc1", "8/1"},
    {"large.mp4", "libx264", "yuv420p", true, 448, 256, 8, 16, 448, 256, "h264", "avc1", "8/1"},
    {"f.mov", "libx264", "yuv420p", true, 64, 64, 29.97, 16, 64, 64, "h264", "avc1", "30000/1001"},
    {"g.mp4", "mpeg4", "yuv420p", true, 66, 50, 30, 16, 66, 50, "mpeg4", "mp4v", "30/1"},
    {"h.mkv", "ffv1", "bgr0", true, 65, 63, 8, 16, 65, 63, "ffv1", "FFV1", "8/1"},
    {"i.mkv", "libx264", "yuv420p", true, 64, 64, 12.5, 16, 64, 64, "h264", "[0][0][0][0]", "25/2"},
    {"j.mp4", "libx265", "yuv420p", false, 64, 64, 23.976, 16, 64, 64, "hevc", "hvc1",
     "24000/1001"},
    {"k.mp4", "libaom-av1", "yuv420p", false, 65, 63, 8, 5, 66, 64, "av1", "av01", "8/1"},
    {"l.mp4", "libsvtav1", "yuv420p", false, 64, 64, 8, 5, 64, 64, "av1", "av01", "8/1"},
    {"m.webm", "libvpx-vp9", "yuv420p", false, 66, 50, 30, 16, 66, 50, "vp9", "[0][0][0][0]",
     "30/1"},
};

#define STREAM(doc, key) MEDIA_TEXT(doc, "streams", "0", key)
#define CHECK_STREAM(doc, key, wanted)                                                             \
    CHECK_MSG(strcmp(STREAM(doc, key), wanted) == 0, "%s: %s is %s, not %s", c->name, key,         \
              STREAM(doc, key), wanted)

static long number(const char *text) {
    return strtol(text, NULL, 10);
}

/* What so many frames last at a rate "NUM/DEN". */
static double seconds(int64_t frames, const char *rate) {
    char *slash = NULL;
    double num = strtod(rate, &slash);
    return (double)frames * strtod(slash + 1, NULL) / num;
}

static bool is_matroska(const char *name) {
    return strstr(name, ".mkv") != NULL || strstr(name, ".webm") != NULL;
}

/* Sorted presentation times are exactly n / fps from 0 (Matroska: to its millisecond). */
static void check_times(const clip_case *c, const char *path) {
    vd_json *doc = media_ffprobe(path, "-show_packets");
    CHECK(doc != NULL);
    const vd_json_value *packets = doc != NULL ? vd_json_get(vd_json_root(doc), "packets") : NULL;
    CHECK((int64_t)vd_json_size(packets) == c->frames);
    const double tick = is_matroska(c->name) ? 1e-3 : 1e-6; /* ffprobe prints six decimals */
    int64_t matched = 0;
    for (int64_t n = 0; n < c->frames; n++) {
        const double wanted = seconds(n, c->rate);
        const vd_json_value *p = packets != NULL ? vd_json_first(packets) : NULL;
        for (; p != NULL; p = vd_json_next(p)) {
            const vd_json_value *time = vd_json_get(p, "pts_time");
            if (time != NULL && fabs(strtod(vd_json_string(time), NULL) - wanted) <= tick) {
                matched++;
                break;
            }
        }
    }
    CHECK_MSG(matched == c->frames, "%s: %lld of %lld frames are where they belong", c->name,
              (long long)matched, (long long)c->frames);
    vd_json_destroy(doc);
}

static void check_clip(const clip_case *c, const char *path) {
    char text[32];
    vd_json *doc = media_ffprobe(path, "-show_format -show_streams -count_frames");
    CHECK(doc != NULL);
    CHECK_STREAM(doc, "codec_name", c->codec_name);
    CHECK_STREAM(doc, "codec_tag_string", c->tag);
    CHECK_STREAM(doc, "pix_fmt", c->pix_fmt);
    CHECK_STREAM(doc, "r_frame_rate", c->rate);
    CHECK_STREAM(doc, "avg_frame_rate", c->rate);
    CHECK_STREAM(doc, "start_pts", "0");
    const bool rgb = strcmp(c->pix_fmt, "bgr0") == 0;
    CHECK_STREAM(doc, "color_range", rgb ? "pc" : "tv");
    CHECK_STREAM(doc, "color_space", rgb ? "gbr" : "bt709");
    CHECK_STREAM(doc, "color_primaries", "bt709");
    CHECK_STREAM(doc, "color_transfer", rgb ? "iec61966-2-1" : "bt709");
    CHECK(number(STREAM(doc, "width")) == c->coded_width);
    CHECK(number(STREAM(doc, "height")) == c->coded_height);
    CHECK(number(STREAM(doc, "nb_read_frames")) == c->frames);
    const double length = strtod(MEDIA_TEXT(doc, "format", "duration"), NULL);
    const double wanted = seconds(c->frames, c->rate);
    /* ffprobe prints microseconds; Matroska rounds each of start and end to a millisecond. */
    const double tick = is_matroska(c->name) ? 2e-3 : 1e-6;
    CHECK_MSG(fabs(length - wanted) <= tick, "%s: %.9g s, not %.9g", c->name, length, wanted);
    if (!is_matroska(c->name)) {
        CHECK(number(STREAM(doc, "nb_frames")) == c->frames);
        CHECK(fabs(strtod(STREAM(doc, "duration"), NULL) - wanted) <= 1e-6);
    }
    (void)snprintf(text, sizeof text, "%dx%d", c->width_px, c->height_px);
    const char *key = is_matroska(c->name) ? "VIDILATE:SIZE" : "vidilate:size";
    CHECK(strcmp(MEDIA_TEXT(doc, "format", "tags", key), text) == 0);
    vd_json_destroy(doc);
    check_times(c, path);
}

/* The order of the boxes at the top level, read here. */
static void check_moov_first(const char *path) {
    char *data = NULL;
    size_t bytes = 0, at = 0, moov = 0, mdat = 0;
    CHECK_OK(vd_read_file(path, 1 << 24, &data, &bytes));
    while (data != NULL && at + 8 <= bytes) {
        const uint8_t *b = (const uint8_t *)data + at;
        size_t size = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
        if (size < 8)
            break;
        if (memcmp(b + 4, "moov", 4) == 0)
            moov = at;
        if (memcmp(b + 4, "mdat", 4) == 0)
            mdat = at;
        at += size;
    }
    CHECK_MSG(at == bytes, "%s: boxes end at %zu of %zu", path, at, bytes);
    CHECK_MSG(moov > 0 && moov < mdat, "%s: moov at %zu, mdat at %zu", path, moov, mdat);
    /* colr sits in moov, with the nclx triple 1-1-1 and limited range. */
    static const uint8_t colr[] = {'c', 'o', 'l', 'r', 'n', 'c', 'l', 'x', 0, 1, 0, 1, 0, 1, 0};
    CHECK(data != NULL && memmem(data, bytes, colr, sizeof colr) != NULL);
    free(data);
}

static void check_same_bytes(const vd_sink_options *options, const char *first) {
    vd_sink_options again = *options;
    const char *dot = strrchr(first, '.');
    char *path = vd_format("out_round_trip/again%s", dot);
    char *a = NULL, *b = NULL;
    size_t a_bytes = 0, b_bytes = 0;
    again.path = path;
    again.threads = 4;
    /* Encoders that read what they never wrote show it when fresh memory looks otherwise. */
    (void)mallopt(M_PERTURB, 85);
    CHECK_OK(media_write_clip(&again, NULL));
    (void)mallopt(M_PERTURB, 0);
    CHECK_OK(vd_read_file(first, 1 << 24, &a, &a_bytes));
    CHECK_OK(vd_read_file(path, 1 << 24, &b, &b_bytes));
    CHECK_MSG(a != NULL && b != NULL && a_bytes == b_bytes && memcmp(a, b, a_bytes) == 0,
              "%s: written twice, other bytes", first);
    free(a);
    free(b);
    free(path);
}

static void test_matrix(void) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const clip_case *c = &cases[i];
        char *path = vd_format("out_round_trip/%s", c->name);
        vd_sink_options o = media_options(path);
        o.codec = c->codec;
        o.pix_fmt = c->pix_fmt;
        o.width_px = c->width_px;
        o.height_px = c->height_px;
        o.fps = c->fps;
        o.frame_count = c->frames;
        vd_status st = vd_sink_options_check(&o);
        if (!c->required && st == VD_ERR_USAGE &&
            strstr(vd_error_message(), "no such video encoder") != NULL) {
            printf("%s is not compiled in\n", c->codec);
            free(path);
            continue;
        }
        CHECK_MSG(st == VD_OK, "%s: %s", c->name, vd_error_message());
        CHECK_OK(media_write_clip(&o, NULL));
        check_clip(c, path);
        if (strstr(c->name, ".mp4") != NULL)
            check_moov_first(path);
        check_same_bytes(&o, path);
        free(path);
    }
}

/* Two seconds at most from any frame back to a key frame. */
static void test_key_frames(void) {
    vd_sink_options o = media_options("out_round_trip/keys.mp4");
    int since_key = 0, longest = 0, keys = 0;
    o.frame_count = 50;
    CHECK_OK(media_write_clip(&o, NULL));
    vd_json *doc = media_ffprobe(o.path, "-show_packets");
    CHECK(doc != NULL);
    const vd_json_value *packets = doc != NULL ? vd_json_get(vd_json_root(doc), "packets") : NULL;
    const vd_json_value *p = packets != NULL ? vd_json_first(packets) : NULL;
    for (; p != NULL; p = vd_json_next(p)) {
        const vd_json_value *flags = vd_json_get(p, "flags");
        bool key = flags != NULL && vd_json_string(flags)[0] == 'K';
        since_key = key ? 1 : since_key + 1;
        keys += key;
        longest = since_key > longest ? since_key : longest;
    }
    CHECK(vd_json_size(packets) == 50);
    CHECK_MSG(longest <= 16 && keys >= 4, "%d key frames, the longest stretch %d", keys, longest);
    vd_json_destroy(doc);
}

static void test_metadata(void) {
    static const char value[] = "a=b; \"c\" \\ \n second line\tÄ 日本 🎈";
    const vd_metadata entries[] = {{"vidilate:prompt", value}, {"vidilate:seed", "7"}};
    static const char *const files[] = {"out_round_trip/meta.mp4", "out_round_trip/meta.mov",
                                        "out_round_trip/meta.mkv"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        vd_sink_options o = media_options(files[i]);
        o.frame_count = 2;
        o.metadata = entries;
        o.metadata_count = 2;
        o.comment = "made by a test";
        CHECK_OK(media_write_clip(&o, NULL));
        vd_json *doc = media_ffprobe(files[i], "-show_format");
        const bool upper = is_matroska(files[i]);
        const char *read =
            MEDIA_TEXT(doc, "format", "tags", upper ? "VIDILATE:PROMPT" : "vidilate:prompt");
        CHECK_MSG(strcmp(read, value) == 0, "%s: prompt reads \"%s\"", files[i], read);
        CHECK(strcmp(MEDIA_TEXT(doc, "format", "tags", upper ? "VIDILATE:SEED" : "vidilate:seed"),
                     "7") == 0);
        CHECK(strcmp(MEDIA_TEXT(doc, "format", "tags", upper ? "COMMENT" : "comment"),
                     "made by a test") == 0);
        vd_json_destroy(doc);
    }
}

int main(void) {
    CHECK(media_folder("out_round_trip"));
    test_matrix();
    test_key_frames();
    test_metadata();
    return CHECK_DONE();
}

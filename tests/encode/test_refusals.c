/* Options that cannot be are refused before anything is written; fractions for frame rates. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/text.h"
#include "tests/check.h"
#include "tests/encode/media.h"

/* Refused by the check and by opening alike. */
static void check_refused(const vd_sink_options *o, vd_status code, const char *text) {
    vd_frame_sink *sink = NULL;
    CHECK_FAILS(vd_sink_options_check(o), code, text);
    CHECK_FAILS(vd_frame_sink_open(o, &sink), code, text);
    CHECK(sink == NULL);
    vd_frame_sink_destroy(sink);
}

static void test_paths(void) {
    static const char *const bad[] = {"-",
                                      "",
                                      "clip",
                                      "clip.avi",
                                      "pipe:1",
                                      "clip.mp4.txt",
                                      ".",
                                      "out_refusals/a.png",
                                      "out_refusals/%s.png",
                                      "out_refusals/%n%d.png",
                                      "out_refusals/%d%d.png",
                                      "out_refusals/%4d.png",
                                      "out_refusals/%0d.png",
                                      "out_refusals/%012d.png",
                                      "out_refusals/%ld.png",
                                      "out_refusals/%-4d.png",
                                      "out_refusals/a%.png",
                                      "out_refusals/%04d/%04d.png",
                                      "out_refusals/%d/a.png",
                                      "out_refusals/%%d.png"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        vd_sink_options o = media_options(bad[i]);
        check_refused(&o, VD_ERR_USAGE, "output");
    }
    vd_sink_options o = media_options(NULL);
    check_refused(&o, VD_ERR_USAGE, "output");
    o.path = "clip.avi";
    check_refused(&o, VD_ERR_USAGE, ".webm");
}

static void test_numbers(void) {
    static const int64_t sizes[] = {0, -1, 16385, 100000, INT64_MIN, INT64_MAX};
    static const double rates[] = {0, -8, 1e9, 0.01, NAN, INFINITY, -INFINITY};
    static const double crfs[] = {-5, 51.5, 999, NAN, INFINITY};
    static const int64_t counts[] = {0, -1, 1000001, INT64_MAX};
    static const char *const paths[] = {"out_refusals/n.mp4", "out_refusals/%d.png", "hash:"};
    for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++) {
        const vd_sink_options good = media_options(paths[p]);
        CHECK_OK(vd_sink_options_check(&good));
        vd_sink_options o = good;
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            o = good;
            o.width_px = sizes[i];
            check_refused(&o, VD_ERR_USAGE, "size");
            o = good;
            o.height_px = sizes[i];
            check_refused(&o, VD_ERR_USAGE, "size");
        }
        o = good;
        for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
            o.fps = rates[i];
            check_refused(&o, VD_ERR_USAGE, "fps");
        }
        o = good;
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            o.frame_count = counts[i];
            check_refused(&o, VD_ERR_USAGE, "frames");
        }
        o = good;
        o.threads = 0;
        check_refused(&o, VD_ERR_USAGE, "threads");
    }
    vd_sink_options o = media_options(paths[0]);
    for (size_t i = 0; i < sizeof crfs / sizeof crfs[0]; i++) {
        o.crf = crfs[i];
        check_refused(&o, VD_ERR_USAGE, "crf");
    }
}

static void test_codecs(void) {
    vd_sink_options o = media_options("out_refusals/c.mp4");
    o.codec = "nothing";
    check_refused(&o, VD_ERR_USAGE, "libx264");
    o.codec = "aac"; /* an encoder, of sound */
    check_refused(&o, VD_ERR_USAGE, "no such video encoder");
    o.codec = "ffv1";
    check_refused(&o, VD_ERR_USAGE, ".mkv");
    o.codec = "libx264";
    o.path = "out_refusals/c.webm";
    check_refused(&o, VD_ERR_USAGE, ".webm");
    o.path = "out_refusals/c.mp4";
    o.pix_fmt = "nothing";
    check_refused(&o, VD_ERR_USAGE, "yuv444p");
    o.pix_fmt = "rgb24"; /* libx264rgb takes it, libx264 does not */
    check_refused(&o, VD_ERR_USAGE, "yuv420p");
    o.pix_fmt = "yuvj420p"; /* full range would not be what the tags say */
    check_refused(&o, VD_ERR_USAGE, "pix-fmt");
    o = media_options("out_refusals/c.mp4");
    o.codec = "mpeg4"; /* its clock has 16 bits */
    o.fps = 83.3333;
    check_refused(&o, VD_ERR_USAGE, "mpeg4");
}

static void test_metadata(void) {
    static const char *const keys[] = {"", "a b", "a=b", "a-eng", "ä", "a\nb"};
    char long_key[81];
    vd_metadata entry = {"key", "value"};
    vd_sink_options o = media_options("out_refusals/m.mp4");
    o.metadata = &entry;
    o.metadata_count = 1;
    CHECK_OK(vd_sink_options_check(&o));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        entry.key = keys[i];
        check_refused(&o, VD_ERR_USAGE, "metadata");
    }
    memset(long_key, 'k', 80);
    long_key[80] = '\0';
    entry.key = long_key;
    check_refused(&o, VD_ERR_USAGE, "metadata");
    entry = (vd_metadata){"key", "\xff\xfe"};
    check_refused(&o, VD_ERR_USAGE, "UTF-8");
    entry = (vd_metadata){"key", NULL};
    check_refused(&o, VD_ERR_USAGE, "metadata");
    o = media_options("out_refusals/m.mp4");
    o.comment = "\xc0\x80";
    check_refused(&o, VD_ERR_USAGE, "UTF-8");
}

static void test_folders(void) {
    static const char *const paths[] = {"out_refusals/missing/a.mp4",
                                        "out_refusals/missing/%d.png",
                                        "/dev/null/a.mp4",
                                        "/proc/a.mp4",
                                        "out_refusals/folder.mp4",
                                        "out_refusals/1.png.d/%d.png"};
    CHECK(mkdir("out_refusals/folder.mp4", 0777) == 0);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        vd_sink_options o = media_options(paths[i]);
        CHECK_FAILS(vd_sink_options_check(&o), VD_ERR_OUTPUT,
                    strchr(paths[i], '%') != NULL ? "1.png" : paths[i]);
    }
    CHECK(rmdir("out_refusals/folder.mp4") == 0);
    /* A PNG sink makes its first file with its first frame. */
    vd_frame_sink *sink = NULL;
    vd_sink_options o = media_options("out_refusals/missing/a.mp4");
    CHECK_FAILS(vd_frame_sink_open(&o, &sink), VD_ERR_OUTPUT, "No such file");
    CHECK(sink == NULL);
}

static void test_order(void) {
    uint8_t *rgb = media_gradient(64, 64, 0);
    vd_frame_sink *sink = NULL;
    vd_sink_options o = media_options("hash:");
    o.frame_count = 2;
    CHECK_OK(vd_frame_sink_open(&o, &sink));
    if (sink != NULL && rgb != NULL) {
        CHECK_OK(vd_frame_sink_write(sink, rgb));
        CHECK_OK(vd_frame_sink_write(sink, rgb));
        CHECK_FAILS(vd_frame_sink_write(sink, rgb), VD_ERR_USAGE, "has its 2 frames");
        CHECK_OK(vd_frame_sink_finish(sink));
        CHECK_FAILS(vd_frame_sink_finish(sink), VD_ERR_USAGE, "finished");
        CHECK_FAILS(vd_frame_sink_write(sink, rgb), VD_ERR_USAGE, "finished");
    }
    vd_frame_sink_destroy(sink);
    vd_frame_sink_destroy(NULL);
    free(rgb);
}

static void test_rates(void) {
    static const struct {
        double fps;
        int num, den;
    } rates[] = {{8, 8, 1},
                 {12.5, 25, 2},
                 {23.976, 24000, 1001},
                 {23.976024, 24000, 1001},
                 {24000 / 1001.0, 24000, 1001},
                 {29.97, 30000, 1001},
                 {59.94, 60000, 1001},
                 {25, 25, 1},
                 {8.3333, 83333, 10000},
                 {8.33333333333, 25, 3},
                 {0.1, 1, 10},
                 {1000, 1000, 1},
                 {9.99, 999, 100},
                 {23.98, 1199, 50},
                 {7.5, 15, 2}};
    int num = 0, den = 0;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        CHECK_OK(vd_fps_rational(rates[i].fps, &num, &den));
        CHECK_MSG(num == rates[i].num && den == rates[i].den, "%.9g is %d/%d", rates[i].fps, num,
                  den);
    }
    CHECK_FAILS(vd_fps_rational(NAN, &num, &den), VD_ERR_USAGE, "fps");
}

int main(void) {
    CHECK(media_folder("out_refusals"));
    test_paths();
    test_numbers();
    test_codecs();
    test_metadata();
    test_folders();
    test_order();
    test_rates();
    CHECK(media_entries("out_refusals") == 0);
    return CHECK_DONE();
}

/* Reading back our own files, other programs' files and damaged ones. */
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "encode/probe.h"
#include "tests/check.h"
#include "tests/encode/media.h"

#define FOLDER "out_probe"

static const char unicode[] = "Ä=日本\n🎈";
static const vd_metadata entries[] = {{"vidilate:prompt", unicode}, {"vidilate:json", "{\"a\":1}"}};

static void write_own(const char *path) {
    vd_sink_options o = media_options(path);
    o.width_px = 65;
    o.height_px = 63;
    o.fps = 23.976;
    o.frame_count = 3;
    o.metadata = entries;
    o.metadata_count = 2;
    o.comment = "comment";
    CHECK_OK(media_write_clip(&o, NULL));
}

static void check_entry(const vd_media_info *info, const char *key, const char *wanted) {
    const char *value = vd_media_info_get(info, key);
    CHECK_MSG(value != NULL && strcmp(value, wanted) == 0, "%s is %s", key,
              value != NULL ? value : "missing");
}

static void test_own_files(void) {
    static const struct {
        const char *path, *probed, *container, *codec, *pix_fmt, *transfer, *range;
        int width_px, height_px, fps_num, fps_den;
        int64_t frames;
    } files[] = {{FOLDER "/a.mp4", FOLDER "/a.mp4", "mov", "h264", "yuv420p", "bt709", "tv", 66, 64,
                  24000, 1001, 3},
                 {FOLDER "/a.mkv", FOLDER "/a.mkv", "matroska", "h264", "yuv420p", "bt709", "tv",
                  66, 64, 24000, 1001, 3},
                 {FOLDER "/a%d.png", FOLDER "/a2.png", "png", "png", "rgb24", "unknown", "pc", 65,
                  63, 0, 1, 1}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        write_own(files[i].path);
        for (vd_probe_depth depth = VD_PROBE_HEADERS; depth <= VD_PROBE_DECODE; depth++) {
            vd_media_info *info = NULL;
            CHECK_OK(vd_probe(files[i].probed, depth, 2, &info));
            if (info == NULL)
                continue;
            CHECK(strcmp(info->container, files[i].container) == 0);
            CHECK(strcmp(info->codec, files[i].codec) == 0);
            CHECK(strcmp(info->pix_fmt, files[i].pix_fmt) == 0);
            CHECK(strcmp(info->color_range, files[i].range) == 0);
            CHECK_MSG(i == 2 || strcmp(info->color_transfer, files[i].transfer) == 0, "%s",
                      info->color_transfer);
            CHECK(info->width_px == files[i].width_px && info->height_px == files[i].height_px);
            CHECK(info->fps_num == files[i].fps_num && info->fps_den == files[i].fps_den);
            CHECK(info->frame_count == files[i].frames);
            check_entry(info, "vidilate:prompt", unicode);
            check_entry(info, "vidilate:json", "{\"a\":1}");
            check_entry(info, "VIDILATE:size", "65x63");
            check_entry(info, "comment", "comment");
            CHECK(vd_media_info_get(info, "nothing") == NULL);
            vd_media_info_destroy(info);
        }
    }
}

/* A file made by the ffmpeg program, with sound before the video. */
static void test_foreign_file(void) {
    size_t bytes = 0;
    vd_media_info *info = NULL;
    uint8_t *out = media_run(&bytes,
                             "ffmpeg -v error -y -f lavfi -i sine=d=1 -f lavfi -i "
                             "testsrc=s=80x48:r=10:d=2 -c:v mpeg4 -c:a aac -metadata title=foreign "
                             "%s/foreign.mp4",
                             FOLDER);
    CHECK(out != NULL);
    free(out);
    CHECK_OK(vd_probe(FOLDER "/foreign.mp4", VD_PROBE_DECODE, 1, &info));
    if (info == NULL)
        return;
    CHECK(info->frame_count == 20 && info->width_px == 80 && info->height_px == 48);
    CHECK(info->fps_num == 10 && info->fps_den == 1 && info->duration_s == 2.0);
    check_entry(info, "title", "foreign");
    vd_media_info_destroy(info);
}

static void write_file(const char *path, const char *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && (bytes == 0 || fwrite(data, bytes, 1, file) == 1));
    CHECK(file != NULL && fclose(file) == 0);
}

static void test_not_media(void) {
    /* A playlist would make libavformat open what it names. */
    static const char playlist[] = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.mp4\n";
    static const char concat[] = "ffconcat version 1.0\nfile a.mp4\n";
    vd_media_info *info = NULL;
    write_file(FOLDER "/list.mp4", playlist, sizeof playlist - 1);
    write_file(FOLDER "/concat.mp4", concat, sizeof concat - 1);
    write_file(FOLDER "/empty.mp4", "", 0);
    static const char *const paths[] = {FOLDER "/list.mp4",
                                        FOLDER "/concat.mp4",
                                        FOLDER "/empty.mp4",
                                        FOLDER "/missing.mp4",
                                        FOLDER,
                                        "/dev/null"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        CHECK_FAILS(vd_probe(paths[i], VD_PROBE_DECODE, 1, &info), VD_ERR_INPUT, paths[i]);
        CHECK(info == NULL);
    }
}

/* Cut and spoilt at many places: any status, no crash, and never more frames than there were. */
static void test_damaged(const char *path, size_t step) {
    char *data = NULL, *copy = NULL;
    size_t bytes = 0;
    int refused = 0;
    CHECK_OK(vd_read_file(path, 1 << 20, &data, &bytes));
    if (data == NULL || (copy = malloc(bytes)) == NULL) {
        free(data);
        return;
    }
    for (size_t at = 0; at < bytes; at += step) {
        for (int cut = 0; cut < 2; cut++) {
            vd_media_info *info = NULL;
            memcpy(copy, data, bytes);
            copy[at] = (char)~copy[at];
            write_file(FOLDER "/damaged", copy, cut ? at : bytes);
            vd_status st = vd_probe(FOLDER "/damaged", VD_PROBE_DECODE, 1, &info);
            refused += st != VD_OK;
            CHECK_MSG(st == VD_ERR_INPUT || st == VD_ERR_MEMORY ||
                          (st == VD_OK && info != NULL && info->frame_count <= 3),
                      "%s at %zu: status %d", path, at, (int)st);
            CHECK(st == VD_OK || info == NULL);
            vd_media_info_destroy(info);
        }
    }
    CHECK_MSG(refused > 0, "%s: no damage was seen", path);
    free(copy);
    free(data);
}

int main(void) {
    CHECK(media_folder(FOLDER));
    test_own_files();
    test_foreign_file();
    test_not_media();
    test_damaged(FOLDER "/a.mp4", 17);
    test_damaged(FOLDER "/a.mkv", 17);
    test_damaged(FOLDER "/a2.png", 5);
    return CHECK_DONE();
}

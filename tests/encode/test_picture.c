/* What is in the frames, decoded by the ffmpeg program; and the digest against sha256sum. */
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "tests/check.h"
#include "tests/encode/media.h"

/* Writes the given frames, frees them. */
static void write_frames(const vd_sink_options *o, uint8_t **frames, char *hex) {
    vd_frame_sink *sink = NULL;
    CHECK_OK(vd_frame_sink_open(o, &sink));
    for (int64_t i = 0; i < o->frame_count; i++) {
        if (sink != NULL && frames[i] != NULL)
            CHECK_OK(vd_frame_sink_write(sink, frames[i]));
    }
    if (sink != NULL) {
        CHECK_OK(vd_frame_sink_finish(sink));
        if (hex != NULL)
            vd_frame_sink_digest(sink, hex);
    }
    vd_frame_sink_destroy(sink);
}

/* Flat colours come back. 8-bit limited-range Y'CbCr has 219 and 224 steps for RGB's 255, so each
 * of the three is rounded by up to 0.5: R' errs by 1.164 * 0.5 + 1.793 * 0.5 and B' by 1.164 * 0.5
 * + 2.112 * 0.5, less than 2 before RGB's own rounding adds 0.5. The codec at crf 1 may move each
 * of the three by one more: 3.3 in all. A BT.601 matrix or full range would miss by 20 and more. */
#define COLOUR_TOLERANCE 5

static void test_colour(const char *path, const char *codec) {
    static const uint8_t colours[][3] = {{255, 0, 0},     {0, 255, 0}, {0, 0, 255},
                                         {128, 128, 128}, {0, 0, 0},   {255, 255, 255},
                                         {200, 120, 40}};
    enum { COUNT = sizeof colours / sizeof colours[0] };
    uint8_t *frames[COUNT];
    vd_sink_options o = media_options(path);
    size_t bytes = 0;
    o.codec = codec;
    o.crf = 1;
    o.frame_count = COUNT;
    for (size_t i = 0; i < COUNT; i++)
        frames[i] = media_solid(64, 64, colours[i][0], colours[i][1], colours[i][2]);
    write_frames(&o, frames, NULL);
    uint8_t *rgb = media_run(&bytes,
                             "ffmpeg -v error -i '%s' -vf scale=in_color_matrix=bt709 -sws_flags "
                             "accurate_rnd+full_chroma_int -f rawvideo -pix_fmt rgb24 -",
                             path);
    const size_t frame_bytes = (size_t)3 * 64 * 64;
    CHECK(bytes == COUNT * frame_bytes);
    for (size_t i = 0; i < COUNT && bytes == COUNT * frame_bytes; i++) {
        int worst = 0;
        for (size_t k = 0; k < frame_bytes; k++) {
            int error = abs(rgb[i * frame_bytes + k] - colours[i][k % 3]);
            worst = error > worst ? error : worst;
        }
        CHECK_MSG(worst <= COLOUR_TOLERANCE, "%s: colour %zu is off by %d", path, i, worst);
        free(frames[i]);
    }
    free(rgb);
}

/* FFV1 keeps what it is given: RGB whole, and in 4:2:0 the repeated last column and row. */
static void test_lossless(void) {
    uint8_t *frames[2] = {media_noise(65, 63, 0), media_noise(65, 63, 1)};
    const size_t frame_bytes = (size_t)3 * 65 * 63;
    size_t bytes = 0;
    vd_sink_options o = media_options("out_picture/rgb.mkv");
    o.codec = "ffv1";
    o.pix_fmt = "bgr0";
    o.width_px = 65;
    o.height_px = 63;
    o.frame_count = 2;
    write_frames(&o, frames, NULL);
    uint8_t *rgb =
        media_run(&bytes, "ffmpeg -v error -i '%s' -f rawvideo -pix_fmt rgb24 -", o.path);
    CHECK(bytes == 2 * frame_bytes && memcmp(rgb, frames[0], frame_bytes) == 0 &&
          memcmp(rgb + frame_bytes, frames[1], frame_bytes) == 0);
    free(rgb);

    o.path = "out_picture/padded.mkv";
    o.pix_fmt = "yuv420p";
    write_frames(&o, frames, NULL);
    uint8_t *yuv =
        media_run(&bytes, "ffmpeg -v error -i '%s' -f rawvideo -pix_fmt yuv420p -", o.path);
    CHECK(bytes == (size_t)2 * 66 * 64 * 3 / 2);
    int same = 0;
    for (size_t y = 0; bytes == (size_t)2 * 66 * 64 * 3 / 2 && y < 64; y++)
        same += yuv[y * 66 + 64] == yuv[y * 66 + 65];
    CHECK(same == 64);
    CHECK(bytes > (size_t)66 * 64 && memcmp(yuv + (size_t)62 * 66, yuv + (size_t)63 * 66, 66) == 0);
    free(yuv);
    free(frames[0]);
    free(frames[1]);
}

static void test_png(void) {
    uint8_t *frames[3];
    const size_t frame_bytes = (size_t)3 * 65 * 63;
    const vd_metadata entry = {"vidilate:prompt", "a=b\nsecond"};
    size_t bytes = 0;
    vd_sink_options o = media_options("out_picture/100%%_%03d.png");
    o.width_px = 65;
    o.height_px = 63;
    o.frame_count = 3;
    o.metadata = &entry;
    o.metadata_count = 1;
    for (int i = 0; i < 3; i++)
        frames[i] = media_noise(65, 63, i);
    write_frames(&o, frames, NULL);
    for (int i = 0; i < 3; i++) {
        uint8_t *rgb = media_run(&bytes,
                                 "ffmpeg -v error -xerror -err_detect crccheck+explode -f png_pipe "
                                 "-i out_picture/100%%_%03d.png -f rawvideo -pix_fmt rgb24 -",
                                 i + 1);
        CHECK(bytes == frame_bytes && memcmp(rgb, frames[i], frame_bytes) == 0);
        free(rgb);
        free(frames[i]);
    }
    vd_json *doc = media_ffprobe("out_picture/100%_002.png", "-f png_pipe -show_frames");
    CHECK(strcmp(MEDIA_TEXT(doc, "frames", "0", "tags", "vidilate:prompt"), "a=b\nsecond") == 0);
    CHECK(strcmp(MEDIA_TEXT(doc, "frames", "0", "tags", "vidilate:size"), "65x63") == 0);
    vd_json_destroy(doc);
}

/* The digest is that of the bytes handed over, for every kind of sink. */
static void test_digest(void) {
    static const char *const paths[] = {"hash:", "null:", "out_picture/d.mp4",
                                        "out_picture/d%d.png"};
    uint8_t *frames[3];
    size_t bytes = 0;
    FILE *raw = fopen("out_picture/raw", "wb");
    for (int i = 0; i < 3; i++) {
        frames[i] = media_noise(66, 50, i);
        CHECK(raw != NULL && frames[i] != NULL &&
              fwrite(frames[i], (size_t)3 * 66 * 50, 1, raw) == 1);
    }
    CHECK(raw != NULL && fclose(raw) == 0);
    uint8_t *sum = media_run(&bytes, "sha256sum < out_picture/raw");
    CHECK(bytes >= 64);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char hex[VD_SHA256_HEX_BYTES] = "";
        vd_sink_options o = media_options(paths[i]);
        o.width_px = 66;
        o.height_px = 50;
        o.frame_count = 3;
        write_frames(&o, frames, hex);
        CHECK_MSG(bytes >= 64 && strlen(hex) == 64 && memcmp(hex, sum, 64) == 0, "%s: %s", paths[i],
                  hex);
    }
    for (int i = 0; i < 3; i++)
        free(frames[i]);
    free(sum);
}

int main(void) {
    CHECK(media_folder("out_picture"));
    test_colour("out_picture/x264.mp4", "libx264");
    test_colour("out_picture/mpeg4.mp4", "mpeg4");
    test_lossless();
    test_png();
    test_digest();
    return CHECK_DONE();
}

/* Frames out of files: the ones that were written, and for video what FFmpeg's own program reads.
 */
#include <stdlib.h>
#include <string.h>

#include "encode/frames.h"
#include "tests/check.h"
#include "tests/encode/media.h"

#define FOLDER "out_frames"

enum { WIDTH = 65, HEIGHT = 63, FRAMES = 3 };

typedef struct collector {
    uint8_t rgb[FRAMES][HEIGHT][WIDTH][3];
    int64_t count;
    vd_status answer;
} collector;

static vd_status collect(void *user, const uint8_t *rgb, int64_t width_px, int64_t height_px) {
    collector *c = user;
    CHECK(width_px == WIDTH && height_px == HEIGHT && c->count < FRAMES);
    if (width_px == WIDTH && height_px == HEIGHT && c->count < FRAMES)
        memcpy(c->rgb[c->count++], rgb, sizeof c->rgb[0]);
    return c->answer;
}

static void write_clip(const char *path, const char *codec, const char *pix_fmt) {
    vd_sink_options o = media_options(path);
    o.width_px = WIDTH;
    o.height_px = HEIGHT;
    o.frame_count = FRAMES;
    o.codec = codec;
    o.pix_fmt = pix_fmt;
    CHECK_OK(media_write_clip(&o, NULL));
}

static void read_frames(const char *path, collector *c) {
    *c = (collector){.answer = VD_OK};
    CHECK_OK(vd_frames_read(path, 2, collect, c));
}

/* Lossless RGB comes back to the byte. */
static void test_exact(void) {
    static collector c;
    write_clip(FOLDER "/a.mkv", "ffv1", "bgr0");
    write_clip(FOLDER "/a%d.png", "libx264", "yuv420p");
    read_frames(FOLDER "/a.mkv", &c);
    CHECK(c.count == FRAMES);
    for (int64_t i = 0; i < FRAMES; i++) {
        uint8_t *wanted = media_gradient(WIDTH, HEIGHT, i);
        CHECK(wanted != NULL && memcmp(c.rgb[i], wanted, sizeof c.rgb[i]) == 0);
        free(wanted);
    }
    read_frames(FOLDER "/a2.png", &c);
    uint8_t *second = media_gradient(WIDTH, HEIGHT, 1);
    CHECK(c.count == 1 && second != NULL && memcmp(c.rgb[0], second, sizeof c.rgb[0]) == 0);
    free(second);
}

/* The padded column and row are cut, and the colours are those of the ffmpeg program: the mean is
 * within rounding, a single pixel within what another chroma filter changes. A matrix or a range
 * taken for another is off by 3 to 16 in the mean. */
static void test_video(void) {
    static collector c;
    size_t bytes = 0;
    write_clip(FOLDER "/a.mp4", "libx264", "yuv420p");
    read_frames(FOLDER "/a.mp4", &c);
    CHECK(c.count == FRAMES);
    uint8_t *wanted =
        media_run(&bytes,
                  "ffmpeg -v error -i %s/a.mp4 -sws_flags bicubic+accurate_rnd+full_chroma_int -vf "
                  "format=rgb24,crop=%d:%d:0:0:exact=1 -f rawvideo "
                  "-pix_fmt rgb24 -",
                  FOLDER, WIDTH, HEIGHT);
    CHECK(wanted != NULL && bytes == sizeof c.rgb);
    double sum = 0;
    for (size_t i = 0; wanted != NULL && i < sizeof c.rgb; i++)
        sum += abs(((const uint8_t *)c.rgb)[i] - wanted[i]);
    CHECK_MSG(sum / sizeof c.rgb < 1, "mean difference %g", sum / sizeof c.rgb);
    free(wanted);
}

static void test_failures(void) {
    static collector c;
    size_t bytes = 0;
    c.answer = VD_ERR_INTERRUPTED;
    CHECK(vd_frames_read(FOLDER "/a.mp4", 1, collect, &c) == VD_ERR_INTERRUPTED);
    CHECK(c.count == 1);
    CHECK_FAILS(vd_frames_read(FOLDER "/none.mp4", 1, collect, &c), VD_ERR_INPUT, "none.mp4");
    uint8_t *out = media_run(&bytes, "head -c -500 %s/a.mp4 > %s/short.mp4", FOLDER, FOLDER);
    free(out);
    c = (collector){.answer = VD_OK};
    CHECK_FAILS(vd_frames_read(FOLDER "/short.mp4", 1, collect, &c), VD_ERR_INPUT, "short.mp4");
}

int main(void) {
    CHECK(media_folder(FOLDER));
    test_exact();
    test_video();
    test_failures();
    return CHECK_DONE();
}

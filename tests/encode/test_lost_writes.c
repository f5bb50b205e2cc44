/* A file appears whole or not at all: given up, cut off by a full disk, damaged before the end. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/text.h"
#include "tests/check.h"
#include "tests/encode/media.h"

#define FOLDER "out_lost_writes"

static const char *const paths[] = {FOLDER "/a.mp4", FOLDER "/a.mkv", FOLDER "/a%02d.png"};
enum { PATHS = sizeof paths / sizeof paths[0] };

/* A codec, because SVT-AV1 closes unlike the others. */
static void check_given_up(const char *path, const char *codec, int frames) {
    vd_frame_sink *sink = NULL;
    vd_sink_options o = media_options(path);
    o.codec = codec;
    CHECK_OK(vd_frame_sink_open(&o, &sink));
    for (int i = 0; sink != NULL && i < frames; i++) {
        uint8_t *rgb = media_gradient(64, 64, i);
        CHECK_OK(vd_frame_sink_write(sink, rgb));
        free(rgb);
    }
    /* Something lies in the folder under another name meanwhile, unless no frame was written. */
    CHECK(media_entries(FOLDER) >= (frames > 0));
    CHECK(access(path, F_OK) != 0);
    vd_frame_sink_destroy(sink);
    CHECK_MSG(media_entries(FOLDER) == 0, "%s %s after %d frames", path, codec, frames);
}

static void test_given_up(void) {
    for (size_t i = 0; i < PATHS; i++) {
        check_given_up(paths[i], "libx264", 0);
        check_given_up(paths[i], "libx264", 5);
    }
    vd_sink_options o = media_options(paths[0]);
    o.codec = "libsvtav1";
    if (vd_sink_options_check(&o) == VD_OK) {
        check_given_up(paths[0], "libsvtav1", 0);
        check_given_up(paths[0], "libsvtav1", 1);
        check_given_up(paths[0], "libsvtav1", 5);
    }
}

static void test_too_few(void) {
    for (size_t i = 0; i < PATHS; i++) {
        vd_frame_sink *sink = NULL;
        uint8_t *rgb = media_gradient(64, 64, 0);
        const vd_sink_options o = media_options(paths[i]);
        CHECK_OK(vd_frame_sink_open(&o, &sink));
        if (sink != NULL && rgb != NULL) {
            CHECK_OK(vd_frame_sink_write(sink, rgb));
            CHECK_FAILS(vd_frame_sink_finish(sink), VD_ERR_USAGE, "1 of 16");
        }
        vd_frame_sink_destroy(sink);
        CHECK(media_entries(FOLDER) == 0);
        free(rgb);
    }
}

/* Noise into files that may not grow beyond `limit`: EFBIG stands for a full disk. */
static vd_status write_limited(const char *path, rlim_t limit) {
    struct rlimit before, now;
    vd_frame_sink *sink = NULL;
    vd_sink_options o = media_options(path);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    now = before;
    now.rlim_cur = limit;
    CHECK(setrlimit(RLIMIT_FSIZE, &now) == 0);
    vd_status st = vd_frame_sink_open(&o, &sink);
    for (int64_t i = 0; st == VD_OK && i < o.frame_count; i++) {
        uint8_t *rgb = media_noise(64, 64, i);
        st = vd_frame_sink_write(sink, rgb);
        free(rgb);
    }
    if (st == VD_OK)
        st = vd_frame_sink_finish(sink);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    vd_frame_sink_destroy(sink);
    return st;
}

static void test_full_disk(void) {
    static const rlim_t limits[] = {0, 1, 40, 1000, 8000, 20000};
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    for (size_t i = 0; i < PATHS; i++) {
        for (size_t k = 0; k < sizeof limits / sizeof limits[0]; k++) {
            /* A PNG of 64x64 noise has 12.5 kB, and so the last limit does not touch it. */
            if (i == 2 && limits[k] > 12000)
                continue;
            CHECK_FAILS(write_limited(paths[i], limits[k]), VD_ERR_OUTPUT, strerror(EFBIG));
            CHECK_MSG(media_entries(FOLDER) == 0, "%s limited to %ld", paths[i], (long)limits[k]);
        }
    }
    /* An older file stays. */
    CHECK_OK(write_limited(paths[0], RLIM_INFINITY));
    struct stat before, after;
    CHECK(stat(paths[0], &before) == 0 && before.st_size > 20000);
    CHECK_FAILS(write_limited(paths[0], 20000), VD_ERR_OUTPUT, paths[0]);
    CHECK(stat(paths[0], &after) == 0 && after.st_size == before.st_size &&
          after.st_ino == before.st_ino);
    CHECK(media_entries(FOLDER) == 1);
    CHECK_OK(write_limited(paths[0], RLIM_INFINITY));
    CHECK(stat(paths[0], &after) == 0 && after.st_ino != before.st_ino);
    CHECK(unlink(paths[0]) == 0);
}

/* Opens and writes all frames; finish is the caller's. */
static vd_frame_sink *written(const char *path, const char *codec, int frames) {
    vd_frame_sink *sink = NULL;
    vd_sink_options o = media_options(path);
    o.codec = codec;
    o.frame_count = frames;
    CHECK_OK(vd_frame_sink_open(&o, &sink));
    for (int i = 0; sink != NULL && i < frames; i++) {
        uint8_t *rgb = media_noise(64, 64, i);
        CHECK_OK(vd_frame_sink_write(sink, rgb));
        free(rgb);
    }
    return sink;
}

/* The target becomes a folder under way, so that the last rename cannot work. */
static void test_rename_fails(void) {
    static const char *const targets[] = {FOLDER "/a.mp4", FOLDER "/a.mkv", FOLDER "/a03.png"};
    for (size_t i = 0; i < PATHS; i++) {
        vd_frame_sink *sink = written(paths[i], "libx264", 3);
        CHECK(mkdir(targets[i], 0777) == 0);
        if (sink != NULL)
            CHECK_FAILS(vd_frame_sink_finish(sink), VD_ERR_OUTPUT, targets[i]);
        vd_frame_sink_destroy(sink);
        CHECK(media_entries(FOLDER) == 1);
        CHECK(rmdir(targets[i]) == 0);
    }
}

/* Somebody cuts the half-made files: reading back must see it. */
static void test_damage_is_seen(void) {
    vd_frame_sink *sink = written(paths[2], "libx264", 3);
    size_t bytes = 0;
    free(media_run(&bytes, "truncate -s 5000 %s/.a02.part-*.png", FOLDER));
    if (sink != NULL)
        CHECK_FAILS(vd_frame_sink_finish(sink), VD_ERR_OUTPUT, "a02.png");
    vd_frame_sink_destroy(sink);
    CHECK(media_entries(FOLDER) == 0);

    /* The mpeg4 encoder holds nothing back and libavformat at most 256 KiB: the first frames lie on
     * the disk by now. */
    sink = written(paths[0], "mpeg4", 600);
    free(media_run(&bytes,
                   "f=$(ls %s/.a.part-*.mp4) && test $(stat -c %%s $f) -gt 20000 && "
                   "dd if=/dev/zero of=$f bs=1000 seek=2 count=16 conv=notrunc 2>&1",
                   FOLDER));
    CHECK(bytes > 0);
    if (sink != NULL)
        CHECK_FAILS(vd_frame_sink_finish(sink), VD_ERR_OUTPUT, "does not read back");
    vd_frame_sink_destroy(sink);
    CHECK(media_entries(FOLDER) == 0);
}

/* Names with what shells, URLs and libavformat treat specially, and names as long as may be. */
static void test_names(void) {
    char long_name[300];
    (void)snprintf(long_name, sizeof long_name, "%s/", FOLDER);
    size_t used = strlen(long_name);
    memset(long_name + used, 'n', 251);
    memcpy(long_name + used + 251, ".mp4", 5);
    const char *const names[] = {FOLDER "/concat:a b.mp4", FOLDER "/http:x%d.mp4", FOLDER "/.mp4",
                                 FOLDER "/\xff'q.MP4", long_name};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        vd_frame_sink *sink = written(names[i], "libx264", 3);
        if (sink != NULL)
            CHECK_OK(vd_frame_sink_finish(sink));
        vd_frame_sink_destroy(sink);
        CHECK(access(names[i], R_OK) == 0 && media_entries(FOLDER) == 1);
        CHECK(unlink(names[i]) == 0);
    }
}

int main(void) {
    CHECK(media_folder(FOLDER));
    test_given_up();
    test_too_few();
    test_full_disk();
    test_rename_fails();
    test_damage_is_seen();
    test_names();
    CHECK(media_entries(FOLDER) == 0);
    return CHECK_DONE();
}

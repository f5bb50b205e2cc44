/* Writes a folder of clips as renders leave them, whose scores and oddities are known: make_clips
 * FOLDER [COUNT]. With a count, only so many plain ones. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/text.h"
#include "encode/sink.h"
#include "tests/encode/media.h"

enum { WIDTH = 64, HEIGHT = 48, FRAMES = 8 };

/* What markup, scripts, shells and JSON trip over. */
static const char hostile[] =
    "</script><script>document.title='broken'</script><!-- \"quo'tes\" $(id) `id` \\ & \n "
    "\xE2\x80\xA8 \xE6\x97\xA5\xE6\x9C\xAC \xF0\x9F\x8E\x88";

typedef uint8_t *(*frame_fn)(int64_t t);

static uint8_t *moving(int64_t t) {
    return media_gradient(WIDTH, HEIGHT, t);
}
static uint8_t *still(int64_t t) {
    (void)t;
    return media_gradient(WIDTH, HEIGHT, 0);
}
static uint8_t *noise(int64_t t) {
    return media_noise(WIDTH, HEIGHT, t);
}
static uint8_t *black(int64_t t) {
    (void)t;
    return media_solid(WIDTH, HEIGHT, 0, 0, 0);
}

static char *settings_text(const char *prompt, int seed, bool redilated) {
    char *text = NULL, number[24];
    vd_json_writer *w = NULL;
    if (vd_json_writer_create(&w) != VD_OK)
        return NULL;
    snprintf(number, sizeof number, "%d", seed);
    vd_json_begin_object(w, NULL);
    vd_json_put_string(w, "prompt", prompt);
    vd_json_put_int(w, "width", WIDTH);
    vd_json_put_int(w, "height", HEIGHT);
    vd_json_put_int(w, "frames", FRAMES);
    vd_json_put_double(w, "fps", 8);
    vd_json_put_int(w, "steps", 4);
    vd_json_put_double(w, "guidance", 7.5);
    vd_json_put_string(w, "seed", number);
    if (redilated) {
        vd_json_begin_object(w, "settings");
        vd_json_begin_object(w, "dilate");
        vd_json_put_int(w, "mid_block", 2);
        vd_json_end(w);
        vd_json_put_int(w, "dilate_tau", 2);
        vd_json_end(w);
    }
    vd_json_put_string(w, "model", "shapes");
    vd_json_put_string(w, "version", "0.1.0");
    vd_json_end(w);
    vd_status st = vd_json_writer_finish(w, false, &text);
    vd_json_writer_destroy(w);
    return st == VD_OK ? text : NULL;
}

/* `settings` is freed; NULL writes none. */
static vd_status write_clip(const char *folder, const char *name, const char *codec, char *settings,
                            frame_fn frame) {
    vd_status st = VD_OK;
    vd_frame_sink *sink = NULL;
    char *path = vd_format("%s/%s", folder, name);
    const vd_metadata entry = {"vidilate", settings};
    vd_sink_options o = media_options(path);
    o.width_px = WIDTH;
    o.height_px = HEIGHT;
    o.frame_count = FRAMES;
    o.codec = codec;
    o.metadata = &entry;
    o.metadata_count = settings != NULL;
    VD_TRY(vd_frame_sink_open(&o, &sink));
    for (int64_t t = 0; t < FRAMES && st == VD_OK; t++) {
        uint8_t *rgb = frame(t);
        st = rgb != NULL ? vd_frame_sink_write(sink, rgb) : VD_ERR_MEMORY;
        free(rgb);
    }
    if (st == VD_OK)
        st = vd_frame_sink_finish(sink);
done:
    vd_frame_sink_destroy(sink);
    free(path);
    free(settings);
    return st;
}

static vd_status write_plain(const char *folder, int count) {
    vd_status st = VD_OK;
    for (int i = 0; i < count && st == VD_OK; i++) {
        char name[32], prompt[32];
        snprintf(name, sizeof name, "clip-%d.mp4", i);
        snprintf(prompt, sizeof prompt, "prompt %d", i / 4);
        st = write_clip(folder, name, "libx264", settings_text(prompt, i % 4, false), moving);
    }
    return st;
}

static vd_status write_odd(const char *folder) {
    vd_status st = VD_OK;
    for (int seed = 1; seed <= 3; seed++) {
        for (int redilated = 0; redilated < 2; redilated++) {
            char name[32];
            snprintf(name, sizeof name, "ring-%s-%d.mp4", redilated ? "redilate" : "direct", seed);
            VD_TRY(write_clip(folder, name, "libx264",
                              settings_text("a ring", seed, redilated != 0), moving));
        }
    }
    VD_TRY(write_clip(folder, "noise.mp4", "libx264", settings_text("noise", 1, false), noise));
    VD_TRY(write_clip(folder, "black.mp4", "libx264", settings_text("night", 1, false), black));
    VD_TRY(write_clip(folder, "still.mp4", "libx264", settings_text("a stone", 1, false), still));
    VD_TRY(write_clip(folder, "\"><b>'\xC3\xA9 & #?%41.mp4", "libx264",
                      settings_text(hostile, 1, true), moving));
    VD_TRY(write_clip(folder, "lossless.mkv", "ffv1", settings_text("ffv1", 1, false), moving));
    VD_TRY(
        write_clip(folder, "frames-%04d.png", "libx264", settings_text("png", 1, false), moving));
    VD_TRY(write_clip(folder, "foreign.mp4", "libx264", NULL, moving));
done:
    return st;
}

int main(int argc, char **argv) {
    if (argc < 2 || !media_folder(argv[1]))
        return 1;
    vd_status st =
        argc > 2 ? write_plain(argv[1], (int)strtol(argv[2], NULL, 10)) : write_odd(argv[1]);
    if (st != VD_OK)
        fprintf(stderr, "make_clips: %s\n", vd_error_message());
    return st != VD_OK;
}

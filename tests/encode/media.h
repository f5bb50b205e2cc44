/* What the tests of files share: a folder of their own, known frames, other programs' answers. */
#ifndef VD_TESTS_ENCODE_MEDIA_H
#define VD_TESTS_ENCODE_MEDIA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/json.h"
#include "encode/sink.h"

/* An empty folder below the current one, made anew; false if that fails. */
bool media_folder(const char *name);

/* Entries in a folder; -1 if it cannot be read. */
int media_entries(const char *folder);

/* Standard output of a shell command; NULL if it fails or exits non-zero. Freed by the caller. */
uint8_t *media_run(size_t *bytes, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ffprobe's JSON for a file with these options; NULL without ffprobe. */
vd_json *media_ffprobe(const char *path, const char *options);

/* Members on the way from the root: "streams", "0", "width"; ended by NULL. As text, "" if absent.
 */
const char *media_text(const vd_json *doc, const char *const *way);
#define MEDIA_TEXT(doc, ...) media_text(doc, (const char *const[]){__VA_ARGS__, NULL})

/* Default options for 16 frames of 64x64 at 8 frames/s. */
vd_sink_options media_options(const char *path);

/* Frame `index` of a clip: gradients that move; [h, w, 3]. Freed by the caller. */
uint8_t *media_gradient(int64_t width_px, int64_t height_px, int64_t index);

/* Uniform noise from a fixed seed and the index: what no codec can make small. */
uint8_t *media_noise(int64_t width_px, int64_t height_px, int64_t index);

/* One colour. */
uint8_t *media_solid(int64_t width_px, int64_t height_px, uint8_t r, uint8_t g, uint8_t b);

/* Writes a whole clip of gradients and finishes it. `hex` may be NULL. */
vd_status media_write_clip(const vd_sink_options *options, char *hex);

#endif

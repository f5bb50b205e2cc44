#include "tests/encode/media.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

bool media_folder(const char *name) {
    size_t bytes = 0;
    uint8_t *out = media_run(&bytes, "rm -rf '%s' && mkdir -p '%s'", name, name);
    free(out);
    return out != NULL;
}

int media_entries(const char *folder) {
    DIR *dir = opendir(folder);
    int count = 0;
    if (dir == NULL)
        return -1;
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            count++;
    }
    (void)closedir(dir);
    return count;
}

uint8_t *media_run(size_t *bytes, const char *format, ...) {
    char command[1024];
    size_t used = 0, room = 1 << 16;
    va_list arguments;
    va_start(arguments, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start stands right above */
    int length = vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    *bytes = 0;
    FILE *pipe = length > 0 && (size_t)length < sizeof command ? popen(command, "r") : NULL;
    if (pipe == NULL)
        return NULL;
    uint8_t *out = malloc(room);
    while (out != NULL) {
        size_t got = fread(out + used, 1, room - used, pipe);
        used += got;
        if (got == 0)
            break;
        if (used == room) {
            uint8_t *grown = realloc(out, room *= 2);
            if (grown == NULL)
                free(out);
            out = grown;
        }
    }
    int status = pclose(pipe);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "failed: %s\n", command);
        free(out);
        return NULL;
    }
    *bytes = used;
    return out;
}

vd_json *media_ffprobe(const char *path, const char *options) {
    size_t bytes = 0;
    vd_json *doc = NULL;
    uint8_t *out = media_run(&bytes, "ffprobe -v error -of json %s -i 'file:%s'", options, path);
    if (out != NULL && vd_json_parse((const char *)out, bytes, "ffprobe", &doc) != VD_OK)
        fprintf(stderr, "%s\n", vd_error_message());
    free(out);
    return doc;
}

const char *media_text(const vd_json *doc, const char *const *way) {
    static char number[64];
    const vd_json_value *v = doc != NULL ? vd_json_root(doc) : NULL;
    for (; v != NULL && *way != NULL; way++) {
        if (vd_json_type_of(v) == VD_JSON_ARRAY) {
            long index = strtol(*way, NULL, 10);
            v = vd_json_first(v);
            while (v != NULL && index-- > 0)
                v = vd_json_next(v);
        } else {
            v = vd_json_get(v, *way);
        }
    }
    if (v == NULL)
        return "";
    if (vd_json_type_of(v) == VD_JSON_STRING)
        return vd_json_string(v);
    (void)snprintf(number, sizeof number, "%.15g", vd_json_number(v));
    return number;
}

vd_sink_options media_options(const char *path) {
    vd_sink_options o = VD_SINK_OPTIONS_DEFAULT;
    o.path = path;
    o.width_px = 64;
    o.height_px = 64;
    o.fps = 8;
    o.frame_count = 16;
    return o;
}

static uint8_t *new_frame(int64_t width_px, int64_t height_px) {
    uint8_t *rgb = malloc(3 * (size_t)width_px * (size_t)height_px);
    if (rgb == NULL)
        fprintf(stderr, "not enough memory for a frame\n");
    return rgb;
}

uint8_t *media_gradient(int64_t width_px, int64_t height_px, int64_t index) {
    uint8_t *rgb = new_frame(width_px, height_px);
    for (int64_t i = 0; rgb != NULL && i < width_px * height_px; i++) {
        const int64_t x = i % width_px, y = i / width_px;
        rgb[3 * i] = (uint8_t)(2 * x + 8 * index);
        rgb[3 * i + 1] = (uint8_t)(3 * y);
        rgb[3 * i + 2] = (uint8_t)(x + y + index);
    }
    return rgb;
}

uint8_t *media_noise(int64_t width_px, int64_t height_px, int64_t index) {
    uint8_t *rgb = new_frame(width_px, height_px);
    uint64_t state = 0x9e3779b97f4a7c15U + (uint64_t)index;
    for (int64_t i = 0; rgb != NULL && i < 3 * width_px * height_px; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        rgb[i] = (uint8_t)(state >> 56);
    }
    return rgb;
}

uint8_t *media_solid(int64_t width_px, int64_t height_px, uint8_t r, uint8_t g, uint8_t b) {
    uint8_t *rgb = new_frame(width_px, height_px);
    for (int64_t i = 0; rgb != NULL && i < width_px * height_px; i++) {
        rgb[3 * i] = r;
        rgb[3 * i + 1] = g;
        rgb[3 * i + 2] = b;
    }
    return rgb;
}

vd_status media_write_clip(const vd_sink_options *options, char *hex) {
    vd_frame_sink *sink = NULL;
    vd_status st = vd_frame_sink_open(options, &sink);
    for (int64_t i = 0; st == VD_OK && i < options->frame_count; i++) {
        uint8_t *rgb = media_gradient(options->width_px, options->height_px, i);
        st = rgb != NULL ? vd_frame_sink_write(sink, rgb) : VD_ERR_MEMORY;
        free(rgb);
    }
    if (st == VD_OK)
        st = vd_frame_sink_finish(sink);
    if (sink != NULL && hex != NULL)
        vd_frame_sink_digest(sink, hex);
    vd_frame_sink_destroy(sink);
    return st;
}

/* What an output takes, by rules of thumb; sink.h says where they come from. */
#include <math.h>
#include <string.h>

#include "encode/sink.h"

static double least(double a, double b) {
    return a < b ? a : b;
}

/* Bytes a pixel of a finished video. Noise, which compresses worst, takes what its samples take at
 * a low crf and about half for every six above. */
static double video_bytes(const vd_sink_options *o) {
    const bool lossless = strcmp(o->codec, "ffv1") == 0;
    const double raw = lossless || strstr(o->pix_fmt, "444") != NULL ? 3 : 1.5;
    return lossless ? raw : raw * least(1, pow(2, (18 - o->crf) / 6));
}

void vd_sink_estimate(const vd_sink_options *o, vd_sink_needs *out) {
    const double pixels = (double)o->width_px * (double)o->height_px;
    const double frames = (double)o->frame_count;
    const size_t length = strlen(o->path);
    *out = (vd_sink_needs){0};
    if (o->path[length - 1] == ':')
        return;
    if (strcmp(o->path + length - 4, ".png") == 0) {
        *out = (vd_sink_needs){.write_bytes = (size_t)(1e6 + 20 * pixels),
                               .finish_bytes = (size_t)(1e6 + 38 * pixels),
                               .file_bytes = (uint64_t)(frames * (3.1 * pixels + 4096)),
                               .seconds = 150e-9 * pixels * frames};
        return;
    }
    /* x265 and the AV1 encoders keep and do more. */
    const double weight = strstr(o->codec, "264") != NULL ? 1 : 2;
    const double kept = 8 + 4 * least(frames, 30), read_back = 30 + 7 * least(frames, 13);
    *out = (vd_sink_needs){.write_bytes = (size_t)(2e6 + weight * kept * pixels),
                           .finish_bytes = (size_t)(6e6 + weight * read_back * pixels),
                           .file_bytes = (uint64_t)(frames * video_bytes(o) * pixels + 65536),
                           .seconds = weight * 150e-9 * pixels * frames};
}

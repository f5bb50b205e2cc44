/* What a render will take, found out by loading its networks, planning its memory and trying a
 * step and a frame. */
#ifndef VD_VIDEO_PREFLIGHT_H
#define VD_VIDEO_PREFLIGHT_H

#include "encode/sink.h"
#include "video/vidilate.h"

/* What takes less is tried twice, for the first time is the slowest. Seconds. */
#define VD_PREFLIGHT_SHORT_S 0.25

enum { VD_STAGES = 3 };

typedef struct vd_preflight {
    /* Of the request. */
    int64_t width_px, height_px, frames, steps;
    double fps;
    int64_t latent_width, latent_height, latent_channels;
    int64_t calls;    /* of the network, without those that a small render stands in for */
    int64_t forwards; /* the same, each branch of the guidance by itself */
    /* Bytes of the process in each stage, as planned (0: the stage is left out), the most of all,
     * and what it could have. */
    size_t stage_bytes[VD_STAGES], peak_bytes, limit_bytes;
    size_t device_bytes; /* of a device with memory of its own: weights, activations, scratch */
    /* Seconds: loading, planning and the prompt; denoising; decoding; encoding. */
    double load_s, denoise_s, decode_s, encode_s;
    double frame_s; /* of one frame's decoding */
    /* On the disk, rather too much: the output, and while it is rendered the state beside it. */
    uint64_t output_bytes, state_bytes;

    /* Between the files of video/ */
    vd_sink_needs sink;
    double probe_s; /* spent on tries */
    int frames_tried;
} vd_preflight;

/* Seconds in all. */
double vd_preflight_seconds(const vd_preflight *p);

/* What goes to the disk: output_bytes and state_bytes alone. Needs no network. */
vd_status vd_preflight_disk(const vd_model *model, const vd_render_request *request,
                            const vd_output *output, vd_preflight *out);

/* Everything. VD_ERR_MEMORY: it cannot fit, with the figures. Nothing is written; the events'
 * should_stop and warning are used. With a model that keeps its networks, all of them count. */
vd_status vd_preflight_run(vd_model *model, const vd_render_request *request,
                           const vd_output *output, const vd_render_events *events,
                           vd_preflight *out);

/* Bytes free for us on the disk of a file that need not be there yet. VD_ERR_OUTPUT. */
vd_status vd_disk_free(const char *file, uint64_t *out);

/* ---- for the stages ---- */

/* A stage's plan. */
void vd_preflight_memory(vd_preflight *p, vd_stage stage, size_t bytes, size_t device_bytes);

/* A frame was decoded; true: that is enough. */
bool vd_preflight_frame(vd_preflight *p, double seconds);

#endif

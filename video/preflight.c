#include "video/preflight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "core/clock.h"
#include "core/memory.h"
#include "core/text.h"
#include "video/request.h"
#include "video/stage.h"

double vd_preflight_seconds(const vd_preflight *p) {
    return p->load_s + p->denoise_s + p->decode_s + p->encode_s;
}

void vd_preflight_memory(vd_preflight *p, vd_stage stage, size_t bytes, size_t device_bytes) {
    if (bytes > p->stage_bytes[stage])
        p->stage_bytes[stage] = bytes;
    if (bytes > p->peak_bytes)
        p->peak_bytes = bytes;
    if (device_bytes > p->device_bytes)
        p->device_bytes = device_bytes;
}

bool vd_preflight_frame(vd_preflight *p, double seconds) {
    enum { ENOUGH = 2 };
    p->frame_s = p->frames_tried == 0 || seconds < p->frame_s ? seconds : p->frame_s;
    p->probe_s += seconds;
    p->frames_tried++;
    return seconds > VD_PREFLIGHT_SHORT_S || p->frames_tried == ENOUGH;
}

/* ---- the disk -------------------------------------------------------------------------------- */

vd_status vd_disk_free(const char *file, uint64_t *out) {
    struct statvfs disk;
    const char *slash = strrchr(file, '/');
    char *folder = slash ? vd_format("%.*s", (int)(slash + 1 - file), file) : vd_format(".");
    *out = 0;
    if (!folder)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    const int rc = statvfs(folder, &disk);
    vd_status st = VD_OK;
    if (rc != 0)
        st = vd_fail(VD_ERR_OUTPUT, "%s: its free space is unknown: %s", folder, strerror(errno));
    else
        *out = (uint64_t)disk.f_bavail * disk.f_frsize;
    free(folder);
    return st;
}

vd_status vd_preflight_disk(const vd_model *model, const vd_render_request *r,
                            const vd_output *output, vd_preflight *out) {
    enum { HEADER_BYTES = 8192 };
    vd_status st = VD_OK;
    vd_scheduler *scheduler = NULL;
    size_t history = 0;
    const vd_sink_options s = vd_request_sink_options(output, r, vd_backend_threads(model->be));
    vd_render_job j = {.m = (vd_model *)model, .r = r};
    vd_stage_shape(&j);
    vd_sink_estimate(&s, &out->sink);
    out->output_bytes = out->sink.file_bytes;
    out->encode_s = out->sink.seconds;
    if (!r->state_path || r->final_latents)
        return VD_OK;
    VD_TRY(vd_model_schedule(model, r, j.count, &scheduler));
    (void)vd_scheduler_history(scheduler, &history);
    /* A new one is whole before the old one goes. */
    out->state_bytes = 2 * ((j.count + history) * sizeof(float) + HEADER_BYTES);
done:
    vd_scheduler_destroy(scheduler);
    return st;
}

/* ---- a try of each stage --------------------------------------------------------------------- */

/* So that the memory of each stage is that beside all networks, as it is from the second job on. */
static vd_status load_all(vd_model *m) {
    vd_status st = VD_OK;
    for (int i = 0; i < m->info.text_encoders; i++)
        VD_TRY(vd_model_need_text(m, i));
    VD_TRY(vd_model_need_unet(m));
    VD_TRY(vd_model_need_vae(m));
done:
    return st;
}

vd_status vd_preflight_run(vd_model *model, const vd_render_request *request,
                           const vd_output *output, const vd_render_events *events,
                           vd_preflight *out) {
    vd_status st = VD_OK;
    char hash[72];
    const vd_render_events ev = {.user = events ? events->user : NULL,
                                 .should_stop = events ? events->should_stop : NULL,
                                 .warning = events ? events->warning : NULL};
    vd_render_job j = {.m = model, .r = request, .ev = &ev, .preflight = out};
    const double start_s = vd_now_s();
    *out = (vd_preflight){.width_px = request->width_px,
                          .height_px = request->height_px,
                          .frames = request->frames,
                          .steps = request->steps,
                          .fps = request->fps};
    VD_TRY(vd_render_check(model, request));
    VD_TRY(vd_preflight_disk(model, request, output, out));
    vd_stage_shape(&j);
    out->latent_width = j.w;
    out->latent_height = j.h;
    out->latent_channels = model->info.latent_channels;
    VD_TRY(vd_model_hash(model, hash)); /* a render reads the files for it, too */
    if (model->keep_loaded)
        VD_TRY(load_all(model));
    if (!request->final_latents)
        VD_TRY(vd_stage_plan_decode(&j));
    VD_TRY(vd_stage_latents(&j, request->final_latents));
    VD_TRY(vd_stage_decode(&j));
    out->decode_s = out->frame_s * (double)request->frames;
    out->load_s = vd_now_s() - start_s - out->probe_s;
    const size_t resident = vd_memory_resident(), available = vd_memory_available();
    out->limit_bytes = available > SIZE_MAX - resident ? SIZE_MAX : resident + available;
    vd_preflight_memory(out, VD_STAGE_DECODE, resident + out->sink.finish_bytes, 0);
    /* A small model takes most while it is loaded, which has been done. */
    if (!model->keep_loaded)
        vd_preflight_memory(out, VD_STAGE_DENOISE, vd_memory_peak(), 0);
done:
    free(j.context);
    free(j.pooled);
    free(j.latents);
    return st;
}

/* Whether a stage fits into the memory that there is. */
#include "core/memory.h"
#include "video/preflight.h"
#include "video/stage.h"

enum { SMALL_BYTES = 64 << 20 };

void *vd_stage_nowhere(int index) {
    enum { ADDRESSES = 4, ALIGN = 64 };
    static _Alignas(64) char nowhere[ADDRESSES * ALIGN];
    return &nowhere[(size_t)index * ALIGN];
}

static const char *what_would_help(vd_stage stage) {
    static const char *const words[] = {
        [VD_STAGE_TEXT] = "a machine with more memory would",
        [VD_STAGE_DENOISE] = "a smaller size, fewer frames or --guidance 1 would",
        [VD_STAGE_DECODE] = "a smaller size or --vae-tiling exact with less --vae-memory would",
    };
    return words[stage];
}

/* The device's own memory: what ops need beside the weights that are there. */
static vd_status fits_device(const vd_render_job *j, vd_stage stage, const char *name,
                             size_t bytes) {
    const vd_backend *be = j->m->be;
    size_t left, total;
    if (!vd_backend_memory(be, &left, &total) || bytes <= left)
        return VD_OK;
    const char *help =
        stage == VD_STAGE_DENOISE && !vd_backend_offloads(be) ? "--offload, or " : "";
    return vd_fail(
        VD_ERR_MEMORY,
        "%s at %lldx%lld, %lld frame%s, would take %.2f GB of the device's memory beside "
        "%.2f GB of weights and %.2f of its %.2f GB are free: %s%s help",
        name, (long long)j->r->width_px, (long long)j->r->height_px, (long long)j->r->frames,
        j->r->frames == 1 ? "" : "s", (double)bytes / 1e9,
        (double)vd_backend_weight_bytes(be) / 1e9, (double)left / 1e9, (double)total / 1e9, help,
        what_would_help(stage));
}

vd_status vd_stage_fits(const vd_render_job *j, vd_stage stage, const vd_exec *x, size_t more,
                        size_t device_more) {
    static const char *const names[] = {"text encoder", "denoising", "decoding"};
    const bool on_host = vd_backend_on_host(j->m->be);
    const size_t device = vd_exec_peak_bytes(x) + device_more;
    const size_t sink = j->preflight ? j->preflight->sink.write_bytes : 0;
    const size_t take = more + (on_host ? device : 0) + (stage == VD_STAGE_DECODE ? sink : 0);
    const size_t resident = vd_memory_resident(), available = vd_memory_available();
    if (j->preflight)
        vd_preflight_memory(j->preflight, stage, resident + take,
                            on_host ? 0 : vd_backend_weight_bytes(j->m->be) + device);
    if (take < SMALL_BYTES || take <= available)
        return on_host ? VD_OK : fits_device(j, stage, names[stage], device);
    return vd_fail(VD_ERR_MEMORY,
                   "%s at %lldx%lld, %lld frame%s, would take %.1f GB of memory and %.1f GB can be "
                   "had: %s help",
                   names[stage], (long long)j->r->width_px, (long long)j->r->height_px,
                   (long long)j->r->frames, j->r->frames == 1 ? "" : "s",
                   (double)(resident + take) / 1e9, (double)(resident + available) / 1e9,
                   what_would_help(stage));
}

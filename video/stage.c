#include "video/stage.h"

#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "video/state.h"

void vd_stage_shape(vd_render_job *j) {
    j->h = j->r->height_px / j->m->info.latent_scale;
    j->w = j->r->width_px / j->m->info.latent_scale;
    j->pixels = j->h * j->w;
    j->count = (size_t)(j->m->info.latent_channels * j->r->frames * j->pixels);
    j->branches = j->r->guidance > 1 ? 2 : 1;
}

vd_status vd_stage_report(const vd_render_job *j, vd_stage stage, int64_t done, int64_t total) {
    int64_t before = stage == VD_STAGE_DENOISE && j->resume && done > 0 ? j->resume->next : 0;
    vd_progress p = {stage, done, total, before};
    return j->ev->progress ? j->ev->progress(j->ev->user, &p) : VD_OK;
}

vd_status vd_stage_check_stop(const vd_render_job *j) {
    if (j->ev->should_stop && j->ev->should_stop(j->ev->user))
        return vd_fail(VD_ERR_INTERRUPTED, "interrupted");
    return VD_OK;
}

vd_status vd_stage_exec(const vd_render_job *j, vd_dtype dtype, vd_exec **out) {
    vd_status st = vd_exec_create(j->m->be, dtype, out);
    if (st == VD_OK)
        vd_exec_set_interrupt(*out, j->ev->should_stop, j->ev->user);
    return st;
}

vd_status vd_stage_floats(size_t count, float **out) {
    *out = NULL;
    vd_status st = vd_memory_check(count * sizeof **out, "the latents");
    if (st != VD_OK)
        return st;
    *out = malloc(count * sizeof **out);
    return *out ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for %zu values", count);
}

vd_status vd_stage_latents(vd_render_job *j, const float *there) {
    vd_status st = VD_OK;
    if (!there) {
        VD_TRY(vd_stage_text(j));
        VD_TRY(vd_stage_denoise(j));
    } else {
        VD_TRY(vd_stage_floats(j->count, &j->latents));
        memcpy(j->latents, there, j->count * sizeof *there);
    }
done:
    return st;
}

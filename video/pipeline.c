/* Prompt -> text states -> latents -> frames: runs the stages one after the other. */
#include "video/pipeline.h"

#include <stdlib.h>

#include "video/stage.h"
#include "video/state.h"

/* By the network, unless they are there already. */
static vd_status make_latents(vd_render_job *j) {
    vd_status st = VD_OK;
    const float *there = j->r->final_latents;
    if (!there) {
        VD_TRY(vd_state_read(j, &j->resume));
        there = j->resume && j->resume->next == j->resume->calls ? j->resume->latents : NULL;
    }
    if (!there && (j->ev->frame || j->consume))
        VD_TRY(vd_stage_plan_decode(j));
    VD_TRY(vd_stage_latents(j, there));
done:
    return st;
}

vd_status vd_render_frames(vd_model *model, const vd_render_request *request,
                           const vd_render_events *events,
                           vd_status (*consume)(void *user, const uint8_t *rgb), void *user) {
    static const vd_render_events silent = {0};
    vd_status st = VD_OK;
    vd_render_job j = {.m = model,
                       .r = request,
                       .ev = events ? events : &silent,
                       .consume = consume,
                       .consume_user = user};
    VD_TRY(vd_render_check(model, request));
    vd_stage_shape(&j);
    VD_TRY(make_latents(&j));
    if (j.ev->latents)
        VD_TRY(j.ev->latents(j.ev->user, j.latents, j.count));
    if (j.ev->frame || j.consume)
        VD_TRY(vd_stage_decode(&j));
done:
    vd_state_free(j.resume);
    free(j.context);
    free(j.pooled);
    free(j.latents);
    return st;
}

vd_status vd_render(vd_model *model, const vd_render_request *request,
                    const vd_render_events *events) {
    return vd_render_frames(model, request, events, NULL, NULL);
}

#include "cli/preflight.h"

#include <stdio.h>
#include <stdlib.h>

#include "encode/sink.h"

static void warn(void *user, const char *message) {
    (void)user;
    fprintf(stderr, "vidilate: warning: %s\n", message);
}

vd_status cli_preflight_try(vd_model *model, const cli_render_work *work, vd_preflight *out) {
    const vd_render_events events = {.should_stop = cli_interrupted, .warning = warn};
    if (work->method.warning)
        warn(NULL, work->method.warning);
    return vd_preflight_run(model, &work->request, &work->output, &events, out);
}

uint64_t cli_preflight_latents(const vd_model *model, const cli_render_work *work) {
    enum { HEADER_BYTES = 4096 };
    const vd_model_info *info = vd_model_get_info(model);
    const vd_render_request *r = &work->request;
    const int64_t scale = info->latent_scale;
    const int64_t count =
        info->latent_channels * r->frames * (r->width_px / scale) * (r->height_px / scale);
    return work->saved_latents ? (uint64_t)count * sizeof(float) + HEADER_BYTES : 0;
}

/* ---- amounts --------------------------------------------------------------------------------- */

const char *cli_show_bytes(double bytes, char buf[CLI_AMOUNT_BYTES]) {
    if (bytes >= 1e9)
        snprintf(buf, CLI_AMOUNT_BYTES, "%.2f GB", bytes / 1e9);
    else if (bytes >= 1e6)
        snprintf(buf, CLI_AMOUNT_BYTES, "%.1f MB", bytes / 1e6);
    else
        snprintf(buf, CLI_AMOUNT_BYTES, "%.0f kB", bytes / 1e3);
    return buf;
}

const char *cli_show_seconds(double seconds, char buf[CLI_AMOUNT_BYTES]) {
    const long long whole = (long long)(seconds + 0.5);
    if (seconds < 1)
        snprintf(buf, CLI_AMOUNT_BYTES, "%.3f s", seconds);
    else if (seconds < 60)
        snprintf(buf, CLI_AMOUNT_BYTES, "%.1f s", seconds);
    else if (whole < 3600)
        snprintf(buf, CLI_AMOUNT_BYTES, "%lld min %02lld s", whole / 60, whole % 60);
    else
        snprintf(buf, CLI_AMOUNT_BYTES, "%lld h %02lld min", whole / 3600, whole % 3600 / 60);
    return buf;
}

vd_status cli_preflight_disk(const char *file, uint64_t need, uint64_t *room) {
    char text[CLI_AMOUNT_BYTES], other[CLI_AMOUNT_BYTES];
    vd_status st = vd_disk_free(file, room);
    if (st == VD_OK && need > *room)
        st =
            vd_fail(VD_ERR_OUTPUT,
                    "%s: up to %s would be written and its disk has %s free: make room, name "
                    "another folder, or choose a smaller size or a higher --crf",
                    file, cli_show_bytes((double)need, text), cli_show_bytes((double)*room, other));
    return st;
}

/* ---- one render ------------------------------------------------------------------------------ */

static const char *stage_of_peak(const vd_preflight *p) {
    static const char *const names[VD_STAGES] = {"the text encoder", "denoising", "decoding"};
    int most = 0;
    for (int i = 1; i < VD_STAGES; i++)
        most = p->stage_bytes[i] > p->stage_bytes[most] ? i : most;
    return names[most];
}

static void print_time(const vd_preflight *p) {
    char all[CLI_AMOUNT_BYTES], a[CLI_AMOUNT_BYTES], b[CLI_AMOUNT_BYTES];
    printf("time     %s about: ", cli_show_seconds(vd_preflight_seconds(p), all));
    if (p->calls > 0)
        printf("%s a call, ", cli_show_seconds(p->denoise_s / (double)p->calls, a));
    printf("%s to decode a frame", cli_show_seconds(p->frame_s, a));
    printf(", loading %s", cli_show_seconds(p->load_s, a));
    printf(", encoding %s\n", cli_show_seconds(p->encode_s / (double)p->frames, b));
}

static void print_text(const vd_model *model, const cli_render_work *work, const vd_preflight *p,
                       uint64_t latents, uint64_t room) {
    const vd_render_request *r = &work->request;
    const vd_model_info *info = vd_model_get_info(model);
    char x[CLI_AMOUNT_BYTES], y[CLI_AMOUNT_BYTES], z[CLI_AMOUNT_BYTES];
    printf("size     %lldx%lld pixels, %lldx%lld latents of %lld channels\n",
           (long long)r->width_px, (long long)r->height_px, (long long)p->latent_width,
           (long long)p->latent_height, (long long)p->latent_channels);
    printf("frames   %lld at %g fps\n", (long long)r->frames, r->fps);
    printf("steps    %lld: %lld calls of the network, %lld forwards\n", (long long)r->steps,
           (long long)p->calls, (long long)p->forwards);
    printf("method   %s%s%s\n", r->method ? r->method : "settings", work->method.why ? ": " : "",
           work->method.why ? work->method.why : "");
    printf("device   %s, %s\n", info->backend, info->dtype);
    printf("memory   %s at the most, in %s; %s can be had\n",
           cli_show_bytes((double)p->peak_bytes, x), stage_of_peak(p),
           cli_show_bytes((double)p->limit_bytes, y));
    if (p->device_bytes > 0)
        printf("         %s of the device's own\n", cli_show_bytes((double)p->device_bytes, x));
    print_time(p);
    if (p->output_bytes == 0)
        printf("disk     nothing is written\n");
    else
        printf("disk     %s at most, state and latents %s; %s free\n",
               cli_show_bytes((double)p->output_bytes, x),
               cli_show_bytes((double)(p->state_bytes + latents), y),
               cli_show_bytes((double)room, z));
}

void cli_preflight_put(vd_json_writer *w, const char *method, const vd_preflight *p) {
    static const char *const stages[VD_STAGES] = {"text", "denoise", "decode"};
    vd_json_put_int(w, "width", p->width_px);
    vd_json_put_int(w, "height", p->height_px);
    vd_json_put_int(w, "latent_width", p->latent_width);
    vd_json_put_int(w, "latent_height", p->latent_height);
    vd_json_put_int(w, "frames", p->frames);
    vd_json_put_double(w, "fps", p->fps);
    vd_json_put_int(w, "steps", p->steps);
    vd_json_put_int(w, "calls", p->calls);
    vd_json_put_int(w, "forwards", p->forwards);
    vd_json_put_string(w, "method", method);
    vd_json_put_int(w, "peak_bytes", (int64_t)p->peak_bytes);
    vd_json_put_int(w, "available_bytes", (int64_t)(p->limit_bytes & INT64_MAX));
    vd_json_put_int(w, "device_bytes", (int64_t)p->device_bytes);
    vd_json_begin_object(w, "stage_bytes");
    for (int i = 0; i < VD_STAGES; i++)
        vd_json_put_int(w, stages[i], (int64_t)p->stage_bytes[i]);
    vd_json_end(w);
    vd_json_put_double(w, "seconds", vd_preflight_seconds(p));
    vd_json_put_double(w, "load_s", p->load_s);
    vd_json_put_double(w, "denoise_s", p->denoise_s);
    vd_json_put_double(w, "decode_s", p->decode_s);
    vd_json_put_double(w, "encode_s", p->encode_s);
    vd_json_put_int(w, "output_bytes", (int64_t)p->output_bytes);
    vd_json_put_int(w, "state_bytes", (int64_t)p->state_bytes);
}

vd_status cli_preflight_print(vd_json_writer *w) {
    char *text = NULL;
    vd_status st = vd_json_writer_finish(w, true, &text);
    if (st == VD_OK && (puts(text) < 0 || fflush(stdout) != 0))
        st = vd_fail(VD_ERR_OUTPUT, "cannot write to the standard output");
    free(text);
    vd_json_writer_destroy(w);
    return st;
}

vd_status cli_preflight_render(const cli_render_args *a, vd_model *model,
                               const cli_render_work *work) {
    vd_status st = VD_OK;
    vd_json_writer *w = NULL;
    vd_preflight p = {0};
    char *file = NULL;
    uint64_t room = 0, latents = cli_preflight_latents(model, work);
    VD_TRY(vd_preflight_disk(model, &work->request, &work->output, &p));
    VD_TRY(vd_sink_file(work->output.path, 1, &file));
    if (file)
        VD_TRY(cli_preflight_disk(file, p.output_bytes + p.state_bytes + latents, &room));
    VD_TRY(cli_preflight_try(model, work, &p));
    if (!a->json) {
        print_text(model, work, &p, latents, room);
        goto done;
    }
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    cli_preflight_put(w, work->request.method ? work->request.method : "settings", &p);
    vd_json_put_int(w, "latents_bytes", (int64_t)latents);
    vd_json_put_int(w, "disk_free_bytes", (int64_t)room);
    vd_json_end(w);
    st = cli_preflight_print(w);
done:
    free(file);
    return st;
}

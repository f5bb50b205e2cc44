/* The command: its options, and what happens in which order. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/preflight.h"
#include "cli/render.h"
#include "core/clock.h"
#include "video/request.h"
#include "video/scheduler.h"

static const char *const BACKENDS[] = {"auto", "cpu", "cuda", NULL};
static const char *const DTYPES[] = {"auto", "f32", "bf16", "f16", NULL};
static const char *const PROGRESS[] = {"auto", "bar", "json", "none", NULL};

void cli_render_options(cli_render_args *a, cli_option options[CLI_RENDER_OPTIONS]) {
    const cli_option list[CLI_RENDER_OPTIONS] = {
        {"model", 0, CLI_TEXT, &a->model, "DIR",
         "model folder in diffusers layout (the model that ships)", NULL, NULL},
        {"prompt", 'p', CLI_PROMPT, &a->prompt, "TEXT", "what to draw; @FILE reads it", NULL, NULL},
        {"negative-prompt", 'n', CLI_PROMPT, &a->negative_prompt, "TEXT",
         "what to keep away from; @FILE reads it", NULL, NULL},
        {"output", 'o', CLI_TEXT, &a->output, "FILE",
         ".mp4 .mov .mkv .webm, NAME.png for a picture, NAME%04d.png for frames, hash: or null:",
         NULL, NULL},
        {"width", 0, CLI_INT, &a->width, "PX", "width (the model's own)", NULL, &a->has.width},
        {"height", 0, CLI_INT, &a->height, "PX", "height (the model's own)", NULL, &a->has.height},
        {"scale", 0, CLI_DOUBLE, &a->scale, "X", "size relative to the model's own (1)", NULL,
         &a->has.scale},
        {"frames", 0, CLI_INT, &a->frames, "N", "number of frames (the model's own)", NULL,
         &a->has.frames},
        {"fps", 0, CLI_DOUBLE, &a->fps, "RATE", "frames a second (the model's own)", NULL,
         &a->has.fps},
        {"steps", 0, CLI_INT, &a->steps, "N", "denoising steps (50)", NULL, NULL},
        {"guidance", 0, CLI_DOUBLE, &a->guidance, "W",
         "classifier-free guidance scale; 1 turns it off (7.5)", NULL, NULL},
        {"guidance-rescale", 0, CLI_DOUBLE, &a->guidance_rescale, "PHI",
         "pull the guided prediction's deviation back, 0..1 (0)", NULL, NULL},
        {"scheduler", 0, CLI_CHOICE, &a->scheduler, "NAME",
         "ddim, dpmpp2m, euler, ... with the folder's settings (the folder's own)",
         vd_scheduler_names(), NULL},
        {"eta", 0, CLI_DOUBLE, &a->eta, "ETA", "noise of DDIM's steps, 0..1 (0)", NULL, NULL},
        {"seed", 's', CLI_SEED, &a->seed, "N", "initial noise as torch.randn draws it (0)", NULL,
         &a->has.seed},
        {"seed-list", 0, CLI_TEXT, &a->seed_list, "LIST",
         "a clip for each seed, 1,2,5-9: clip-seed-1.mp4, ... from one load of the model", NULL,
         NULL},
        {"repeat", 0, CLI_INT, &a->repeat, "N", "a clip for each of N seeds from --seed on", NULL,
         &a->has.repeat},
        {"method", 0, CLI_CHOICE, &a->method, "NAME",
         "for sizes beyond training: direct, redilate, disperse, ndcfg, attn-scale, freeu, low-res "
         "(auto: what suits this model and size)",
         vd_method_names(), &a->has.method},
        {"settings", 0, CLI_TEXT, &a->settings, "FILE",
         "the method's settings: JSON such as configs/ holds, or module.path:factor lines; "
         "overrides --method",
         NULL, NULL},
        {"vae-tiling", 0, CLI_CHOICE, &a->vae_tiling, "MODE",
         "how frames are decoded: off (whole), exact (the same in bands of bounded memory), plain "
         "or sync (blended tiles, as diffusers and ScaleCrafter have them), auto: exact where the "
         "whole decode would take more than --vae-memory (auto)",
         vd_vae_tiling_names(), NULL},
        {"vae-memory", 0, CLI_DOUBLE, &a->vae_memory, "GB",
         "activations of an exact decode; with less it computes more (4)", NULL, NULL},
        {"configs", 0, CLI_TEXT, &a->configs, "DIR",
         "folder of settings that --method takes from (the one that ships)", NULL, NULL},
        {"explain", 0, CLI_FLAG, &a->explain, NULL,
         "say what would run at each step in each block, and why; render nothing", NULL, NULL},
        {"dry-run", 0, CLI_FLAG, &a->dry_run, NULL,
         "try a step and a frame, and say what memory, time and disk the render takes; render "
         "nothing",
         NULL, NULL},
        {"json", 0, CLI_FLAG, &a->json, NULL, "with --explain or --dry-run: as JSON", NULL, NULL},
        {"backend", 0, CLI_CHOICE, &a->backend, "NAME", "auto, cpu or cuda (auto)", BACKENDS, NULL},
        {"dtype", 0, CLI_CHOICE, &a->dtype, "TYPE", "auto, f32, bf16 or f16 (auto: the fastest)",
         DTYPES, NULL},
        {"offload", 0, CLI_FLAG, &a->offload, NULL,
         "for a device with too little memory: the UNet's weights stay in the host's and come "
         "layer by layer; slower, the same frames",
         NULL, NULL},
        {"threads", 0, CLI_INT, &a->threads, "N", "CPU threads (one per core)", NULL, NULL},
        {"codec", 0, CLI_TEXT, &a->codec, "NAME", "video encoder of libavcodec (libx264)", NULL,
         NULL},
        {"crf", 0, CLI_DOUBLE, &a->crf, "N", "constant quality, lower is better (18)", NULL, NULL},
        {"pix-fmt", 0, CLI_TEXT, &a->pix_fmt, "NAME", "pixel format (yuv420p)", NULL, NULL},
        {"latents", 0, CLI_TEXT, &a->latents, "FILE",
         "start from `latents` [1,C,F,h,w] of a safetensors file instead of noise", NULL, NULL},
        {"save-latents", 0, CLI_TEXT, &a->save_latents, "FILE",
         "write the final latents as safetensors", NULL, NULL},
        {"from", 0, CLI_TEXT, &a->from, "CLIP",
         "take the settings out of a rendered file; other options override them", NULL, NULL},
        {"save-every", 0, CLI_INT, &a->save_every, "N",
         "steps between savings of the state that a killed render goes on from (every 10 s)", NULL,
         NULL},
        {"decode-only", 0, CLI_FLAG, &a->decode_only, NULL,
         "--latents are final, as --save-latents wrote them: only decode them", NULL, NULL},
        {"re-encode", 0, CLI_FLAG, &a->re_encode, NULL,
         "replace the output by one from --latents, with its own settings but for those given",
         NULL, NULL},
        {"force", 0, CLI_FLAG, &a->force, NULL, "render again, and replace, what is there already",
         NULL, NULL},
        {"progress", 0, CLI_CHOICE, &a->progress, "MODE",
         "auto, bar, json or none, on stderr (auto: a bar on a terminal)", PROGRESS, NULL},
    };
    memcpy(options, list, sizeof list);
}

vd_status cli_render_check_args(const cli_render_args *a) {
    if (a->json && !a->explain && !a->dry_run)
        return vd_fail(VD_ERR_USAGE, "render: --json goes with --explain or --dry-run");
    if (!a->output && !a->explain && !a->dry_run)
        return vd_fail(VD_ERR_USAGE, "render: no output; give -o FILE");
    if ((a->decode_only || a->re_encode) && !a->latents)
        return vd_fail(VD_ERR_USAGE, "render: --%s wants --latents FILE, what --save-latents wrote",
                       a->re_encode ? "re-encode" : "decode-only");
    if (a->has.scale && (a->has.width || a->has.height))
        return vd_fail(VD_ERR_USAGE, "render: give --scale or --width and --height, not both");
    if (a->threads < 0 || a->threads > 1024)
        return vd_fail(VD_ERR_USAGE, "render: --threads %lld: must be from 0 (all cores) to 1024",
                       (long long)a->threads);
    return VD_OK;
}

cli_render_args cli_render_defaults(void) {
    return (cli_render_args){.backend = "auto",
                             .dtype = "auto",
                             .method = "auto",
                             .progress = "auto",
                             .codec = "libx264",
                             .pix_fmt = "yuv420p",
                             .crf = 18,
                             .steps = 50,
                             .guidance = 7.5,
                             .vae_tiling = "auto",
                             .vae_memory = 4};
}

vd_status cli_render_one(const cli_render_args *a, const vd_json *clip, vd_model *model) {
    vd_status st = VD_OK;
    cli_render_work work = {0};
    bool finished = false;
    const vd_render_request *r = &work.request;
    cli_render_result result;
    double start_s = vd_now_s();
    VD_TRY(cli_render_fill(a, clip, model, &work));
    VD_TRY(vd_render_check(model, r));
    if (a->explain) {
        VD_TRY(cli_render_explain(a, model, &work));
        goto done;
    }
    VD_TRY(vd_output_check(&work.output, r));
    VD_TRY(cli_render_read(a, model, &work));
    if (!a->force && !a->re_encode)
        VD_TRY(vd_output_finished(model, r, &work.output, &finished));
    if (a->dry_run && !finished) {
        st = cli_preflight_render(a, model, &work);
        goto done;
    }
    if (!a->dry_run)
        cli_render_sweep(&work, false);
    if (finished) {
        if (!a->dry_run)
            cli_render_drop_state(&work);
        printf("%s: finished already, with these settings (--force renders it again)\n", a->output);
        goto done;
    }
    if (clip)
        VD_TRY(cli_replay_compare(a, model, clip));
    VD_TRY(cli_render_run(a, model, &work, NULL, &result));
    cli_render_drop_state(&work);
    const char *name = work.output.path;
    size_t name_length = strlen(name);
    if (name[name_length - 1] == ':')
        name_length--;
    printf("%.*s: %lldx%lld, %lld frames at %g fps, seed %llu, %.1f s, peak %lld MB, sha256:%s\n",
           (int)name_length, name, (long long)r->width_px, (long long)r->height_px,
           (long long)r->frames, r->fps, (unsigned long long)r->seed, vd_now_s() - start_s,
           (long long)(cli_peak_bytes() / 1000000), result.digest);
done:
    if (st == VD_ERR_INTERRUPTED && work.state && access(work.state, F_OK) == 0)
        st = vd_fail(st, "interrupted; the same command goes on from %s", work.state);
    cli_render_work_free(&work);
    return st;
}

static vd_status run(const cli_render_args *a, const vd_json *clip) {
    vd_status st = VD_OK;
    vd_model *model = NULL;
    cli_seeds seeds = {0};
    VD_TRY(cli_seeds_read(a, &seeds));
    VD_TRY(cli_render_open(a, seeds.count > 1, &model));
    if (a->dry_run && !a->json && seeds.count > 1)
        printf("clips    %zu, each of which takes\n", seeds.count);
    st = seeds.count == 0 || a->explain || a->dry_run ? cli_render_one(a, clip, model)
                                                      : cli_render_seeds(a, clip, model, &seeds);
done:
    cli_seeds_free(&seeds);
    vd_model_close(model);
    return st;
}

int cli_render(int argc, char **argv) {
    vd_status st = VD_OK;
    bool done_early = false;
    vd_json *clip = NULL;
    cli_option options[CLI_RENDER_OPTIONS];
    cli_render_args a = cli_render_defaults();
    cli_command command = {.name = "render",
                           .usage = "--prompt TEXT [options] -o FILE",
                           .summary = "Draws a clip from a prompt. Without --model it uses the "
                                      "model that ships.",
                           .options = options,
                           .option_count = CLI_RENDER_OPTIONS};
    cli_render_options(&a, options);
    VD_TRY(cli_parse(&command, argc, argv, &done_early));
    if (done_early)
        goto done;
    if (a.re_encode && a.latents && a.output && !a.from)
        a.from = a.output;
    if (a.from) {
        VD_TRY(cli_replay_apply(&command, &a, &clip));
        /* Again, so that what is on the command line wins. */
        VD_TRY(cli_parse(&command, argc, argv, &done_early));
    }
    VD_TRY(cli_render_check_args(&a));
    VD_TRY(run(&a, clip));
done:
    cli_command_free(&command);
    vd_json_destroy(clip);
    return cli_report(st);
}

/* vidilate: text to video with a diffusion model in diffusers layout.
 *
 *     vd_model *model;
 *     vd_model_options options = {.dir = "models/shapes"};
 *     if (vd_model_open(&options, &model) != VD_OK)
 *         fail(vd_error_message());
 *     vd_render_request request = vd_render_defaults(model);
 *     request.prompt = "a red circle moving right on a white background";
 *     vd_output output = {.path = "clip.mp4"};
 *     vd_render_to_file(model, &request, &output, NULL, NULL);
 *     vd_model_close(model);
 *
 * All strings are UTF-8. Functions return VD_OK or an error whose one-line message
 * vd_error_message() gives (core/status.h). Nothing here prints or exits. One thread at a time may
 * use a model.
 */
#ifndef VD_VIDEO_VIDILATE_H
#define VD_VIDEO_VIDILATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* "0.1.0" */
VD_API const char *vd_version(void);

/* ---- models -------------------------------------------------------------------------------- */

typedef struct vd_model vd_model;

typedef struct vd_model_options {
    const char *dir;     /* a diffusers-layout folder with model_index.json */
    const char *backend; /* "auto" (NULL), "cpu", "cuda" */
    const char *dtype;   /* "auto" (NULL), "f32", "bf16", "f16": of the UNet and the decoder */
    int threads;         /* 0: one per core */
    bool keep_loaded;    /* keep the networks between renders instead of releasing each one when
                            the next stage begins */
    bool offload; /* the UNet's weights stay in the host's memory and come to the device layer by
                     layer; of the other networks nothing stays on the device. The same frames. */
} vd_model_options;

typedef struct vd_model_info {
    const char *pipeline; /* "TextToVideoSDPipeline" */
    bool draws_video;     /* false: pictures, one frame */
    int text_encoders;
    const char *backend;                 /* "cpu: oneDNN 2.6.3, avx512_core_bf16, 2 threads" */
    const char *dtype;                   /* "bf16" */
    int64_t width_px, height_px, frames; /* the size it was trained at */
    double fps;
    int64_t size_multiple_px; /* widths and heights must be multiples of this */
    int64_t latent_channels;
    int64_t latent_scale; /* pixels per latent */
} vd_model_info;

/* Reads the folder's configs; weights are read when a stage needs them. VD_ERR_INPUT: not a folder
 * that this program can run; VD_ERR_BACKEND; VD_ERR_USAGE: an unknown backend or dtype, or
 * offload where the device's memory is the host's. */
VD_API vd_status vd_model_open(const vd_model_options *options, vd_model **out);
VD_API void vd_model_close(vd_model *model);

/* Releases the networks that keep_loaded kept; the next render loads them again. */
VD_API void vd_model_unload(vd_model *model);

/* Borrowed, valid until the model is closed. */
VD_API const vd_model_info *vd_model_get_info(const vd_model *model);

/* Seconds that this model's renders have taken so far for anything but computing. */
typedef struct vd_model_times {
    double load_s;   /* reading and packing weights */
    double encode_s; /* encoding frames and writing files */
} vd_model_times;

VD_API vd_model_times vd_model_get_times(const vd_model *model);

/* "sha256:" and 64 digits over the weights of all networks: the model's identity. buf: 72 bytes. */
VD_API vd_status vd_model_hash(vd_model *model, char buf[72]);

/* ---- rendering ----------------------------------------------------------------------------- */

struct vd_scheduler_config;
struct vd_settings;

typedef struct vd_render_request {
    const char *prompt;          /* may be "", not NULL */
    const char *negative_prompt; /* NULL is "", but SD XL's: states of zero */
    int64_t width_px, height_px; /* multiples of the model's size_multiple_px, at most 16384 */
    int64_t frames;              /* 1..1024; 1 if the model draws pictures */
    double fps;                  /* of the file; does not change the frames */
    int64_t steps;               /* 1..1000 */
    double guidance;             /* classifier-free guidance scale w; at most 1 turns it off */
    double guidance_rescale;     /* phi in 0..1 */
    double eta;                  /* of DDIM, 0..1 */
    uint64_t seed;               /* the initial noise is torch.randn's with this CPU seed */
    const char *scheduler; /* "ddim", "dpmpp2m", ... (video/scheduler.h); NULL: the folder's */
    /* Instead of the folder's scheduler config; NULL for that. */
    const struct vd_scheduler_config *scheduler_config;
    /* Which layers to re-dilate, and when (unet3d/settings.h); borrowed; NULL: the plain network.
     */
    const struct vd_settings *settings;
    /* How frames are decoded: "off": whole; "exact": in bands that equal it but for rounding, in
     * about vae_memory_gb of activations; "auto" (NULL): exact where the whole decode would take
     * more than that; "plain", "sync": overlapping tiles as diffusers and ScaleCrafter have them.
     */
    const char *vae_tiling;
    double vae_memory_gb; /* 10^9 bytes, above 0; vd_render_defaults has 4 */
    /* The method's name that the settings came from, kept in the file's metadata only; or NULL. */
    const char *method;
    /* Start from these instead of noise, before init_noise_sigma: [1, C, frames, h, w]; or NULL. */
    const float *latents;
    /* Noise of the stochastic schedulers' steps instead of the generator's:
     * [calls, 1, C, frames, h, w]; or NULL. */
    const float *step_noise;
    /* A file, by custom beside the output, where the render keeps its state: what is there from
     * this very render is gone on from, anything else replaced. It is written every save_every
     * steps (0: after the step at whose end 10 s have passed since the last time), before the
     * decoding, and when the render is stopped. It stays after success: the caller removes it when
     * the frames are safe. NULL: no state. */
    const char *state_path;
    int64_t save_every; /* 0..1000 */
    /* Decode these, [1, C, frames, h, w], without text and denoising; or NULL. */
    const float *final_latents;
} vd_render_request;

/* The model's own size and scheduler, 50 steps, guidance 7.5, eta 0, seed 0; no prompt yet. */
VD_API vd_render_request vd_render_defaults(const vd_model *model);

/* VD_ERR_USAGE: says which value cannot be, and what is allowed. VD_ERR_INPUT: the settings name
 * layers that the model has not, or more steps than there are. */
VD_API vd_status vd_render_check(const vd_model *model, const vd_render_request *request);

/* Settings for a model, size, number of steps and scheduler, by a method's name. */
typedef struct vd_method_choice {
    struct vd_settings *settings; /* NULL: the plain network */
    char *why;     /* one line: from which row of the configs folder, by which rule */
    char *row;     /* that row's name; or NULL */
    char *warning; /* one line for the person; or NULL */
} vd_method_choice;

/* "auto", "direct", "redilate", "attn-scale", "freeu", "low-res", "disperse", "ndcfg", NULL. */
VD_API const char *const *vd_method_names(void);

/* Chooses for the request's size, steps and scheduler; its `settings` are not read. `configs` is a
 * folder of settings files (configs/README.md) or NULL for general rules alone. To be freed with
 * vd_method_choice_free; the request borrows the settings. */
VD_API vd_status vd_method_choose(const vd_model *model, const vd_render_request *request,
                                  const char *method, const char *configs, vd_method_choice *out);

/* The same out of a file: JSON, or a list of ScaleCrafter's (unet3d/settings.h), of which names
 * that the model lacks are left out with a warning. */
VD_API vd_status vd_method_read(const vd_model *model, const char *path, vd_method_choice *out);
VD_API void vd_method_choice_free(vd_method_choice *choice);

/* Denoising ends, and its network is released, before decoding begins. */
typedef enum vd_stage { VD_STAGE_TEXT, VD_STAGE_DENOISE, VD_STAGE_DECODE } vd_stage;

typedef struct vd_progress {
    vd_stage stage;
    int64_t done, total; /* UNet calls or frames; done 0 marks the beginning of a stage */
    int64_t before;      /* of `done`: in an earlier run that this one goes on from */
} vd_progress;

/* Where a render can be watched and stopped. Every member may be NULL. Pointers are borrowed for
 * the call. */
typedef struct vd_render_events {
    void *user;
    bool (*should_stop)(void *user); /* true ends the render with VD_ERR_INTERRUPTED */
    vd_status (*progress)(void *user, const vd_progress *progress);
    /* A warning for the person, one line: a prompt that was cut, say. */
    void (*warning)(void *user, const char *message);
    /* Text states [branches, tokens, width]; branches 2: negative, prompt; 1: prompt. */
    void (*context)(void *user, const float *states, int64_t branches, int64_t tokens,
                    int64_t width);
    /* After each scheduler step: latents and the guided prediction, [1, C, frames, h, w]. */
    vd_status (*step)(void *user, int64_t step, const float *latents, const float *prediction,
                      size_t count);
    /* Once, before the decoding: the final latents, [1, C, frames, h, w]. */
    vd_status (*latents)(void *user, const float *latents, size_t count);
    /* Each frame in order: the decoder's [height, width, 3] in about [-1, 1], and its bytes. */
    vd_status (*frame)(void *user, int64_t index, const float *image, const uint8_t *rgb);
} vd_render_events;

/* Prompt to frames. A failing event's status ends the render and is returned. VD_ERR_BACKEND also
 * where a network gives NaN or infinity: the message names the step and the first bad layer. */
VD_API vd_status vd_render(vd_model *model, const vd_render_request *request,
                           const vd_render_events *events);

typedef struct vd_output {
    const char *path;    /* .mp4 .mov .mkv .webm, NAME%04d.png, NAME.png of one frame, hash:, null:
                            (encode/sink.h) */
    const char *codec;   /* NULL: libx264 */
    const char *pix_fmt; /* NULL: yuv420p */
    double crf;          /* 0: the codec's best; vd_output_defaults has 18 */
} vd_output;

VD_API vd_output vd_output_defaults(const char *path);

/* What can be known before the render: encoder, container, folder. */
VD_API vd_status vd_output_check(const vd_output *output, const vd_render_request *request);

/* Whether the output is there, whole, and was made with these settings (another version of the
 * program, and another device where the model's options leave the choice, do not matter).
 * VD_ERR_OUTPUT: something else is there: says what differs. */
VD_API vd_status vd_output_finished(vd_model *model, const vd_render_request *request,
                                    const vd_output *output, bool *finished);

/* Renders into a file that appears whole or not at all and carries all settings as metadata
 * (key "vidilate": a JSON object of render's long options). digest (65 bytes, or NULL): SHA-256 of
 * all frames' bytes. */
VD_API vd_status vd_render_to_file(vd_model *model, const vd_render_request *request,
                                   const vd_output *output, const vd_render_events *events,
                                   char *digest);

#endif

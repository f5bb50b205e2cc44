/* A model folder: its components, the device it runs on, and the networks that are loaded now. */
#ifndef VD_VIDEO_MODEL_H
#define VD_VIDEO_MODEL_H

#include "backend/backend.h"
#include "encode/vae.h"
#include "text/clip.h"
#include "text/tokenizer.h"
#include "unet3d/unet3d.h"
#include "video/scheduler.h"
#include "video/text_cache.h"
#include "video/vidilate.h"

enum { VD_MODEL_TEXT_ENCODERS = 2 }; /* at most; SD XL has two, the others one */

/* Folders of the components. In a model folder they lie side by side; a parity manifest names each
 * by itself. */
typedef struct vd_model_folders {
    char *text_encoder[VD_MODEL_TEXT_ENCODERS], *tokenizer[VD_MODEL_TEXT_ENCODERS];
    char *unet, *vae, *scheduler;
    char *vocabulary; /* where vocab.json and merges.txt lie if not in `tokenizer`; or NULL */
} vd_model_folders;

struct vd_model {
    vd_backend *be;
    vd_dtype dtype;
    bool keep_loaded, offload;
    bool auto_backend, auto_dtype; /* chosen by the program: the machine decides */
    bool zeros_without_negative;   /* no negative prompt: zero states instead of those of "" */
    vd_model_folders folder;
    char *name;    /* the folder's own name, for metadata; no path */
    char hash[72]; /* "" until asked for */
    vd_model_info info;
    vd_model_times times;
    vd_unet_config unet_config;
    vd_vae_config vae_config;
    /* NULL when not loaded. */
    vd_tokenizer *tokenizer[VD_MODEL_TEXT_ENCODERS];
    vd_clip *clip[VD_MODEL_TEXT_ENCODERS];
    vd_unet *unet;
    vd_vae *vae;
    vd_text_cache texts[VD_MODEL_TEXT_ENCODERS]; /* with keep_loaded */
};

void vd_model_folders_free(vd_model_folders *folders);

/* Like vd_model_open for components that lie anywhere: takes the strings of `folders` (malloc'ed)
 * over, also on failure, and zeroes it. A second text encoder makes it SD XL's pipeline.
 * options->dir is not read. */
vd_status vd_model_open_folders(vd_model_folders *folders, const vd_model_options *options,
                                vd_model **out);

/* Fills in the size of a network's pictures and clips, if nothing better is known: latents of its
 * config's sample_size, or what published models have. scale: pixels per latent. */
void vd_model_usual_size(const vd_unet_config *config, int64_t scale, vd_model_info *info);

/* Overrides the size, frames and rate by those of DIR/vidilate.json if it is there: what the model
 * was trained at, which diffusers' configs do not hold. VD_ERR_INPUT. */
vd_status vd_model_read_defaults(const char *dir, vd_model_info *info);

/* Load when not loaded. Text encoders and their tokenizers are numbered. */
vd_status vd_model_need_text(vd_model *model, int index);
vd_status vd_model_need_unet(vd_model *model);

/* vd_unet_open; with `offload` its weights stay on the host (vd_backend_set_offload). */
vd_status vd_model_open_unet(vd_backend *be, const char *dir, vd_dtype dtype, bool offload,
                             vd_unet **out);
vd_status vd_model_need_vae(vd_model *model);

/* The folder's scheduler config, or its keys under another scheduler's name. `out` needs
 * vd_scheduler_config_clear after VD_OK. */
vd_status vd_model_scheduler(const vd_model *model, const char *name, vd_scheduler_config *out);

/* The scheduler of a request, for samples of `count` values. */
vd_status vd_model_schedule(const vd_model *model, const vd_render_request *r, size_t count,
                            vd_scheduler **out);

/* Called when a stage ends; keeps the network if keep_loaded, with offload the UNet alone. */
void vd_model_release_text(vd_model *model, int index);
void vd_model_release_unet(vd_model *model);
void vd_model_release_vae(vd_model *model);

#endif

#include "video/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/sha256.h"
#include "core/text.h"

/* The pipelines that this program runs, known by the UNet's class and the number of encoders. */
static const struct pipeline_class {
    const char *name;
    bool temporal;
    int text_encoders;
} PIPELINES[] = {
    {"TextToVideoSDPipeline", true, 1},
    {"StableDiffusionPipeline", false, 1},
    {"StableDiffusionXLPipeline", false, 2},
};

enum { PIPELINE_COUNT = sizeof PIPELINES / sizeof PIPELINES[0] };

void vd_model_folders_free(vd_model_folders *f) {
    for (int i = 0; i < VD_MODEL_TEXT_ENCODERS; i++) {
        free(f->text_encoder[i]);
        free(f->tokenizer[i]);
    }
    free(f->unet);
    free(f->vae);
    free(f->scheduler);
    free(f->vocabulary);
    memset(f, 0, sizeof *f);
}

/* What model_index.json says. */
typedef struct model_index {
    struct pipeline_class pipeline;
    bool zeros_without_negative;
} model_index;

static vd_status parse_index(const vd_json *doc, model_index *out) {
    const vd_json_value *root = vd_json_root(doc);
    const char *name = NULL;
    if (vd_json_type_of(root) != VD_JSON_OBJECT)
        return vd_json_fail(doc, root, "a model index must be an object");
    vd_status st = vd_json_text(doc, root, "_class_name", "", &name);
    if (st != VD_OK)
        return st;
    for (int i = 0; i < PIPELINE_COUNT; i++)
        if (strcmp(name, PIPELINES[i].name) == 0)
            out->pipeline = PIPELINES[i];
    if (!out->pipeline.name)
        return vd_json_fail(doc, vd_json_get(root, "_class_name"),
                            "pipeline class \"%s\" is not supported: only %s, %s and %s", name,
                            PIPELINES[0].name, PIPELINES[1].name, PIPELINES[2].name);
    return vd_json_flag(doc, root, "force_zeros_for_empty_prompt", true,
                        &out->zeros_without_negative);
}

static vd_status read_index(const char *dir, model_index *out) {
    vd_status st = VD_OK;
    vd_json *doc = NULL;
    struct stat info;
    char *path = vd_format("%s/model_index.json", dir);
    if (!path)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode)) {
        st = vd_fail(VD_ERR_INPUT, "%s: no such folder; --model wants a diffusers-layout folder",
                     dir);
        goto done;
    }
    if (stat(path, &info) != 0) {
        st = vd_fail(VD_ERR_INPUT,
                     "%s: not a model in diffusers layout: it has no model_index.json", dir);
        goto done;
    }
    VD_TRY(vd_json_read(path, "model index", &doc));
    VD_TRY(parse_index(doc, out));
done:
    vd_json_destroy(doc);
    free(path);
    return st;
}

void vd_model_usual_size(const vd_unet_config *c, int64_t scale, vd_model_info *info) {
    const int usual = c->temporal ? 32 : 64;
    info->width_px = (c->sample_width ? c->sample_width : usual) * scale;
    info->height_px = (c->sample_height ? c->sample_height : usual) * scale;
    info->draws_video = c->temporal;
    info->frames = c->temporal ? 16 : 1;
}

vd_status vd_model_read_defaults(const char *dir, vd_model_info *info) {
    static const char *const keys[] = {"width", "height", "frames", "fps", NULL};
    vd_status st = VD_OK;
    vd_json *doc = NULL;
    struct stat file;
    char *path = vd_format("%s/vidilate.json", dir);
    if (!path)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    if (stat(path, &file) != 0)
        goto done;
    VD_TRY(vd_json_read(path, "model defaults", &doc));
    const vd_json_value *root = vd_json_root(doc);
    VD_TRY(vd_json_only_keys(doc, root, keys));
    VD_TRY(vd_json_int(doc, root, "width", 1, 16384, info->width_px, &info->width_px));
    VD_TRY(vd_json_int(doc, root, "height", 1, 16384, info->height_px, &info->height_px));
    VD_TRY(vd_json_int(doc, root, "frames", 1, 1024, info->frames, &info->frames));
    VD_TRY(vd_json_double(doc, root, "fps", 0.1, 1000, info->fps, &info->fps));
done:
    vd_json_destroy(doc);
    free(path);
    return st;
}

/* By what the components are. */
static vd_status choose_pipeline(vd_model *m) {
    const vd_unet_config *c = &m->unet_config;
    m->info.text_encoders = m->folder.text_encoder[1] ? 2 : 1;
    for (int i = 0; i < PIPELINE_COUNT; i++)
        if (PIPELINES[i].temporal == c->temporal &&
            PIPELINES[i].text_encoders == m->info.text_encoders)
            m->info.pipeline = PIPELINES[i].name;
    if (!m->info.pipeline || (c->added_width > 0) != (m->info.text_encoders == 2))
        return vd_fail(
            VD_ERR_INPUT,
            "%s: %s %s added embedding; with %d text encoder%s beside it, it is no model "
            "that this program knows",
            m->folder.unet, c->temporal ? "a UNet3DConditionModel" : "a UNet2DConditionModel",
            c->added_width > 0 ? "with an" : "without", m->info.text_encoders,
            m->info.text_encoders == 1 ? "" : "s");
    return VD_OK;
}

static vd_status read_configs(vd_model *m) {
    vd_status st = VD_OK;
    char *path = vd_format("%s/config.json", m->folder.unet);
    if (!path)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    VD_TRY(vd_unet_config_read(path, &m->unet_config));
    VD_TRY(vd_vae_read_config(m->folder.vae, &m->vae_config));
    if (m->vae_config.latent_channels != m->unet_config.in_channels) {
        st = vd_fail(VD_ERR_INPUT,
                     "%s: the UNet takes %lld latent channels, but the autoencoder beside it has "
                     "%lld: they belong to different models",
                     m->folder.unet, (long long)m->unet_config.in_channels,
                     (long long)m->vae_config.latent_channels);
        goto done;
    }
    int64_t scale = vd_vae_scale(&m->vae_config);
    m->info.latent_channels = m->vae_config.latent_channels;
    m->info.latent_scale = scale;
    m->info.size_multiple_px = scale;
    vd_model_usual_size(&m->unet_config, scale, &m->info);
    m->info.fps = 8;
    VD_TRY(choose_pipeline(m));
done:
    free(path);
    return st;
}

/* Whether it can be, before anything is loaded. */
static vd_status try_offload(vd_backend *be) {
    const vd_status st = vd_backend_set_offload(be, true);
    return st == VD_OK ? vd_backend_set_offload(be, false) : st;
}

vd_status vd_model_open_folders(vd_model_folders *folders, const vd_model_options *options,
                                vd_model **out) {
    vd_status st = VD_OK;
    vd_model *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m) {
        vd_model_folders_free(folders);
        return vd_fail(VD_ERR_MEMORY, "no memory for a model");
    }
    m->folder = *folders;
    memset(folders, 0, sizeof *folders);
    m->keep_loaded = options->keep_loaded;
    m->auto_backend = !options->backend || strcmp(options->backend, "auto") == 0;
    m->auto_dtype = !options->dtype || strcmp(options->dtype, "auto") == 0;
    m->zeros_without_negative = true; /* diffusers' default */
    VD_TRY(vd_backend_open(options->backend ? options->backend : "auto", options->threads, &m->be));
    if (options->offload)
        VD_TRY(try_offload(m->be));
    m->offload = options->offload;
    VD_TRY(vd_backend_parse_dtype(m->be, options->dtype, &m->dtype));
    VD_TRY(read_configs(m));
    m->info.backend = vd_backend_description(m->be);
    m->info.dtype = vd_dtype_option(m->dtype);
    *out = m;
    m = NULL;
done:
    vd_model_close(m);
    return st;
}

static vd_status set_name(vd_model *m, const char *dir) {
    char *real = realpath(dir, NULL);
    const char *slash = real ? strrchr(real, '/') : NULL;
    m->name = vd_format("%s", slash && slash[1] ? slash + 1 : dir);
    free(real);
    return m->name ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for a name");
}

static vd_status find_folders(const char *dir, int text_encoders, vd_model_folders *f) {
    static const char *const suffix[VD_MODEL_TEXT_ENCODERS] = {"", "_2"};
    bool whole = true;
    for (int i = 0; i < text_encoders && i < VD_MODEL_TEXT_ENCODERS; i++) {
        f->text_encoder[i] = vd_format("%s/text_encoder%s", dir, suffix[i]);
        f->tokenizer[i] = vd_format("%s/tokenizer%s", dir, suffix[i]);
        whole = whole && f->text_encoder[i] && f->tokenizer[i];
    }
    f->unet = vd_format("%s/unet", dir);
    f->vae = vd_format("%s/vae", dir);
    f->scheduler = vd_format("%s/scheduler", dir);
    whole = whole && f->unet && f->vae && f->scheduler;
    return whole ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for paths");
}

vd_status vd_model_open(const vd_model_options *options, vd_model **out) {
    vd_status st = VD_OK;
    const char *dir = options->dir;
    model_index index = {0};
    vd_model_folders f = {0};
    vd_model *m = NULL;
    *out = NULL;
    VD_TRY(read_index(dir, &index));
    VD_TRY(find_folders(dir, index.pipeline.text_encoders, &f));
    st = vd_model_open_folders(&f, options, &m);
    if (!m)
        goto done;
    m->zeros_without_negative = index.zeros_without_negative;
    if (index.pipeline.name && strcmp(m->info.pipeline, index.pipeline.name) != 0) {
        st = vd_fail(VD_ERR_INPUT, "%s: model_index.json names a %s, but unet/ is that of a %s",
                     dir, index.pipeline.name, m->info.pipeline);
        goto done;
    }
    VD_TRY(vd_model_read_defaults(dir, &m->info));
    VD_TRY(set_name(m, dir));
    *out = m;
    m = NULL;
done:
    vd_model_folders_free(&f);
    vd_model_close(m);
    return st;
}

void vd_model_unload(vd_model *m) {
    bool keep_loaded = m->keep_loaded;
    m->keep_loaded = false;
    for (int i = 0; i < VD_MODEL_TEXT_ENCODERS; i++)
        vd_model_release_text(m, i);
    vd_model_release_unet(m);
    vd_model_release_vae(m);
    m->keep_loaded = keep_loaded;
}

void vd_model_close(vd_model *m) {
    if (!m)
        return;
    vd_model_unload(m);
    vd_backend_close(m->be);
    vd_model_folders_free(&m->folder);
    free(m->name);
    free(m);
}

const vd_model_info *vd_model_get_info(const vd_model *model) {
    return &model->info;
}

vd_model_times vd_model_get_times(const vd_model *model) {
    return model->times;
}

static vd_status add_hash(vd_sha256_state *sha, const char *dir, const char *stem) {
    vd_checkpoint *ck = NULL;
    char one[72];
    vd_status st = vd_checkpoint_open(dir, stem, &ck);
    if (st == VD_OK)
        st = vd_checkpoint_hash(ck, one);
    if (st == VD_OK)
        vd_sha256_add(sha, one, strlen(one));
    vd_checkpoint_destroy(ck);
    return st;
}

vd_status vd_model_hash(vd_model *m, char buf[72]) {
    vd_status st = VD_OK;
    vd_sha256_state sha;
    uint8_t digest[VD_SHA256_BYTES];
    char hex[VD_SHA256_HEX_BYTES];
    if (m->hash[0])
        goto done;
    vd_sha256_begin(&sha);
    for (int i = 0; i < m->info.text_encoders; i++)
        VD_TRY(add_hash(&sha, m->folder.text_encoder[i], "model"));
    VD_TRY(add_hash(&sha, m->folder.unet, "diffusion_pytorch_model"));
    VD_TRY(add_hash(&sha, m->folder.vae, "diffusion_pytorch_model"));
    vd_sha256_end(&sha, digest);
    snprintf(m->hash, sizeof m->hash, "sha256:%s", vd_sha256_hex(digest, hex));
done:
    memcpy(buf, m->hash, sizeof m->hash);
    return st;
}

vd_status vd_model_need_text(vd_model *m, int i) {
    vd_status st = VD_OK;
    const double start_s = vd_now_s();
    const char *folder = m->folder.tokenizer[i];
    if (!m->tokenizer[i])
        VD_TRY(vd_tokenizer_open_shared(
            folder, m->folder.vocabulary ? m->folder.vocabulary : folder, &m->tokenizer[i]));
    /* In float32 whatever the model's dtype: it runs once a prompt and its error reaches every
     * step. */
    if (!m->clip[i])
        VD_TRY(vd_clip_open(m->be, m->folder.text_encoder[i], VD_F32, &m->clip[i]));
done:
    m->times.load_s += vd_now_s() - start_s;
    return st;
}

vd_status vd_model_open_unet(vd_backend *be, const char *dir, vd_dtype dtype, bool offload,
                             vd_unet **out) {
    vd_status st = VD_OK;
    if (offload)
        VD_TRY(vd_backend_set_offload(be, true));
    VD_TRY(vd_unet_open(be, dir, dtype, out));
    if (offload)
        VD_TRY(vd_backend_set_offload(be, false));
done:
    return st;
}

vd_status vd_model_need_unet(vd_model *m) {
    const double start_s = vd_now_s();
    if (m->unet)
        return VD_OK;
    const vd_status st = vd_model_open_unet(m->be, m->folder.unet, m->dtype, m->offload, &m->unet);
    m->times.load_s += vd_now_s() - start_s;
    return st;
}

vd_status vd_model_need_vae(vd_model *m) {
    const double start_s = vd_now_s();
    vd_status st =
        m->vae ? VD_OK : vd_vae_open(m->be, m->folder.vae, VD_VAE_DECODER, m->dtype, &m->vae);
    m->times.load_s += vd_now_s() - start_s;
    return st;
}

vd_status vd_model_scheduler(const vd_model *m, const char *name, vd_scheduler_config *out) {
    vd_status st = VD_OK;
    char *path = vd_format("%s/scheduler_config.json", m->folder.scheduler);
    if (!path)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    st = vd_scheduler_config_read(path, name, out);
    free(path);
    return st;
}

vd_status vd_model_schedule(const vd_model *m, const vd_render_request *r, size_t count,
                            vd_scheduler **out) {
    vd_status st;
    vd_scheduler_config config = {0};
    *out = NULL;
    if (r->scheduler_config)
        return vd_scheduler_create(r->scheduler_config, (int)r->steps, r->eta, count, out);
    VD_TRY(vd_model_scheduler(m, r->scheduler, &config));
    VD_TRY(vd_scheduler_create(&config, (int)r->steps, r->eta, count, out));
done:
    vd_scheduler_config_clear(&config);
    return st;
}

void vd_model_release_text(vd_model *m, int i) {
    if (m->keep_loaded && !m->offload)
        return;
    vd_tokenizer_destroy(m->tokenizer[i]);
    vd_clip_destroy(m->clip[i]);
    if (!m->keep_loaded)
        vd_text_cache_clear(&m->texts[i]);
    m->tokenizer[i] = NULL;
    m->clip[i] = NULL;
    vd_memory_trim();
}

void vd_model_release_unet(vd_model *m) {
    if (m->keep_loaded)
        return;
    vd_unet_destroy(m->unet);
    m->unet = NULL;
    vd_memory_trim();
}

void vd_model_release_vae(vd_model *m) {
    if (m->keep_loaded && !m->offload)
        return;
    vd_vae_destroy(m->vae);
    m->vae = NULL;
    vd_memory_trim();
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "core/text.h"
#include "encode/probe.h"
#include "video/vidilate.h"

/* Everything is gathered as JSON and then printed, as it is or as lines. */

static void put_tensor(vd_json_writer *w, const char *name, const vd_tensor *t) {
    vd_json_begin_object(w, NULL);
    vd_json_put_string(w, "name", name);
    vd_json_put_string(w, "dtype", vd_dtype_name(t->dtype));
    vd_json_begin_array(w, "shape");
    for (int i = 0; i < t->rank; i++)
        vd_json_put_int(w, NULL, t->dim[i]);
    vd_json_end(w);
    vd_json_end(w);
}

static void put_weights(vd_json_writer *w, const vd_checkpoint *ck, bool list) {
    int64_t parameters = 0, bytes = 0;
    int64_t by_dtype[VD_BOOL + 1] = {0};
    size_t count = vd_checkpoint_count(ck);
    for (size_t i = 0; i < count; i++) {
        vd_tensor t;
        if (!vd_checkpoint_find(ck, vd_checkpoint_name(ck, i), &t))
            continue;
        parameters += vd_tensor_elements(&t);
        bytes += (int64_t)vd_tensor_bytes(&t);
        by_dtype[t.dtype]++;
    }
    vd_json_put_string(w, "file", vd_checkpoint_path(ck));
    vd_json_put_int(w, "tensors", (int64_t)count);
    vd_json_put_int(w, "parameters", parameters);
    vd_json_put_int(w, "bytes", bytes);
    vd_json_begin_object(w, "dtypes");
    for (int d = 0; d <= VD_BOOL; d++)
        if (by_dtype[d] > 0)
            vd_json_put_int(w, vd_dtype_name((vd_dtype)d), by_dtype[d]);
    vd_json_end(w);
    if (!list)
        return;
    vd_json_begin_array(w, "list");
    for (size_t i = 0; i < count; i++) {
        vd_tensor t;
        if (vd_checkpoint_find(ck, vd_checkpoint_name(ck, i), &t))
            put_tensor(w, vd_checkpoint_name(ck, i), &t);
    }
    vd_json_end(w);
}

static vd_status inspect_weights(vd_json_writer *w, const char *path) {
    vd_checkpoint *ck = NULL;
    vd_status st = vd_checkpoint_open_file(path, &ck);
    if (st != VD_OK)
        return st;
    vd_json_put_string(w, "kind", "weights");
    put_weights(w, ck, true);
    vd_checkpoint_destroy(ck);
    return VD_OK;
}

static vd_status put_component(vd_json_writer *w, const char *dir, const char *name,
                               const char *stem) {
    vd_status st = VD_OK;
    vd_checkpoint *ck = NULL;
    char *path = vd_format("%s/%s", dir, name);
    if (!path)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    VD_TRY(vd_checkpoint_open(path, stem, &ck));
    vd_json_begin_object(w, name);
    put_weights(w, ck, false);
    vd_json_end(w);
done:
    vd_checkpoint_destroy(ck);
    free(path);
    return st;
}

static vd_status inspect_model(vd_json_writer *w, const char *dir) {
    vd_status st = VD_OK;
    vd_model *model = NULL;
    char hash[72];
    vd_model_options options = {.dir = dir};
    VD_TRY(vd_model_open(&options, &model));
    const vd_model_info *info = vd_model_get_info(model);
    VD_TRY(vd_model_hash(model, hash));
    vd_json_put_string(w, "kind", "model");
    vd_json_put_string(w, "folder", dir);
    vd_json_put_string(w, "pipeline", info->pipeline);
    vd_json_put_string(w, "hash", hash);
    vd_json_put_int(w, "width", info->width_px);
    vd_json_put_int(w, "height", info->height_px);
    vd_json_put_int(w, "frames", info->frames);
    vd_json_put_double(w, "fps", info->fps);
    vd_json_put_int(w, "size-multiple", info->size_multiple_px);
    vd_json_put_int(w, "latent-channels", info->latent_channels);
    vd_json_put_int(w, "latent-scale", info->latent_scale);
    vd_json_put_string(w, "backend", info->backend);
    vd_json_put_string(w, "dtype", info->dtype);
    vd_json_begin_object(w, "components");
    VD_TRY(put_component(w, dir, "text_encoder", "model"));
    if (info->text_encoders > 1)
        VD_TRY(put_component(w, dir, "text_encoder_2", "model"));
    VD_TRY(put_component(w, dir, "unet", "diffusion_pytorch_model"));
    VD_TRY(put_component(w, dir, "vae", "diffusion_pytorch_model"));
    vd_json_end(w);
done:
    vd_model_close(model);
    return st;
}

static vd_status inspect_media(vd_json_writer *w, const char *path) {
    vd_status st = VD_OK;
    vd_media_info *info = NULL;
    vd_json *settings = NULL;
    VD_TRY(vd_probe(path, VD_PROBE_HEADERS, 1, &info));
    vd_json_put_string(w, "kind", "media");
    vd_json_put_string(w, "file", path);
    vd_json_put_string(w, "container", info->container);
    vd_json_put_string(w, "codec", info->codec);
    vd_json_put_string(w, "pix-fmt", info->pix_fmt);
    vd_json_put_int(w, "width", info->width_px);
    vd_json_put_int(w, "height", info->height_px);
    vd_json_put_int(w, "frames", info->frame_count);
    vd_json_put_double(w, "fps", (double)info->fps_num / info->fps_den);
    vd_json_put_double(w, "duration", info->duration_s);
    vd_json_put_string(w, "color", info->color_space);
    vd_json_put_string(w, "range", info->color_range);
    const char *text = vd_media_info_get(info, "vidilate");
    if (text) {
        VD_TRY(vd_json_parse(text, strlen(text), path, &settings));
        vd_json_put_value(w, "settings", vd_json_root(settings));
    }
    vd_json_begin_object(w, "metadata");
    for (size_t i = 0; i < info->metadata_count; i++)
        if (strcasecmp(info->metadata[i].key, "vidilate") != 0)
            vd_json_put_string(w, info->metadata[i].key, info->metadata[i].value);
    vd_json_end(w);
done:
    vd_json_destroy(settings);
    vd_media_info_destroy(info);
    return st;
}

static void print_scalar(const vd_json_value *v) {
    switch (vd_json_type_of(v)) {
    case VD_JSON_STRING:
        printf("%s", vd_json_string(v));
        break;
    case VD_JSON_NUMBER:
        printf("%.15g", vd_json_number(v));
        break;
    case VD_JSON_BOOL:
        printf("%s", vd_json_bool(v) ? "yes" : "no");
        break;
    default:
        printf("-");
    }
}

/* "name  value" lines; nested objects are indented, arrays of scalars stay on their line. */
static void print_lines(const vd_json_value *object, int indent) {
    for (const vd_json_value *v = vd_json_first(object); v; v = vd_json_next(v)) {
        const char *key = vd_json_key(v);
        switch (vd_json_type_of(v)) {
        case VD_JSON_OBJECT:
            if (key)
                printf("%*s%s:\n", indent, "", key);
            print_lines(v, indent + 2);
            break;
        case VD_JSON_ARRAY:
            printf("%*s%s:", indent, "", key);
            if (vd_json_first(v) && vd_json_type_of(vd_json_first(v)) == VD_JSON_OBJECT) {
                putchar('\n');
                print_lines(v, indent);
                break;
            }
            for (const vd_json_value *item = vd_json_first(v); item; item = vd_json_next(item)) {
                putchar(' ');
                print_scalar(item);
            }
            putchar('\n');
            break;
        default:
            printf("%*s%s: ", indent, "", key);
            print_scalar(v);
            putchar('\n');
        }
    }
}

static vd_status gather(vd_json_writer *w, const char *path) {
    struct stat info;
    size_t length = strlen(path);
    if (stat(path, &info) != 0)
        return vd_fail(VD_ERR_INPUT, "%s: no such file or folder", path);
    if (S_ISDIR(info.st_mode))
        return inspect_model(w, path);
    if (length > 12 && strcmp(path + length - 12, ".safetensors") == 0)
        return inspect_weights(w, path);
    return inspect_media(w, path);
}

int cli_inspect(int argc, char **argv) {
    vd_status st = VD_OK;
    bool json = false, done_early = false;
    const char *path = NULL;
    char *text = NULL;
    vd_json_writer *w = NULL;
    vd_json *doc = NULL;
    const cli_option options[] = {
        {"json", 0, CLI_FLAG, &json, NULL, "print one JSON object", NULL, NULL}};
    cli_command command = {.name = "inspect",
                           .usage = "[--json] PATH",
                           .summary = "Shows what is in a model folder, a .safetensors file, or a "
                                      "rendered video or PNG.",
                           .options = options,
                           .option_count = 1,
                           .positional = &path,
                           .positional_max = 1};
    VD_TRY(cli_parse(&command, argc, argv, &done_early));
    if (done_early)
        goto done;
    if (!path) {
        st = vd_fail(VD_ERR_USAGE,
                     "inspect: give a model folder, a .safetensors file or a rendered file");
        goto done;
    }
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    VD_TRY(gather(w, path));
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, true, &text));
    if (json) {
        puts(text);
    } else {
        VD_TRY(vd_json_parse(text, strlen(text), path, &doc));
        print_lines(vd_json_root(doc), 0);
    }
done:
    vd_json_destroy(doc);
    vd_json_writer_destroy(w);
    free(text);
    cli_command_free(&command);
    return cli_report(st);
}

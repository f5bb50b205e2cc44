/* A case of a parity manifest: its settings and inputs, and the outputs gathered so far. */
#ifndef VD_CLI_FORWARD_H
#define VD_CLI_FORWARD_H

#include "backend/backend.h"
#include "core/json.h"
#include "core/safetensors.h"

enum { FORWARD_MAX_OUTPUTS = 64 };

typedef struct forward_case {
    const char *manifest_path;
    char *folder; /* of the manifest; all paths in it are relative to this */
    vd_json *doc;
    const vd_json_value *entry, *settings;
    const char *name, *group, *module;
    vd_checkpoint *inputs; /* NULL if the case has no file */
    const char *backend, *dtype_name;

    const char *output_name[FORWARD_MAX_OUTPUTS];
    vd_tensor output[FORWARD_MAX_OUTPUTS];
    size_t output_count;
} forward_case;

/* The groups. Each computes its case's outputs. */
vd_status forward_tokenizer(forward_case *c);
vd_status forward_text_encoder(forward_case *c);
vd_status forward_unet(forward_case *c);
vd_status forward_vae(forward_case *c);
vd_status forward_guidance(forward_case *c);
vd_status forward_scheduler(forward_case *c);
vd_status forward_pipeline(forward_case *c);
vd_status forward_disperse(forward_case *c);
vd_status forward_method(forward_case *c); /* redilate, freeu, attention_scale */

/* A module that is one operation on images. VD_ERR_USAGE if there is none of this name. */
vd_status forward_image(forward_case *c);

/* FOLDER/relative; malloc'ed. NULL when out of memory (recorded as the error). */
char *forward_path(const forward_case *c, const char *relative);

/* The folder of a component of the case's model; malloc'ed. VD_ERR_INPUT if the manifest names
 * none. */
vd_status forward_component(const forward_case *c, const char *component, char **out);
bool forward_has_component(const forward_case *c, const char *component);

/* Where a tokenizer folder's vocabulary lies: manifests keep one copy for several folders. NULL if
 * nowhere else. malloc'ed. */
vd_status forward_vocabulary(const forward_case *c, const char *tokenizer_folder, char **out);

/* in.NAME as malloc'ed float32; *shape gets its dims (data NULL). VD_ERR_INPUT if absent. */
vd_status forward_input(const forward_case *c, const char *name, float **out, vd_tensor *shape);
bool forward_has_input(const forward_case *c, const char *name);

/* Whether the manifest lists this output (all do if it lists none). */
bool forward_wants(const forward_case *c, const char *name);

/* Adds a float32 output: takes `values` (malloc'ed) over, also on failure. The name is copied. */
vd_status forward_add(forward_case *c, const char *name, float *values, int rank,
                      const int64_t *dim);
#define FORWARD_ADD(c, name, values, ...)                                                          \
    forward_add((c), (name), (values), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),  \
                (int64_t[]){__VA_ARGS__})

/* The same for values of another dtype. */
vd_status forward_add_values(forward_case *c, const char *name, void *values, vd_dtype dtype,
                             int rank, const int64_t *dim);

/* malloc with the error recorded. */
vd_status forward_floats(size_t count, float **out);

/* A settings value that this build does not implement: VD_ERR_USAGE. */
vd_status forward_refuse_settings(const forward_case *c, const char *const *keys);

/* A backend and an exec in the dtype asked for ("auto" is float32: parity is what this command is
 * for). */
vd_status forward_open(const forward_case *c, vd_backend **be, vd_exec **x, vd_dtype *dtype);

/* Takes device memory for `t` and puts `values` there (NULL: zeros). */
vd_status forward_to_device(vd_backend *be, const float *values, vd_tensor *t);

/* A device array as an output of the same shape. */
vd_status forward_add_device(forward_case *c, vd_backend *be, const char *name, const vd_tensor *t);

#endif

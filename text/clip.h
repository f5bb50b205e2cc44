/* CLIP's text encoder (CLIPTextModel, CLIPTextModelWithProjection): token ids to embeddings.
 *
 *     vd_clip *clip;
 *     vd_clip_open(be, "model/text_encoder", VD_F32, &clip);
 *     vd_clip_outputs out = {.last = &states};             // F32 [2, 77, width]
 *     vd_clip_encode(clip, x, &out, ids, 2, 77, NULL);
 */
#ifndef VD_TEXT_CLIP_H
#define VD_TEXT_CLIP_H

#include "backend/backend.h"
#include "backend/ops.h"

typedef struct vd_clip vd_clip;

typedef struct vd_clip_config {
    int64_t vocabulary, width, intermediate, max_tokens;
    int layers, heads;
    float norm_eps;
    vd_activation act;
    int64_t end_token;  /* 2 means: the position of the largest id (transformers' legacy rule) */
    int64_t projection; /* width of text_embeds; 0 without text_projection */
} vd_clip_config;

/* Where intermediate results can be read. Called with the exec's activations; in a dry exec
 * their data must not be touched. */
typedef struct vd_clip_tap {
    /* hidden_0 is the sum of the embeddings, hidden_i the output of layer i, [batch, tokens,
     * width]. */
    void (*hidden)(void *user, int index, const vd_tensor *states);
    void *user;
} vd_clip_tap;

/* Reads DIR/config.json and DIR/model.safetensors (or a variant). `dtype` is that of the packed
 * matrices and must be the exec's. VD_ERR_INPUT: not a CLIP text model, bad or missing weights. */
vd_status vd_clip_open(vd_backend *be, const char *dir, vd_dtype dtype, vd_clip **out);
void vd_clip_destroy(vd_clip *clip);
const vd_clip_config *vd_clip_get_config(const vd_clip *clip);

/* What an encoder gives; all F32 on the device, NULL for what is not wanted. */
typedef struct vd_clip_outputs {
    vd_tensor *last;        /* [batch, tokens, width]: the last hidden state after the final norm */
    vd_tensor *penultimate; /* [batch, tokens, width]: what the last layer is given; no norm */
    vd_tensor *text_embeds; /* [batch, projection]: text_projection of `last` at the end position */
} vd_clip_outputs;

/* ids: host [batch, tokens], tokens <= max_tokens. The last layer runs only for what needs it. tap
 * may be NULL. VD_ERR_INPUT: an id outside the table; text_embeds of a model without projection. */
vd_status vd_clip_encode(vd_clip *clip, vd_exec *x, const vd_clip_outputs *out, const int32_t *ids,
                         int64_t batch, int64_t tokens, const vd_clip_tap *tap);

/* The position whose state is the pooled output of a row of ids. */
int64_t vd_clip_end_position(const vd_clip_config *config, const int32_t *ids, int64_t tokens);

/* One encoder layer alone, in place: states [batch, tokens, width], exec dtype. For parity checks.
 */
vd_status vd_clip_layer(vd_clip *clip, vd_exec *x, vd_tensor *states, int layer);

#endif

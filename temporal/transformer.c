#include "temporal/transformer.h"

#include <math.h>

#include "temporal/path.h"

static const float layer_norm_eps = 1e-5f;

/* The widened rows of the feed-forward are 4 times (on the way, 8 times) as large as its input and
 * would be the largest activation of the network. In runs of this many rows they are small, and the
 * matrix product is still long enough to be efficient. */
enum { FF_ROWS = 8192 };

vd_status vd_self_attention_load(const vd_loader *l, const char *prefix, int index, int heads,
                                 int head_dim, vd_self_attention *attention) {
    vd_status st;
    const int64_t width = (int64_t)heads * head_dim;
    const vd_path attn = vd_path_join(prefix, "attn%d", index);
    const vd_path q = vd_path_join(attn.text, "to_q");
    const vd_path k = vd_path_join(attn.text, "to_k");
    const vd_path v = vd_path_join(attn.text, "to_v");
    const char *const qkv[] = {q.text, k.text, v.text};

    attention->heads = heads;
    attention->head_dim = head_dim;
    VD_TRY(vd_load_norm(l, vd_path_join(prefix, "norm%d", index).text, width, 0, layer_norm_eps,
                        &attention->norm));
    VD_TRY(vd_load_fused_linear(l, qkv, 3, width, width, false, &attention->qkv));
    VD_TRY(vd_load_linear(l, vd_path_join(attn.text, "to_out.0").text, width, width, true,
                          &attention->out));
done:
    return st;
}

void vd_self_attention_destroy(vd_backend *be, vd_self_attention *attention) {
    vd_norm_layer_destroy(be, &attention->norm);
    vd_linear_layer_destroy(be, &attention->qkv);
    vd_linear_layer_destroy(be, &attention->out);
}

vd_status vd_self_attention_forward(vd_exec *x, vd_tensor *tokens,
                                    const vd_self_attention *attention, const vd_sequences *seq,
                                    double sharpness) {
    vd_status st;
    const vd_dtype dtype = vd_exec_dtype(x);
    const int64_t width = (int64_t)attention->heads * attention->head_dim;
    const int64_t rows = seq->outer * seq->inner * seq->tokens;
    const vd_attention_strides wide = {seq->outer_rows * 3 * width, seq->inner_rows * 3 * width,
                                       seq->token_rows * 3 * width};
    const vd_attention_desc desc = {
        .outer = seq->outer,
        .inner = seq->inner,
        .q_tokens = seq->tokens,
        .kv_tokens = seq->tokens,
        .heads = attention->heads,
        .head_dim = attention->head_dim,
        .scale = (float)sharpness / sqrtf((float)attention->head_dim),
        .q = wide,
        .k = wide,
        .v = wide,
        .out = {seq->outer_rows * width, seq->inner_rows * width, seq->token_rows * width},
    };
    vd_tensor flat = VD_VIEW(tokens->data, dtype, rows, width);
    vd_tensor normed = {0};
    vd_tensor qkv = {0};
    vd_tensor mixed = {0};

    VD_TRY(VD_ALLOC(x, dtype, &normed, rows, width));
    VD_TRY(vd_layer_norm(x, &normed, &flat, attention->norm.scale, attention->norm.shift,
                         attention->norm.eps));
    VD_TRY(VD_ALLOC(x, dtype, &qkv, rows, 3 * width));
    VD_TRY(vd_linear(x, &qkv, &normed, attention->qkv.w, NULL, NULL, VD_ACT_NONE));
    vd_exec_free(x, &normed);

    const size_t slice_bytes = (size_t)width * vd_dtype_bytes(dtype);
    const char *q = qkv.data;
    VD_TRY(VD_ALLOC(x, dtype, &mixed, rows, width));
    VD_TRY(vd_attention(x, mixed.data, q, q + slice_bytes, q + 2 * slice_bytes, &desc));
    vd_exec_free(x, &qkv);
    VD_TRY(vd_linear(x, &flat, &mixed, attention->out.w, attention->out.bias, &flat, VD_ACT_NONE));
done:
    vd_exec_free(x, &normed);
    vd_exec_free(x, &qkv);
    vd_exec_free(x, &mixed);
    return st;
}

vd_status vd_feed_forward_load(const vd_loader *l, const char *prefix, int64_t width,
                               vd_feed_forward *ff) {
    vd_status st;
    ff->width = width;
    VD_TRY(
        vd_load_norm(l, vd_path_join(prefix, "norm3").text, width, 0, layer_norm_eps, &ff->norm));
    VD_TRY(vd_load_linear(l, vd_path_join(prefix, "ff.net.0.proj").text, 8 * width, width, true,
                          &ff->in));
    VD_TRY(
        vd_load_linear(l, vd_path_join(prefix, "ff.net.2").text, width, 4 * width, true, &ff->out));
done:
    return st;
}

void vd_feed_forward_destroy(vd_backend *be, vd_feed_forward *ff) {
    vd_norm_layer_destroy(be, &ff->norm);
    vd_linear_layer_destroy(be, &ff->in);
    vd_linear_layer_destroy(be, &ff->out);
}

static vd_status feed_forward_rows(vd_exec *x, vd_tensor *rows, const vd_feed_forward *ff) {
    vd_status st;
    const vd_dtype dtype = vd_exec_dtype(x);
    vd_tensor normed = {0};
    vd_tensor widened = {0};

    VD_TRY(VD_ALLOC(x, dtype, &normed, rows->dim[0], ff->width));
    VD_TRY(vd_layer_norm(x, &normed, rows, ff->norm.scale, ff->norm.shift, ff->norm.eps));
    VD_TRY(VD_ALLOC(x, dtype, &widened, rows->dim[0], 4 * ff->width));
    VD_TRY(vd_linear(x, &widened, &normed, ff->in.w, ff->in.bias, NULL, VD_ACT_GEGLU));
    vd_exec_free(x, &normed);
    VD_TRY(vd_linear(x, rows, &widened, ff->out.w, ff->out.bias, rows, VD_ACT_NONE));
done:
    vd_exec_free(x, &normed);
    vd_exec_free(x, &widened);
    return st;
}

vd_status vd_feed_forward_forward(vd_exec *x, vd_tensor *tokens, const vd_feed_forward *ff) {
    const int64_t rows = vd_tensor_elements(tokens) / ff->width;
    const size_t row_bytes = (size_t)ff->width * vd_dtype_bytes(tokens->dtype);
    for (int64_t first = 0; first < rows; first += FF_ROWS) {
        const int64_t count = rows - first < FF_ROWS ? rows - first : FF_ROWS;
        vd_tensor part = VD_VIEW((char *)tokens->data + (size_t)first * row_bytes, tokens->dtype,
                                 count, ff->width);
        const vd_status st = feed_forward_rows(x, &part, ff);
        if (st != VD_OK)
            return st;
    }
    return VD_OK;
}

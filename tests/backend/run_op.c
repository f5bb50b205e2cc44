/* Runs single ops on tensors from files, and times them: tools/gpu_peers.py compares both with
 * PyTorch's.
 *
 *     backend_op f32|bf16|f16 RUNS IN.safetensors OUT.safetensors [IN OUT]...
 *
 * IN holds x [n, h, w, c], w [out, in, kh, kw], b [out] and desc (I64: stride, padding, dilation)
 * for a convolution; x [rows, in], w [out, in], b [out] for a product; q [n, t, heads, d], k and v
 * [n, s, heads, d] for attention. OUT gets y, F32. A line for each: the name and the milliseconds,
 * the mean of RUNS launches after one that does not count. VD_TEST_BACKEND names the backend. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "core/clock.h"
#include "core/safetensors.h"
#include "tests/backend_name.h"

enum { INPUTS = 3 };

typedef struct op_job {
    vd_backend *be;
    vd_dtype dtype;
    int runs;
    const vd_checkpoint *ck;
    void *memory[INPUTS + 1];
    vd_tensor in[INPUTS], out; /* device: x, or q, k, v */
    vd_weight *w, *bias;
    vd_conv2d_desc conv;
    bool attends, convolves;
} op_job;

static vd_status take(const op_job *j, const char *name, int rank, vd_tensor *t) {
    if (vd_checkpoint_find(j->ck, name, t) && t->rank == rank)
        return VD_OK;
    return vd_fail(VD_ERR_INPUT, "%s: no tensor %s of rank %d", vd_checkpoint_path(j->ck), name,
                   rank);
}

/* The tensor on the device, in the exec's dtype. */
static vd_status upload(op_job *j, int at, const char *name, int rank) {
    vd_tensor host;
    vd_status st = take(j, name, rank, &host);
    void *rounded = NULL;
    if (st != VD_OK)
        return st;
    j->in[at] = vd_tensor_view(NULL, j->dtype, rank, host.dim);
    const size_t bytes = vd_tensor_bytes(&j->in[at]);
    rounded = malloc(bytes);
    if (rounded == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for an input");
    vd_convert_values(rounded, j->dtype, host.data, host.dtype, (size_t)vd_tensor_elements(&host));
    VD_TRY(vd_backend_alloc(j->be, bytes, &j->memory[at]));
    j->in[at].data = j->memory[at];
    VD_TRY(vd_backend_upload(j->be, j->memory[at], rounded, bytes));
done:
    free(rounded);
    return st;
}

static vd_status load_weights(op_job *j) {
    vd_tensor w, b, desc;
    vd_status st;
    VD_TRY(take(j, "w", j->convolves ? 4 : 2, &w));
    VD_TRY(take(j, "b", 1, &b));
    const vd_weight_part part = {.tensor = w, .columns = w.dim[1]};
    if (j->convolves) {
        VD_TRY(take(j, "desc", 1, &desc));
        const int64_t *d = desc.data;
        j->conv = (vd_conv2d_desc){.stride_h = (int)d[0],
                                   .stride_w = (int)d[0],
                                   .pad_top = (int)d[1],
                                   .pad_left = (int)d[1],
                                   .dilation_h = (int)d[2],
                                   .dilation_w = (int)d[2]};
        const int64_t reach = d[2] * (w.dim[2] - 1) + 1;
        j->out = VD_VIEW(NULL, j->dtype, j->in[0].dim[0],
                         (j->in[0].dim[1] + 2 * d[1] - reach) / d[0] + 1,
                         (j->in[0].dim[2] + 2 * d[1] - reach) / d[0] + 1, w.dim[0]);
        VD_TRY(vd_weight_create_conv(j->be, &part, j->dtype, &j->w));
    } else {
        j->out = VD_VIEW(NULL, j->dtype, j->in[0].dim[0], w.dim[0]);
        VD_TRY(vd_weight_create_linear(j->be, &part, 1, j->dtype, &j->w));
    }
    VD_TRY(vd_weight_create_vector(j->be, &b, 1, &j->bias));
done:
    return st;
}

static vd_status prepare(op_job *j) {
    vd_status st;
    vd_tensor t;
    j->attends = vd_checkpoint_find(j->ck, "q", &t);
    j->convolves = vd_checkpoint_find(j->ck, "desc", &t);
    if (j->attends) {
        VD_TRY(upload(j, 0, "q", 4));
        VD_TRY(upload(j, 1, "k", 4));
        VD_TRY(upload(j, 2, "v", 4));
        j->out = j->in[0];
    } else {
        VD_TRY(upload(j, 0, "x", j->convolves ? 4 : 2));
        VD_TRY(load_weights(j));
    }
    VD_TRY(vd_backend_alloc(j->be, vd_tensor_bytes(&j->out), &j->memory[INPUTS]));
    j->out.data = j->memory[INPUTS];
done:
    return st;
}

static vd_status launch(op_job *j, vd_exec *x) {
    if (j->convolves)
        return vd_conv2d(x, &j->out, &j->in[0], j->w, j->bias, NULL, NULL, &j->conv);
    if (!j->attends)
        return vd_linear(x, &j->out, &j->in[0], j->w, j->bias, NULL, VD_ACT_NONE);
    const int64_t *q = j->in[0].dim, *k = j->in[1].dim, row = q[2] * q[3];
    const vd_attention_strides by_q = {q[1] * row, 0, row}, by_k = {k[1] * row, 0, row};
    const vd_attention_desc desc = {.outer = q[0],
                                    .inner = 1,
                                    .q_tokens = q[1],
                                    .kv_tokens = k[1],
                                    .heads = (int)q[2],
                                    .head_dim = (int)q[3],
                                    .scale = 1.0F / sqrtf((float)q[3]),
                                    .q = by_q,
                                    .k = by_k,
                                    .v = by_k,
                                    .out = by_q};
    return vd_attention(x, j->out.data, j->in[0].data, j->in[1].data, j->in[2].data, &desc);
}

static vd_status save(const op_job *j, const char *path) {
    const char *name = "y";
    const size_t bytes = vd_tensor_bytes(&j->out), count = (size_t)vd_tensor_elements(&j->out);
    vd_status st = VD_OK;
    void *rounded = malloc(bytes);
    float *values = malloc(count * sizeof *values);
    vd_tensor t = vd_tensor_view(values, VD_F32, j->out.rank, j->out.dim);
    if (rounded == NULL || values == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a result");
        goto done;
    }
    VD_TRY(vd_backend_download(j->be, rounded, j->out.data, bytes));
    vd_convert_values(values, VD_F32, rounded, j->dtype, count);
    VD_TRY(vd_safetensors_write(path, &name, &t, 1, NULL));
done:
    free(rounded);
    free(values);
    return st;
}

static vd_status run_file(op_job *j, const char *in, const char *out) {
    vd_checkpoint *ck = NULL;
    vd_exec *x = NULL;
    vd_status st;
    VD_TRY(vd_checkpoint_open_file(in, &ck));
    j->ck = ck;
    VD_TRY(prepare(j));
    VD_TRY(vd_exec_create(j->be, j->dtype, &x));
    VD_TRY(launch(j, x));
    VD_TRY(vd_exec_commit(x));
    VD_TRY(launch(j, x));
    VD_TRY(vd_backend_synchronize(j->be));
    const double start_s = vd_now_s();
    for (int i = 0; i < j->runs; i++)
        VD_TRY(launch(j, x));
    VD_TRY(vd_backend_synchronize(j->be));
    printf("%s %.5f\n", in, (vd_now_s() - start_s) * 1e3 / j->runs);
    VD_TRY(save(j, out));
done:
    vd_exec_destroy(x);
    vd_weight_destroy(j->be, j->w);
    vd_weight_destroy(j->be, j->bias);
    for (int i = 0; i <= INPUTS; i++)
        vd_backend_free(j->be, j->memory[i]);
    vd_checkpoint_destroy(ck);
    return st;
}

int main(int argc, char **argv) {
    vd_backend *be = NULL;
    vd_status st = VD_OK;
    const int runs = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    if (argc < 5 || argc % 2 == 0 || runs < 1) {
        fprintf(stderr, "usage: backend_op f32|bf16|f16 RUNS IN OUT [IN OUT]...\n");
        return 2;
    }
    const char *dtype = argv[1];
    VD_TRY(vd_backend_open(check_backend(), 0, &be));
    for (int i = 3; i + 1 < argc; i += 2) {
        op_job j = {.be = be, .runs = runs, .dtype = VD_F32};
        VD_TRY(vd_backend_parse_dtype(be, dtype, &j.dtype));
        VD_TRY(run_file(&j, argv[i], argv[i + 1]));
    }
done:
    if (st != VD_OK)
        fprintf(stderr, "%s\n", vd_error_message());
    vd_backend_close(be);
    return st == VD_OK ? 0 : 1;
}

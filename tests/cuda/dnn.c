/* backend/cuda/dnn.h on the host, naively. A plan is its key; the second of a convolution's plans
 * computes the same. Odd channel counts are refused, as cuDNN does. */
#include "backend/cuda/dnn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "queue.h"

struct vd_dnn {
    int unused;
};

struct vd_dnn_graph {
    bool attention;
    vd_dnn_conv conv;
    vd_dnn_attention attend;
    int plans;
};

/* All of a tensor as float32; to be freed. */
static float *floats(const void *memory, vd_dtype dtype, int64_t count) {
    float *values = malloc((size_t)count * sizeof *values);
    vd_convert_values(values, VD_F32, memory, dtype, (size_t)count);
    return values;
}

static void put(void *memory, vd_dtype dtype, int64_t at, double value) {
    const float v = (float)value;
    vd_convert_values((char *)memory + (size_t)at * vd_dtype_bytes(dtype), dtype, &v, VD_F32, 1);
}

vd_status vd_dnn_create(void *stream, vd_dnn **out) {
    (void)stream;
    *out = calloc(1, sizeof **out);
    return *out == NULL ? VD_ERR_MEMORY : VD_OK;
}

void vd_dnn_destroy(vd_dnn *d) {
    free(d);
}

size_t vd_dnn_version(void) {
    return 0;
}

vd_status vd_dnn_plan_conv(vd_dnn *d, const vd_dnn_conv *key, int most, vd_dnn_graph **out) {
    (void)d;
    *out = NULL;
    if (key->in % 8 != 0 || key->out % 8 != 0)
        return VD_OK;
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return VD_ERR_MEMORY;
    (*out)->conv = *key;
    (*out)->plans = most < 2 ? 1 : 2;
    return VD_OK;
}

vd_status vd_dnn_plan_attention(vd_dnn *d, const vd_dnn_attention *key, vd_dnn_graph **out) {
    (void)d;
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return VD_ERR_MEMORY;
    (*out)->attention = true;
    (*out)->attend = *key;
    (*out)->plans = 1;
    return VD_OK;
}

void vd_dnn_graph_destroy(vd_dnn_graph *graph) {
    free(graph);
}

int vd_dnn_plan_count(const vd_dnn_graph *graph) {
    return graph->plans;
}

size_t vd_dnn_workspace_bytes(const vd_dnn_graph *graph, int plan) {
    (void)graph;
    return plan == 0 ? 64 : 1000;
}

vd_status vd_dnn_save(const vd_dnn_graph *graph, int plan, char **text, size_t *bytes) {
    (void)plan;
    *bytes = sizeof *graph;
    *text = malloc(*bytes);
    if (*text == NULL)
        return VD_ERR_MEMORY;
    memcpy(*text, graph, *bytes);
    return VD_OK;
}

static vd_status restore(const char *text, size_t bytes, vd_dnn_graph **out) {
    *out = NULL;
    if (bytes != sizeof **out)
        return VD_OK;
    *out = malloc(bytes);
    if (*out == NULL)
        return VD_ERR_MEMORY;
    memcpy(*out, text, bytes);
    return VD_OK;
}

vd_status vd_dnn_restore_conv(vd_dnn *d, const vd_dnn_conv *key, const char *text, size_t bytes,
                              vd_dnn_graph **out) {
    (void)d;
    (void)key;
    return restore(text, bytes, out);
}

vd_status vd_dnn_restore_attention(vd_dnn *d, const vd_dnn_attention *key, const char *text,
                                   size_t bytes, vd_dnn_graph **out) {
    (void)d;
    (void)key;
    return restore(text, bytes, out);
}

/* ---- running -------------------------------------------------------------------------------- */

static double convolve(const vd_dnn_conv *c, const float *src, const float *w, int64_t position,
                       int64_t o) {
    const int64_t image = position / c->dst_w / c->dst_h;
    double sum = 0;
    for (int64_t tap = 0; tap < (int64_t)c->kernel_h * c->kernel_w; tap++) {
        const int64_t y = position / c->dst_w % c->dst_h * c->stride_h - c->pad_top +
                          tap / c->kernel_w * c->dilation_h;
        const int64_t x =
            position % c->dst_w * c->stride_w - c->pad_left + tap % c->kernel_w * c->dilation_w;
        if (y < 0 || y >= c->src_h || x < 0 || x >= c->src_w)
            continue;
        const float *from = src + ((image * c->src_h + y) * c->src_w + x) * c->in;
        const float *by = w + (o * c->kernel_h * c->kernel_w + tap) * c->in;
        for (int64_t i = 0; i < c->in; i++)
            sum += (double)from[i] * (double)by[i];
    }
    return sum;
}

static void run_conv(const vd_dnn_conv *c, const vd_dnn_args *a) {
    const int64_t count = c->n * c->dst_h * c->dst_w * c->out;
    float *src = floats(a->a, c->dtype, c->n * c->src_h * c->src_w * c->in);
    float *w = floats(a->b, c->dtype, c->out * c->kernel_h * c->kernel_w * c->in);
    float *residual = c->residual ? floats(a->c, c->dst_dtype, count) : NULL;
    for (int64_t i = 0; i < count; i++) {
        const int64_t p = i / c->out, o = i % c->out;
        double v = convolve(c, src, w, p, o);
        if (c->bias_rows > 0)
            v += (double)a->bias[(c->bias_rows > 1 ? p / c->dst_w / c->dst_h : 0) * c->out + o];
        put(a->out, c->dst_dtype, i, v + (residual == NULL ? 0.0 : (double)residual[i]));
    }
    free(src);
    free(w);
    free(residual);
}

/* The rows of one head, dense. */
static float *rows(const void *memory, vd_dtype dtype, int64_t at, int64_t stride, int64_t count,
                   int64_t width) {
    const size_t size = vd_dtype_bytes(dtype);
    float *values = malloc((size_t)(count * width) * sizeof *values);
    for (int64_t r = 0; r < count; r++)
        vd_convert_values(values + r * width, VD_F32,
                          (const char *)memory + (size_t)(at + r * stride) * size, dtype,
                          (size_t)width);
    return values;
}

static void run_head(const vd_dnn_attention *k, const vd_dnn_args *a, int64_t batch, int64_t e) {
    const int64_t dim = k->head_dim, keys = k->kv_tokens;
    float *q = rows(a->a, k->dtype, batch * k->q_batch + e, k->q_token, k->q_tokens, dim);
    float *key = rows(a->b, k->dtype, batch * k->k_batch + e, k->k_token, keys, dim);
    float *v = rows(a->c, k->dtype, batch * k->v_batch + e, k->v_token, keys, dim);
    double *weight = malloc((size_t)keys * sizeof *weight);
    for (int64_t t = 0; t < k->q_tokens; t++) {
        double most = -INFINITY, all = 0;
        for (int64_t j = 0; j < keys; j++) {
            weight[j] = 0;
            for (int64_t i = 0; i < dim; i++)
                weight[j] += (double)q[t * dim + i] * (double)key[j * dim + i];
            weight[j] *= (double)k->scale;
            most = fmax(most, weight[j]);
        }
        for (int64_t j = 0; j < keys; j++)
            all += weight[j] = exp(weight[j] - most);
        for (int64_t i = 0; i < dim; i++) {
            double sum = 0;
            for (int64_t j = 0; j < keys; j++)
                sum += weight[j] * (double)v[j * dim + i];
            put(a->out, k->dtype, batch * k->out_batch + t * k->out_token + e + i, sum / all);
        }
    }
    free(q);
    free(key);
    free(v);
    free(weight);
}

typedef struct dnn_job {
    vd_dnn_graph graph;
    int plan;
    vd_dnn_args args;
} dnn_job;

static void run(const void *data) {
    const dnn_job *job = data;
    const vd_dnn_attention *k = &job->graph.attend;
    memset(job->args.workspace, 0xFF, vd_dnn_workspace_bytes(&job->graph, job->plan));
    if (!job->graph.attention) {
        run_conv(&job->graph.conv, &job->args);
        return;
    }
    for (int64_t i = 0; i < k->batch * k->heads; i++)
        run_head(k, &job->args, i / k->heads, i % k->heads * k->head_dim);
}

vd_status vd_dnn_run(vd_dnn *d, const vd_dnn_graph *graph, int plan, const vd_dnn_args *args) {
    const dnn_job job = {*graph, plan, *args};
    const uintptr_t all = (uintptr_t)args->a | (uintptr_t)args->b | (uintptr_t)args->c |
                          (uintptr_t)args->bias | (uintptr_t)args->out;
    (void)d;
    if (all % VD_DNN_ALIGN_BYTES != 0)
        return vd_fail(VD_ERR_BACKEND, "cuDNN has been given an address that it does not take");
    vd_emulate_work(run, &job, sizeof job);
    return VD_OK;
}

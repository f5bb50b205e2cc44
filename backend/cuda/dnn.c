/* cuDNN's graph API. It is used rather than cudnnConvolutionForward because it takes padding that
 * differs between the sides, fuses bias and residual in float32, and plans attention too. */
#include "backend/cuda/dnn.h"

#include <cudnn.h>
#include <stdlib.h>

enum {
    MOST_PARTS = 72,
    MOST_PLANS = 8,
    MOST_CONFIGS = 24,
    RANK = 4,
    WORKSPACE_BYTES = 256 * 1024 * 1024,
};

/* What tensors are called in a graph and in a variant pack. */
enum { ID_A = 1, ID_B, ID_C, ID_BIAS, ID_OUT, ID_SCALE, ID_INNER };

struct vd_dnn {
    cudnnHandle_t handle;            /* NULL without a device... */
    cudnnBackendDescriptor_t device; /* ...which this describes then */
};

struct vd_dnn_graph {
    cudnnBackendDescriptor_t part[MOST_PARTS]; /* all that have been made, for the end */
    int parts;
    cudnnBackendDescriptor_t plan[MOST_PLANS];
    size_t workspace_bytes[MOST_PLANS];
    int plans;
    float scale; /* what ID_SCALE is */
    bool attention, bias, residual;
};

/* ---- statuses ------------------------------------------------------------------------------- */

static vd_status dnn_status(cudnnStatus_t status, const char *doing) {
    if (status == CUDNN_STATUS_SUCCESS)
        return VD_OK;
    char why[256] = "";
    cudnnGetLastErrorString(why, sizeof why);
    const bool memory = status == CUDNN_STATUS_ALLOC_FAILED ||
                        status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return vd_fail(memory ? VD_ERR_MEMORY : VD_ERR_BACKEND, "cuDNN %s: %s%s%s", doing,
                   cudnnGetErrorString(status), why[0] == '\0' ? "" : ", ", why);
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static vd_status make(vd_dnn_graph *g, cudnnBackendDescriptorType_t type,
                      cudnnBackendDescriptor_t *out) {
    *out = NULL;
    if (g->parts == MOST_PARTS)
        return vd_fail(VD_ERR_BACKEND, "cuDNN: a graph of more than %d parts", MOST_PARTS);
    vd_status st = dnn_status(cudnnBackendCreateDescriptor(type, out), "making a descriptor");
    if (st == VD_OK)
        g->part[g->parts++] = *out;
    return st;
}

static vd_status set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                     cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    return dnn_status(cudnnBackendSetAttribute(d, name, type, count, values),
                      "setting an attribute");
}

static vd_status set_part(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                          cudnnBackendDescriptor_t part) {
    return set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

static vd_status finish(cudnnBackendDescriptor_t d) {
    return dnn_status(cudnnBackendFinalize(d), "describing an operation");
}

static cudnnDataType_t dnn_dtype(vd_dtype dtype) {
    return dtype == VD_BF16  ? CUDNN_DATA_BFLOAT16
           : dtype == VD_F16 ? CUDNN_DATA_HALF
                             : CUDNN_DATA_FLOAT;
}

typedef enum tensor_kind { REAL, VIRTUAL, BY_VALUE } tensor_kind;

static vd_status tensor(vd_dnn_graph *g, int64_t id, vd_dtype dtype, tensor_kind kind,
                        const int64_t dim[RANK], const int64_t stride[RANK],
                        cudnnBackendDescriptor_t *out) {
    const cudnnDataType_t type = dnn_dtype(dtype);
    const int64_t align = VD_DNN_ALIGN_BYTES;
    const bool yes = true;
    vd_status st;
    VD_TRY(make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    VD_TRY(set(*out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    VD_TRY(set(*out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, RANK, dim));
    VD_TRY(set(*out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, RANK, stride));
    VD_TRY(set(*out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id));
    VD_TRY(set(*out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align));
    if (kind == VIRTUAL)
        VD_TRY(set(*out, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &yes));
    if (kind == BY_VALUE)
        VD_TRY(set(*out, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &yes));
    VD_TRY(finish(*out));
done:
    return st;
}

/* A dense [n, h, w, c] under cuDNN's names of the axes, n c h w. */
static vd_status channels_last(vd_dnn_graph *g, int64_t id, vd_dtype dtype, tensor_kind kind,
                               int64_t n, int64_t h, int64_t w, int64_t c,
                               cudnnBackendDescriptor_t *out) {
    const int64_t dim[RANK] = {n, c, h, w}, stride[RANK] = {h * w * c, 1, w * c, c};
    return tensor(g, id, dtype, kind, dim, stride, out);
}

/* ---- plans ---------------------------------------------------------------------------------- */

/* True if the engine of a configuration may be used: see dnn.h. */
static bool is_usable(vd_dnn_graph *g, cudnnBackendDescriptor_t config) {
    enum { MOST_NOTES = 16 };
    cudnnBackendNumericalNote_t note[MOST_NOTES];
    cudnnBackendDescriptor_t engine;
    int64_t count = 0;
    if (make(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != VD_OK ||
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 1, &count, &engine) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, MOST_NOTES, &count,
                                 note) != CUDNN_STATUS_SUCCESS)
        return false;
    for (int64_t i = 0; i < count && i < MOST_NOTES; i++)
        if (note[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
            note[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
            note[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
            note[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD)
            return false;
    return true;
}

static vd_status make_plan(vd_dnn *d, vd_dnn_graph *g, cudnnBackendDescriptor_t *out) {
    vd_status st;
    VD_TRY(make(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, out));
    if (d->handle != NULL)
        VD_TRY(set(*out, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &d->handle));
#if CUDNN_VERSION >= 90800
    else
        VD_TRY(set_part(*out, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, d->device));
#endif
done:
    return st;
}

/* What cannot be finished is passed over: another plan may be. */
static void add_plan(vd_dnn_graph *g, cudnnBackendDescriptor_t plan) {
    int64_t bytes = 0, count = 0;
    if (cudnnBackendFinalize(plan) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                                 1, &count, &bytes) != CUDNN_STATUS_SUCCESS ||
        bytes > WORKSPACE_BYTES)
        return;
    g->plan[g->plans] = plan;
    g->workspace_bytes[g->plans++] = (size_t)bytes;
}

static vd_status add_plans(vd_dnn *d, vd_dnn_graph *g, cudnnBackendDescriptor_t graph,
                           cudnnBackendHeurMode_t mode, int most) {
    cudnnBackendDescriptor_t heuristics, config[MOST_CONFIGS] = {NULL};
    int64_t count = 0;
    int made = 0;
    vd_status st;
    VD_TRY(make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics));
    VD_TRY(set_part(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph));
    VD_TRY(set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
#if CUDNN_VERSION >= 90800
    if (d->handle == NULL)
        VD_TRY(set_part(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, d->device));
#endif
    if (cudnnBackendFinalize(heuristics) != CUDNN_STATUS_SUCCESS)
        goto done; /* nothing supports this graph */
    for (; made < MOST_CONFIGS; made++)
        VD_TRY(dnn_status(
            cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[made]),
            "making a descriptor"));
    VD_TRY(dnn_status(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                               CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST_CONFIGS, &count,
                                               config),
                      "asking for engines"));
    for (int64_t i = 0; i < count && i < MOST_CONFIGS && g->plans < most; i++) {
        cudnnBackendDescriptor_t one;
        if (g->parts + 2 > MOST_PARTS || !is_usable(g, config[i]))
            continue;
        VD_TRY(make_plan(d, g, &one));
        VD_TRY(set_part(one, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config[i]));
        add_plan(g, one);
    }
done:
    for (int i = 0; i < made; i++)
        cudnnBackendDestroyDescriptor(config[i]);
    return st;
}

static vd_status plan(vd_dnn *d, vd_dnn_graph *g, cudnnBackendDescriptor_t *op, int ops, int most) {
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    cudnnBackendDescriptor_t graph;
    vd_status st;
    VD_TRY(make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &graph));
    VD_TRY(set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, ops, op));
    if (d->handle != NULL)
        VD_TRY(set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &d->handle));
    if (cudnnBackendFinalize(graph) != CUDNN_STATUS_SUCCESS)
        goto done; /* not a graph that this version knows */
    for (int i = 0; i < 2 && g->plans == 0; i++)
        VD_TRY(add_plans(d, g, graph, modes[i], most < MOST_PLANS ? most : MOST_PLANS));
done:
    return st;
}

/* Hands the graph over if it has a plan. */
static vd_status hand_over(vd_status st, vd_dnn_graph *g, vd_dnn_graph **out) {
    if (st == VD_OK && g->plans > 0)
        *out = g;
    else
        vd_dnn_graph_destroy(g);
    return st;
}

static vd_status create_graph(vd_dnn_graph **out) {
    *out = calloc(1, sizeof **out);
    return *out == NULL ? vd_fail(VD_ERR_MEMORY, "no memory for a plan of cuDNN") : VD_OK;
}

/* ---- convolution ---------------------------------------------------------------------------- */

static vd_status describe_conv(vd_dnn_graph *g, const vd_dnn_conv *key,
                               cudnnBackendDescriptor_t *out) {
    enum { AXES = 2 };
    const int64_t axes = AXES;
    const int64_t dilation[AXES] = {key->dilation_h, key->dilation_w};
    const int64_t stride[AXES] = {key->stride_h, key->stride_w};
    const int64_t before[AXES] = {key->pad_top, key->pad_left};
    const int64_t after[AXES] = {
        (key->dst_h - 1) * key->stride_h + (int64_t)(key->kernel_h - 1) * key->dilation_h + 1 -
            key->src_h - key->pad_top,
        (key->dst_w - 1) * key->stride_w + (int64_t)(key->kernel_w - 1) * key->dilation_w + 1 -
            key->src_w - key->pad_left};
    /* A stride may leave rows behind; that is no padding. */
    const int64_t behind[AXES] = {after[0] < 0 ? 0 : after[0], after[1] < 0 ? 0 : after[1]};
    const cudnnDataType_t sum = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    vd_status st;
    VD_TRY(make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, out));
    VD_TRY(set(*out, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes));
    VD_TRY(set(*out, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sum));
    VD_TRY(set(*out, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode));
    VD_TRY(set(*out, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, AXES, dilation));
    VD_TRY(set(*out, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, AXES, stride));
    VD_TRY(set(*out, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, AXES, before));
    VD_TRY(set(*out, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, AXES, behind));
    VD_TRY(finish(*out));
done:
    return st;
}

static vd_status conv_operation(vd_dnn_graph *g, const vd_dnn_conv *key, cudnnBackendDescriptor_t y,
                                cudnnBackendDescriptor_t *out) {
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t conv, x, w;
    vd_status st;
    VD_TRY(describe_conv(g, key, &conv));
    VD_TRY(channels_last(g, ID_A, key->dtype, REAL, key->n, key->src_h, key->src_w, key->in, &x));
    VD_TRY(channels_last(g, ID_B, key->dtype, REAL, key->out, key->kernel_h, key->kernel_w, key->in,
                         &w));
    VD_TRY(make(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, out));
    VD_TRY(set_part(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, conv));
    VD_TRY(set_part(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x));
    VD_TRY(set_part(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w));
    VD_TRY(set_part(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y));
    VD_TRY(set(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one));
    VD_TRY(set(*out, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero));
    VD_TRY(finish(*out));
done:
    return st;
}

static vd_status add_operation(vd_dnn_graph *g, cudnnBackendDescriptor_t a,
                               cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y,
                               cudnnBackendDescriptor_t *out) {
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t add;
    vd_status st;
    VD_TRY(make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &add));
    VD_TRY(set(add, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode));
    VD_TRY(set(add, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &precision));
    VD_TRY(finish(add));
    VD_TRY(make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, out));
    VD_TRY(set_part(*out, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add));
    VD_TRY(set_part(*out, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, a));
    VD_TRY(set_part(*out, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b));
    VD_TRY(set_part(*out, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y));
    VD_TRY(finish(*out));
done:
    return st;
}

vd_status vd_dnn_plan_conv(vd_dnn *d, const vd_dnn_conv *key, int most, vd_dnn_graph **out) {
    enum { MOST_OPS = 3 };
    cudnnBackendDescriptor_t op[MOST_OPS], y[MOST_OPS], other;
    const bool added[MOST_OPS] = {true, key->bias_rows > 0, key->residual};
    vd_dnn_graph *g;
    *out = NULL;
    vd_status st = create_graph(&g);
    if (st != VD_OK)
        return st;
    int last = 0, ops = 0;
    for (int i = 0; i < MOST_OPS; i++)
        last = added[i] ? i : last;
    g->bias = added[1];
    g->residual = added[2];
    for (int i = 0; i < MOST_OPS; i++) {
        if (!added[i])
            continue;
        VD_TRY(channels_last(g, i == last ? ID_OUT : ID_INNER + i,
                             i == last ? key->dst_dtype : VD_F32, i == last ? REAL : VIRTUAL,
                             key->n, key->dst_h, key->dst_w, key->out, &y[ops]));
        if (i == 0)
            VD_TRY(conv_operation(g, key, y[ops], &op[ops]));
        else if (i == 1)
            VD_TRY(channels_last(g, ID_BIAS, VD_F32, REAL, key->bias_rows, 1, 1, key->out, &other));
        else
            VD_TRY(channels_last(g, ID_C, key->dst_dtype, REAL, key->n, key->dst_h, key->dst_w,
                                 key->out, &other));
        if (i > 0)
            VD_TRY(add_operation(g, y[ops - 1], other, y[ops], &op[ops]));
        ops++;
    }
    VD_TRY(plan(d, g, op, ops, most));
done:
    return hand_over(st, g, out);
}

/* ---- attention ------------------------------------------------------------------------------ */

vd_status vd_dnn_plan_attention(vd_dnn *d, const vd_dnn_attention *key, vd_dnn_graph **out) {
    *out = NULL;
#if CUDNN_VERSION >= VD_DNN_OLDEST_ATTENTION
    const int64_t one[RANK] = {1, 1, 1, 1}, dim = key->head_dim;
    const int64_t q_dim[RANK] = {key->batch, key->heads, key->q_tokens, dim};
    const int64_t k_dim[RANK] = {key->batch, key->heads, key->kv_tokens, dim};
    const int64_t q_stride[RANK] = {key->q_batch, dim, key->q_token, 1};
    const int64_t k_stride[RANK] = {key->k_batch, dim, key->k_token, 1};
    const int64_t v_stride[RANK] = {key->v_batch, dim, key->v_token, 1};
    const int64_t out_stride[RANK] = {key->out_batch, dim, key->out_token, 1};
    cudnnBackendDescriptor_t op, q, k, v, o, scale;
    vd_dnn_graph *g;
    if (vd_dnn_version() < VD_DNN_OLDEST_ATTENTION)
        return VD_OK;
    vd_status st = create_graph(&g);
    if (st != VD_OK)
        return st;
    g->attention = true;
    g->scale = key->scale;
    VD_TRY(tensor(g, ID_A, key->dtype, REAL, q_dim, q_stride, &q));
    VD_TRY(tensor(g, ID_B, key->dtype, REAL, k_dim, k_stride, &k));
    VD_TRY(tensor(g, ID_C, key->dtype, REAL, k_dim, v_stride, &v));
    VD_TRY(tensor(g, ID_OUT, key->dtype, REAL, q_dim, out_stride, &o));
    VD_TRY(tensor(g, ID_SCALE, VD_F32, BY_VALUE, one, one, &scale));
    VD_TRY(make(g, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, &op));
    VD_TRY(set_part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, q));
    VD_TRY(set_part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, k));
    VD_TRY(set_part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, v));
    VD_TRY(set_part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, o));
    VD_TRY(set_part(op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale));
    VD_TRY(finish(op));
    VD_TRY(plan(d, g, &op, 1, 1));
done:
    return hand_over(st, g, out);
#else
    (void)d;
    (void)key;
    return VD_OK;
#endif
}

/* ---- plans as text -------------------------------------------------------------------------- */

vd_status vd_dnn_save(const vd_dnn_graph *g, int plan_index, char **text, size_t *bytes) {
    enum { MOST_BYTES = 8 * 1024 * 1024 };
    const cudnnBackendDescriptor_t from = g->plan[plan_index];
    int64_t count = 0, got = 0;
    vd_status st;
    *text = NULL;
    VD_TRY(dnn_status(cudnnBackendGetAttribute(from, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                               CUDNN_TYPE_CHAR, 0, &count, NULL),
                      "saving a plan"));
    *text = count > 0 && count < MOST_BYTES ? malloc((size_t)count) : NULL;
    if (*text == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a plan of cuDNN");
        goto done;
    }
    VD_TRY(dnn_status(cudnnBackendGetAttribute(from, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                               CUDNN_TYPE_CHAR, count, &got, *text),
                      "saving a plan"));
    *bytes = (size_t)(got < count ? got : count);
done:
    if (st != VD_OK) {
        free(*text);
        *text = NULL;
    }
    return st;
}

static vd_status restore(vd_dnn *d, vd_dnn_graph *g, const char *text, size_t bytes,
                         vd_dnn_graph **out) {
    cudnnBackendDescriptor_t one;
    vd_status st = make_plan(d, g, &one);
    if (st == VD_OK &&
        cudnnBackendSetAttribute(one, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                 CUDNN_TYPE_CHAR, (int64_t)bytes, text) == CUDNN_STATUS_SUCCESS)
        add_plan(g, one);
    return hand_over(st, g, out);
}

vd_status vd_dnn_restore_conv(vd_dnn *d, const vd_dnn_conv *key, const char *text, size_t bytes,
                              vd_dnn_graph **out) {
    vd_dnn_graph *g;
    *out = NULL;
    vd_status st = create_graph(&g);
    if (st != VD_OK)
        return st;
    g->bias = key->bias_rows > 0;
    g->residual = key->residual;
    return restore(d, g, text, bytes, out);
}

vd_status vd_dnn_restore_attention(vd_dnn *d, const vd_dnn_attention *key, const char *text,
                                   size_t bytes, vd_dnn_graph **out) {
    vd_dnn_graph *g;
    *out = NULL;
    vd_status st = create_graph(&g);
    if (st != VD_OK)
        return st;
    g->attention = true;
    g->scale = key->scale;
    return restore(d, g, text, bytes, out);
}

/* ---- running -------------------------------------------------------------------------------- */

vd_status vd_dnn_run(vd_dnn *d, const vd_dnn_graph *g, int plan_index, const vd_dnn_args *args) {
    enum { MOST_IDS = 6 };
    int64_t id[MOST_IDS] = {ID_A, ID_B, ID_OUT}, count = 3;
    const void *address[MOST_IDS] = {args->a, args->b, args->out};
    cudnnBackendDescriptor_t pack = NULL;
    if (g->attention || g->residual) {
        id[count] = ID_C;
        address[count++] = args->c;
    }
    if (g->bias) {
        id[count] = ID_BIAS;
        address[count++] = args->bias;
    }
    if (g->attention) {
        id[count] = ID_SCALE;
        address[count++] = &g->scale;
    }
    vd_status st;
    VD_TRY(dnn_status(cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack),
                      "making a descriptor"));
    VD_TRY(set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, id));
    VD_TRY(set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, address));
    VD_TRY(set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &args->workspace));
    VD_TRY(finish(pack));
    VD_TRY(dnn_status(cudnnBackendExecute(d->handle, g->plan[plan_index], pack),
                      g->attention ? "in attention" : "in a convolution"));
done:
    if (pack != NULL)
        cudnnBackendDestroyDescriptor(pack);
    return st;
}

int vd_dnn_plan_count(const vd_dnn_graph *graph) {
    return graph->plans;
}

size_t vd_dnn_workspace_bytes(const vd_dnn_graph *graph, int plan_index) {
    return graph->workspace_bytes[plan_index];
}

/* ---- life ----------------------------------------------------------------------------------- */

void vd_dnn_graph_destroy(vd_dnn_graph *graph) {
    if (graph == NULL)
        return;
    while (graph->parts > 0)
        cudnnBackendDestroyDescriptor(graph->part[--graph->parts]);
    free(graph);
}

static vd_status create(vd_dnn **out) {
    *out = calloc(1, sizeof **out);
    return *out == NULL ? vd_fail(VD_ERR_MEMORY, "no memory for cuDNN") : VD_OK;
}

vd_status vd_dnn_create(void *stream, vd_dnn **out) {
    vd_dnn *d;
    *out = NULL;
    vd_status st = create(&d);
    if (st != VD_OK)
        return st;
    VD_TRY(dnn_status(cudnnCreate(&d->handle), "starting"));
    VD_TRY(dnn_status(cudnnSetStream(d->handle, stream), "taking the stream"));
    *out = d;
    d = NULL;
done:
    vd_dnn_destroy(d);
    return st;
}

vd_status vd_dnn_create_without_device(const char *device_json, vd_dnn **out) {
    *out = NULL;
#if CUDNN_VERSION >= 90800
    vd_dnn *d;
    vd_status st = create(&d);
    if (st != VD_OK)
        return st;
    int64_t length = 0;
    while (device_json[length] != '\0')
        length++;
    VD_TRY(dnn_status(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d->device),
                      "making a descriptor"));
    VD_TRY(set(d->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, length + 1,
               device_json));
    VD_TRY(finish(d->device));
    *out = d;
    d = NULL;
done:
    vd_dnn_destroy(d);
    return st;
#else
    (void)device_json;
    return vd_fail(VD_ERR_BACKEND, "cuDNN before 9.8 cannot plan without a device");
#endif
}

void vd_dnn_destroy(vd_dnn *d) {
    if (d == NULL)
        return;
    if (d->handle != NULL)
        cudnnDestroy(d->handle);
    if (d->device != NULL)
        cudnnBackendDestroyDescriptor(d->device);
    free(d);
}

size_t vd_dnn_version(void) {
    return cudnnGetVersion();
}

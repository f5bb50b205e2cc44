/* Attention: our own kernel for short sequences, cuDNN's fused attention where it takes the shape,
 * and our own kernel that takes any. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"

/* cuDNN plans for a larger batch too, and cannot launch that. */
enum { VECTOR = 8, MOST_BATCH = 65535, NAME_BYTES = 384 };

typedef struct vd_cuda_attention_plan {
    vd_dnn_attention key;
    vd_dnn_graph *graph; /* NULL: cuDNN has none */
    struct vd_cuda_attention_plan *next;
} vd_cuda_attention_plan;

/* ---- cuDNN ---------------------------------------------------------------------------------- */

/* One batch axis out of two. False if there is none. */
static bool flatten(const vd_attention_strides *s, int64_t outer, int64_t inner, int64_t *stride) {
    *stride = inner == 1 ? s->outer : s->inner;
    return outer == 1 || inner == 1 || s->outer == inner * s->inner;
}

/* Frames that share their keys are more queries of one batch. */
static vd_attention_desc merge_shared(const vd_attention_desc *desc) {
    vd_attention_desc d = *desc;
    if (d.inner > 1 && d.k.inner == 0 && d.v.inner == 0 && !d.causal &&
        d.q.inner == d.q_tokens * d.q.token && d.out.inner == d.q_tokens * d.out.token) {
        d.q_tokens *= d.inner;
        d.inner = 1;
    }
    return d;
}

static bool dnn_key(const vd_exec *x, const vd_attention_desc *desc, vd_dnn_attention *key) {
    const vd_attention_desc d = merge_shared(desc);
    *key = (vd_dnn_attention){.batch = d.outer * d.inner,
                              .heads = d.heads,
                              .head_dim = d.head_dim,
                              .q_tokens = d.q_tokens,
                              .kv_tokens = d.kv_tokens,
                              .q_token = d.q.token,
                              .k_token = d.k.token,
                              .v_token = d.v.token,
                              .out_token = d.out.token,
                              .scale = d.scale,
                              .dtype = x->dtype};
    return vd_cuda(x)->dnn != NULL && x->dtype != VD_F32 && !d.causal && key->batch <= MOST_BATCH &&
           d.head_dim % VECTOR == 0 && d.q.token % VECTOR == 0 && d.k.token % VECTOR == 0 &&
           d.v.token % VECTOR == 0 && d.out.token % VECTOR == 0 &&
           flatten(&d.q, d.outer, d.inner, &key->q_batch) &&
           flatten(&d.k, d.outer, d.inner, &key->k_batch) &&
           flatten(&d.v, d.outer, d.inner, &key->v_batch) &&
           flatten(&d.out, d.outer, d.inner, &key->out_batch) && key->q_batch % VECTOR == 0 &&
           key->k_batch % VECTOR == 0 && key->v_batch % VECTOR == 0 && key->out_batch % VECTOR == 0;
}

static void name_of(const vd_dnn_attention *k, char name[NAME_BYTES]) {
    snprintf(name, NAME_BYTES,
             "attention %lldx%dx%d of %lldx%lld q %lld,%lld k %lld,%lld v %lld,%lld out %lld,%lld "
             "scale %a %s",
             (long long)k->batch, (int)k->heads, (int)k->head_dim, (long long)k->q_tokens,
             (long long)k->kv_tokens, (long long)k->q_batch, (long long)k->q_token,
             (long long)k->k_batch, (long long)k->k_token, (long long)k->v_batch,
             (long long)k->v_token, (long long)k->out_batch, (long long)k->out_token,
             (double)k->scale, vd_dtype_name(k->dtype));
}

static vd_status make_graph(vd_cuda_device *cuda, vd_cuda_attention_plan *plan, const char *name) {
    size_t bytes = 0;
    char *text = vd_cuda_cache_read(cuda->cache, name, &bytes);
    vd_status st = VD_OK;
    if (text != NULL)
        VD_TRY(vd_dnn_restore_attention(cuda->dnn, &plan->key, text, bytes, &plan->graph));
    if (plan->graph != NULL)
        goto done;
    free(text);
    text = NULL;
    VD_TRY(vd_dnn_plan_attention(cuda->dnn, &plan->key, &plan->graph));
    if (plan->graph != NULL && vd_dnn_save(plan->graph, 0, &text, &bytes) == VD_OK)
        (void)vd_cuda_cache_write(cuda->cache, name, text, bytes);
done:
    free(text);
    return st;
}

static vd_status plan_of(vd_cuda_device *cuda, const vd_dnn_attention *key,
                         vd_cuda_attention_plan **out) {
    char name[NAME_BYTES], other[NAME_BYTES];
    name_of(key, name);
    for (vd_cuda_attention_plan *p = cuda->attend; p != NULL; p = p->next) {
        name_of(&p->key, other);
        if (strcmp(name, other) == 0) {
            *out = p;
            return VD_OK;
        }
    }
    vd_cuda_attention_plan *p = calloc(1, sizeof *p);
    *out = p;
    if (p == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a plan of attention");
    p->key = *key;
    vd_status st = make_graph(cuda, p, name);
    if (st != VD_OK) {
        free(p);
        return st;
    }
    p->next = cuda->attend;
    cuda->attend = p;
    return VD_OK;
}

void vd_cuda_attention_plans_destroy(vd_cuda_device *cuda) {
    for (vd_cuda_attention_plan *p = cuda->attend, *next; p != NULL; p = next) {
        next = p->next;
        vd_dnn_graph_destroy(p->graph);
        free(p);
    }
    cuda->attend = NULL;
}

static vd_status run_dnn(vd_exec *x, const vd_dnn_graph *graph,
                         const vd_cuda_attention_args *args) {
    void *taken;
    unsigned char *scratch;
    vd_status st = vd_cuda_scratch(x, vd_dnn_workspace_bytes(graph, 0), &taken, &scratch);
    if (st != VD_OK)
        return st;
    const vd_dnn_args a = {
        .a = args->q, .b = args->k, .c = args->v, .out = args->out, .workspace = scratch};
    if (!x->dry)
        st = vd_dnn_run(vd_cuda(x)->dnn, graph, 0, &a);
    vd_exec_scratch_free(x, taken);
    return st;
}

/* ---- entry ---------------------------------------------------------------------------------- */

static bool is_aligned(const vd_cuda_attention_args *a) {
    return ((uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v | (uintptr_t)a->out) %
               VD_DNN_ALIGN_BYTES ==
           0;
}

vd_status vd_cuda_attention(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                            const vd_attention_desc *d) {
    const vd_cuda_attention_args args = {.out = out, .q = q, .k = k, .v = v, .dtype = x->dtype};
    const cudaStream_t stream = vd_cuda(x)->stream;
    const bool is_short = vd_attention_is_short(d);
    vd_dnn_attention key;
    if (!is_short && is_aligned(&args) && dnn_key(x, d, &key)) {
        vd_cuda_attention_plan *plan;
        vd_status st = plan_of(vd_cuda(x), &key, &plan);
        if (st != VD_OK || plan->graph != NULL)
            return st == VD_OK ? run_dnn(x, plan->graph, &args) : st;
    }
    if (x->dry)
        return VD_OK;
    return vd_cuda_status(is_short ? vd_launch_short_attention(stream, &args, d)
                                   : vd_launch_attention(stream, &args, d),
                          "in attention");
}

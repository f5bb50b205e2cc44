/* Plans of convolutions: cuDNN's proposals and the split in phases, the fastest of which is kept on
 * disk. Times decide only if the choice can be kept: the next run must compute the same bits. */
#include "backend/cuda/conv_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 3, RUNS = 3, NAME_BYTES = 384 };

/* ---- what cuDNN is asked -------------------------------------------------------------------- */

static vd_dnn_conv whole_key(const vd_cuda_conv_key *key) {
    const vd_cuda_conv *s = &key->shape;
    return (vd_dnn_conv){.n = s->n,
                         .in = s->in,
                         .out = s->out,
                         .src_h = s->src_h,
                         .src_w = s->src_w,
                         .dst_h = s->dst_h,
                         .dst_w = s->dst_w,
                         .kernel_h = s->kernel_h,
                         .kernel_w = s->kernel_w,
                         .stride_h = s->stride_h,
                         .stride_w = s->stride_w,
                         .dilation_h = s->dilation_h,
                         .dilation_w = s->dilation_w,
                         .pad_top = s->pad_top,
                         .pad_left = s->pad_left,
                         .dtype = key->dtype,
                         .dst_dtype = key->dst_dtype,
                         .bias_rows = key->bias_rows,
                         .residual = key->residual};
}

/* The phases as a batch, see vd_launch_split; float32, because the bias and the residual follow. */
static vd_dnn_conv phases_key(const vd_cuda_conv_key *key) {
    const vd_cuda_conv *s = &key->shape;
    vd_dnn_conv c = whole_key(key);
    c.n = s->n * s->dilation_h * s->dilation_w;
    c.dst_h = (s->dst_h + s->dilation_h - 1) / s->dilation_h;
    c.dst_w = (s->dst_w + s->dilation_w - 1) / s->dilation_w;
    c.src_h = c.dst_h + s->kernel_h - 1;
    c.src_w = c.dst_w + s->kernel_w - 1;
    c.dilation_h = c.dilation_w = 1;
    c.pad_top = c.pad_left = 0;
    c.dst_dtype = VD_F32;
    c.bias_rows = 0;
    c.residual = false;
    return c;
}

static bool has_phases(const vd_cuda_conv *s) {
    return s->stride_h == 1 && s->stride_w == 1 && (s->dilation_h > 1 || s->dilation_w > 1);
}

/* ---- running -------------------------------------------------------------------------------- */

vd_cuda_conv_scratch vd_cuda_conv_scratch_of(const vd_cuda_conv_plan *plan) {
    vd_cuda_conv_scratch s = {0};
    if (plan->graph != NULL)
        s.workspace_bytes = vd_cuda_aligned(vd_dnn_workspace_bytes(plan->graph, plan->index));
    if (plan->way == VD_CUDA_PHASES) {
        const vd_dnn_conv c = phases_key(&plan->key);
        s.split_bytes =
            vd_cuda_aligned((size_t)(c.n * c.src_h * c.src_w * c.in) * vd_dtype_bytes(c.dtype));
        s.join_bytes = vd_cuda_aligned((size_t)(c.n * c.dst_h * c.dst_w * c.out) * sizeof(float));
    }
    return s;
}

static vd_status run_phases(vd_cuda_device *cuda, const vd_cuda_conv_plan *plan,
                            const vd_cuda_conv_args *args) {
    const vd_cuda_conv *shape = &plan->key.shape;
    const vd_cuda_conv_scratch s = vd_cuda_conv_scratch_of(plan);
    unsigned char *joined = args->scratch + s.split_bytes;
    const vd_dnn_args phases = {
        .a = args->scratch, .b = args->w, .out = joined, .workspace = joined + s.join_bytes};
    const vd_cuda_join join = {.dst = args->dst,
                               .src = joined,
                               .residual = args->residual,
                               .dtype = plan->key.dst_dtype,
                               .src_dtype = VD_F32,
                               .bias = args->bias,
                               .run_images = args->bias_run_images,
                               .act = VD_ACT_NONE};
    vd_status st;
    VD_TRY(vd_cuda_status(
        vd_launch_split(cuda->stream, args->scratch, args->src, plan->key.dtype, shape),
        "in a convolution"));
    VD_TRY(vd_dnn_run(cuda->dnn, plan->graph, plan->index, &phases));
    VD_TRY(vd_cuda_status(vd_launch_join(cuda->stream, &join, shape), "in a convolution"));
done:
    return st;
}

vd_status vd_cuda_conv_run(vd_cuda_device *cuda, const vd_cuda_conv_plan *plan,
                           const vd_cuda_conv_args *args) {
    if (plan->way == VD_CUDA_PHASES)
        return run_phases(cuda, plan, args);
    const vd_dnn_args whole = {.a = args->src,
                               .b = args->w,
                               .c = args->residual,
                               .bias = args->bias,
                               .out = args->dst,
                               .workspace = args->scratch};
    return vd_dnn_run(cuda->dnn, plan->graph, plan->index, &whole);
}

/* ---- timing --------------------------------------------------------------------------------- */

typedef struct trial {
    cudaEvent_t start, end;
    void *src, *dst, *residual, *bias;
    void *scratch;
    size_t scratch_bytes;
} trial;

static void trial_free(trial *t) {
    void *memory[] = {t->src, t->dst, t->residual, t->bias, t->scratch};
    for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++)
        (void)cudaFree(memory[i]);
    if (t->start != NULL)
        (void)cudaEventDestroy(t->start);
    if (t->end != NULL)
        (void)cudaEventDestroy(t->end);
}

static vd_status trial_create(const vd_cuda_device *cuda, const vd_cuda_conv_key *key,
                              size_t scratch_bytes, trial *t) {
    const vd_cuda_conv *s = &key->shape;
    const size_t src = (size_t)(s->n * s->src_h * s->src_w * s->in) * vd_dtype_bytes(key->dtype);
    const size_t dst =
        (size_t)(s->n * s->dst_h * s->dst_w * s->out) * vd_dtype_bytes(key->dst_dtype);
    const size_t bias = (size_t)(key->bias_rows * s->out) * sizeof(float);
    vd_status st;
    VD_TRY(vd_cuda_status(cudaEventCreate(&t->start), "making an event"));
    VD_TRY(vd_cuda_status(cudaEventCreate(&t->end), "making an event"));
    VD_TRY(vd_cuda_take(src, &t->src));
    VD_TRY(vd_cuda_take(dst, &t->dst));
    VD_TRY(vd_cuda_take(key->residual ? dst : 1, &t->residual));
    VD_TRY(vd_cuda_take(bias, &t->bias));
    VD_TRY(vd_cuda_take(scratch_bytes, &t->scratch));
    /* 0x3C3C is 0.011 in bf16 and 1.06 in f16: neither zeros, which are computed faster than
     * numbers, nor NaN. */
    VD_TRY(vd_cuda_status(cudaMemsetAsync(t->src, 0x3C, src, cuda->stream), "clearing memory"));
    VD_TRY(vd_cuda_status(cudaMemsetAsync(t->residual, 0, key->residual ? dst : 1, cuda->stream),
                          "clearing memory"));
    VD_TRY(vd_cuda_status(cudaMemsetAsync(t->bias, 0, bias, cuda->stream), "clearing memory"));
done:
    return st;
}

/* The shortest of a few runs, the first of which does not count. */
static vd_status time_plan(vd_cuda_device *cuda, const vd_cuda_conv_plan *plan, const void *w,
                           const trial *t, float *ms) {
    const vd_cuda_conv_args args = {.src = t->src,
                                    .w = w,
                                    .residual = plan->key.residual ? t->residual : NULL,
                                    .bias = plan->key.bias_rows > 0 ? t->bias : NULL,
                                    .bias_run_images =
                                        plan->key.bias_rows > 1 ? 1 : plan->key.shape.n,
                                    .dst = t->dst,
                                    .scratch = t->scratch};
    vd_status st;
    VD_TRY(vd_cuda_conv_run(cuda, plan, &args));
    for (int i = 0; i < RUNS; i++) {
        float once = 0;
        VD_TRY(vd_cuda_status(cudaEventRecord(t->start, cuda->stream), "timing"));
        VD_TRY(vd_cuda_conv_run(cuda, plan, &args));
        VD_TRY(vd_cuda_status(cudaEventRecord(t->end, cuda->stream), "timing"));
        VD_TRY(vd_cuda_status(cudaEventSynchronize(t->end), "timing"));
        VD_TRY(vd_cuda_status(cudaEventElapsedTime(&once, t->start, t->end), "timing"));
        if (i == 0 || once < *ms)
            *ms = once;
    }
done:
    return st;
}

/* ---- choosing ------------------------------------------------------------------------------- */

static void name_of(const vd_cuda_conv_key *key, char name[NAME_BYTES]) {
    const vd_cuda_conv *s = &key->shape;
    snprintf(name, NAME_BYTES,
             "conv %lldx%lldx%lldx%lld -> %lldx%lldx%lld kernel %dx%d stride %dx%d dilation %dx%d "
             "pad %lld,%lld %s %s bias %lld residual %d",
             (long long)s->n, (long long)s->src_h, (long long)s->src_w, (long long)s->in,
             (long long)s->dst_h, (long long)s->dst_w, (long long)s->out, s->kernel_h, s->kernel_w,
             s->stride_h, s->stride_w, s->dilation_h, s->dilation_w, (long long)s->pad_top,
             (long long)s->pad_left, vd_dtype_name(key->dtype), vd_dtype_name(key->dst_dtype),
             (long long)key->bias_rows, key->residual);
}

static const char *const ways[] = {
    [VD_CUDA_TAPS] = "taps\n", [VD_CUDA_WHOLE] = "whole\n", [VD_CUDA_PHASES] = "phases\n"};

static vd_status recall(vd_cuda_device *cuda, vd_cuda_conv_plan *plan, const char *name,
                        bool *known) {
    size_t bytes;
    char *data = vd_cuda_cache_read(cuda->cache, name, &bytes);
    vd_status st = VD_OK;
    *known = false;
    for (int way = VD_CUDA_TAPS; data != NULL && way <= VD_CUDA_PHASES; way++) {
        const size_t length = strlen(ways[way]);
        if (bytes < length || memcmp(data, ways[way], length) != 0)
            continue;
        plan->way = (vd_cuda_conv_way)way;
        if (way == VD_CUDA_TAPS) {
            *known = true;
            break;
        }
        const vd_dnn_conv key =
            way == VD_CUDA_WHOLE ? whole_key(&plan->key) : phases_key(&plan->key);
        VD_TRY(vd_dnn_restore_conv(cuda->dnn, &key, data + length, bytes - length, &plan->graph));
        *known = plan->graph != NULL;
    }
done:
    free(data);
    return st;
}

/* False if it could not be kept. */
static bool keep(const vd_cuda_device *cuda, const vd_cuda_conv_plan *plan, const char *name) {
    const char *way = ways[plan->way];
    char *text = NULL;
    size_t bytes = 0;
    if (plan->graph != NULL && vd_dnn_save(plan->graph, plan->index, &text, &bytes) != VD_OK)
        return false;
    const size_t length = strlen(way);
    char *data = malloc(length + bytes + 1);
    bool kept = false;
    if (data != NULL) {
        snprintf(data, length + 1, "%s", way);
        if (bytes > 0)
            memcpy(data + length, text, bytes);
        kept = vd_cuda_cache_write(cuda->cache, name, data, length + bytes);
    }
    free(data);
    free(text);
    return kept;
}

/* The fastest of whole[0..] and phases[0..] to *best, the first of them if none can be timed. */
static void choose(vd_cuda_device *cuda, const void *w, vd_cuda_conv_plan *best,
                   vd_dnn_graph *const graph[2]) {
    vd_cuda_conv_plan each = *best;
    trial t = {0};
    float shortest = 0;
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; graph[turn] != NULL && i < vd_dnn_plan_count(graph[turn]); i++) {
            each.way = turn == 0 ? VD_CUDA_WHOLE : VD_CUDA_PHASES;
            each.graph = graph[turn];
            each.index = i;
            const vd_cuda_conv_scratch s = vd_cuda_conv_scratch_of(&each);
            const size_t bytes = s.split_bytes + s.join_bytes + s.workspace_bytes;
            t.scratch_bytes = bytes > t.scratch_bytes ? bytes : t.scratch_bytes;
        }
    if (trial_create(cuda, &best->key, t.scratch_bytes, &t) == VD_OK)
        for (int turn = 0; turn < 2; turn++)
            for (int i = 0; graph[turn] != NULL && i < vd_dnn_plan_count(graph[turn]); i++) {
                float ms = 0;
                each.way = turn == 0 ? VD_CUDA_WHOLE : VD_CUDA_PHASES;
                each.graph = graph[turn];
                each.index = i;
                if (time_plan(cuda, &each, w, &t, &ms) == VD_OK &&
                    (shortest == 0 || ms < shortest)) {
                    shortest = ms;
                    *best = each;
                }
            }
    trial_free(&t);
}

static vd_status decide(vd_cuda_device *cuda, vd_cuda_conv_plan *plan, const void *w) {
    const bool timed = vd_cuda_cache_is_writable(cuda->cache);
    const vd_dnn_conv whole = whole_key(&plan->key), phases = phases_key(&plan->key);
    vd_dnn_graph *graph[2] = {NULL, NULL};
    char name[NAME_BYTES];
    bool known;
    vd_status st;
    name_of(&plan->key, name);
    VD_TRY(recall(cuda, plan, name, &known));
    if (known)
        goto done;
    VD_TRY(vd_dnn_plan_conv(cuda->dnn, &whole, timed ? CANDIDATES : 1, &graph[0]));
    if (has_phases(&plan->key.shape) && (timed || graph[0] == NULL))
        VD_TRY(vd_dnn_plan_conv(cuda->dnn, &phases, 1, &graph[1]));
    plan->way = graph[0] != NULL ? VD_CUDA_WHOLE : graph[1] != NULL ? VD_CUDA_PHASES : VD_CUDA_TAPS;
    plan->graph = graph[0] != NULL ? graph[0] : graph[1];
    const vd_cuda_conv_plan first = *plan;
    if (timed && plan->graph != NULL)
        choose(cuda, w, plan, graph);
    if (!keep(cuda, plan, name))
        *plan = first;
done:
    for (int i = 0; i < 2; i++)
        if (graph[i] != plan->graph)
            vd_dnn_graph_destroy(graph[i]);
    return st;
}

static bool same_key(const vd_cuda_conv_key *a, const vd_cuda_conv_key *b) {
    char one[NAME_BYTES], other[NAME_BYTES];
    name_of(a, one);
    name_of(b, other);
    return strcmp(one, other) == 0;
}

vd_status vd_cuda_plan_conv(vd_cuda_device *cuda, const vd_cuda_conv_key *key, const void *w,
                            vd_cuda_conv_plan **out) {
    for (vd_cuda_conv_plan *p = cuda->convs; p != NULL; p = p->next)
        if (same_key(&p->key, key)) {
            *out = p;
            return VD_OK;
        }
    *out = NULL;
    vd_cuda_conv_plan *p = calloc(1, sizeof *p);
    if (p == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a plan of a convolution");
    p->key = *key;
    vd_status st = decide(cuda, p, w);
    if (st != VD_OK) {
        vd_dnn_graph_destroy(p->graph);
        free(p);
        return st;
    }
    p->next = cuda->convs;
    cuda->convs = p;
    *out = p;
    return VD_OK;
}

void vd_cuda_conv_plans_destroy(vd_cuda_device *cuda) {
    for (vd_cuda_conv_plan *p = cuda->convs, *next; p != NULL; p = next) {
        next = p->next;
        vd_dnn_graph_destroy(p->graph);
        free(p);
    }
    cuda->convs = NULL;
}

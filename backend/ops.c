/* The ops' entries: shape checks, the interrupt, the profile, then the backend's table. */
#include "backend/ops.h"

#include <stdarg.h>
#include <stdio.h>

#include "backend/backend_impl.h"
#include "backend/profile.h"
#include "core/clock.h"

enum { SHAPE_BYTES = 128, MAX_TERMS = 8 };

/* ---- begin and end of every op -------------------------------------------------------------- */

static bool profiling(const vd_exec *x) {
    return x->profiler != NULL && !x->dry;
}

static vd_status op_begin(vd_exec *x, double *start) {
    if (x->should_stop != NULL && x->should_stop(x->stop_user))
        return vd_fail(VD_ERR_INTERRUPTED, "stopped on request");
    *start = 0.0;
    if (!profiling(x))
        return VD_OK;
    vd_status st = vd_backend_synchronize(x->be);
    *start = vd_now_s();
    return st;
}

/* The status of an op that ran, and what a watcher says to its result. */
static vd_status op_ran(vd_exec *x, vd_status st, const vd_weight *w, const vd_tensor *result) {
    if (st != VD_OK || x->watch == NULL || x->dry)
        return st;
    return x->watch(x->watch_user, w->layer != NULL ? w->layer : "", result);
}

typedef struct op_work {
    double flop, bytes;
} op_work;

static vd_status op_end(vd_exec *x, double start, op_work work, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static vd_status op_end(vd_exec *x, double start, op_work work, const char *format, ...) {
    vd_status st = vd_backend_synchronize(x->be);
    if (st != VD_OK)
        return st;
    const double seconds = vd_now_s() - start;
    char name[sizeof((vd_op_profile *)0)->name];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return vd_profiler_add(x->profiler, name, seconds, work.flop, work.bytes);
}

static double bytes_of(const vd_tensor *t) {
    return t == NULL ? 0.0 : (double)vd_tensor_bytes(t);
}

static double bytes_of_weight(const vd_weight *w) {
    return (double)w->out * (double)w->in * w->kernel_h * w->kernel_w *
           (double)vd_dtype_bytes(w->dtype);
}

/* ---- shape checks --------------------------------------------------------------------------- */

static bool computes(const vd_exec *x, const vd_tensor *t) {
    return t->dtype == VD_F32 || t->dtype == x->dtype;
}

static bool is_activation(const vd_exec *x, const vd_tensor *t) {
    return t->data != NULL && computes(x, t) && vd_tensor_elements(t) > 0;
}

/* NULL is a vector of any length. */
static bool is_vector(const vd_weight *w, int64_t length) {
    return w == NULL || (w->kind == VD_WEIGHT_VECTOR && w->out == length);
}

static bool same_place(const vd_tensor *a, const vd_tensor *b) {
    return a->data == b->data && a->dtype == b->dtype;
}

static vd_status bad_shapes(const char *op, const vd_tensor *dst, const vd_tensor *src,
                            const char *why) {
    char to[SHAPE_BYTES], from[SHAPE_BYTES];
    return vd_fail(VD_ERR_BACKEND, "%s %s <- %s: %s", op, vd_tensor_describe(dst, to, sizeof to),
                   vd_tensor_describe(src, from, sizeof from), why);
}

static vd_status bad_weight(const char *op, const vd_tensor *dst, const vd_tensor *src,
                            const vd_weight *w) {
    char to[SHAPE_BYTES], from[SHAPE_BYTES];
    return vd_fail(VD_ERR_BACKEND, "%s %s <- %s does not go with a weight [%lld, %lld, %d, %d]", op,
                   vd_tensor_describe(dst, to, sizeof to),
                   vd_tensor_describe(src, from, sizeof from), (long long)w->out, (long long)w->in,
                   w->kernel_h, w->kernel_w);
}

/* ---- convolution ---------------------------------------------------------------------------- */

static bool desc_is_sane(const vd_conv2d_desc *d) {
    enum { MOST = 1 << 15 };
    return d->stride_h >= 1 && d->stride_h <= MOST && d->stride_w >= 1 && d->stride_w <= MOST &&
           d->dilation_h >= 1 && d->dilation_h <= MOST && d->dilation_w >= 1 &&
           d->dilation_w <= MOST && d->pad_top >= 0 && d->pad_top <= MOST && d->pad_left >= 0 &&
           d->pad_left <= MOST && d->act != VD_ACT_GEGLU;
}

static vd_status check_conv2d(const vd_exec *x, const vd_tensor *dst, const vd_tensor *src,
                              const vd_weight *w, const vd_weight *bias, const vd_tensor *add,
                              const vd_tensor *residual, const vd_conv2d_desc *desc) {
    if (!is_activation(x, dst) || !is_activation(x, src) || dst->rank != 4 || src->rank != 4)
        return bad_shapes("conv2d", dst, src, "wants two activations [n, h, w, c]");
    if (w->kind != VD_WEIGHT_CONV || src->dim[3] != w->in || dst->dim[3] != w->out ||
        !is_vector(bias, w->out))
        return bad_weight("conv2d", dst, src, w);
    if (src->dim[0] != dst->dim[0])
        return bad_shapes("conv2d", dst, src, "the counts of images differ");
    if (desc->map != NULL && (w->kernel_h != 3 || w->kernel_w != 3 || desc->map->taps < 3 ||
                              desc->map->taps > 31 || desc->map->taps % 2 == 0))
        return bad_weight("conv2d with a map of a 3x3 kernel,", dst, src, w);
    if (desc->raw_h < 0 || desc->raw_w < 0 || (desc->raw_h > 0) != (desc->raw_w > 0) ||
        (desc->raw_h > 0 && desc->map == NULL))
        return bad_shapes("conv2d", dst, src, "another size before the product, without a map");
    if (!desc_is_sane(desc))
        return bad_shapes("conv2d", dst, src, "impossible stride, dilation, padding or activation");
    if (src->data == dst->data)
        return bad_shapes("conv2d", dst, src, "a convolution cannot be done in place");
    if (add != NULL && (add->data == NULL || add->dtype != VD_F32 || add->rank != 2 ||
                        add->dim[0] < 1 || dst->dim[0] % add->dim[0] != 0 || add->dim[1] != w->out))
        return bad_shapes("conv2d", dst, add, "the rows to add are not F32 [g, out], n % g = 0");
    if (residual != NULL && (!is_activation(x, residual) || !vd_tensor_same_shape(residual, dst)))
        return bad_shapes("conv2d", dst, residual, "the residual is not like the result");
    if (residual != NULL && residual->data == dst->data && !same_place(residual, dst))
        return bad_shapes("conv2d", dst, residual, "the residual is the result in another dtype");
    return VD_OK;
}

vd_status vd_conv2d(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                    const vd_weight *bias, const vd_tensor *add, const vd_tensor *residual,
                    const vd_conv2d_desc *desc) {
    vd_status st = check_conv2d(x, dst, src, w, bias, add, residual, desc);
    double start = 0.0;
    if (st != VD_OK || (st = op_begin(x, &start)) != VD_OK)
        return st;
    st = x->be->table->ops->conv2d(x, dst, src, w, bias, add, residual, desc);
    st = op_ran(x, st, w, dst);
    if (st != VD_OK || !profiling(x))
        return st;
    const double taps = (double)w->kernel_h * w->kernel_w;
    op_work work = {.flop = 2.0 * (double)vd_tensor_elements(dst) * (double)w->in * taps,
                    .bytes =
                        bytes_of(dst) + bytes_of(src) + bytes_of(residual) + bytes_of_weight(w)};
    return op_end(x, start, work, "conv2d %dx%d s%d d%d,%d %lld->%lld %lldx%lldx%lld", w->kernel_h,
                  w->kernel_w, desc->stride_h, desc->dilation_h, desc->dilation_w, (long long)w->in,
                  (long long)w->out, (long long)dst->dim[0], (long long)dst->dim[1],
                  (long long)dst->dim[2]);
}

/* ---- linear --------------------------------------------------------------------------------- */

static vd_status check_linear(const vd_exec *x, const vd_tensor *dst, const vd_tensor *src,
                              const vd_weight *w, const vd_weight *bias, const vd_tensor *residual,
                              vd_activation act) {
    if (!is_activation(x, dst) || !is_activation(x, src) || dst->rank < 1 || src->rank < 1)
        return bad_shapes("linear", dst, src, "wants two activations [rows, c]");
    const int64_t columns = dst->dim[dst->rank - 1] * (act == VD_ACT_GEGLU ? 2 : 1);
    const int64_t in = src->dim[src->rank - 1];
    if (w->kind != VD_WEIGHT_LINEAR || in != w->in || columns != w->out || !is_vector(bias, w->out))
        return bad_weight("linear", dst, src, w);
    if (vd_tensor_elements(src) / in != vd_tensor_elements(dst) / dst->dim[dst->rank - 1])
        return bad_shapes("linear", dst, src, "the counts of rows differ");
    if (src->data == dst->data)
        return bad_shapes("linear", dst, src, "a matrix product cannot be done in place");
    if (residual == NULL)
        return VD_OK;
    if (!is_activation(x, residual) || residual->rank < 1 ||
        residual->dim[residual->rank - 1] != dst->dim[dst->rank - 1] ||
        vd_tensor_elements(residual) != vd_tensor_elements(dst))
        return bad_shapes("linear", dst, residual, "the residual is not like the result");
    if (residual->data == dst->data && !same_place(residual, dst))
        return bad_shapes("linear", dst, residual, "the residual is the result in another dtype");
    return VD_OK;
}

vd_status vd_linear(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                    const vd_weight *bias, const vd_tensor *residual, vd_activation act) {
    vd_status st = check_linear(x, dst, src, w, bias, residual, act);
    double start = 0.0;
    if (st != VD_OK || (st = op_begin(x, &start)) != VD_OK)
        return st;
    st = x->be->table->ops->linear(x, dst, src, w, bias, residual, act);
    st = op_ran(x, st, w, dst);
    if (st != VD_OK || !profiling(x))
        return st;
    const int64_t rows = vd_tensor_elements(src) / w->in;
    op_work work = {.flop = 2.0 * (double)rows * (double)w->in * (double)w->out,
                    .bytes =
                        bytes_of(dst) + bytes_of(src) + bytes_of(residual) + bytes_of_weight(w)};
    return op_end(x, start, work, "linear%s %lld->%lld %lld", act == VD_ACT_GEGLU ? " geglu" : "",
                  (long long)w->in, (long long)w->out, (long long)rows);
}

/* ---- attention ------------------------------------------------------------------------------ */

vd_status vd_attention(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                       const vd_attention_desc *d) {
    if (out == NULL || q == NULL || k == NULL || v == NULL || d->outer < 1 || d->inner < 1 ||
        d->q_tokens < 1 || d->kv_tokens < 1 || d->heads < 1 || d->head_dim < 1)
        return vd_fail(VD_ERR_BACKEND,
                       "attention %lldx%lld, %lld x %lld tokens, %d heads of %d: not possible",
                       (long long)d->outer, (long long)d->inner, (long long)d->q_tokens,
                       (long long)d->kv_tokens, d->heads, d->head_dim);
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->attention(x, out, q, k, v, d);
    if (st != VD_OK || !profiling(x))
        return st;
    const double batch = (double)d->outer * (double)d->inner;
    const double width = (double)d->heads * d->head_dim;
    const double pairs = (double)d->q_tokens * (double)d->kv_tokens * (d->causal ? 0.5 : 1.0);
    op_work work = {.flop = 4.0 * batch * pairs * width,
                    .bytes = 2.0 * batch * width * (double)(d->q_tokens + d->kv_tokens) *
                             (double)vd_dtype_bytes(x->dtype)};
    return op_end(x, start, work, "attention%s %lldx%lld of %lldx%lld %dx%d",
                  d->causal ? " causal" : "", (long long)d->outer, (long long)d->inner,
                  (long long)d->q_tokens, (long long)d->kv_tokens, d->heads, d->head_dim);
}

/* ---- norms ---------------------------------------------------------------------------------- */

static bool same_but_last(const vd_tensor *a, const vd_tensor *b) {
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i + 1 < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

vd_status vd_group_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src1, const vd_tensor *src2,
                        const vd_weight *scale, const vd_weight *shift, int groups, float eps,
                        vd_activation act) {
    if (!is_activation(x, dst) || !is_activation(x, src1) || dst->rank < 2 ||
        !same_but_last(dst, src1))
        return bad_shapes("group_norm", dst, src1, "wants two activations [n, ..., c]");
    if (src2 != NULL && (!is_activation(x, src2) || !same_but_last(dst, src2)))
        return bad_shapes("group_norm", dst, src2, "the second source is not like the result");
    const int last = dst->rank - 1;
    const int64_t channels = dst->dim[last];
    if (src1->dim[last] + (src2 == NULL ? 0 : src2->dim[last]) != channels)
        return bad_shapes("group_norm", dst, src1, "the sources' channels do not add up");
    if (groups < 1 || channels % groups != 0 || (act != VD_ACT_NONE && act != VD_ACT_SILU))
        return bad_shapes("group_norm", dst, src1, "impossible groups or activation");
    if (scale == NULL || shift == NULL || !is_vector(scale, channels) ||
        !is_vector(shift, channels))
        return bad_shapes("group_norm", dst, src1, "scale or shift has another length");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->group_norm(x, dst, src1, src2, scale, shift, groups, eps, act);
    st = op_ran(x, st, scale, dst);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.flop = 8.0 * (double)vd_tensor_elements(dst),
                    .bytes = bytes_of(dst) + bytes_of(src1) + bytes_of(src2)};
    return op_end(x, start, work, "group_norm/%d %lldx%lldx%lld", groups, (long long)dst->dim[0],
                  (long long)(vd_tensor_elements(dst) / channels / dst->dim[0]),
                  (long long)channels);
}

static bool groups_fit(const vd_tensor *t, int groups) {
    return t->rank >= 2 && groups >= 1 && t->dim[t->rank - 1] % groups == 0;
}

vd_status vd_group_measure(vd_exec *x, vd_group_stats *stats, const vd_tensor *src, int groups) {
    if (!is_activation(x, src) || !groups_fit(src, groups))
        return bad_shapes("group_measure", src, src, "wants [n, ..., c] with c in equal groups");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->group_measure(x, stats, src, groups);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.flop = 4.0 * (double)vd_tensor_elements(src), .bytes = bytes_of(src)};
    return op_end(x, start, work, "group_measure/%d %lldx%lld", groups, (long long)src->dim[0],
                  (long long)(vd_tensor_elements(src) / src->dim[0]));
}

vd_status vd_group_normalize(vd_exec *x, vd_tensor *dst, const vd_tensor *src,
                             const vd_group_stats *stats, const vd_weight *scale,
                             const vd_weight *shift, int groups, float eps, vd_activation act) {
    if (!is_activation(x, dst) || !is_activation(x, src) || !vd_tensor_same_shape(dst, src) ||
        !groups_fit(src, groups) || (act != VD_ACT_NONE && act != VD_ACT_SILU))
        return bad_shapes("group_normalize", dst, src, "wants two activations of one shape");
    if (src->data == dst->data && !same_place(src, dst))
        return bad_shapes("group_normalize", dst, src, "in place in another dtype");
    const int64_t channels = dst->dim[dst->rank - 1];
    if (scale == NULL || shift == NULL || !is_vector(scale, channels) ||
        !is_vector(shift, channels))
        return bad_shapes("group_normalize", dst, src, "scale or shift has another length");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->group_normalize(x, dst, src, stats, scale, shift, groups, eps, act);
    st = op_ran(x, st, scale, dst);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.flop = 4.0 * (double)vd_tensor_elements(dst),
                    .bytes = bytes_of(dst) + bytes_of(src)};
    return op_end(x, start, work, "group_normalize/%d %lldx%lld", groups, (long long)dst->dim[0],
                  (long long)(vd_tensor_elements(dst) / dst->dim[0]));
}

vd_status vd_layer_norm(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *scale,
                        const vd_weight *shift, float eps) {
    if (!is_activation(x, dst) || !is_activation(x, src) || dst->rank < 1 ||
        !vd_tensor_same_shape(dst, src))
        return bad_shapes("layer_norm", dst, src, "wants two activations of one shape");
    if (src->data == dst->data && !same_place(src, dst))
        return bad_shapes("layer_norm", dst, src, "in place in another dtype");
    const int64_t channels = dst->dim[dst->rank - 1];
    if (scale == NULL || shift == NULL || !is_vector(scale, channels) ||
        !is_vector(shift, channels))
        return bad_shapes("layer_norm", dst, src, "scale or shift has another length");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->layer_norm(x, dst, src, scale, shift, eps);
    st = op_ran(x, st, scale, dst);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.flop = 8.0 * (double)vd_tensor_elements(dst),
                    .bytes = bytes_of(dst) + bytes_of(src)};
    return op_end(x, start, work, "layer_norm %lldx%lld",
                  (long long)(vd_tensor_elements(dst) / channels), (long long)channels);
}

/* ---- element-wise and the like -------------------------------------------------------------- */

vd_status vd_activate(vd_exec *x, vd_tensor *dst, const vd_tensor *src, vd_activation act) {
    if (!is_activation(x, dst) || !is_activation(x, src) || !vd_tensor_same_shape(dst, src) ||
        act == VD_ACT_GEGLU)
        return bad_shapes("activate", dst, src, "wants two activations of one shape");
    if (src->data == dst->data && !same_place(src, dst))
        return bad_shapes("activate", dst, src, "in place in another dtype");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->activate(x, dst, src, act);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.flop = (double)vd_tensor_elements(dst),
                    .bytes = bytes_of(dst) + bytes_of(src)};
    return op_end(x, start, work, "activate %lld", (long long)vd_tensor_elements(dst));
}

typedef vd_status (*resize_fn)(vd_exec *x, vd_tensor *dst, const vd_tensor *src);

static vd_status resize(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const char *op,
                        resize_fn run) {
    if (!is_activation(x, dst) || !is_activation(x, src) || dst->rank != 4 || src->rank != 4 ||
        dst->dtype != src->dtype)
        return bad_shapes(op, dst, src, "wants two activations [n, h, w, c] of one dtype");
    if (dst->dim[0] != src->dim[0] || dst->dim[3] != src->dim[3] || dst->data == src->data)
        return bad_shapes(op, dst, src, "only h and w may differ, and not in place");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = run(x, dst, src);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.flop = (double)vd_tensor_elements(dst),
                    .bytes = bytes_of(dst) + bytes_of(src)};
    return op_end(x, start, work, "%s %lldx%lldx%lldx%lld", op, (long long)dst->dim[0],
                  (long long)dst->dim[1], (long long)dst->dim[2], (long long)dst->dim[3]);
}

vd_status vd_resize_nearest(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    return resize(x, dst, src, "resize_nearest", x->be->table->ops->resize_nearest);
}

vd_status vd_resize_bilinear(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    return resize(x, dst, src, "resize_bilinear", x->be->table->ops->resize_bilinear);
}

vd_status vd_transpose(vd_exec *x, vd_tensor *dst, const vd_tensor *src) {
    if (!is_activation(x, dst) || !is_activation(x, src) || dst->rank != 3 || src->rank != 3 ||
        dst->dim[0] != src->dim[0] || dst->dim[1] != src->dim[2] || dst->dim[2] != src->dim[1])
        return bad_shapes("transpose", dst, src, "wants [b, p, c] <- [b, c, p]");
    if (src->data == dst->data)
        return bad_shapes("transpose", dst, src, "cannot be done in place");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->transpose(x, dst, src);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.bytes = bytes_of(dst) + bytes_of(src)};
    return op_end(x, start, work, "transpose %lldx%lldx%lld", (long long)dst->dim[0],
                  (long long)dst->dim[1], (long long)dst->dim[2]);
}

static bool inside(int64_t first, int64_t count, int64_t size) {
    return first >= 0 && count > 0 && count <= size && first <= size - count;
}

vd_status vd_paste(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_paste_desc *d) {
    if (!is_activation(x, dst) || !is_activation(x, src) || dst->dtype != VD_F32 ||
        src->dtype != VD_F32 || dst->rank != 4 || src->rank != 4 || dst->dim[0] != src->dim[0] ||
        dst->dim[3] != src->dim[3] || dst->data == src->data)
        return bad_shapes("paste", dst, src, "wants two F32 [n, h, w, c]; only h and w may differ");
    if (!inside(d->dst_y, d->rows, dst->dim[1]) || !inside(d->dst_x, d->columns, dst->dim[2]) ||
        !inside(d->src_y, d->rows, src->dim[1]) || !inside(d->src_x, d->columns, src->dim[2]))
        return bad_shapes("paste", dst, src, "the rectangle lies outside");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->paste(x, dst, src, d);
    if (st != VD_OK || !profiling(x))
        return st;
    const double values = (double)(dst->dim[0] * d->rows * d->columns * dst->dim[3]);
    return op_end(x, start, (op_work){.flop = 3 * values, .bytes = 8 * values},
                  "paste %lldx%lldx%lld", (long long)dst->dim[0], (long long)d->rows,
                  (long long)d->columns);
}

vd_status vd_combine(vd_exec *x, vd_tensor *dst, int terms, const double *coefficient,
                     const vd_tensor *const *src) {
    if (terms < 1 || terms > MAX_TERMS)
        return vd_fail(VD_ERR_BACKEND, "combine: %d terms, 1 to %d are possible", terms, MAX_TERMS);
    for (int i = 0; i < terms; i++)
        if (dst->data == NULL || src[i]->data == NULL || dst->dtype != VD_F32 ||
            src[i]->dtype != VD_F32 || vd_tensor_elements(dst) < 1 ||
            !vd_tensor_same_shape(dst, src[i]))
            return bad_shapes("combine", dst, src[i], "wants F32 tensors of one shape");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->combine(x, dst, terms, coefficient, src);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.flop = 2.0 * terms * (double)vd_tensor_elements(dst),
                    .bytes = (terms + 1) * bytes_of(dst)};
    return op_end(x, start, work, "combine %d %lld", terms, (long long)vd_tensor_elements(dst));
}

vd_status vd_scale_channels(vd_exec *x, vd_tensor *t, int64_t channels, double factor) {
    if (!is_activation(x, t) || t->rank < 1 || channels < 0 || channels > t->dim[t->rank - 1])
        return bad_shapes("scale_channels", t, t, "has not so many channels");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->scale_channels(x, t, channels, factor);
    if (st != VD_OK || !profiling(x))
        return st;
    const double share = (double)channels / (double)t->dim[t->rank - 1];
    op_work work = {.flop = share * (double)vd_tensor_elements(t),
                    .bytes = 2 * share * bytes_of(t)};
    return op_end(x, start, work, "scale_channels %lld", (long long)vd_tensor_elements(t));
}

vd_status vd_scale_low_frequencies(vd_exec *x, vd_tensor *t, double factor) {
    if (!is_activation(x, t) || t->rank != 4)
        return bad_shapes("scale_low_frequencies", t, t, "wants an activation [n, h, w, c]");
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->scale_low_frequencies(x, t, factor);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.flop = 12.0 * (double)vd_tensor_elements(t), .bytes = 3 * bytes_of(t)};
    return op_end(x, start, work, "scale_low_frequencies %lldx%lldx%lldx%lld", (long long)t->dim[0],
                  (long long)t->dim[1], (long long)t->dim[2], (long long)t->dim[3]);
}

vd_status vd_sampler_run(vd_exec *x, const vd_tensor *const *buffer, int count,
                         const vd_sampler_program *program, int32_t *bad) {
    float *data[VD_SAMPLER_BUFFERS];
    if (count < 1 || count > VD_SAMPLER_BUFFERS)
        return vd_fail(VD_ERR_BACKEND, "sampler: %d buffers, 1 to %d are possible", count,
                       VD_SAMPLER_BUFFERS);
    for (int i = 0; i < count; i++) {
        if (buffer[i]->data == NULL || buffer[i]->dtype != VD_F32 ||
            vd_tensor_elements(buffer[i]) < 1 || !vd_tensor_same_shape(buffer[i], buffer[0]))
            return bad_shapes("sampler", buffer[0], buffer[i], "wants F32 tensors of one shape");
        data[i] = buffer[i]->data;
    }
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    const int64_t elements = vd_tensor_elements(buffer[0]);
    st = x->be->table->ops->sampler_run(x, data, count, elements, program, bad);
    if (st != VD_OK || !profiling(x))
        return st;
    return op_end(x, start, (op_work){.bytes = (count + 1) * bytes_of(buffer[0])},
                  "sampler %d %lld", count, (long long)elements);
}

vd_status vd_match_deviation(vd_exec *x, vd_tensor *dst, const vd_tensor *like, double phi) {
    const int64_t elements = vd_tensor_elements(dst);
    if (dst->data == NULL || like->data == NULL || dst->dtype != VD_F32 || like->dtype != VD_F32 ||
        !vd_tensor_same_shape(dst, like))
        return bad_shapes("match_deviation", dst, like, "wants F32 tensors of one shape");
    if (!(phi >= 0 && phi <= 1))
        return vd_fail(VD_ERR_USAGE, "guidance rescale %g: must be 0 to 1", phi);
    if (elements < 2)
        return vd_fail(VD_ERR_USAGE, "guidance rescale needs 2 values or more, not %lld",
                       (long long)elements);
    double start = 0.0;
    vd_status st = op_begin(x, &start);
    if (st != VD_OK)
        return st;
    st = x->be->table->ops->match_deviation(x, dst, like, phi);
    if (st != VD_OK || !profiling(x))
        return st;
    op_work work = {.flop = 8.0 * (double)elements, .bytes = 6 * bytes_of(dst)};
    return op_end(x, start, work, "match_deviation %lld", (long long)elements);
}

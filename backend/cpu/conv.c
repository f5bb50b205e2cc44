/* Convolutions. Where oneDNN has good code for the shape, an image is cut in strips of rows and
 * each is one convolution; else (1x1 kernels, temporal kernels, odd dilations and channel counts,
 * another dtype) the taps of each position are gathered to a row of a matrix product.
 *
 * With a map (conv_taps.h) the nine sums of a strip's positions are nine planes, three across and
 * three down: a convolution whose taps lie as far apart as the planes are large, with the packed
 * weights that the plain layer has. */
#include <stdio.h>
#include <string.h>

#include "backend/cpu/conv_taps.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/tiled.h"

enum {
    ALIGN_BYTES = 64,
    RESULT_BYTES = 512 * 1024,    /* float32 results of a strip: half of a usual L2 cache */
    STRIPS_IN_PADDING = 4,        /* that reach over an edge, at most: each wants its own plan */
    ENOUGH_STRIPS = 32,           /* of an image; below this, strips become lower... */
    LOWEST_STRIP_POSITIONS = 256, /* ...but not below this many positions */
};

typedef struct conv_job {
    const vd_conv2d_desc *desc;
    const vd_tensor *src, *dst, *residual;
    const vd_cpu_kernels *kernels;
    vd_backend *be;
    vd_cpu_weight *w;
    const float *bias; /* [runs, out] or NULL */
    int64_t runs;
    int64_t strip_rows, strips;                       /* of an image */
    bool in_result, finished;                         /* as in gemm.c */
    const vd_cpu_taps *taps;                          /* NULL: no map */
    size_t scratch_bytes, result_bytes, planes_bytes; /* for each thread */
    unsigned char *scratch;
} conv_job;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* ---- gathered taps -------------------------------------------------------------------------- */

static void copy_values(const conv_job *job, unsigned char *to, const unsigned char *from,
                        int64_t count) {
    const vd_dtype wanted = job->w->head.dtype;
    if (job->src->dtype == wanted)
        memcpy(to, from, (size_t)count * vd_dtype_bytes(wanted));
    else if (job->src->dtype == VD_F32)
        job->kernels->store(to, wanted, (const float *)(const void *)from, (size_t)count);
    else
        job->kernels->load((float *)(void *)to, from, job->src->dtype, (size_t)count);
}

/* One row of taps of one position; y is a row of the image, x the first tap's column. */
static void gather_taps(const conv_job *job, int64_t image, int64_t y, int64_t x,
                        unsigned char *to) {
    const vd_weight *w = &job->w->head;
    const int64_t *dim = job->src->dim;
    const size_t size = vd_dtype_bytes(w->dtype);
    const int64_t step = job->desc->dilation_w;
    if (y < 0 || y >= dim[1]) {
        memset(to, 0, (size_t)(w->kernel_w * w->in) * size);
        return;
    }
    const int64_t line = (image * dim[1] + y) * dim[2];
    if (step == 1 && x >= 0 && x + w->kernel_w <= dim[2]) {
        copy_values(job, to, vd_cpu_at(job->src, (line + x) * w->in), w->kernel_w * w->in);
        return;
    }
    for (int tap = 0; tap < w->kernel_w; tap++, x += step, to += (size_t)w->in * size) {
        if (x < 0 || x >= dim[2])
            memset(to, 0, (size_t)w->in * size);
        else
            copy_values(job, to, vd_cpu_at(job->src, (line + x) * w->in), w->in);
    }
}

static void gather(const void *user, int64_t first, int64_t count, void *a) {
    const conv_job *job = user;
    const vd_weight *w = &job->w->head;
    const vd_conv2d_desc *d = job->desc;
    const size_t line_bytes = (size_t)(w->kernel_w * w->in) * vd_dtype_bytes(w->dtype);
    unsigned char *to = a;
    if (job->taps != NULL) {
        const size_t in = (size_t)w->in;
        const vd_cpu_taps_run run = {first, count, 0, w->in};
        vd_cpu_taps_sum(job->taps, &run, a, w->dtype, 9 * in, in, 3 * in);
        return;
    }
    int64_t x = first % job->dst->dim[2];
    int64_t y = first / job->dst->dim[2] % job->dst->dim[1];
    int64_t image = first / job->dst->dim[2] / job->dst->dim[1];
    for (int64_t i = 0; i < count; i++) {
        for (int tap = 0; tap < w->kernel_h; tap++, to += line_bytes)
            gather_taps(job, image, y * d->stride_h - d->pad_top + (int64_t)tap * d->dilation_h,
                        x * d->stride_w - d->pad_left, to);
        if (++x < job->dst->dim[2])
            continue;
        x = 0;
        if (++y < job->dst->dim[1])
            continue;
        y = 0;
        image++;
    }
}

static bool is_pointwise(const conv_job *job) {
    const vd_conv2d_desc *d = job->desc;
    return job->w->head.kernel_h == 1 && job->w->head.kernel_w == 1 && d->stride_h == 1 &&
           d->stride_w == 1 && d->pad_top == 0 && d->pad_left == 0 &&
           vd_tensor_elements(job->src) / job->w->head.in ==
               vd_tensor_elements(job->dst) / job->w->head.out &&
           job->src->dim[1] == job->dst->dim[1];
}

static vd_status run_gathered(vd_exec *x, const conv_job *job, vd_tensor *dst) {
    const vd_cpu_product p = {.dst = dst,
                              .residual = job->residual,
                              .w = job->w,
                              .rows = vd_tensor_elements(dst) / job->w->head.out,
                              .bias = job->bias,
                              .runs = job->runs,
                              .act = job->desc->act,
                              .a = job->src->data,
                              .a_dtype = job->src->dtype,
                              .gather = is_pointwise(job) ? NULL : gather,
                              .user = job,
                              .name = "in a convolution"};
    return vd_cpu_product_run(x, &p);
}

/* ---- strips --------------------------------------------------------------------------------- */

/* Fills the key of strip `index` of an image; the first row of the source that it reads in *src_row
 * and the first row that it writes in *dst_row. */
static vd_dnnl_conv strip_key(const conv_job *job, int64_t index, int64_t *src_row,
                              int64_t *dst_row) {
    const vd_weight *w = &job->w->head;
    const vd_conv2d_desc *d = job->desc;
    const int64_t reach = (int64_t)(w->kernel_h - 1) * d->dilation_h + 1;
    *dst_row = index * job->strip_rows;
    const int64_t rows = smaller(job->strip_rows, job->dst->dim[1] - *dst_row);
    const vd_dtype dst_dtype = job->in_result ? job->dst->dtype : VD_F32;
    if (job->taps != NULL) {
        *src_row = 0; /* of the planes */
        return (vd_dnnl_conv){.in = w->in,
                              .out = w->out,
                              .src_h = 3 * rows,
                              .src_w = 3 * job->dst->dim[2],
                              .dst_h = rows,
                              .dst_w = job->dst->dim[2],
                              .kernel_h = 3,
                              .kernel_w = 3,
                              .stride_h = 1,
                              .stride_w = 1,
                              .dilation_h = (int)rows,
                              .dilation_w = (int)job->dst->dim[2],
                              .dtype = w->dtype,
                              .dst_dtype = dst_dtype,
                              .bias = job->bias != NULL};
    }
    const int64_t begin = *dst_row * d->stride_h - d->pad_top;
    const int64_t end = begin + (rows - 1) * d->stride_h + reach;
    *src_row = larger(begin, 0);
    return (vd_dnnl_conv){.in = w->in,
                          .out = w->out,
                          .src_h = smaller(end, job->src->dim[1]) - *src_row,
                          .src_w = job->src->dim[2],
                          .dst_h = rows,
                          .dst_w = job->dst->dim[2],
                          .kernel_h = w->kernel_h,
                          .kernel_w = w->kernel_w,
                          .stride_h = d->stride_h,
                          .stride_w = d->stride_w,
                          .dilation_h = d->dilation_h,
                          .dilation_w = d->dilation_w,
                          .pad_top = *src_row - begin,
                          .pad_left = d->pad_left,
                          .dtype = w->dtype,
                          .dst_dtype = dst_dtype,
                          .bias = job->bias != NULL};
}

/* The nine planes of rows `first` .. of an image, side by side. */
static void fill_planes(const conv_job *job, int64_t image, int64_t first, int64_t rows,
                        unsigned char *planes) {
    const vd_dtype dtype = job->w->head.dtype;
    const int64_t width = job->dst->dim[2], in = job->w->head.in;
    for (int64_t y = 0; y < rows; y++) {
        const int64_t line = image * job->dst->dim[1] + first + y;
        const vd_cpu_taps_run run = {line * width, width, 0, in};
        vd_cpu_taps_sum(job->taps, &run,
                        planes + (size_t)(3 * width * y * in) * vd_dtype_bytes(dtype), dtype,
                        (size_t)in, (size_t)(width * in), (size_t)(3 * width * rows * in));
    }
}

static int strip_task(void *user, int64_t task, int thread) {
    const conv_job *job = user;
    const int64_t image = task / job->strips;
    int64_t src_row, dst_row;
    const vd_dnnl_conv key = strip_key(job, task % job->strips, &src_row, &dst_row);
    vd_dnnl_plan *plan = NULL;
    const vd_dnnl_panel *panel = NULL;
    /* Both are there: plan_strips made them. */
    if (vd_dnnl_plan_conv(((const vd_cpu_device *)job->be->device)->dnnl, &key, &plan) != VD_OK ||
        vd_cpu_pack_kernel(job->be, job->w, vd_dnnl_plan_format(plan), &panel) != VD_OK)
        return -1;

    unsigned char *scratch =
        job->scratch +
        (size_t)thread * (job->scratch_bytes + job->result_bytes + job->planes_bytes);
    unsigned char *planes = scratch + job->scratch_bytes + job->result_bytes;
    const int64_t *src = job->src->dim, *dst = job->dst->dim;
    const int64_t at = (image * dst[1] + dst_row) * dst[2] * dst[3];
    const int64_t run = image / (dst[0] / job->runs);
    void *to = job->in_result ? vd_cpu_at(job->dst, at) : scratch + job->scratch_bytes;
    const void *from = vd_cpu_at(job->src, (image * src[1] + src_row) * src[2] * src[3]);
    if (job->taps != NULL)
        fill_planes(job, image, dst_row, key.dst_h, planes);
    const vd_dnnl_args args = {.a = job->taps != NULL ? planes : from,
                               .panel = panel,
                               .bias = job->bias == NULL ? NULL : job->bias + run * dst[3],
                               .c = to,
                               .scratch = scratch};
    int rc = vd_dnnl_run(plan, thread, &args);
    if (rc == 0 && !job->finished)
        vd_cpu_finish(job->kernels, to, key.dst_h * dst[2] * dst[3], job->desc->act, job->residual,
                      job->dst, at);
    return rc;
}

/* Padding that a kernel does not reach over, on every side: what oneDNN's convolutions want. */
static bool padding_is_usual(const conv_job *job) {
    const vd_weight *w = &job->w->head;
    const vd_conv2d_desc *d = job->desc;
    const int64_t reach_h = (int64_t)(w->kernel_h - 1) * d->dilation_h + 1;
    const int64_t reach_w = (int64_t)(w->kernel_w - 1) * d->dilation_w + 1;
    const int64_t *src = job->src->dim, *dst = job->dst->dim;
    const int64_t below = (dst[1] - 1) * d->stride_h + reach_h - src[1] - d->pad_top;
    const int64_t behind = (dst[2] - 1) * d->stride_w + reach_w - src[2] - d->pad_left;
    return d->pad_top < reach_h && d->pad_left < reach_w && below < reach_h && behind < reach_w &&
           behind > -d->stride_w;
}

static void choose_strips(conv_job *job) {
    const int64_t *dst = job->dst->dim;
    const bool free = job->residual == NULL || job->residual->data != job->dst->data;
    job->finished = job->desc->act == VD_ACT_NONE && job->residual == NULL;
    job->in_result = job->finished || (free && job->dst->dtype == VD_F32);

    const int64_t row_bytes = dst[2] * dst[3] * (int64_t)sizeof(float);
    int64_t rows = larger(1, RESULT_BYTES / row_bytes);
    const int64_t low = (LOWEST_STRIP_POSITIONS + dst[2] - 1) / dst[2];
    rows = smaller(rows, larger(low, (dst[1] + ENOUGH_STRIPS - 1) / ENOUGH_STRIPS));
    const int64_t in_padding = job->taps != NULL ? 0 : job->desc->pad_top / job->desc->stride_h;
    rows = larger(rows, (in_padding + STRIPS_IN_PADDING - 1) / STRIPS_IN_PADDING);
    job->strip_rows = larger(1, smaller(rows, dst[1]));
    job->strips = (dst[1] + job->strip_rows - 1) / job->strip_rows;
}

static vd_status strip_plan(const conv_job *job, int64_t index, vd_dnnl_plan **out) {
    const vd_cpu_device *cpu = job->be->device;
    int64_t src_row, dst_row;
    const vd_dnnl_conv key = strip_key(job, index, &src_row, &dst_row);
    return vd_dnnl_plan_conv(cpu->dnnl, &key, out);
}

/* Makes the plans of all strips and packs the kernel for them; *fast is false, and nothing packed,
 * if one has no good code. */
static vd_status plan_strips(conv_job *job, bool *fast) {
    vd_status st = VD_OK;
    vd_dnnl_plan *plan;
    const vd_dnnl_panel *panel;
    *fast = false;
    for (int64_t i = 0; i < job->strips; i++) {
        VD_TRY(strip_plan(job, i, &plan));
        if (!vd_dnnl_plan_is_fast(plan))
            return VD_OK;
        job->scratch_bytes = (size_t)larger((int64_t)job->scratch_bytes,
                                            (int64_t)aligned(vd_dnnl_plan_scratch_bytes(plan)));
    }
    for (int64_t i = 0; i < job->strips; i++) {
        VD_TRY(strip_plan(job, i, &plan));
        VD_TRY(vd_cpu_pack_kernel(job->be, job->w, vd_dnnl_plan_format(plan), &panel));
    }
    *fast = true;
done:
    return st;
}

static vd_status run_strips(vd_exec *x, conv_job *job) {
    const int64_t *dst = job->dst->dim;
    const int64_t tasks = dst[0] * job->strips;
    job->result_bytes =
        job->in_result ? 0 : aligned((size_t)(job->strip_rows * dst[2] * dst[3]) * sizeof(float));
    if (job->taps != NULL)
        job->planes_bytes = aligned((size_t)(9 * job->strip_rows * dst[2] * job->w->head.in) *
                                    vd_dtype_bytes(job->w->head.dtype));
    const size_t each = job->scratch_bytes + job->result_bytes + job->planes_bytes;
    void *scratch;
    vd_status st = vd_exec_scratch(x, each * (size_t)smaller(tasks, x->be->threads), &scratch);
    if (st != VD_OK)
        return st;
    job->scratch = scratch;
    int rc = x->dry ? 0 : vd_cpu_parallel(vd_cpu(x)->pool, tasks, strip_task, job);
    vd_exec_scratch_free(x, scratch);
    return vd_dnnl_status(rc, "in a convolution");
}

/* ---- entry ---------------------------------------------------------------------------------- */

static void add_rows(float *sum, const vd_tensor *add, const vd_weight *bias) {
    const int64_t out = add->dim[1];
    const float *rows = add->data;
    const float *shared = bias == NULL ? NULL : vd_cpu_vector(bias);
    for (int64_t i = 0; i < add->dim[0] * out; i++)
        sum[i] = rows[i] + (shared == NULL ? 0.0F : shared[i % out]);
}

vd_status vd_cpu_conv2d(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                        const vd_weight *bias, const vd_tensor *add, const vd_tensor *residual,
                        const vd_conv2d_desc *desc) {
    conv_job job = {.desc = desc,
                    .src = src,
                    .dst = dst,
                    .residual = residual,
                    .kernels = vd_cpu(x)->kernels,
                    .be = x->be,
                    .w = vd_cpu_weight_of(w),
                    .bias = bias == NULL ? NULL : vd_cpu_vector(bias),
                    .runs = 1};
    void *sum = NULL;
    vd_cpu_taps taps = {0};
    bool strips = false;
    vd_status st;
    if (desc->map != NULL) {
        VD_TRY(vd_cpu_taps_init(&taps, x, dst, src, desc));
        job.taps = &taps;
    }
    if (add != NULL) {
        VD_TRY(vd_exec_scratch(x, vd_tensor_bytes(add), &sum));
        if (!x->dry)
            add_rows(sum, add, bias);
        job.bias = sum;
        job.runs = add->dim[0];
    }
    const vd_cpu_tiled tiled = {.dst = dst,
                                .src = src,
                                .residual = residual,
                                .w = job.w,
                                .bias = job.bias,
                                .runs = job.runs,
                                .act = desc->act,
                                .conv = desc,
                                .taps = job.taps};
    if (vd_cpu_tiled_takes(x, &tiled)) {
        st = vd_cpu_tiled_run(x, &tiled);
        goto done;
    }
    if (w->kernel_w > 1 && src->dtype == w->dtype &&
        (dst->dtype == VD_F32 || dst->dtype == w->dtype) &&
        (job.taps != NULL || padding_is_usual(&job))) {
        choose_strips(&job);
        VD_TRY(plan_strips(&job, &strips));
    }
    st = strips ? run_strips(x, &job) : run_gathered(x, &job, dst);
done:
    vd_exec_scratch_free(x, sum);
    vd_exec_scratch_free(x, taps.sample);
    return st;
}

/* Products. One call of cuBLASLt where what follows is a bias and a residual of the result's dtype;
 * else chunks of rows in float32, which stay in the L2 cache until our own kernel has finished
 * them. cuBLASLt's own GELU is the approximation with tanh, so it is not used. */
#include "backend/cuda/gemm.h"

#include "backend/cuda/kernels.h"
#include "backend/cuda/offload.h"

enum {
    CHUNK_BYTES = 24 * 1024 * 1024, /* float32 results or gathered rows of a chunk */
    CHUNK_GRAIN = 128,              /* rows */
};

typedef struct product_job {
    const vd_cuda_product *p;
    bool direct;   /* nothing is left to do after cuBLASLt */
    bool convert;  /* a is converted or gathered to scratch */
    const void *w; /* device */
    int64_t chunk_rows;
    size_t a_bytes, result_bytes, workspace_bytes;
    unsigned char *scratch;
} product_job;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static const unsigned char *row_at(const void *data, vd_dtype dtype, int64_t width, int64_t row) {
    return (const unsigned char *)data + (size_t)(row * width) * vd_dtype_bytes(dtype);
}

/* What all of these are multiples of, at most what any address in the arena is for certain. */
static int align_of(uintptr_t bits) {
    int align = VD_ARENA_ALIGN_BYTES;
    while (bits % (uintptr_t)align != 0)
        align /= 2;
    return align;
}

static product_job job_of(const vd_cuda_product *p) {
    const vd_dtype dst = p->dst->dtype, w = p->w->dtype;
    product_job job = {.p = p, .chunk_rows = p->rows};
    job.direct = p->act == VD_ACT_NONE && !p->has_rows && (dst == w || dst == VD_F32) &&
                 (p->residual == NULL || p->residual->dtype == dst);
    job.convert = p->gather != NULL || p->a_dtype != w;
    const int64_t a_row = p->k * (int64_t)vd_dtype_bytes(w);
    const int64_t result_row = p->w->out * (int64_t)sizeof(float);
    int64_t widest = job.convert ? a_row : 0;
    if (!job.direct && result_row > widest)
        widest = result_row;
    if (widest == 0)
        return job;
    const int64_t rows = CHUNK_BYTES / widest / CHUNK_GRAIN * CHUNK_GRAIN;
    job.chunk_rows = smaller(p->rows, rows < CHUNK_GRAIN ? CHUNK_GRAIN : rows);
    if (job.convert)
        job.a_bytes = vd_cuda_aligned((size_t)(job.chunk_rows * a_row));
    if (!job.direct)
        job.result_bytes = vd_cuda_aligned((size_t)(job.chunk_rows * result_row));
    return job;
}

static vd_status plan_of(vd_exec *x, const product_job *job, int64_t rows, vd_blas_plan **out) {
    const vd_cuda_product *p = job->p;
    const size_t size = vd_dtype_bytes(p->w->dtype);
    uintptr_t bits = 0;
    if (!job->convert)
        bits |= (uintptr_t)p->a | (uintptr_t)(job->chunk_rows * p->k) * size;
    if (job->direct)
        bits |= (uintptr_t)p->dst->data |
                (uintptr_t)(job->chunk_rows * p->w->out) * vd_dtype_bytes(p->dst->dtype);
    if (job->direct && p->residual != NULL)
        bits |= (uintptr_t)p->residual->data;
    const vd_blas_product key = {.rows = rows,
                                 .out = p->w->out,
                                 .k = p->k,
                                 .dtype = p->w->dtype,
                                 .d_dtype = job->direct ? p->dst->dtype : VD_F32,
                                 .bias = job->direct && p->bias != NULL,
                                 .residual = job->direct && p->residual != NULL,
                                 .align_bytes = align_of(bits)};
    return vd_blas_plan_product(vd_cuda(x)->blas, &key, out);
}

static vd_status make_plans(vd_exec *x, product_job *job) {
    const int64_t last = job->p->rows % job->chunk_rows;
    vd_status st = VD_OK;
    for (int i = 0; i < 2; i++) {
        const int64_t rows = i == 0 ? job->chunk_rows : last;
        vd_blas_plan *plan;
        const void *bias;
        if (rows == 0)
            continue;
        VD_TRY(plan_of(x, job, rows, &plan));
        if (vd_blas_workspace_bytes(plan) > job->workspace_bytes)
            job->workspace_bytes = vd_blas_workspace_bytes(plan);
        if (job->direct && job->p->bias != NULL)
            VD_TRY(vd_cuda_round_vector(x->be, job->p->bias, job->p->dst->dtype, &bias));
    }
done:
    return st;
}

static vd_status take_rows(vd_exec *x, const product_job *job, int64_t first, int64_t count,
                           const void **a) {
    const vd_cuda_product *p = job->p;
    const cudaStream_t stream = vd_cuda(x)->stream;
    *a = job->convert ? job->scratch : row_at(p->a, p->a_dtype, p->k, first);
    if (!job->convert)
        return VD_OK;
    return vd_cuda_status(p->gather != NULL
                              ? p->gather(stream, p->user, first, count, job->scratch)
                              : vd_launch_activate(stream, job->scratch, p->w->dtype,
                                                   row_at(p->a, p->a_dtype, p->k, first),
                                                   p->a_dtype, VD_ACT_NONE, count * p->k),
                          "in a product");
}

static vd_status finish_rows(vd_exec *x, const product_job *job, int64_t first, int64_t count) {
    const vd_cuda_product *p = job->p;
    const int64_t columns = p->act == VD_ACT_GEGLU ? p->w->out / 2 : p->w->out;
    const vd_tensor *r = p->residual;
    const vd_cuda_finish finish = {.dst = (unsigned char *)p->dst->data +
                                          (size_t)(first * columns) * vd_dtype_bytes(p->dst->dtype),
                                   .dst_dtype = p->dst->dtype,
                                   .src = job->scratch + job->a_bytes,
                                   .src_dtype = VD_F32,
                                   .residual =
                                       r == NULL ? NULL : row_at(r->data, r->dtype, columns, first),
                                   .residual_dtype = r == NULL ? VD_F32 : r->dtype,
                                   .bias = p->has_rows ? p->bias_rows : vd_cuda_vector(p->bias),
                                   .rows = count,
                                   .columns = columns,
                                   .first_row = first,
                                   .run_rows = p->has_rows ? p->rows / p->runs : p->rows,
                                   .act = p->act};
    return vd_cuda_status(vd_launch_finish(vd_cuda(x)->stream, &finish), "behind a product");
}

static vd_status run_chunk(vd_exec *x, const product_job *job, int64_t first, int64_t count) {
    const vd_cuda_product *p = job->p;
    const vd_tensor *r = p->residual;
    vd_blas_args args = {.w = job->w, .workspace = job->scratch + job->a_bytes + job->result_bytes};
    vd_blas_plan *plan;
    vd_status st;
    VD_TRY(plan_of(x, job, count, &plan));
    VD_TRY(take_rows(x, job, first, count, &args.a));
    args.d = job->scratch + job->a_bytes;
    if (job->direct) {
        args.d = (unsigned char *)p->dst->data +
                 (size_t)(first * p->w->out) * vd_dtype_bytes(p->dst->dtype);
        if (r != NULL)
            args.c = row_at(r->data, r->dtype, p->w->out, first);
        if (p->bias != NULL)
            VD_TRY(vd_cuda_round_vector(x->be, p->bias, p->dst->dtype, &args.bias));
    }
    VD_TRY(vd_blas_run(vd_cuda(x)->blas, plan, &args));
    if (!job->direct)
        VD_TRY(finish_rows(x, job, first, count));
done:
    return st;
}

vd_status vd_cuda_product_run(vd_exec *x, const vd_cuda_product *p) {
    product_job job = job_of(p);
    void *scratch = NULL;
    vd_status st;
    VD_TRY(make_plans(x, &job));
    VD_TRY(vd_cuda_scratch(x, job.a_bytes + job.result_bytes + job.workspace_bytes, &scratch,
                           &job.scratch));
    VD_TRY(vd_cuda_weight_acquire(x->be, p->w, &job.w));
    for (int64_t first = 0; first < p->rows && !x->dry; first += job.chunk_rows)
        VD_TRY(run_chunk(x, &job, first, smaller(job.chunk_rows, p->rows - first)));
    VD_TRY(vd_cuda_weight_release(x->be, p->w));
done:
    vd_exec_scratch_free(x, scratch);
    return st;
}

vd_status vd_cuda_linear(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                         const vd_weight *bias, const vd_tensor *residual, vd_activation act) {
    const vd_cuda_product p = {.dst = dst,
                               .residual = residual,
                               .w = w,
                               .rows = vd_tensor_elements(src) / w->in,
                               .k = w->in,
                               .bias = bias,
                               .act = act,
                               .a = src->data,
                               .a_dtype = src->dtype};
    return vd_cuda_product_run(x, &p);
}

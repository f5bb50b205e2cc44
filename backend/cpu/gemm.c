#include "backend/cpu/gemm.h"

#include <stdio.h>

#include "backend/cpu/tiled.h"

enum {
    ALIGN_BYTES = 64,
    MOST_ROWS = 256, /* of a chunk */
    FEWEST_ROWS = 32,
    RESULT_BYTES = 512 * 1024,  /* float32 results of a chunk: half of a usual L2 cache */
    GATHER_BYTES = 1024 * 1024, /* rows gathered for a chunk */
    ENOUGH_TASKS = 64,          /* below this, chunks become smaller */
    PIECE = 512,                /* elements finished at a time */
};

typedef struct product_job {
    const vd_cpu_product *p;
    const vd_cpu_kernels *kernels;
    vd_cpu_panels cut;
    int64_t run_rows, chunk_rows, chunks_per_run;
    int groups;               /* of panels that are finished together, in separate tasks */
    bool in_result;           /* the product goes to dst itself... */
    bool finished;            /* ...and nothing is left to do there */
    bool convert;             /* a is converted first */
    vd_dnnl_plan *plan[2][2]; /* [last chunk of a run][last panel of a section] */
    size_t scratch_bytes, a_bytes, result_bytes;
    unsigned char *scratch;
} product_job;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

void vd_cpu_finish(const vd_cpu_kernels *kernels, float *results, int64_t count, vd_activation act,
                   const vd_tensor *residual, const vd_tensor *dst, int64_t at) {
    float other[PIECE];
    for (int64_t i = 0; i < count; i += PIECE) {
        float *r = results + i;
        const size_t n = (size_t)smaller(PIECE, count - i);
        if (act != VD_ACT_NONE)
            kernels->activate(r, act, n);
        if (residual != NULL) {
            kernels->load(other, vd_cpu_at(residual, at + i), residual->dtype, n);
            for (size_t j = 0; j < n; j++)
                r[j] += other[j];
        }
        void *to = vd_cpu_at(dst, at + i);
        if (to != (void *)r)
            kernels->store(to, dst->dtype, r, n);
    }
}

/* ---- one chunk ------------------------------------------------------------------------------ */

static const void *chunk_a(const product_job *job, int64_t row, int64_t rows, unsigned char *to) {
    const vd_cpu_product *p = job->p;
    const size_t count = (size_t)(rows * p->w->k);
    if (p->gather != NULL) {
        p->gather(p->user, row, rows, to);
        return to;
    }
    const unsigned char *a =
        (const unsigned char *)p->a + (size_t)(row * p->w->k) * vd_dtype_bytes(p->a_dtype);
    if (!job->convert)
        return a;
    if (p->a_dtype == VD_F32)
        job->kernels->store(to, p->w->head.dtype, (const float *)(const void *)a, count);
    else
        job->kernels->load((float *)(void *)to, a, p->a_dtype, count);
    return to;
}

static void finish_geglu(const product_job *job, float *results, const float *gates, int64_t row,
                         int64_t rows, int64_t ld, int64_t first, int64_t width) {
    const vd_cpu_product *p = job->p;
    const int64_t columns = p->w->head.out / 2;
    for (int64_t r = 0; r < rows; r++) {
        float *a = results + r * ld;
        job->kernels->geglu(a, a, gates + r * ld, (size_t)width);
        vd_cpu_finish(job->kernels, a, width, VD_ACT_NONE, p->residual, p->dst,
                      (row + r) * columns + first);
    }
}

static void finish_panel(const product_job *job, float *results, int64_t row, int64_t rows,
                         int64_t first, int64_t width) {
    const vd_cpu_product *p = job->p;
    if (width == p->w->head.out) {
        vd_cpu_finish(job->kernels, results, rows * width, p->act, p->residual, p->dst,
                      row * width);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        vd_cpu_finish(job->kernels, results + r * width, width, p->act, p->residual, p->dst,
                      (row + r) * p->w->head.out + first);
}

static int run_panel(const product_job *job, int thread, vd_dnnl_args *args, int panel, int64_t run,
                     bool last_chunk, void *to) {
    const vd_cpu_product *p = job->p;
    int64_t width;
    const int64_t first = vd_cpu_panel_first(&job->cut, panel, &width);
    args->panel = p->w->panel[panel];
    args->bias = p->bias == NULL ? NULL : p->bias + run * p->w->head.out + first;
    args->c = to;
    return vd_dnnl_run(job->plan[last_chunk][width != job->cut.width], thread, args);
}

static int product_task(void *user, int64_t task, int thread) {
    const product_job *job = user;
    const vd_cpu_product *p = job->p;
    const int group = (int)(task % job->groups);
    const int64_t chunk = task / job->groups;
    const int64_t run = chunk / job->chunks_per_run;
    const int64_t in_run = chunk % job->chunks_per_run * job->chunk_rows;
    const int64_t rows = smaller(job->chunk_rows, job->run_rows - in_run);
    const bool last = rows != job->chunk_rows;
    const int64_t row = run * job->run_rows + in_run;

    unsigned char *scratch =
        job->scratch + (size_t)thread * (job->scratch_bytes + job->a_bytes + job->result_bytes);
    unsigned char *a = scratch + job->scratch_bytes;
    vd_dnnl_args args = {.a = chunk_a(job, row, rows, a), .scratch = scratch};

    int64_t width;
    const int64_t first = vd_cpu_panel_first(&job->cut, group, &width);
    void *to = job->in_result ? vd_cpu_at(p->dst, row * p->w->head.out) : a + job->a_bytes;
    float *results = to;
    int rc = run_panel(job, thread, &args, group, run, last, to);
    if (rc != 0 || job->finished)
        return rc;
    if (p->act != VD_ACT_GEGLU) {
        finish_panel(job, results, row, rows, first, width);
        return 0;
    }
    if (job->cut.count == 1) {
        finish_geglu(job, results, results + width / 2, row, rows, width, 0, width / 2);
        return 0;
    }
    float *gates = results + rows * width;
    rc = run_panel(job, thread, &args, group + job->groups, run, last, gates);
    if (rc == 0)
        finish_geglu(job, results, gates, row, rows, width, first, width);
    return rc;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void choose_rows(product_job *job) {
    const vd_cpu_product *p = job->p;
    const int64_t width = job->cut.width * (p->act == VD_ACT_GEGLU && job->cut.count > 1 ? 2 : 1);
    const int64_t row_bytes = p->w->k * (int64_t)vd_dtype_bytes(p->w->head.dtype);
    const bool gathers = p->gather != NULL || job->convert;
    int64_t rows = MOST_ROWS;
    while (rows > FEWEST_ROWS &&
           (rows * width * (int64_t)sizeof(float) > RESULT_BYTES ||
            (gathers && rows * row_bytes > GATHER_BYTES) ||
            (job->run_rows + rows - 1) / rows * p->runs * job->groups < ENOUGH_TASKS))
        rows /= 2;
    job->chunk_rows = smaller(rows, job->run_rows);
    job->chunks_per_run = (job->run_rows + job->chunk_rows - 1) / job->chunk_rows;
    job->a_bytes = gathers ? aligned((size_t)(job->chunk_rows * row_bytes)) : 0;
    job->result_bytes =
        job->in_result ? 0 : aligned((size_t)(job->chunk_rows * width) * sizeof(float));
}

static vd_status make_plans(vd_cpu_dnnl *d, product_job *job) {
    const vd_cpu_product *p = job->p;
    int64_t last_width;
    vd_cpu_panel_first(&job->cut, job->cut.per_section - 1, &last_width);
    const int64_t rows[2] = {job->chunk_rows, job->run_rows % job->chunk_rows};
    const int64_t width[2] = {job->cut.width, last_width == job->cut.width ? 0 : last_width};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            if (rows[i] == 0 || width[j] == 0)
                continue;
            const vd_dnnl_matmul key = {.m = rows[i],
                                        .n = width[j],
                                        .k = p->w->k,
                                        .lda = p->w->k,
                                        .ldc = width[j],
                                        .dtype = p->w->head.dtype,
                                        .c_dtype = job->in_result ? p->dst->dtype : VD_F32,
                                        .bias = p->bias != NULL};
            vd_status st = vd_dnnl_plan_matmul(d, &key, &job->plan[i][j]);
            if (st != VD_OK)
                return st;
            const size_t bytes = aligned(vd_dnnl_plan_scratch_bytes(job->plan[i][j]));
            if (bytes > job->scratch_bytes)
                job->scratch_bytes = bytes;
        }
    return VD_OK;
}

/* The product may go straight to dst where that is dense and nobody reads dst meanwhile. */
static void choose_result(product_job *job) {
    const vd_cpu_product *p = job->p;
    const bool dense = job->cut.count == 1 && p->act != VD_ACT_GEGLU;
    const bool free = p->residual == NULL || p->residual->data != p->dst->data;
    job->finished = dense && p->act == VD_ACT_NONE && p->residual == NULL &&
                    (p->dst->dtype == VD_F32 || p->dst->dtype == p->w->head.dtype);
    job->in_result = job->finished || (dense && free && p->dst->dtype == VD_F32);
}

vd_status vd_cpu_product_run(vd_exec *x, const vd_cpu_product *p) {
    const vd_cpu_device *cpu = vd_cpu(x);
    product_job job = {.p = p,
                       .kernels = cpu->kernels,
                       .cut = vd_cpu_panels_of(p->w->head.out),
                       .run_rows = p->rows / p->runs,
                       .convert = p->gather == NULL && p->a_dtype != p->w->head.dtype};
    job.groups = p->act == VD_ACT_GEGLU && job.cut.count > 1 ? job.cut.count / 2 : job.cut.count;
    choose_result(&job);
    choose_rows(&job);
    const int64_t tasks = p->runs * job.chunks_per_run * job.groups;
    void *scratch = NULL;
    int rc = 0;
    vd_status st;
    VD_TRY(vd_cpu_pack_matrix(x->be, p->w));
    VD_TRY(make_plans(cpu->dnnl, &job));
    const size_t each = job.scratch_bytes + job.a_bytes + job.result_bytes;
    VD_TRY(vd_exec_scratch(x, each * (size_t)smaller(tasks, x->be->threads), &scratch));
    job.scratch = scratch;
    if (!x->dry)
        rc = vd_cpu_parallel(vd_cpu(x)->pool, tasks, product_task, &job);
    vd_exec_scratch_free(x, scratch);
    st = vd_dnnl_status(rc, p->name);
done:
    return st;
}

vd_status vd_cpu_linear(vd_exec *x, vd_tensor *dst, const vd_tensor *src, const vd_weight *w,
                        const vd_weight *bias, const vd_tensor *residual, vd_activation act) {
    const vd_cpu_tiled tiled = {.dst = dst,
                                .src = src,
                                .residual = residual,
                                .w = vd_cpu_weight_of(w),
                                .bias = bias == NULL ? NULL : vd_cpu_vector(bias),
                                .runs = 1,
                                .act = act};
    if (vd_cpu_tiled_takes(x, &tiled))
        return vd_cpu_tiled_run(x, &tiled);
    const vd_cpu_product p = {.dst = dst,
                              .residual = residual,
                              .w = vd_cpu_weight_of(w),
                              .rows = vd_tensor_elements(src) / w->in,
                              .bias = bias == NULL ? NULL : vd_cpu_vector(bias),
                              .runs = 1,
                              .act = act,
                              .a = src->data,
                              .a_dtype = src->dtype,
                              .name = "in a linear layer"};
    return vd_cpu_product_run(x, &p);
}

#include <string.h>

#include "backend/cpu/gemm.h"
#include "backend/cpu/tiled_impl.h"

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* How many of `size` hold `count`: at least one. */
static int64_t parts(int64_t count, int64_t size) {
    return larger(1, (count + size - 1) / larger(1, size));
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* ---- spans ---------------------------------------------------------------------------------- */

static void add_spans(chunk *c, ptrdiff_t a, ptrdiff_t b, int64_t depth) {
    const int64_t count = parts(depth, SPAN), most = parts(depth, count);
    for (int64_t k = 0; k < depth; k += most)
        c->span[c->spans++] = (vd_amx_span){.a = a + k * c->rows.step,
                                            .b = b + k * VD_AMX_STEP_BYTES,
                                            .depth = smaller(most, depth - k)};
}

static void list_spans(const tiled_job *job, chunk *c, const slab *s) {
    const int64_t kernel_w = job->p->w->head.kernel_w;
    c->spans = 0;
    if (job->layout == GATHERED) {
        add_spans(c, 0, (s->tap * job->depth + s->first) * VD_AMX_STEP_BYTES, s->depth);
        return;
    }
    const ptrdiff_t pitch = vd_tiled_pitch(s->depth);
    for (int64_t tap = 0; tap < job->taps; tap++) {
        const int64_t pixel = tap / kernel_w * job->tap_lines * job->copy_columns +
                              tap % kernel_w * job->conv.dilation_w;
        const ptrdiff_t a =
            job->layout == MIXED ? tap * vd_tiled_plane(job, s->depth) : pixel * pitch;
        add_spans(c, a, (tap * job->depth + s->first) * VD_AMX_STEP_BYTES, s->depth);
    }
}

static void lay_tiles(const tiled_job *job, chunk *c, const slab *s) {
    c->rows.a = c->copy;
    c->rows.tile = c->tile;
    const ptrdiff_t pitch = vd_tiled_pitch(s->depth);
    if (job->layout != WINDOW) {
        const bool mixed = job->layout == MIXED;
        c->rows.tiles = parts(c->count, VD_AMX_ROWS);
        c->rows.row = mixed ? pitch : LINE;
        c->rows.step = mixed ? LINE : VD_AMX_TILE_BYTES;
        for (int64_t i = 0; i < c->rows.tiles; i++)
            c->tile[i] = i * (mixed ? VD_AMX_ROWS * pitch : s->depth * VD_AMX_TILE_BYTES);
        return;
    }
    c->rows.tiles = 0;
    c->rows.row = pitch * job->conv.stride_w;
    c->rows.step = LINE;
    for (int64_t y = 0; y < c->lines; y++)
        for (int64_t x = 0; x < c->columns; x += VD_AMX_ROWS)
            c->tile[c->rows.tiles++] =
                (y * job->conv.stride_h * job->copy_columns + x * job->conv.stride_w) * pitch;
}

/* ---- sums ----------------------------------------------------------------------------------- */

/* Finishes `count` positions of one unit; they follow each other in dst from `position` on. */
static void finish_run(const tiled_job *job, const chunk *c, const float *sums, int64_t unit,
                       int64_t position, int64_t count) {
    const vd_cpu_tiled *p = job->p;
    const int64_t out = job->dst_dim[3], first = unit * VD_AMX_COLUMNS;
    const int64_t at = position * out + first;
    const float *bias = p->bias == NULL ? NULL : p->bias + c->run * p->w->head.out + first;
    vd_cpu_finish_desc f = {.bias = bias, .act = p->act, .dst_dtype = p->dst->dtype};
    if (p->residual != NULL) {
        f.residual = vd_cpu_at(p->residual, at);
        f.residual_dtype = p->residual->dtype;
    }
    if (p->act == VD_ACT_GEGLU) {
        f.gates = sums + job->sum_bytes / sizeof(float);
        f.gate_bias = bias == NULL ? NULL : bias + out;
    }
    job->kernels->finish(vd_cpu_at(p->dst, at), (size_t)out, sums, VD_AMX_COLUMNS, (size_t)count,
                         (size_t)smaller(VD_AMX_COLUMNS, out - first), &f);
}

static void finish_unit(const tiled_job *job, const chunk *c, const float *sums, int64_t unit) {
    if (job->layout != WINDOW) {
        finish_run(job, c, sums, unit, c->first, c->count);
        return;
    }
    const int64_t *dim = job->dst_dim;
    const int64_t padded = parts(c->columns, VD_AMX_ROWS) * VD_AMX_ROWS;
    for (int64_t y = 0; y < c->lines; y++)
        finish_run(job, c, sums + y * padded * VD_AMX_COLUMNS, unit,
                   (c->image * dim[1] + c->y + y) * dim[2] + c->x, c->columns);
}

static void sum_units(const tiled_job *job, chunk *c, int64_t first, int64_t last, bool add,
                      bool finishes) {
    const size_t block_bytes = (size_t)(job->taps * job->depth) * VD_AMX_STEP_BYTES;
    const size_t unit_floats = (size_t)job->blocks_per_unit * job->sum_bytes / sizeof(float);
    for (int64_t unit = first; unit < last; unit++) {
        float *sums = c->sums + (job->keeps_sums ? (size_t)(unit - first) * unit_floats : 0);
        for (int b = 0; b < job->blocks_per_unit; b++)
            vd_amx_block(sums + (size_t)b * job->sum_bytes / sizeof(float), &c->rows,
                         job->p->w->tiles + (size_t)(unit + b * job->units) * block_bytes, c->span,
                         c->spans, add);
        if (finishes)
            finish_unit(job, c, sums, unit);
    }
}

static void place(const tiled_job *job, int64_t index, chunk *c) {
    if (job->layout != WINDOW) {
        const int64_t run = index / job->chunks_per_run, in_run = index % job->chunks_per_run;
        const int64_t all = job->dst_dim[0] * job->dst_dim[1] * job->dst_dim[2] / job->p->runs;
        c->run = run;
        c->first = run * all + in_run * job->positions;
        c->count = smaller(job->positions, all - in_run * job->positions);
        return;
    }
    c->image = index / (job->chunks_down * job->chunks_across);
    c->y = index / job->chunks_across % job->chunks_down * job->lines;
    c->x = index % job->chunks_across * job->columns;
    c->lines = smaller(job->lines, job->dst_dim[1] - c->y);
    c->columns = smaller(job->columns, job->dst_dim[2] - c->x);
    c->run = c->image / (job->dst_dim[0] / job->p->runs);
}

static int64_t slabs_of(const tiled_job *job) {
    return job->slabs_per_tap * (job->layout == GATHERED ? job->taps : 1);
}

static int tiled_task(void *user, int64_t task, int thread) {
    const tiled_job *job = user;
    const int64_t first = task % job->groups * job->units_per_task;
    const int64_t last = smaller(first + job->units_per_task, job->units);
    const int64_t slabs = slabs_of(job);
    chunk c = {.copy = job->scratch + (size_t)thread * job->thread_bytes};
    c.sums = (float *)(void *)(c.copy + job->copy_bytes);
    place(job, task / job->groups, &c);
    vd_amx_begin();
    for (int64_t i = 0; i < slabs; i++) {
        slab s = {.tap = i / job->slabs_per_tap, .first = i % job->slabs_per_tap * job->slab_depth};
        s.depth = smaller(job->slab_depth, job->depth - s.first);
        lay_tiles(job, &c, &s);
        list_spans(job, &c, &s);
        vd_tiled_copy(job, &c, &s);
        sum_units(job, &c, first, last, i > 0, i + 1 == slabs);
    }
    vd_amx_end();
    return 0;
}

/* ---- the cut -------------------------------------------------------------------------------- */

static void cut_window(tiled_job *job, int64_t positions) {
    const vd_weight *w = &job->p->w->head;
    const vd_conv2d_desc *d = &job->conv;
    const int64_t width = parts(job->dst_dim[2], VD_AMX_ROWS) * VD_AMX_ROWS;
    const int64_t beside = w->kernel_w > 1 ? WINDOW_COLUMNS : VD_AMX_ROWS;
    const int64_t narrow = larger(VD_AMX_ROWS, smaller(width, beside));
    job->lines = larger(1, smaller(job->dst_dim[1], positions / narrow));
    /* A low image leaves room for longer lines. */
    const int64_t room = positions / job->lines / VD_AMX_ROWS * VD_AMX_ROWS;
    job->columns = larger(narrow, smaller(width, room));
    job->chunks_down = parts(job->dst_dim[1], job->lines);
    job->chunks_across = parts(job->dst_dim[2], job->columns);
    job->chunks = job->dst_dim[0] * job->chunks_down * job->chunks_across;

    const int64_t reach = (job->lines - 1) * d->stride_h + 1; /* lines that one kernel row reads */
    job->tap_lines = d->dilation_h <= reach ? d->dilation_h : reach;
    job->copy_lines = (w->kernel_h - 1) * job->tap_lines + reach;
    job->copy_columns =
        (job->columns - 1) * d->stride_w + 1 + (int64_t)(w->kernel_w - 1) * d->dilation_w;
    const int64_t pixels = job->copy_lines * job->copy_columns;
    if (positions == POSITIONS) { /* K is summed in one order, whatever the number of threads */
        const int64_t most =
            larger(1, smaller(COPY_BYTES / (pixels * LINE), SPAN * (SPAN_ROOM / job->taps)));
        job->slabs_per_tap = parts(job->depth, most);
        job->slab_depth = parts(job->depth, job->slabs_per_tap);
    }
    job->copy_bytes = aligned((size_t)(pixels * vd_tiled_pitch(job->slab_depth)));
    job->sum_bytes = (size_t)(job->lines * job->columns * VD_AMX_COLUMNS) * sizeof(float);
}

static void cut_rows(tiled_job *job, int64_t positions) {
    const int64_t all = job->dst_dim[0] * job->dst_dim[1] * job->dst_dim[2] / job->p->runs;
    job->positions = smaller(positions, all);
    job->chunks_per_run = parts(all, job->positions);
    job->chunks = job->p->runs * job->chunks_per_run;
    const int64_t tiles = parts(job->positions, VD_AMX_ROWS);
    const bool mixed = job->layout == MIXED;
    const int64_t most = mixed ? MIXED_DEPTH : COPY_BYTES / (POSITIONS * LINE);
    job->slabs_per_tap = parts(job->depth, most);
    job->slab_depth = parts(job->depth, job->slabs_per_tap);
    job->copy_bytes = aligned(mixed ? (size_t)(job->taps * vd_tiled_plane(job, job->slab_depth))
                                    : (size_t)(tiles * job->slab_depth) * VD_AMX_TILE_BYTES);
    job->sum_bytes = (size_t)(tiles * VD_AMX_ROWS * VD_AMX_COLUMNS) * sizeof(float);
}

static void cut(tiled_job *job, int threads) {
    const int64_t wanted = (int64_t)TASKS_A_THREAD * threads;
    for (int64_t positions = POSITIONS; positions >= FEWEST_POSITIONS; positions /= 2) {
        if (job->layout == WINDOW)
            cut_window(job, positions);
        else
            cut_rows(job, positions);
        if (job->chunks >= wanted)
            break;
    }
    const int64_t slabs = slabs_of(job);
    job->keeps_sums = slabs > 1;
    job->groups = smaller(job->units, parts(wanted, job->chunks));
    if (job->keeps_sums)
        job->groups =
            larger(job->groups, parts(job->units * job->blocks_per_unit,
                                      job->layout == MIXED ? MIXED_BLOCKS : SUMMED_BLOCKS));
    job->units_per_task = parts(job->units, job->groups);
    job->groups = parts(job->units, job->units_per_task);
    const size_t sums = job->sum_bytes * (size_t)job->blocks_per_unit *
                        (size_t)(job->keeps_sums ? job->units_per_task : 1);
    job->thread_bytes = job->copy_bytes + aligned(sums);
}

static void describe(tiled_job *job, const vd_cpu_tiled *p) {
    const vd_weight *w = &p->w->head;
    *job = (tiled_job){.p = p, .taps = (int64_t)w->kernel_h * w->kernel_w};
    job->depth = parts(w->in, VD_AMX_DEPTH);
    job->blocks_per_unit = p->act == VD_ACT_GEGLU ? 2 : 1;
    job->units = parts(w->out / job->blocks_per_unit, VD_AMX_COLUMNS);
    if (p->conv != NULL) {
        job->conv = *p->conv;
        memcpy(job->src_dim, p->src->dim, sizeof job->src_dim);
        memcpy(job->dst_dim, p->dst->dim, sizeof job->dst_dim);
    } else {
        const int64_t rows = vd_tensor_elements(p->src) / w->in;
        job->conv = (vd_conv2d_desc){
            .stride_h = 1, .stride_w = 1, .dilation_h = 1, .dilation_w = 1, .act = p->act};
        job->src_dim[0] = job->src_dim[1] = job->dst_dim[0] = job->dst_dim[1] = 1;
        job->src_dim[2] = job->dst_dim[2] = rows;
        job->src_dim[3] = w->in;
        job->dst_dim[3] = w->out / job->blocks_per_unit;
    }
    /* Lines that fill their tiles share a window; one tap has nothing to share. */
    const int64_t width = job->dst_dim[2];
    if (p->taps != NULL)
        job->layout = MIXED;
    else if (job->taps > 1 && job->taps <= SPAN_ROOM / 4 &&
             parts(width, VD_AMX_ROWS) * VD_AMX_ROWS * 4 <= width * 5)
        job->layout = WINDOW;
}

bool vd_cpu_tiled_takes(const vd_exec *x, const vd_cpu_tiled *p) {
    const bool paired = p->act != VD_ACT_GEGLU || p->w->head.out % BLOCK_PAIR == 0;
    return paired && vd_cpu_wants_tiles(x->be, &p->w->head);
}

vd_status vd_cpu_tiled_run(vd_exec *x, const vd_cpu_tiled *p) {
    tiled_job job;
    void *scratch = NULL;
    vd_status st;
    describe(&job, p);
    job.kernels = vd_cpu(x)->kernels;
    cut(&job, x->be->threads);
    const int64_t tasks = job.chunks * job.groups;
    VD_TRY(vd_cpu_pack_tiles(x->be, p->w));
    VD_TRY(vd_exec_scratch(x, job.thread_bytes * (size_t)smaller(tasks, x->be->threads), &scratch));
    job.scratch = scratch;
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, tasks, tiled_task, &job);
    vd_exec_scratch_free(x, scratch);
done:
    return st;
}

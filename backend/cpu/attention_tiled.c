#include "backend/cpu/attention_tiled.h"

#include <math.h>
#include <string.h>

#include "backend/cpu/amx.h"

enum {
    COLUMNS = VD_AMX_COLUMNS, /* queries that are summed at once */
    MOST_GROUPS = 64,   /* of COLUMNS queries in a task: they share what is packed of k and v */
    TASKS_A_THREAD = 4, /* wanted at least */
    KEYS = 256,         /* of a block */
    MOST_DIM = 512,     /* of a head */
    DIM_TILES = MOST_DIM / VD_AMX_ROWS + 1,
    BF16_BYTES = 2,
    BF16_ONE = 0x3F80,
    LINE = 64,
    AHEAD = 2 * VD_AMX_ROWS, /* rows */
    ALIGN_BYTES = VD_ARENA_ALIGN_BYTES,
};

typedef struct tiled_attention {
    const vd_cpu_kernels *kernels;
    const vd_attention_desc *d;
    const unsigned char *q, *k, *v;
    unsigned char *out;
    int64_t depth;     /* tiles of K in a head */
    int64_t dim_tiles; /* tiles of rows of out, the last of which adds the weights up */
    int64_t groups;    /* of a task */
    int64_t blocks;    /* tasks of a head */
    size_t thread_bytes;
    unsigned char *scratch;
} tiled_attention;

typedef struct workspace {
    unsigned char *q;       /* [groups] of a block of B: dim by COLUMNS */
    unsigned char *k;       /* tiles of A: [keys / 16, depth] */
    unsigned char *v;       /* [dim, KEYS], and below it a row of ones */
    unsigned char *weights; /* a block of B: keys by COLUMNS */
    float *scores;          /* [2 * 16, COLUMNS] */
    float *out;             /* [groups, dim, COLUMNS], and below it the sums of weights */
    float *base;            /* [groups, COLUMNS] */
} workspace;

/* The head and the queries of a task. */
typedef struct task {
    const unsigned char *q, *k, *v;
    unsigned char *out;
    int64_t queries, groups;
} task;

static int64_t parts(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void *take(unsigned char *base, size_t *used, int64_t bytes) {
    void *part = base == NULL ? NULL : base + *used;
    *used += ((size_t)bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    return part;
}

/* Returns the bytes; with base NULL that is all it does. */
static size_t lay_out(const tiled_attention *job, unsigned char *base, workspace *ws) {
    const int64_t row = COLUMNS * (int64_t)sizeof(float), dim = job->dim_tiles * VD_AMX_ROWS;
    size_t used = 0;
    ws->q = take(base, &used, job->groups * job->depth * VD_AMX_STEP_BYTES);
    ws->k = take(base, &used, KEYS / VD_AMX_ROWS * job->depth * VD_AMX_TILE_BYTES);
    ws->v = take(base, &used, dim * KEYS * BF16_BYTES);
    ws->weights = take(base, &used, (int64_t)KEYS / VD_AMX_DEPTH * VD_AMX_STEP_BYTES);
    ws->scores = take(base, &used, (int64_t)2 * VD_AMX_ROWS * row);
    ws->out = take(base, &used, job->groups * dim * row);
    ws->base = take(base, &used, job->groups * row);
    return used;
}

/* ---- packing -------------------------------------------------------------------------------- */

/* Rows of heads lie a token apart, where no prefetcher looks for them. */
static void bring(const unsigned char *row, int64_t dim) {
    for (int64_t e = 0; e < dim; e += LINE / BF16_BYTES)
        __builtin_prefetch(row + e * BF16_BYTES, 0, 2);
}

/* Queries become columns: pairs of values beside each other, so what is transposed is pairs. */
static void pack_queries(const tiled_attention *job, const task *t, unsigned char *to) {
    const int64_t dim = job->d->head_dim, token = job->d->q.token;
    memset(to, 0, (size_t)(t->groups * job->depth) * VD_AMX_STEP_BYTES);
    for (int64_t i = 0; i < t->queries; i += VD_AMX_ROWS) {
        unsigned char *tile = to + i / COLUMNS * job->depth * VD_AMX_STEP_BYTES +
                              i % COLUMNS / VD_AMX_ROWS * VD_AMX_TILE_BYTES;
        for (int64_t r = 0; r < VD_AMX_ROWS; r++)
            bring(t->q + (i + AHEAD + r) * token * BF16_BYTES, dim);
        for (int64_t e = 0; e < dim; e += VD_AMX_DEPTH, tile += VD_AMX_STEP_BYTES)
            job->kernels->transpose(tile, VD_F32, VD_AMX_ROWS, t->q + (i * token + e) * BF16_BYTES,
                                    VD_F32, (size_t)token / 2,
                                    (size_t)smaller(VD_AMX_ROWS, t->queries - i),
                                    (size_t)smaller(VD_AMX_DEPTH, dim - e) / 2);
    }
}

/* Keys are rows of tiles; values are transposed. What pads a tile along a sum is zero. The row of
 * ones makes the products add up the weights as they were rounded. */
static void pack_keys(const tiled_attention *job, const task *t, const workspace *ws, int64_t first,
                      int64_t keys) {
    const vd_attention_desc *d = job->d;
    const int64_t tile_bytes = job->depth * VD_AMX_TILE_BYTES;
    const int64_t padded = parts(keys, VD_AMX_DEPTH) * VD_AMX_DEPTH;
    for (int64_t i = 0; i < keys; i++) {
        const unsigned char *from = t->k + (first + i) * d->k.token * BF16_BYTES;
        unsigned char *to = ws->k + i / VD_AMX_ROWS * tile_bytes + i % VD_AMX_ROWS * LINE;
        bring(from + AHEAD * d->k.token * BF16_BYTES, d->head_dim);
        bring(t->v + (first + i) * d->v.token * BF16_BYTES, d->head_dim);
        for (int64_t e = 0; e < d->head_dim; e += VD_AMX_DEPTH, to += VD_AMX_TILE_BYTES) {
            const int64_t left = d->head_dim - e;
            if (left >= VD_AMX_DEPTH) {
                memcpy(to, from + e * BF16_BYTES, LINE);
            } else {
                memset(to, 0, LINE);
                memcpy(to, from + e * BF16_BYTES, (size_t)left * BF16_BYTES);
            }
        }
    }
    job->kernels->transpose(ws->v, VD_BF16, KEYS, t->v + first * d->v.token * BF16_BYTES, VD_BF16,
                            (size_t)d->v.token, (size_t)keys, (size_t)d->head_dim);
    uint16_t *ones = (uint16_t *)(void *)ws->v + (int64_t)d->head_dim * KEYS;
    for (int64_t i = 0; i < keys; i++)
        ones[i] = BF16_ONE;
    for (int64_t e = 0; e <= d->head_dim && keys < padded; e++)
        memset(ws->v + (e * KEYS + keys) * BF16_BYTES, 0, (size_t)((padded - keys) * BF16_BYTES));
}

/* ---- sums ----------------------------------------------------------------------------------- */

/* A block of scores that become weights. */
typedef struct block {
    const tiled_attention *job;
    unsigned char *weights;
    int64_t keys;
    const float *base;
    float top[COLUMNS];
} block;

static void weigh_tile(void *user, int64_t tile, const float *scores) {
    enum { HALF = VD_AMX_TILE_BYTES / 2 }; /* a step of B is two tiles of rows */
    block *b = user;
    const int64_t left = b->keys - tile * VD_AMX_ROWS;
    b->job->kernels->power_pairs(b->weights + tile / 2 * VD_AMX_STEP_BYTES + tile % 2 * HALF,
                                 scores, (size_t)(left < 0 ? 0 : smaller(VD_AMX_ROWS, left)),
                                 b->job->d->scale, b->base, b->top);
}

static void weigh_pairs(const tiled_attention *job, const workspace *ws, const unsigned char *q,
                        block *b, int64_t tiles) {
    const int64_t tile_bytes = job->depth * VD_AMX_TILE_BYTES;
    const ptrdiff_t both[2] = {0, tile_bytes};
    const vd_amx_span along_dim = {.depth = job->depth};
    for (int64_t i = 0; i < tiles; i += 2) {
        const vd_amx_rows k = {.a = ws->k + i * tile_bytes,
                               .tile = both,
                               .tiles = smaller(2, tiles - i),
                               .row = LINE,
                               .step = VD_AMX_TILE_BYTES};
        vd_amx_block(ws->scores, &k, q, &along_dim, 1, false);
        for (int64_t j = 0; j < k.tiles; j++)
            weigh_tile(b, i + j, ws->scores + j * VD_AMX_ROWS * COLUMNS);
    }
}

/* A few scores at a time, which stay in the L1 cache. */
static void weigh(const tiled_attention *job, const workspace *ws, const unsigned char *q,
                  block *b) {
    const int64_t tiles = parts(b->keys, VD_AMX_ROWS);
    for (int c = 0; c < COLUMNS; c++)
        b->top[c] = -INFINITY;
    if (job->depth == 2)
        vd_amx_two(ws->scores, ws->k, tiles, q, weigh_tile, b);
    else
        weigh_pairs(job, ws, q, b, tiles);
    if (tiles % 2 != 0)
        weigh_tile(b, tiles, ws->scores);
}

/* Moves the bases to the largest scores where one of these is too far away for float32: it seldom
 * is, as there is room for e^41. Sets factor to what this makes of earlier weights; false if none
 * moves. */
static bool move_base(float *base, const float *top, float *factor, bool first) {
    enum { FAR = 60 };
    bool far = false;
    for (int c = 0; c < COLUMNS; c++)
        far |= top[c] > FAR || (first && top[c] < -FAR);
    for (int c = 0; c < COLUMNS && far; c++) {
        const float by = isfinite(top[c]) && (first || top[c] > 0) ? rintf(top[c]) : 0;
        base[c] += by;
        factor[c] = exp2f(-by);
    }
    return far;
}

/* Softmax block by block: weights are powers over a base instead of over the largest score, which
 * need not be known before. (The online softmax of Milakov and Gimelshein, arXiv 1805.02867,
 * corrected where it must be.) */
static void attend_group(const tiled_attention *job, const workspace *ws, int64_t group,
                         int64_t keys, bool add) {
    const int64_t dim = job->dim_tiles * VD_AMX_ROWS;
    const unsigned char *q = ws->q + group * job->depth * VD_AMX_STEP_BYTES;
    float *out = ws->out + group * dim * COLUMNS, *base = ws->base + group * COLUMNS;
    float factor[COLUMNS];
    ptrdiff_t tile[DIM_TILES];
    const vd_amx_rows v = {.a = ws->v,
                           .tile = tile,
                           .tiles = job->dim_tiles,
                           .row = (ptrdiff_t)KEYS * BF16_BYTES,
                           .step = LINE};
    const vd_amx_span along_keys = {.depth = parts(keys, VD_AMX_DEPTH)};
    block b = {.job = job, .weights = ws->weights, .keys = keys, .base = base};
    for (int64_t i = 0; i < v.tiles; i++)
        tile[i] = i * VD_AMX_ROWS * KEYS * BF16_BYTES;
    weigh(job, ws, q, &b);
    if (move_base(base, b.top, factor, !add)) {
        if (add)
            job->kernels->scale_columns(out, COLUMNS, (size_t)job->d->head_dim + 1, COLUMNS,
                                        factor);
        weigh(job, ws, q, &b);
    }
    vd_amx_block(out, &v, ws->weights, &along_keys, 1, add);
}

static void finish_group(const tiled_attention *job, const workspace *ws, const task *t,
                         int64_t group) {
    const int64_t dim = job->dim_tiles * VD_AMX_ROWS, first = group * COLUMNS;
    float factor[COLUMNS], *out = ws->out + group * dim * COLUMNS;
    const float *sum = out + (int64_t)job->d->head_dim * COLUMNS;
    for (int64_t c = 0; c < COLUMNS; c++)
        factor[c] = 1.0F / sum[c];
    job->kernels->scale_columns(out, COLUMNS, (size_t)job->d->head_dim, COLUMNS, factor);
    job->kernels->transpose(t->out + first * job->d->out.token * BF16_BYTES, VD_BF16,
                            (size_t)job->d->out.token, out, VD_F32, COLUMNS,
                            (size_t)job->d->head_dim, (size_t)smaller(COLUMNS, t->queries - first));
}

static int attend_task(void *user, int64_t index, int thread) {
    const tiled_attention *job = user;
    const vd_attention_desc *d = job->d;
    const int64_t unit = index / job->blocks, first = index % job->blocks * job->groups * COLUMNS;
    const int64_t outer = unit / d->heads / d->inner, inner = unit / d->heads % d->inner;
    const int64_t e = unit % d->heads * d->head_dim;
    workspace ws;
    lay_out(job, job->scratch + (size_t)thread * job->thread_bytes, &ws);
    task t = {.q = job->q + (outer * d->q.outer + inner * d->q.inner + first * d->q.token + e) * 2,
              .k = job->k + (outer * d->k.outer + inner * d->k.inner + e) * 2,
              .v = job->v + (outer * d->v.outer + inner * d->v.inner + e) * 2,
              .out = job->out +
                     (outer * d->out.outer + inner * d->out.inner + first * d->out.token + e) * 2,
              .queries = smaller(job->groups * COLUMNS, d->q_tokens - first)};
    t.groups = parts(t.queries, COLUMNS);
    memset(ws.base, 0, (size_t)(t.groups * COLUMNS) * sizeof *ws.base);
    vd_amx_begin();
    pack_queries(job, &t, ws.q);
    for (int64_t key = 0; key < d->kv_tokens; key += KEYS) {
        const int64_t keys = smaller(KEYS, d->kv_tokens - key);
        pack_keys(job, &t, &ws, key, keys);
        for (int64_t g = 0; g < t.groups; g++)
            attend_group(job, &ws, g, keys, key > 0);
    }
    vd_amx_end();
    for (int64_t g = 0; g < t.groups; g++)
        finish_group(job, &ws, &t, g);
    return 0;
}

bool vd_cpu_attention_tiled_takes(const vd_exec *x, const vd_attention_desc *d) {
    return vd_cpu(x)->amx && x->dtype == VD_BF16 && !d->causal && d->head_dim <= MOST_DIM &&
           d->head_dim % 2 == 0 && d->q.token % 2 == 0;
}

/* How many groups a task takes changes no result: each sums over the keys in the same order. */
static void cut(tiled_attention *job, int64_t units, int threads) {
    const int64_t queries = job->d->q_tokens;
    int64_t most = MOST_GROUPS;
    while (most > 1 && units * parts(queries, most * COLUMNS) < (int64_t)TASKS_A_THREAD * threads)
        most /= 2;
    job->groups = smaller(most, parts(queries, COLUMNS));
    job->blocks = parts(queries, job->groups * COLUMNS);
}

vd_status vd_cpu_attention_tiled(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                                 const vd_attention_desc *d) {
    tiled_attention job = {.kernels = vd_cpu(x)->kernels,
                           .d = d,
                           .q = q,
                           .k = k,
                           .v = v,
                           .out = out,
                           .depth = parts(d->head_dim, VD_AMX_DEPTH),
                           .dim_tiles = parts(d->head_dim + 1, VD_AMX_ROWS)};
    workspace none;
    void *scratch;
    const int64_t units = d->outer * d->inner * d->heads;
    cut(&job, units, x->be->threads);
    job.thread_bytes = lay_out(&job, NULL, &none);
    const size_t busy = (size_t)smaller(units * job.blocks, x->be->threads);
    const vd_status st = vd_exec_scratch(x, job.thread_bytes * busy, &scratch);
    if (st != VD_OK)
        return st;
    job.scratch = scratch;
    if (!x->dry)
        vd_cpu_parallel(vd_cpu(x)->pool, units * job.blocks, attend_task, &job);
    vd_exec_scratch_free(x, scratch);
    return VD_OK;
}

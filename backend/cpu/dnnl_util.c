#include "backend/cpu/dnnl_util.h"

#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_WORDS = 20, BUCKETS = 1024, FORMAT_WORDS = 6, ALIGN_BYTES = 64 };

/* ---- one API over two ----------------------------------------------------------------------- */

/* A memory descriptor is a pointer in 3.x and a struct in 2.x: make it a pointer in both. */
#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t const_layout;

static dnnl_status_t layout_strided(layout *out, int rank, const dnnl_dims_t dim,
                                    dnnl_data_type_t type, const dnnl_dims_t stride) {
    return dnnl_memory_desc_create_with_strides(out, rank, dim, type, stride);
}

static dnnl_status_t layout_tagged(layout *out, int rank, const dnnl_dims_t dim,
                                   dnnl_data_type_t type, dnnl_format_tag_t tag) {
    return dnnl_memory_desc_create_with_tag(out, rank, dim, type, tag);
}

static dnnl_status_t layout_clone(layout *out, const_layout of) {
    return dnnl_memory_desc_clone(out, of);
}

static void layout_destroy(layout l) {
    if (l != NULL)
        dnnl_memory_desc_destroy(l);
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0F, 0, dnnl_data_type_undef);
}

#else

typedef dnnl_memory_desc_t *layout;
typedef const dnnl_memory_desc_t *const_layout;

static dnnl_status_t layout_new(layout *out) {
    *out = calloc(1, sizeof **out);
    return *out != NULL ? dnnl_success : dnnl_out_of_memory;
}

static dnnl_status_t layout_strided(layout *out, int rank, const dnnl_dims_t dim,
                                    dnnl_data_type_t type, const dnnl_dims_t stride) {
    dnnl_status_t rc = layout_new(out);
    return rc != dnnl_success ? rc
                              : dnnl_memory_desc_init_by_strides(*out, rank, dim, type, stride);
}

static dnnl_status_t layout_tagged(layout *out, int rank, const dnnl_dims_t dim,
                                   dnnl_data_type_t type, dnnl_format_tag_t tag) {
    dnnl_status_t rc = layout_new(out);
    return rc != dnnl_success ? rc : dnnl_memory_desc_init_by_tag(*out, rank, dim, type, tag);
}

static dnnl_status_t layout_clone(layout *out, const_layout of) {
    dnnl_status_t rc = layout_new(out);
    if (rc == dnnl_success)
        **out = *of;
    return rc;
}

static void layout_destroy(layout l) {
    free(l);
}

static dnnl_status_t append_sum(dnnl_post_ops_t ops) {
    return dnnl_post_ops_append_sum(ops, 1.0F);
}

#endif

/* What a primitive is made from. */
typedef struct recipe {
    layout src, weights, bias, dst;
    bool is_conv, accumulate;
    dnnl_dims_t stride, dilation, pad_before, pad_after; /* dilation as oneDNN has it: 0 = dense */
} recipe;

static dnnl_status_t recipe_desc(dnnl_engine_t engine, const recipe *r, dnnl_primitive_attr_t attr,
                                 dnnl_primitive_desc_t *out) {
#if DNNL_VERSION_MAJOR >= 3
    if (!r->is_conv)
        return dnnl_matmul_primitive_desc_create(out, engine, r->src, r->weights, r->bias, r->dst,
                                                 attr);
    return dnnl_convolution_forward_primitive_desc_create(
        out, engine, dnnl_forward_inference, dnnl_convolution_direct, r->src, r->weights, r->bias,
        r->dst, r->stride, r->dilation, r->pad_before, r->pad_after, attr);
#else
    if (!r->is_conv) {
        dnnl_matmul_desc_t op;
        dnnl_status_t rc = dnnl_matmul_desc_init(&op, r->src, r->weights, r->bias, r->dst);
        return rc != dnnl_success ? rc : dnnl_primitive_desc_create(out, &op, attr, engine, NULL);
    }
    dnnl_convolution_desc_t op;
    dnnl_status_t rc = dnnl_dilated_convolution_forward_desc_init(
        &op, dnnl_forward_inference, dnnl_convolution_direct, r->src, r->weights, r->bias, r->dst,
        r->stride, r->dilation, r->pad_before, r->pad_after);
    return rc != dnnl_success ? rc : dnnl_primitive_desc_create(out, &op, attr, engine, NULL);
#endif
}

static dnnl_status_t create_attr(bool accumulate, dnnl_primitive_attr_t *out) {
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t rc = dnnl_primitive_attr_create(out);
    if (rc != dnnl_success)
        return rc;
    rc = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    if (rc == dnnl_success)
        rc = dnnl_primitive_attr_set_fpmath_mode(*out, dnnl_fpmath_mode_strict);
    if (rc == dnnl_success && accumulate)
        rc = dnnl_post_ops_create(&ops);
    if (rc == dnnl_success && accumulate)
        rc = append_sum(ops);
    if (rc == dnnl_success && accumulate)
        rc = dnnl_primitive_attr_set_post_ops(*out, ops);
    if (ops != NULL)
        dnnl_post_ops_destroy(ops);
    return rc;
}

/* ---- device --------------------------------------------------------------------------------- */

typedef struct thread_memory {
    dnnl_memory_t src, weights, bias, dst, scratch; /* weights only for a plain b */
} thread_memory;

struct vd_dnnl_plan {
    int64_t key[KEY_WORDS];
    vd_dnnl_plan *next;
    vd_cpu_dnnl *owner;
    dnnl_primitive_t primitive;
    const vd_dnnl_format *format;
    size_t scratch_bytes;
    bool fast;
    thread_memory *memory; /* one for each thread */
};

struct vd_dnnl_format {
    int64_t key[FORMAT_WORDS]; /* of the logical weights */
    vd_dnnl_format *next;
    layout plain, packed;
};

struct vd_dnnl_panel {
    dnnl_memory_t memory;
    void *data;
    size_t bytes;
};

struct vd_cpu_dnnl {
    int threads;
    dnnl_engine_t engine;
    dnnl_stream_t *stream; /* one for each thread */
    vd_dnnl_plan *plan[BUCKETS];
    vd_dnnl_format *format;
};

vd_status vd_dnnl_status(int dnnl_status, const char *doing) {
    switch ((dnnl_status_t)dnnl_status) {
    case dnnl_success:
        return VD_OK;
    case dnnl_out_of_memory:
        return vd_fail(VD_ERR_MEMORY, "cpu backend: oneDNN: out of memory %s", doing);
    case dnnl_invalid_arguments:
        return vd_fail(VD_ERR_BACKEND, "cpu backend: oneDNN: invalid arguments %s", doing);
    case dnnl_unimplemented:
        return vd_fail(VD_ERR_BACKEND, "cpu backend: oneDNN: not implemented, %s", doing);
    default:
        return vd_fail(VD_ERR_BACKEND, "cpu backend: oneDNN: error %d %s", dnnl_status, doing);
    }
}

vd_status vd_dnnl_create(int threads, vd_cpu_dnnl **out) {
    *out = NULL;
    dnnl_status_t rc = dnnl_out_of_memory;
    vd_cpu_dnnl *d = calloc(1, sizeof *d);
    if (d == NULL)
        goto done;
    d->threads = threads;
    d->stream = calloc((size_t)threads, sizeof(dnnl_stream_t));
    if (d->stream == NULL)
        goto done;
    rc = dnnl_engine_create(&d->engine, dnnl_cpu, 0);
    for (int i = 0; i < threads && rc == dnnl_success; i++)
        rc = dnnl_stream_create(&d->stream[i], d->engine, dnnl_stream_default_flags);
done:
    if (rc != dnnl_success)
        vd_dnnl_destroy(d);
    else
        *out = d;
    return vd_dnnl_status((int)rc, "opening the device");
}

static void plan_destroy(vd_dnnl_plan *plan) {
    if (plan == NULL)
        return;
    for (int i = 0; plan->memory != NULL && i < plan->owner->threads; i++) {
        thread_memory *m = &plan->memory[i];
        dnnl_memory_t each[] = {m->src, m->weights, m->bias, m->dst, m->scratch};
        for (size_t j = 0; j < sizeof each / sizeof each[0]; j++)
            if (each[j] != NULL)
                dnnl_memory_destroy(each[j]);
    }
    free(plan->memory);
    if (plan->primitive != NULL)
        dnnl_primitive_destroy(plan->primitive);
    free(plan);
}

void vd_dnnl_destroy(vd_cpu_dnnl *d) {
    if (d == NULL)
        return;
    for (int i = 0; i < BUCKETS; i++)
        for (vd_dnnl_plan *p = d->plan[i], *next; p != NULL; p = next) {
            next = p->next;
            plan_destroy(p);
        }
    for (vd_dnnl_format *f = d->format, *next; f != NULL; f = next) {
        next = f->next;
        layout_destroy(f->plain);
        layout_destroy(f->packed);
        free(f);
    }
    for (int i = 0; d->stream != NULL && i < d->threads; i++)
        if (d->stream[i] != NULL)
            dnnl_stream_destroy(d->stream[i]);
    free(d->stream);
    if (d->engine != NULL)
        dnnl_engine_destroy(d->engine);
    free(d);
}

const char *vd_dnnl_version(void) {
    static _Thread_local char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    return text;
}

/* The values are sets of bits: a newer instruction set contains the older. */
static bool isa_has(dnnl_cpu_isa_t isa) {
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)isa) == (unsigned)isa;
}

vd_cpu_isa vd_dnnl_isa(const char **name) {
    static const struct {
        const char *name;
        dnnl_cpu_isa_t isa;
        vd_cpu_isa ours;
    } sets[] = {
        {"AMX", dnnl_cpu_isa_avx512_core_amx, VD_CPU_AVX512_BF16},
        {"AVX-512 with bf16", dnnl_cpu_isa_avx512_core_bf16, VD_CPU_AVX512_BF16},
        {"AVX-512", dnnl_cpu_isa_avx512_core, VD_CPU_AVX512},
        {"AVX2", dnnl_cpu_isa_avx2, VD_CPU_AVX2},
    };
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        if (isa_has(sets[i].isa)) {
            *name = sets[i].name;
            return sets[i].ours;
        }
    *name = "SSE4.1";
    return VD_CPU_BASELINE;
}

bool vd_dnnl_has_native_bf16(void) {
    return isa_has(dnnl_cpu_isa_avx512_core_bf16);
}

bool vd_dnnl_has_amx(void) {
    return isa_has(dnnl_cpu_isa_avx512_core_amx);
}

/* ---- plans ---------------------------------------------------------------------------------- */

static dnnl_data_type_t type_of(vd_dtype dtype) {
    return dtype == VD_BF16 ? dnnl_bf16 : dnnl_f32;
}

static const char *impl_name(const_dnnl_primitive_desc_t pd) {
    const char *name = "";
    if (dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name) != dnnl_success)
        return "";
    return name;
}

static bool is_fast(bool is_conv, const char *impl) {
    if (strstr(impl, "ref") != NULL)
        return false;
    return !is_conv || strstr(impl, "gemm:") == NULL; /* that one unfolds whole images in scratch */
}

static vd_dnnl_format *find_format(const vd_cpu_dnnl *d, const int64_t key[FORMAT_WORDS]) {
    for (vd_dnnl_format *f = d->format; f != NULL; f = f->next)
        if (memcmp(f->key, key, sizeof f->key) == 0)
            return f;
    return NULL;
}

/* The format with this layout, remembered for the weights' shape. Takes a copy. */
static dnnl_status_t intern_format(vd_cpu_dnnl *d, const int64_t key[FORMAT_WORDS],
                                   const_layout plain, const_layout packed, vd_dnnl_format **out) {
    for (vd_dnnl_format *f = d->format; f != NULL; f = f->next)
        if (memcmp(f->key, key, sizeof f->key) == 0 && dnnl_memory_desc_equal(f->packed, packed)) {
            *out = f;
            return dnnl_success;
        }
    vd_dnnl_format *f = calloc(1, sizeof *f);
    if (f == NULL)
        return dnnl_out_of_memory;
    memcpy(f->key, key, sizeof f->key);
    dnnl_status_t rc = layout_clone(&f->plain, plain);
    if (rc == dnnl_success)
        rc = layout_clone(&f->packed, packed);
    if (rc != dnnl_success) {
        layout_destroy(f->plain);
        layout_destroy(f->packed);
        free(f);
        return rc;
    }
    vd_dnnl_format **last = &d->format; /* first come, first tried: weights at rest fit it */
    while (*last != NULL)
        last = &(*last)->next;
    *last = *out = f;
    return dnnl_success;
}

/* A primitive descriptor that reads the format that this shape of weights already has, if oneDNN
 * has good code for it, else the one that oneDNN likes best. */
static dnnl_status_t choose_packed(vd_cpu_dnnl *d, recipe *r, dnnl_primitive_attr_t attr,
                                   const int64_t key[FORMAT_WORDS], const_layout plain,
                                   dnnl_primitive_desc_t *pd, vd_dnnl_format **format) {
    layout any = r->weights;
    *format = find_format(d, key);
    if (*format != NULL) {
        r->weights = (*format)->packed;
        dnnl_status_t rc = recipe_desc(d->engine, r, attr, pd);
        r->weights = any;
        if (!r->is_conv || (rc == dnnl_success && is_fast(true, impl_name(*pd))))
            return rc;
        if (rc == dnnl_success)
            dnnl_primitive_desc_destroy(*pd);
        *pd = NULL;
    }
    dnnl_status_t rc = recipe_desc(d->engine, r, attr, pd);
    if (rc != dnnl_success)
        return rc;
    return intern_format(d, key, plain, dnnl_primitive_desc_query_md(*pd, dnnl_query_weights_md, 0),
                         format);
}

static dnnl_status_t memory_for(const vd_cpu_dnnl *d, const_dnnl_primitive_desc_t pd,
                                dnnl_query_t what, int index, dnnl_memory_t *out) {
    return dnnl_memory_create(out, dnnl_primitive_desc_query_md(pd, what, index), d->engine,
                              DNNL_MEMORY_NONE);
}

static dnnl_status_t create_memories(vd_dnnl_plan *plan, const_dnnl_primitive_desc_t pd,
                                     bool bias) {
    const vd_cpu_dnnl *d = plan->owner;
    plan->memory = calloc((size_t)d->threads, sizeof *plan->memory);
    if (plan->memory == NULL)
        return dnnl_out_of_memory;
    dnnl_status_t rc = dnnl_success;
    for (int i = 0; i < d->threads && rc == dnnl_success; i++) {
        thread_memory *m = &plan->memory[i];
        rc = memory_for(d, pd, dnnl_query_src_md, 0, &m->src);
        if (rc == dnnl_success)
            rc = memory_for(d, pd, dnnl_query_dst_md, 0, &m->dst);
        if (rc == dnnl_success && plan->format == NULL)
            rc = memory_for(d, pd, dnnl_query_weights_md, 0, &m->weights);
        if (rc == dnnl_success && bias)
            rc = memory_for(d, pd, dnnl_query_weights_md, 1, &m->bias);
        if (rc == dnnl_success && plan->scratch_bytes > 0)
            rc = memory_for(d, pd, dnnl_query_scratchpad_md, 0, &m->scratch);
    }
    return rc;
}

static uint64_t hash_key(const int64_t key[KEY_WORDS]) {
    uint64_t h = 1469598103934665603U;
    for (int i = 0; i < KEY_WORDS; i++)
        h = (h ^ (uint64_t)key[i]) * 1099511628211U;
    return h ^ h >> 32;
}

static vd_dnnl_plan *find_plan(const vd_cpu_dnnl *d, const int64_t key[KEY_WORDS]) {
    for (vd_dnnl_plan *p = d->plan[hash_key(key) % BUCKETS]; p != NULL; p = p->next)
        if (memcmp(p->key, key, sizeof p->key) == 0)
            return p;
    return NULL;
}

/* `packed_key` NULL: the weights are plain and r->weights is their layout. */
static dnnl_status_t make_plan(vd_cpu_dnnl *d, const int64_t key[KEY_WORDS], recipe *r,
                               const int64_t *packed_key, const_layout plain, vd_dnnl_plan **out) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    vd_dnnl_format *format = NULL;
    vd_dnnl_plan *plan = calloc(1, sizeof *plan);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1); /* primitives remember the thread count that they were made under */
    dnnl_status_t rc = plan == NULL ? dnnl_out_of_memory : create_attr(r->accumulate, &attr);
    if (rc == dnnl_success)
        rc = packed_key == NULL ? recipe_desc(d->engine, r, attr, &pd)
                                : choose_packed(d, r, attr, packed_key, plain, &pd, &format);
    if (rc == dnnl_success) {
        plan->owner = d;
        plan->format = format;
        memcpy(plan->key, key, sizeof plan->key);
        plan->fast = is_fast(r->is_conv, impl_name(pd));
        plan->scratch_bytes = dnnl_memory_desc_get_size(
            dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0));
        rc = dnnl_primitive_create(&plan->primitive, pd);
    }
    if (rc == dnnl_success)
        rc = create_memories(plan, pd, r->bias != NULL);
    omp_set_num_threads(threads);
    if (pd != NULL)
        dnnl_primitive_desc_destroy(pd);
    if (attr != NULL)
        dnnl_primitive_attr_destroy(attr);
    if (rc != dnnl_success) {
        plan_destroy(plan);
        return rc;
    }
    vd_dnnl_plan **bucket = &d->plan[hash_key(key) % BUCKETS];
    plan->next = *bucket;
    *out = *bucket = plan;
    return dnnl_success;
}

static void recipe_destroy(recipe *r) {
    layout_destroy(r->src);
    layout_destroy(r->weights);
    layout_destroy(r->bias);
    layout_destroy(r->dst);
}

vd_status vd_dnnl_plan_matmul(vd_cpu_dnnl *d, const vd_dnnl_matmul *m, vd_dnnl_plan **out) {
    const int64_t key[KEY_WORDS] = {1,
                                    m->m,
                                    m->n,
                                    m->k,
                                    m->lda,
                                    m->ldb,
                                    m->ldc,
                                    (int)m->dtype,
                                    (int)m->c_dtype,
                                    m->b_transposed,
                                    m->bias,
                                    m->accumulate};
    *out = find_plan(d, key);
    if (*out != NULL)
        return VD_OK;

    const dnnl_data_type_t type = type_of(m->dtype);
    const bool packed = m->ldb == 0;
    const int64_t format_key[FORMAT_WORDS] = {1, m->n, m->k, (int)m->dtype};
    recipe r = {.accumulate = m->accumulate};
    layout plain = NULL;
    dnnl_status_t rc =
        layout_strided(&r.src, 2, (dnnl_dims_t){m->m, m->k}, type, (dnnl_dims_t){m->lda, 1});
    if (rc == dnnl_success)
        rc = layout_strided(&r.dst, 2, (dnnl_dims_t){m->m, m->n}, type_of(m->c_dtype),
                            (dnnl_dims_t){m->ldc, 1});
    if (rc == dnnl_success && m->bias)
        rc = layout_strided(&r.bias, 2, (dnnl_dims_t){1, m->n}, dnnl_f32, (dnnl_dims_t){m->n, 1});
    if (rc == dnnl_success && packed)
        rc = layout_tagged(&r.weights, 2, (dnnl_dims_t){m->k, m->n}, type, dnnl_format_tag_any);
    if (rc == dnnl_success && packed)
        rc = layout_tagged(&plain, 2, (dnnl_dims_t){m->k, m->n}, type, dnnl_ba);
    if (rc == dnnl_success && !packed)
        rc = layout_strided(&r.weights, 2, (dnnl_dims_t){m->k, m->n}, type,
                            m->b_transposed ? (dnnl_dims_t){1, m->ldb} : (dnnl_dims_t){m->ldb, 1});
    if (rc == dnnl_success)
        rc = make_plan(d, key, &r, packed ? format_key : NULL, plain, out);
    recipe_destroy(&r);
    layout_destroy(plain);

    char doing[96];
    snprintf(doing, sizeof doing, "planning a matrix product %lldx%lldx%lld", (long long)m->m,
             (long long)m->n, (long long)m->k);
    return vd_dnnl_status((int)rc, doing);
}

/* Rows or columns of padding behind that make `dst` positions possible; negative where the source
 * has more than is read. */
static int64_t pad_behind(int64_t src, int64_t dst, int kernel, int stride, int dilation,
                          int64_t before) {
    return (dst - 1) * stride + (int64_t)(kernel - 1) * dilation + 1 - src - before;
}

static dnnl_status_t conv_recipe(const vd_dnnl_conv *c, recipe *r, layout *plain) {
    const dnnl_data_type_t type = type_of(c->dtype);
    *r = (recipe){
        .is_conv = true,
        .stride = {c->stride_h, c->stride_w},
        .dilation = {c->dilation_h - 1, c->dilation_w - 1},
        .pad_before = {c->pad_top, c->pad_left},
        .pad_after = {
            pad_behind(c->src_h, c->dst_h, c->kernel_h, c->stride_h, c->dilation_h, c->pad_top),
            pad_behind(c->src_w, c->dst_w, c->kernel_w, c->stride_w, c->dilation_w, c->pad_left)}};
    const dnnl_dims_t kernel = {c->out, c->in, c->kernel_h, c->kernel_w};
    dnnl_status_t rc =
        layout_tagged(&r->src, 4, (dnnl_dims_t){1, c->in, c->src_h, c->src_w}, type, dnnl_nhwc);
    if (rc == dnnl_success)
        rc = layout_tagged(&r->dst, 4, (dnnl_dims_t){1, c->out, c->dst_h, c->dst_w},
                           type_of(c->dst_dtype), dnnl_nhwc);
    if (rc == dnnl_success)
        rc = layout_tagged(&r->weights, 4, kernel, type, dnnl_format_tag_any);
    if (rc == dnnl_success)
        rc = layout_tagged(plain, 4, kernel, type, dnnl_oihw);
    if (rc == dnnl_success && c->bias)
        rc = layout_tagged(&r->bias, 1, (dnnl_dims_t){c->out}, dnnl_f32, dnnl_a);
    return rc;
}

vd_status vd_dnnl_plan_conv(vd_cpu_dnnl *d, const vd_dnnl_conv *c, vd_dnnl_plan **out) {
    const int64_t key[KEY_WORDS] = {2,
                                    c->in,
                                    c->out,
                                    c->src_h,
                                    c->src_w,
                                    c->dst_h,
                                    c->dst_w,
                                    c->kernel_h,
                                    c->kernel_w,
                                    c->stride_h,
                                    c->stride_w,
                                    c->dilation_h,
                                    c->dilation_w,
                                    c->pad_top,
                                    c->pad_left,
                                    (int)c->dtype,
                                    (int)c->dst_dtype,
                                    c->bias};
    *out = find_plan(d, key);
    if (*out != NULL)
        return VD_OK;
    const int64_t format_key[FORMAT_WORDS] = {2,           c->out,      c->in,
                                              c->kernel_h, c->kernel_w, (int)c->dtype};
    recipe r;
    layout plain = NULL;
    dnnl_status_t rc = conv_recipe(c, &r, &plain);
    if (rc == dnnl_success)
        rc = make_plan(d, key, &r, format_key, plain, out);
    recipe_destroy(&r);
    layout_destroy(plain);

    char doing[96];
    snprintf(doing, sizeof doing, "planning a convolution %dx%d %lld->%lld of %lldx%lld",
             c->kernel_h, c->kernel_w, (long long)c->in, (long long)c->out, (long long)c->src_h,
             (long long)c->src_w);
    return vd_dnnl_status((int)rc, doing);
}

bool vd_dnnl_plan_is_fast(const vd_dnnl_plan *plan) {
    return plan->fast;
}

size_t vd_dnnl_plan_scratch_bytes(const vd_dnnl_plan *plan) {
    return plan->scratch_bytes;
}

const vd_dnnl_format *vd_dnnl_plan_format(const vd_dnnl_plan *plan) {
    return plan->format;
}

/* ---- packed weights ------------------------------------------------------------------------- */

static dnnl_status_t reorder(vd_cpu_dnnl *d, dnnl_memory_t from, const_layout from_layout,
                             dnnl_memory_t to, const_layout to_layout) {
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_status_t rc =
        dnnl_reorder_primitive_desc_create(&pd, from_layout, d->engine, to_layout, d->engine, NULL);
    if (rc == dnnl_success)
        rc = dnnl_primitive_create(&primitive, pd);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    if (rc == dnnl_success)
        rc = dnnl_primitive_execute(primitive, d->stream[0], 2, args);
    if (rc == dnnl_success)
        rc = dnnl_stream_wait(d->stream[0]);
    if (primitive != NULL)
        dnnl_primitive_destroy(primitive);
    if (pd != NULL)
        dnnl_primitive_desc_destroy(pd);
    return rc;
}

vd_status vd_dnnl_pack(vd_cpu_dnnl *d, const vd_dnnl_format *format, const void *plain,
                       vd_dnnl_panel **out) {
    *out = NULL;
    dnnl_memory_t from = NULL;
    dnnl_status_t rc = dnnl_out_of_memory;
    vd_dnnl_panel *panel = calloc(1, sizeof *panel);
    if (panel == NULL)
        goto done;
    const size_t bytes = dnnl_memory_desc_get_size(format->packed);
    panel->bytes = (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    panel->data = aligned_alloc(ALIGN_BYTES, panel->bytes);
    if (panel->data == NULL)
        goto done;
    rc = dnnl_memory_create(&panel->memory, format->packed, d->engine, panel->data);
    if (rc == dnnl_success)
        rc = dnnl_memory_create(&from, format->plain, d->engine, DNNL_MEMORY_NONE);
    if (rc == dnnl_success) /* oneDNN's handles are not const; a source is only read */
        rc = dnnl_memory_set_data_handle(from, (void *)plain);
    if (rc == dnnl_success)
        rc = reorder(d, from, format->plain, panel->memory, format->packed);
done:
    if (from != NULL)
        dnnl_memory_destroy(from);
    if (rc != dnnl_success)
        vd_dnnl_panel_destroy(panel);
    else
        *out = panel;
    return vd_dnnl_status((int)rc, "packing weights");
}

void vd_dnnl_panel_destroy(vd_dnnl_panel *panel) {
    if (panel == NULL)
        return;
    if (panel->memory != NULL)
        dnnl_memory_destroy(panel->memory);
    free(panel->data);
    free(panel);
}

size_t vd_dnnl_panel_bytes(const vd_dnnl_panel *panel) {
    return panel->bytes;
}

/* ---- runs ----------------------------------------------------------------------------------- */

static dnnl_status_t bind(dnnl_exec_arg_t *arg, int *count, int kind, dnnl_memory_t memory,
                          const void *data) {
    arg[(*count)++] = (dnnl_exec_arg_t){kind, memory};
    return dnnl_memory_set_data_handle(memory, (void *)data);
}

int vd_dnnl_run(const vd_dnnl_plan *plan, int thread, const vd_dnnl_args *args) {
    const thread_memory *m = &plan->memory[thread];
    dnnl_exec_arg_t arg[5];
    int count = 0;
    dnnl_status_t rc = bind(arg, &count, DNNL_ARG_SRC, m->src, args->a);
    if (rc == dnnl_success)
        rc = bind(arg, &count, DNNL_ARG_DST, m->dst, args->c);
    if (rc == dnnl_success && m->weights != NULL)
        rc = bind(arg, &count, DNNL_ARG_WEIGHTS, m->weights, args->b);
    if (m->weights == NULL)
        arg[count++] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, args->panel->memory};
    if (rc == dnnl_success && m->bias != NULL)
        rc = bind(arg, &count, DNNL_ARG_BIAS, m->bias, args->bias);
    if (rc == dnnl_success && m->scratch != NULL)
        rc = bind(arg, &count, DNNL_ARG_SCRATCHPAD, m->scratch, args->scratch);
    if (rc != dnnl_success)
        return (int)rc;
    return (int)dnnl_primitive_execute(plan->primitive, plan->owner->stream[thread], count, arg);
}

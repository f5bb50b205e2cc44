#include "backend/cpu/weights.h"

#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu.h"

enum {
    PANEL_COLUMNS = 640, /* times 128 rows of float32: half of a usual L2 cache */
    PANEL_GRAIN = 64,    /* what oneDNN's products like a width to be a multiple of */
    USUAL_ROWS = 128,    /* the row count of the plan that a matrix is packed for */
    USUAL_SIDE = 32,     /* the image side of the plan that a kernel is packed for */
    ROWS_PER_TASK = 16,  /* rows that one task converts */
};

struct vd_cpu_kernel_pack {
    const vd_dnnl_format *format;
    vd_dnnl_panel *panel;
    vd_cpu_kernel_pack *next;
};

/* ---- panels --------------------------------------------------------------------------------- */

vd_cpu_panels vd_cpu_panels_of(int64_t out) {
    const int sections = out > PANEL_COLUMNS && out % 2 == 0 ? 2 : 1;
    vd_cpu_panels p = {.section = out / sections};
    const int64_t least = (p.section + PANEL_COLUMNS - 1) / PANEL_COLUMNS;
    p.width = (p.section + least - 1) / least;
    if (least > 1)
        p.width = (p.width + PANEL_GRAIN - 1) / PANEL_GRAIN * PANEL_GRAIN;
    p.per_section = (int)((p.section + p.width - 1) / p.width);
    p.count = sections * p.per_section;
    return p;
}

int64_t vd_cpu_panel_first(const vd_cpu_panels *p, int panel, int64_t *width) {
    const int64_t in_section = panel % p->per_section * p->width;
    *width = p->section - in_section < p->width ? p->section - in_section : p->width;
    return panel / p->per_section * p->section + in_section;
}

/* ---- values --------------------------------------------------------------------------------- */

/* Rows first.. of a weight, converted to its dtype, row by row. */
typedef struct fill_job {
    const vd_cpu_weight *w;
    const vd_cpu_kernels *kernels;
    int64_t first, count;
    bool taps_outer; /* [taps, in] in a row, else as stored: [in, taps] */
    unsigned char *dst;
    unsigned char *row; /* one row for each thread */
} fill_job;

const void *vd_cpu_weight_row(const vd_cpu_weight *w, int64_t row, vd_dtype *dtype) {
    const vd_weight_part *part = w->part;
    for (; row >= part->tensor.dim[0]; part++)
        row -= part->tensor.dim[0];
    const int64_t at =
        (row * part->tensor.dim[1] + part->first_column) * w->head.kernel_h * w->head.kernel_w;
    *dtype = part->tensor.dtype;
    return (const unsigned char *)part->tensor.data + (size_t)at * vd_dtype_bytes(*dtype);
}

/* Row `row` of all parts, in the weight's dtype. `flat`: room for a row, used if taps are turned.
 */
static void fill_row(const vd_cpu_kernels *kernels, const vd_cpu_weight *w, int64_t row,
                     bool taps_outer, unsigned char *flat, unsigned char *dst) {
    const int64_t taps = (int64_t)w->head.kernel_h * w->head.kernel_w;
    const bool turn = taps_outer && taps > 1;
    vd_dtype dtype;
    const void *src = vd_cpu_weight_row(w, row, &dtype);
    kernels->convert(turn ? flat : dst, w->head.dtype, src, dtype, (size_t)w->k);
    if (turn)
        vd_turn_taps(dst, flat, w->head.in, taps, vd_dtype_bytes(w->head.dtype));
}

static int fill_task(void *user, int64_t task, int thread) {
    const fill_job *job = user;
    const vd_cpu_weight *w = job->w;
    const size_t row_bytes = (size_t)w->k * vd_dtype_bytes(w->head.dtype);
    int64_t end = (task + 1) * ROWS_PER_TASK < job->count ? (task + 1) * ROWS_PER_TASK : job->count;
    for (int64_t r = task * ROWS_PER_TASK; r < end; r++)
        fill_row(job->kernels, w, job->first + r, job->taps_outer,
                 job->row + (size_t)thread * row_bytes, job->dst + (size_t)r * row_bytes);
    return 0;
}

static vd_status fill_rows(const vd_backend *be, const vd_cpu_weight *w, int64_t first,
                           int64_t count, bool taps_outer, void *dst) {
    const vd_cpu_device *cpu = be->device;
    fill_job job = {.w = w,
                    .kernels = cpu->kernels,
                    .first = first,
                    .count = count,
                    .taps_outer = taps_outer,
                    .dst = dst};
    job.row = malloc((size_t)be->threads * (size_t)w->k * vd_dtype_bytes(w->head.dtype));
    if (job.row == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory to convert weights");
    vd_cpu_parallel(cpu->pool, (count + ROWS_PER_TASK - 1) / ROWS_PER_TASK, fill_task, &job);
    free(job.row);
    return VD_OK;
}

/* ---- packing -------------------------------------------------------------------------------- */

static vd_status pack_rows(vd_backend *be, const vd_cpu_weight *w, int64_t first, int64_t count,
                           bool taps_outer, const vd_dnnl_format *format, vd_dnnl_panel **out) {
    const vd_cpu_device *cpu = be->device;
    vd_status st;
    *out = NULL;
    void *plain = malloc((size_t)(count * w->k) * vd_dtype_bytes(w->head.dtype));
    if (plain == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "no memory to convert weights [%lld, %lld]", (long long)count,
                     (long long)w->k);
        goto done;
    }
    VD_TRY(fill_rows(be, w, first, count, taps_outer, plain));
    VD_TRY(vd_dnnl_pack(cpu->dnnl, format, plain, out));
    be->weight_bytes += vd_dnnl_panel_bytes(*out);
done:
    free(plain);
    return st;
}

static void destroy_panel(vd_backend *be, vd_dnnl_panel *panel) {
    if (panel != NULL)
        be->weight_bytes -= vd_dnnl_panel_bytes(panel);
    vd_dnnl_panel_destroy(panel);
}

static void destroy_matrix(vd_backend *be, vd_cpu_weight *w) {
    for (int i = 0; i < w->panels; i++)
        destroy_panel(be, w->panel[i]);
    free(w->panel);
    w->panel = NULL;
    w->panels = 0;
}

vd_status vd_cpu_pack_matrix(vd_backend *be, vd_cpu_weight *w) {
    if (w->panels > 0)
        return VD_OK;
    const vd_cpu_device *cpu = be->device;
    const vd_cpu_panels cut = vd_cpu_panels_of(w->head.out);
    vd_status st = VD_OK;
    w->panel = calloc((size_t)cut.count, sizeof(vd_dnnl_panel *));
    if (w->panel == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the panels of a matrix");
    w->panels = cut.count;
    for (int i = 0; i < cut.count; i++) {
        int64_t width;
        const int64_t first = vd_cpu_panel_first(&cut, i, &width);
        const vd_dnnl_matmul usual = {.m = USUAL_ROWS,
                                      .n = width,
                                      .k = w->k,
                                      .lda = w->k,
                                      .ldc = width,
                                      .dtype = w->head.dtype,
                                      .c_dtype = VD_F32};
        vd_dnnl_plan *plan;
        VD_TRY(vd_dnnl_plan_matmul(cpu->dnnl, &usual, &plan));
        VD_TRY(pack_rows(be, w, first, width, true, vd_dnnl_plan_format(plan), &w->panel[i]));
    }
done:
    if (st != VD_OK)
        destroy_matrix(be, w);
    return st;
}

vd_status vd_cpu_pack_kernel(vd_backend *be, vd_cpu_weight *w, const vd_dnnl_format *format,
                             const vd_dnnl_panel **out) {
    for (vd_cpu_kernel_pack *p = w->kernels; p != NULL; p = p->next)
        if (p->format == format) {
            *out = p->panel;
            return VD_OK;
        }
    *out = NULL;
    vd_cpu_kernel_pack *pack = calloc(1, sizeof *pack);
    if (pack == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a packed kernel");
    vd_status st = pack_rows(be, w, 0, w->head.out, false, format, &pack->panel);
    if (st != VD_OK) {
        free(pack);
        return st;
    }
    pack->format = format;
    pack->next = w->kernels;
    w->kernels = pack;
    *out = pack->panel;
    return VD_OK;
}

/* ---- life ----------------------------------------------------------------------------------- */

void vd_cpu_destroy_weight(vd_backend *be, vd_weight *weight) {
    vd_cpu_weight *w = vd_cpu_weight_of(weight);
    destroy_matrix(be, w);
    for (vd_cpu_kernel_pack *p = w->kernels, *next; p != NULL; p = next) {
        next = p->next;
        destroy_panel(be, p->panel);
        free(p);
    }
    if (w->tiles != NULL)
        be->weight_bytes -= w->tile_bytes;
    free(w->tiles);
    if (w->values != NULL)
        be->weight_bytes -= (size_t)w->head.out * sizeof(float);
    free(w->values);
    free(w->part);
    free(w);
}

static vd_cpu_weight *create_matrix(const vd_weight_part *parts, int part_count, vd_dtype dtype) {
    vd_cpu_weight *w = calloc(1, sizeof *w);
    vd_weight_part *part = malloc((size_t)part_count * sizeof *part);
    if (w == NULL || part == NULL) {
        free(w);
        free(part);
        return NULL;
    }
    memcpy(part, parts, (size_t)part_count * sizeof *part);
    w->part = part;
    w->part_count = part_count;
    w->head = (vd_weight){.dtype = dtype, .in = parts[0].columns, .kernel_h = 1, .kernel_w = 1};
    for (int i = 0; i < part_count; i++)
        w->head.out += parts[i].tensor.dim[0];
    return w;
}

vd_status vd_cpu_create_linear(vd_backend *be, const vd_weight_part *parts, int part_count,
                               vd_dtype dtype, vd_weight **out) {
    vd_cpu_weight *w = create_matrix(parts, part_count, dtype);
    if (w == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a weight");
    w->head.kind = VD_WEIGHT_LINEAR;
    w->k = w->head.in;
    vd_status st =
        vd_cpu_wants_tiles(be, &w->head) ? vd_cpu_pack_tiles(be, w) : vd_cpu_pack_matrix(be, w);
    if (st != VD_OK)
        vd_cpu_destroy_weight(be, &w->head);
    else
        *out = &w->head;
    return st;
}

/* Packs a kernel for a usual image. */
static vd_status pack_usual(vd_backend *be, vd_cpu_weight *w) {
    const vd_weight *h = &w->head;
    if (vd_cpu_wants_tiles(be, h))
        return vd_cpu_pack_tiles(be, w);
    if (h->kernel_w == 1)
        return vd_cpu_pack_matrix(be, w);
    const vd_cpu_device *cpu = be->device;
    const vd_dnnl_conv usual = {.in = h->in,
                                .out = h->out,
                                .src_h = USUAL_SIDE + h->kernel_h,
                                .src_w = USUAL_SIDE + h->kernel_w,
                                .dst_h = USUAL_SIDE + 1,
                                .dst_w = USUAL_SIDE + 1,
                                .kernel_h = h->kernel_h,
                                .kernel_w = h->kernel_w,
                                .stride_h = 1,
                                .stride_w = 1,
                                .dilation_h = 1,
                                .dilation_w = 1,
                                .dtype = h->dtype,
                                .dst_dtype = VD_F32};
    vd_dnnl_plan *plan;
    const vd_dnnl_panel *panel;
    vd_status st = vd_dnnl_plan_conv(cpu->dnnl, &usual, &plan);
    if (st != VD_OK)
        return st;
    if (!vd_dnnl_plan_is_fast(plan))
        return vd_cpu_pack_matrix(be, w);
    return vd_cpu_pack_kernel(be, w, vd_dnnl_plan_format(plan), &panel);
}

vd_status vd_cpu_create_conv(vd_backend *be, const vd_weight_part *part, vd_dtype dtype,
                             vd_weight **out) {
    const int64_t *dim = part->tensor.dim;
    vd_cpu_weight *w = create_matrix(part, 1, dtype);
    if (w == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a weight");
    w->head.kind = VD_WEIGHT_CONV;
    w->head.kernel_h = (int)dim[2];
    w->head.kernel_w = (int)dim[3];
    w->k = w->head.in * dim[2] * dim[3];
    vd_status st = pack_usual(be, w);
    if (st != VD_OK)
        vd_cpu_destroy_weight(be, &w->head);
    else
        *out = &w->head;
    return st;
}

vd_status vd_cpu_create_vector(vd_backend *be, const vd_tensor *parts, int part_count,
                               vd_weight **out) {
    int64_t length = 0;
    for (int i = 0; i < part_count; i++)
        length += vd_tensor_elements(&parts[i]);
    vd_cpu_weight *w = calloc(1, sizeof *w);
    float *values = length > 0 ? malloc((size_t)length * sizeof *values) : NULL;
    if (w == NULL || values == NULL) {
        free(w);
        free(values);
        return vd_fail(VD_ERR_MEMORY, "no memory for a vector of %lld values", (long long)length);
    }
    w->head = (vd_weight){.kind = VD_WEIGHT_VECTOR,
                          .dtype = VD_F32,
                          .out = length,
                          .in = 1,
                          .kernel_h = 1,
                          .kernel_w = 1};
    w->values = values;
    for (int i = 0; i < part_count; i++) {
        const int64_t count = vd_tensor_elements(&parts[i]);
        vd_convert_values(values, VD_F32, parts[i].data, parts[i].dtype, (size_t)count);
        values += count;
    }
    be->weight_bytes += (size_t)length * sizeof(float);
    *out = &w->head;
    return VD_OK;
}

const float *vd_cpu_vector(const vd_weight *vector) {
    return vd_cpu_weight_of(vector)->values;
}

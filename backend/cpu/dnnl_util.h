/* oneDNN behind one small interface: the only file pair that knows its API and its versions
 * (2.6 of Debian 12, 3.x). Included by backend/cpu only.
 *
 * Every primitive is made for one thread and run by one thread at a time of a vd_cpu_parallel
 * region: oneDNN never divides work by itself, because it would divide sums by the thread count.
 */
#ifndef VD_BACKEND_CPU_DNNL_UTIL_H
#define VD_BACKEND_CPU_DNNL_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/tensor.h"

typedef struct vd_cpu_dnnl vd_cpu_dnnl;

typedef enum vd_cpu_isa {
    VD_CPU_BASELINE,
    VD_CPU_AVX2,
    VD_CPU_AVX512,
    VD_CPU_AVX512_BF16
} vd_cpu_isa;

/* `threads`: how many may run a primitive at once. */
vd_status vd_dnnl_create(int threads, vd_cpu_dnnl **out);
void vd_dnnl_destroy(vd_cpu_dnnl *d);
const char *vd_dnnl_version(void); /* "2.6.3" */

/* The instruction set that oneDNN uses, so that ONEDNN_MAX_CPU_ISA rules our kernels too. */
vd_cpu_isa vd_dnnl_isa(const char **name);
bool vd_dnnl_has_native_bf16(void);
bool vd_dnnl_has_amx(void);

/* A status of oneDNN as ours: VD_ERR_MEMORY or VD_ERR_BACKEND with "oneDNN: why" after `doing`. */
vd_status vd_dnnl_status(int dnnl_status, const char *doing);

/* ---- plans: a primitive with its memory objects ---------------------------------------------- */

typedef struct vd_dnnl_plan vd_dnnl_plan;
typedef struct vd_dnnl_format vd_dnnl_format; /* a packed layout of weights; lives as long as `d` */
typedef struct vd_dnnl_panel vd_dnnl_panel;   /* weights in such a layout */

/* c[m, n] = a[m, k] b (+ bias[n]), or c += a b. a and b have one dtype, c has that or F32.
 * b is plain, [k, n] or (b_transposed) [n, k], with rows ldb apart; or ldb is 0 and b is a panel.
 * oneDNN is fast where a and c are dense (lda = k, ldc = n), and best with a panel. */
typedef struct vd_dnnl_matmul {
    int64_t m, n, k;
    int64_t lda, ldb, ldc; /* elements between rows */
    vd_dtype dtype, c_dtype;
    bool b_transposed, bias, accumulate;
} vd_dnnl_matmul;

/* One image: src [src_h, src_w, in] -> dst [dst_h, dst_w, out]; the padding after is what the sizes
 * say. dilation is the spacing of taps. */
typedef struct vd_dnnl_conv {
    int64_t in, out, src_h, src_w, dst_h, dst_w;
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int64_t pad_top, pad_left;
    vd_dtype dtype, dst_dtype;
    bool bias;
} vd_dnnl_conv;

/* The cached plan, made on first use (so: in a dry run). It lives as long as `d`. */
vd_status vd_dnnl_plan_matmul(vd_cpu_dnnl *d, const vd_dnnl_matmul *key, vd_dnnl_plan **out);
vd_status vd_dnnl_plan_conv(vd_cpu_dnnl *d, const vd_dnnl_conv *key, vd_dnnl_plan **out);

/* False where oneDNN has no good code for this shape. */
bool vd_dnnl_plan_is_fast(const vd_dnnl_plan *plan);

/* Bytes that each thread's `scratch` must have in a run. */
size_t vd_dnnl_plan_scratch_bytes(const vd_dnnl_plan *plan);

/* The layout of weights that the plan reads; NULL for a plain b. */
const vd_dnnl_format *vd_dnnl_plan_format(const vd_dnnl_plan *plan);

/* Packs dense host values of the plan's dtype: [n, k], or [out, in, kernel_h, kernel_w]. */
vd_status vd_dnnl_pack(vd_cpu_dnnl *d, const vd_dnnl_format *format, const void *plain,
                       vd_dnnl_panel **out);
void vd_dnnl_panel_destroy(vd_dnnl_panel *panel);
size_t vd_dnnl_panel_bytes(const vd_dnnl_panel *panel);

typedef struct vd_dnnl_args {
    const void *a;
    const void *b;              /* a plain b, else NULL */
    const vd_dnnl_panel *panel; /* of vd_dnnl_plan_format(plan), else NULL */
    const float *bias;          /* NULL if the plan has none */
    void *c;
    void *scratch; /* 64-byte aligned, this thread's own */
} vd_dnnl_args;

/* Returns 0 or a status of oneDNN. `thread` as a vd_cpu_task has it. */
int vd_dnnl_run(const vd_dnnl_plan *plan, int thread, const vd_dnnl_args *args);

#endif

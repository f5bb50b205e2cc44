/* cuDNN behind one small interface: the only file pair that knows its graph API. Included by
 * backend/cuda and its tests only.
 *
 * A graph is one fused operation of fixed shapes with a few plans (engines) that can run it, best
 * guess first. Sums are float32; engines that are not deterministic or that round their inputs are
 * left out.
 */
#ifndef VD_BACKEND_CUDA_DNN_H
#define VD_BACKEND_CUDA_DNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/ops.h"

typedef struct vd_dnn vd_dnn;
typedef struct vd_dnn_graph vd_dnn_graph;

/* What all addresses are multiples of. */
enum { VD_DNN_ALIGN_BYTES = 16 };

/* stream: a cudaStream_t. */
vd_status vd_dnn_create(void *stream, vd_dnn **out);

/* Makes plans for a device that is not there, described in cuDNN's JSON; nothing can be run. For
 * tests on machines without a GPU. */
vd_status vd_dnn_create_without_device(const char *device_json, vd_dnn **out);

void vd_dnn_destroy(vd_dnn *d);
size_t vd_dnn_version(void); /* of the library that is loaded: 91900 */

/* cuDNN's own frontend makes attention in one operation from this version on, of the headers and
 * of the library. */
#define VD_DNN_OLDEST_ATTENTION 91301

/* src [n, src_h, src_w, in], kernel [out, kernel_h, kernel_w, in], dst [n, dst_h, dst_w, out]:
 * dst = conv(src) + bias[row, out] + residual. dtype: BF16 or F16. */
typedef struct vd_dnn_conv {
    int64_t n, in, out, src_h, src_w, dst_h, dst_w;
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int64_t pad_top, pad_left; /* the padding after is what the sizes say */
    vd_dtype dtype, dst_dtype;
    int64_t bias_rows; /* 0: no bias; 1: one row for all images; n: one for each */
    bool residual;     /* of dst_dtype */
} vd_dnn_conv;

/* Softmax(scale * q k^T) v. Strides in elements; not causal. dtype: BF16 or F16. */
typedef struct vd_dnn_attention {
    int64_t batch, heads, head_dim, q_tokens, kv_tokens;
    int64_t q_batch, q_token, k_batch, k_token, v_batch, v_token, out_batch, out_token;
    float scale;
    vd_dtype dtype;
} vd_dnn_attention;

/* *out is NULL, and the status VD_OK, where cuDNN has no plan for this. `most`: plans wanted. */
vd_status vd_dnn_plan_conv(vd_dnn *d, const vd_dnn_conv *key, int most, vd_dnn_graph **out);
vd_status vd_dnn_plan_attention(vd_dnn *d, const vd_dnn_attention *key, vd_dnn_graph **out);
void vd_dnn_graph_destroy(vd_dnn_graph *graph);

/* A plan with its compiled code as text, to be freed, for a file; and back. The restored graph has
 * that one plan; *out is NULL if the text is not of this library and device. */
vd_status vd_dnn_save(const vd_dnn_graph *graph, int plan, char **text, size_t *bytes);
vd_status vd_dnn_restore_conv(vd_dnn *d, const vd_dnn_conv *key, const char *text, size_t bytes,
                              vd_dnn_graph **out);
vd_status vd_dnn_restore_attention(vd_dnn *d, const vd_dnn_attention *key, const char *text,
                                   size_t bytes, vd_dnn_graph **out);

int vd_dnn_plan_count(const vd_dnn_graph *graph);
size_t vd_dnn_workspace_bytes(const vd_dnn_graph *graph, int plan);

/* Device memory. In a convolution a is src, b the kernel, c the residual; in attention q, k, v. */
typedef struct vd_dnn_args {
    const void *a, *b, *c;
    const float *bias;
    void *out, *workspace;
} vd_dnn_args;
vd_status vd_dnn_run(vd_dnn *d, const vd_dnn_graph *graph, int plan, const vd_dnn_args *args);

#endif

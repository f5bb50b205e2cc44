/* Dense row-major tensors, dtypes and conversions between them. */
#ifndef VD_CORE_TENSOR_H
#define VD_CORE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum { VD_MAX_RANK = 8 };

typedef enum vd_dtype {
    VD_F64,
    VD_F32,
    VD_F16,
    VD_BF16,
    VD_I64,
    VD_I32,
    VD_U8,
    VD_BOOL,
} vd_dtype;

/* A view: it owns nothing. Dense, last axis fastest. `data` may be host or device memory; whoever
 * hands a tensor over says which. */
typedef struct vd_tensor {
    void *data;
    vd_dtype dtype;
    int rank;
    int64_t dim[VD_MAX_RANK];
} vd_tensor;

size_t vd_dtype_bytes(vd_dtype dtype);

/* "F32", as safetensors writes it. */
const char *vd_dtype_name(vd_dtype dtype);

/* False if `name` is no dtype that safetensors knows and we read. */
bool vd_dtype_parse(const char *name, vd_dtype *out);

/* Product of the dims; -1 if a dim is negative or the byte size would not fit in int64_t. */
int64_t vd_tensor_elements(const vd_tensor *t);

/* elements * size of dtype; 0 for an invalid shape (see vd_tensor_elements). */
size_t vd_tensor_bytes(const vd_tensor *t);

/* A view of `data` with the given shape; `rank` dims follow as int64_t. */
vd_tensor vd_tensor_view(void *data, vd_dtype dtype, int rank, const int64_t *dim);
#define VD_VIEW(data, dtype, ...)                                                                  \
    vd_tensor_view((data), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),     \
                   (int64_t[]){__VA_ARGS__})

/* A view of one item along axis 0, its dim 1. `data` may be NULL for item 0. */
vd_tensor vd_tensor_item(const vd_tensor *t, int64_t item);

bool vd_tensor_same_shape(const vd_tensor *a, const vd_tensor *b);

/* "F32[1, 4, 8, 16]" into buf, always terminated. Returns buf. */
char *vd_tensor_describe(const vd_tensor *t, char *buf, size_t buf_bytes);

/* One value; round to nearest even. NaN stays NaN, overflow of F16 becomes infinity. */
float vd_f16_to_f32(uint16_t v);
uint16_t vd_f32_to_f16(float v);
float vd_bf16_to_f32(uint16_t v);
uint16_t vd_f32_to_bf16(float v);

/* Converts `count` values on the host between any two dtypes; src and dst do not overlap.
 * To integers: truncates toward zero and saturates (NaN gives 0). To BOOL: 0 or 1. */
void vd_convert_values(void *dst, vd_dtype dst_dtype, const void *src, vd_dtype src_dtype,
                       size_t count);

#endif

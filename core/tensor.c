#include "core/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [VD_F64] = {"F64", 8}, [VD_F32] = {"F32", 4}, [VD_F16] = {"F16", 2}, [VD_BF16] = {"BF16", 2},
    [VD_I64] = {"I64", 8}, [VD_I32] = {"I32", 4}, [VD_U8] = {"U8", 1},   [VD_BOOL] = {"BOOL", 1},
};

size_t vd_dtype_bytes(vd_dtype dtype) {
    return dtypes[dtype].bytes;
}

const char *vd_dtype_name(vd_dtype dtype) {
    return dtypes[dtype].name;
}

bool vd_dtype_parse(const char *name, vd_dtype *out) {
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *out = (vd_dtype)i;
            return true;
        }
    }
    return false;
}

int64_t vd_tensor_elements(const vd_tensor *t) {
    if (t->rank < 0 || t->rank > VD_MAX_RANK)
        return -1;
    bool empty = false;
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] < 0)
            return -1;
        empty = empty || t->dim[i] == 0;
    }
    if (empty)
        return 0;
    int64_t bytes = (int64_t)vd_dtype_bytes(t->dtype);
    int64_t elements = 1;
    for (int i = 0; i < t->rank; i++) {
        if (__builtin_mul_overflow(bytes, t->dim[i], &bytes))
            return -1;
        elements *= t->dim[i];
    }
    return elements;
}

size_t vd_tensor_bytes(const vd_tensor *t) {
    const int64_t elements = vd_tensor_elements(t);
    return elements < 0 ? 0 : (size_t)elements * vd_dtype_bytes(t->dtype);
}

vd_tensor vd_tensor_view(void *data, vd_dtype dtype, int rank, const int64_t *dim) {
    vd_tensor t = {.data = data, .dtype = dtype, .rank = rank};
    if (rank < 0 || rank > VD_MAX_RANK) {
        t.rank = -1;
        return t;
    }
    for (int i = 0; i < rank; i++)
        t.dim[i] = dim[i];
    return t;
}

vd_tensor vd_tensor_item(const vd_tensor *t, int64_t item) {
    vd_tensor one = *t;
    one.dim[0] = 1;
    if (item > 0)
        one.data = (unsigned char *)t->data + (size_t)item * vd_tensor_bytes(&one);
    return one;
}

bool vd_tensor_same_shape(const vd_tensor *a, const vd_tensor *b) {
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

char *vd_tensor_describe(const vd_tensor *t, char *buf, size_t buf_bytes) {
    char text[16 + VD_MAX_RANK * 24];
    int n = snprintf(text, sizeof text, "%s[", vd_dtype_name(t->dtype));
    for (int i = 0; i < t->rank; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%lld", i == 0 ? "" : ", ",
                      (long long)t->dim[i]);
    snprintf(text + n, sizeof text - (size_t)n, "]");
    snprintf(buf, buf_bytes, "%s", text);
    return buf;
}

static float float_of_bits(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint32_t bits_of_float(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

float vd_f16_to_f32(uint16_t v) {
    const uint32_t sign = (uint32_t)(v & 0x8000u) << 16;
    const uint32_t magnitude = v & 0x7FFFu;
    if (magnitude >= 0x7C00u)
        return float_of_bits(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
    /* The multiplication rebiases the exponent and makes subnormals normal, exactly. */
    const float scaled = float_of_bits(magnitude << 13) * 0x1p112f;
    return float_of_bits(sign | bits_of_float(scaled));
}

uint16_t vd_f32_to_f16(float v) {
    const uint32_t bits = bits_of_float(v);
    const uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
    if (magnitude >= 0x477FF000u) /* 65520: half way from the largest value to the next */
        return (uint16_t)(sign | 0x7C00u);
    if (magnitude < 0x38800000u) {
        /* Subnormal: the sum's last place is F16's smallest step, so the addition rounds. */
        const float sum = float_of_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of_float(sum) - bits_of_float(0.5f)));
    }
    const uint32_t odd = (magnitude >> 13) & 1u;
    return (uint16_t)(sign | ((magnitude - 0x38000000u + 0xFFFu + odd) >> 13));
}

float vd_bf16_to_f32(uint16_t v) {
    return float_of_bits((uint32_t)v << 16);
}

uint16_t vd_f32_to_bf16(float v) {
    const uint32_t bits = bits_of_float(v);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

/* Narrows with "round to odd", so that a second rounding to 16 bits is still the nearest. */
static float narrow_for_rounding(double v) {
    float f = (float)v;
    if (isnan(v) || (double)f == v)
        return f;
    if (fabs((double)f) > fabs(v))
        f = nextafterf(f, 0.0f);
    return float_of_bits(bits_of_float(f) | 1u);
}

static int64_t saturate(double v, int64_t min, int64_t max) {
    if (isnan(v))
        return 0;
    if (v <= (double)min)
        return min;
    if (v >= (double)max) /* 2^63 for INT64_MAX: just outside */
        return max;
    return (int64_t)v;
}

/* Exact for every type but I64. */
static double load_double(const unsigned char *src, vd_dtype dtype) {
    double f64 = 0;
    float f32 = 0;
    uint16_t u16 = 0;
    int32_t i32 = 0;
    switch (dtype) {
    case VD_F64:
        memcpy(&f64, src, sizeof f64);
        return f64;
    case VD_F32:
        memcpy(&f32, src, sizeof f32);
        return (double)f32;
    case VD_F16:
        memcpy(&u16, src, sizeof u16);
        return (double)vd_f16_to_f32(u16);
    case VD_BF16:
        memcpy(&u16, src, sizeof u16);
        return (double)vd_bf16_to_f32(u16);
    case VD_I32:
        memcpy(&i32, src, sizeof i32);
        return i32;
    case VD_U8:
        return src[0];
    case VD_BOOL:
        return src[0] != 0;
    case VD_I64:
        break;
    }
    return 0;
}

static void store_int(unsigned char *dst, vd_dtype dtype, int64_t v) {
    if (dtype == VD_I64) {
        memcpy(dst, &v, sizeof v);
    } else if (dtype == VD_I32) {
        const int32_t i32 = v < INT32_MIN ? INT32_MIN : v > INT32_MAX ? INT32_MAX : (int32_t)v;
        memcpy(dst, &i32, sizeof i32);
    } else {
        dst[0] = (unsigned char)(v < 0 ? 0 : v > UINT8_MAX ? UINT8_MAX : v);
    }
}

static void store_double(unsigned char *dst, vd_dtype dtype, double v) {
    uint16_t u16;
    float f32;
    switch (dtype) {
    case VD_F64:
        memcpy(dst, &v, sizeof v);
        return;
    case VD_F32:
        f32 = (float)v;
        memcpy(dst, &f32, sizeof f32);
        return;
    case VD_F16:
        u16 = vd_f32_to_f16(narrow_for_rounding(v));
        memcpy(dst, &u16, sizeof u16);
        return;
    case VD_BF16:
        u16 = vd_f32_to_bf16(narrow_for_rounding(v));
        memcpy(dst, &u16, sizeof u16);
        return;
    case VD_I64:
    case VD_I32:
    case VD_U8:
        store_int(dst, dtype, saturate(v, INT64_MIN, INT64_MAX));
        return;
    case VD_BOOL:
        dst[0] = v != 0;
        return;
    }
}

static void convert_i64(unsigned char *dst, vd_dtype dtype, int64_t v) {
    float f32;
    switch (dtype) {
    case VD_I64:
    case VD_I32:
    case VD_U8:
        store_int(dst, dtype, v);
        return;
    case VD_F32:
        f32 = (float)v;
        memcpy(dst, &f32, sizeof f32);
        return;
    case VD_F16:
    case VD_BF16:
        /* Round to odd where a double cannot hold it, for the reason above. */
        if (v > (INT64_C(1) << 53) || v < -(INT64_C(1) << 53))
            v = (v & ~INT64_C(0x7FF)) | ((v & 0x7FF) != 0 ? 0x800 : 0);
        store_double(dst, dtype, (double)v);
        return;
    case VD_F64:
    case VD_BOOL:
        store_double(dst, dtype, (double)v);
        return;
    }
}

/* The conversions that weights and activations take, as loops that the compiler can vectorise. */
static bool convert_fast(unsigned char *dst, vd_dtype to, const unsigned char *src, vd_dtype from,
                         size_t count) {
    if (from == to && from != VD_BOOL) {
        memcpy(dst, src, count * vd_dtype_bytes(from));
        return true;
    }
    const bool half = from == VD_F16 || to == VD_F16;
    if ((from == VD_F16 || from == VD_BF16) && to == VD_F32) {
        for (size_t i = 0; i < count; i++) {
            uint16_t u16;
            memcpy(&u16, src + 2 * i, 2);
            const float f32 = half ? vd_f16_to_f32(u16) : vd_bf16_to_f32(u16);
            memcpy(dst + 4 * i, &f32, 4);
        }
        return true;
    }
    if (from == VD_F32 && (to == VD_F16 || to == VD_BF16)) {
        for (size_t i = 0; i < count; i++) {
            float f32;
            memcpy(&f32, src + 4 * i, 4);
            const uint16_t u16 = half ? vd_f32_to_f16(f32) : vd_f32_to_bf16(f32);
            memcpy(dst + 2 * i, &u16, 2);
        }
        return true;
    }
    return false;
}

void vd_convert_values(void *dst, vd_dtype dst_dtype, const void *src, vd_dtype src_dtype,
                       size_t count) {
    unsigned char *to = dst;
    const unsigned char *from = src;
    if (count == 0 || convert_fast(to, dst_dtype, from, src_dtype, count))
        return;
    const size_t to_bytes = vd_dtype_bytes(dst_dtype);
    const size_t from_bytes = vd_dtype_bytes(src_dtype);
    for (size_t i = 0; i < count; i++, to += to_bytes, from += from_bytes) {
        if (src_dtype == VD_I64) {
            int64_t v;
            memcpy(&v, from, sizeof v);
            convert_i64(to, dst_dtype, v);
        } else {
            store_double(to, dst_dtype, load_double(from, src_dtype));
        }
    }
}

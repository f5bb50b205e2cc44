/* Written with the compilers' portable vectors: as wide as the instruction set that this copy is
 * compiled for. The last values of a row go through a padded vector, so that they are computed by
 * the same instructions as the others. */
#include "backend/cpu/kernels.h"

#include <math.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16, TILE_ROWS = 6, TILE_VECTORS = 4 };
#elif defined(__AVX2__)
enum { LANES = 8, TILE_ROWS = 6, TILE_VECTORS = 2 };
#else
enum { LANES = 4, TILE_ROWS = 6, TILE_VECTORS = 2 };
#endif

#define LOG2_E 1.44269504088896341F
#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t vi __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef uint32_t vu __attribute__((vector_size(LANES * sizeof(uint32_t))));
typedef uint16_t vh __attribute__((vector_size(LANES * sizeof(uint16_t))));
typedef double vd __attribute__((vector_size(LANES * sizeof(double))));
typedef float vf4 __attribute__((vector_size(4 * sizeof(float))));
typedef uint32_t vu4 __attribute__((vector_size(4 * sizeof(uint32_t))));
typedef uint16_t vh4 __attribute__((vector_size(4 * sizeof(uint16_t))));
typedef uint16_t vh8 __attribute__((vector_size(8 * sizeof(uint16_t))));

/* ---- values --------------------------------------------------------------------------------- */

INLINE vf splat(float value) {
    return value - (vf){0};
}

INLINE vf choose(vi mask, vf a, vf b) {
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

/* The larger, the smaller; b where one of them is NaN. GCC makes six instructions of the general
 * form. */
INLINE vf larger(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return choose(a > b, a, b);
#endif
}

INLINE vf smaller(vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return choose(a < b, a, b);
#endif
}

/* Round to nearest even; NaN stays one. */
INLINE vh to_bf16(vf x) {
#if defined(__AVX512BF16__)
    return (vh)_mm512_cvtneps_pbh((__m512)x);
#else
    const vu u = (vu)x;
    const vu rounded = (u + 0x7FFF + ((u >> 16) & 1)) >> 16;
    const vu nan = (u >> 16) | 0x40;
    const vu is_nan = (vu)(((vi)x & 0x7FFFFFFF) >
                           0x7F800000); // NOLINT(misc-redundant-expression): true for NaN alone
    return __builtin_convertvector((is_nan & nan) | (~is_nan & rounded), vh);
#endif
}

INLINE vf from_bf16(vh h) {
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

/* Values at .. at + LANES, or only `count` of them and zeros. */
INLINE vf get(const void *src, vd_dtype dtype, size_t at) {
    if (dtype == VD_BF16) {
        vh h;
        memcpy(&h, (const uint16_t *)src + at, sizeof h);
        return from_bf16(h);
    }
    vf v;
    memcpy(&v, (const float *)src + at, sizeof v);
    return v;
}

INLINE vf get_some(const void *src, vd_dtype dtype, size_t at, size_t count) {
    if (count >= LANES)
        return get(src, dtype, at);
    if (dtype == VD_BF16) {
        vh h = {0};
        memcpy(&h, (const uint16_t *)src + at, count * sizeof(uint16_t));
        return from_bf16(h);
    }
    vf v = {0};
    memcpy(&v, (const float *)src + at, count * sizeof(float));
    return v;
}

INLINE void put(void *dst, vd_dtype dtype, size_t at, vf v) {
    if (dtype == VD_BF16) {
        const vh h = to_bf16(v);
        memcpy((uint16_t *)dst + at, &h, sizeof h);
    } else {
        memcpy((float *)dst + at, &v, sizeof v);
    }
}

INLINE void put_some(void *dst, vd_dtype dtype, size_t at, vf v, size_t count) {
    if (count >= LANES) {
        put(dst, dtype, at, v);
    } else if (dtype == VD_BF16) {
        const vh h = to_bf16(v);
        memcpy((uint16_t *)dst + at, &h, count * sizeof(uint16_t));
    } else {
        memcpy((float *)dst + at, &v, count * sizeof(float));
    }
}

INLINE float sum_of(vf v) {
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            v[i] += v[i + half];
    return v[0];
}

/* c[0] x^(count - 1) + .. + c[count - 1]. Constants once it is inlined. */
INLINE vf polynomial(vf x, const float *c, size_t count) {
    vf p = splat(c[0]);
#pragma GCC unroll 16
    for (size_t i = 1; i < count; i++)
        p = p * x + c[i];
    return p;
}

#define POLYNOMIAL(x, ...)                                                                         \
    polynomial(x, (const float[]){__VA_ARGS__}, sizeof((float[]){__VA_ARGS__}) / sizeof(float))

/* ---- functions ------------------------------------------------------------------------------ */

/* Within 1 ulp; 0 and infinity where float32 ends. 2^n is applied in two halves, because n may
 * be beyond what one float32 can say. */
INLINE vf exponential(vf x) {
    const float magic = 0x1.8p23F; /* adding it rounds to an integer in the low bits */
    x = choose(x > 89.0F, splat(89.0F), x);
    x = choose(x < -104.0F, splat(-104.0F), x);
    const vf biased = x * LOG2_E + magic;
    const vf n = biased - magic;
    const vf r = (x - n * 0.693359375F) - n * -2.12194440e-4F; /* ln 2 in two parts */
    vf p = POLYNOMIAL(r, 1.9875691500e-4F, 1.3981999507e-3F, 8.3334519073e-3F, 4.1665795894e-2F,
                      1.6666665459e-1F, 5.0000001201e-1F);
    p = p * (r * r) + r + 1.0F;
    const vi exponent = (vi)((vu)biased - (vu)splat(magic));
    const vi half = exponent >> 1;
    const vu rest = (vu)exponent - (vu)half;
    return p * (vf)(((vu)half + 127) << 23) * (vf)((rest + 127) << 23);
}

/* x * Phi(x). Phi(-|x|) exp(x^2 / 2) is a polynomial of (|x| - 4) / (|x| + 4) with a relative error
 * of 2e-8: fitted by weighted least squares on 0 .. 14.5; behind that exp is 0. */
INLINE vf gelu(vf x) {
    vf a = (vf)((vu)x & 0x7FFFFFFF);
    a = choose(a > 15.0F, splat(15.0F), a);
    const vf u = (a - 4.0F) / (a + 4.0F);
    vf p = POLYNOMIAL(u, -6.528454105e-5F, -1.678253902e-4F, 6.577626918e-4F, 5.025025511e-4F,
                      -8.497917093e-3F, 3.086549975e-2F, -7.170674205e-2F, 1.243792027e-1F,
                      -1.703977436e-1F, 9.441064298e-2F);
    const vf tail = p * exponential(a * a * -0.5F);
    return x * choose(x < 0.0F, tail, 1.0F - tail);
}

/* x = n + r, n the nearest integer: r, and n where a float32 has its exponent. */
INLINE vf split_exponent(vf x, vu *n) {
    const float magic = 0x1.8p23F; /* its own low bits are zero */
    const vf biased = x + magic;
    *n = (vu)biased << 23;
    return x - (biased - magic);
}

/* 2^x for x <= 126, at least 2^-125, within 3e-6: enough where the result is rounded to bf16. */
INLINE vf rough_power_of_two(vf x) {
    vu n;
    const vf r = split_exponent(larger(splat(-125.0F), x), &n); /* no result is subnormal */
    vf p = POLYNOMIAL(r, 9.57008098e-3F, 5.59178587e-2F, 2.40247453e-1F, 6.93121815e-1F,
                      9.99999261e-1F);
    return (vf)((vu)p + n);
}

/* gelu within 2e-5, or 1e-5 of itself where it is above 2: a hundredth of what rounding to bf16
 * leaves. Phi(x) is 1/2 + x P(x^2), the errors of x Phi(x) evened out over |x| <= 4.5; beyond that
 * it stays as it is there. */
INLINE vf rough_gelu(vf x) {
    const vf low = larger(splat(-4.5F), x), a = smaller(splat(4.5F), low);
    const vf t = a * a * (2.0F / (4.5F * 4.5F)) - 1.0F;
    vf p = POLYNOMIAL(t, -1.565662897e-3F, 4.655318840e-3F, -6.682857024e-3F, 1.014046323e-2F,
                      -1.815921308e-2F, 2.862396637e-2F, -4.029579015e-2F, 5.467185112e-2F,
                      -7.718336980e-2F, 1.569053007e-1F);
    return low * (a * p + 0.5F);
}

/* 1 / x within 3e-7 of itself, for normal numbers. */
INLINE vf rough_inverse(vf x) {
#if defined(__AVX512F__)
    const vf y = (vf)_mm512_rcp14_ps((__m512)x);
    return y * (2.0F - x * y);
#else
    return 1.0F / x;
#endif
}

/* The same for silu. */
INLINE vf rough_silu(vf x) {
    const vf e = rough_power_of_two(smaller(splat(125.0F), x * -LOG2_E));
    return x * rough_inverse(1.0F + e);
}

INLINE vf activated(vf x, vd_activation act) {
    switch (act) {
    case VD_ACT_SILU:
        return x / (1.0F + exponential(-x));
    case VD_ACT_GELU:
        return gelu(x);
    case VD_ACT_QUICK_GELU:
        return x / (1.0F + exponential(x * -1.702F));
    case VD_ACT_NONE:
    case VD_ACT_GEGLU:
        break;
    }
    return x;
}

static void load(float *dst, const void *src, vd_dtype dtype, size_t count) {
    for (size_t i = 0; i < count; i += LANES)
        put_some(dst, VD_F32, i, get_some(src, dtype, i, count - i), count - i);
}

static void store(void *dst, vd_dtype dtype, const float *src, size_t count) {
    for (size_t i = 0; i < count; i += LANES)
        put_some(dst, dtype, i, get_some(src, VD_F32, i, count - i), count - i);
}

static void activate(float *x, vd_activation act, size_t count) {
    if (act == VD_ACT_NONE)
        return;
    for (size_t i = 0; i < count; i += LANES)
        put_some(x, VD_F32, i, activated(get_some(x, VD_F32, i, count - i), act), count - i);
}

static void geglu(float *dst, const float *a, const float *g, size_t count) {
    for (size_t i = 0; i < count; i += LANES) {
        const vf gate = gelu(get_some(g, VD_F32, i, count - i));
        put_some(dst, VD_F32, i, get_some(a, VD_F32, i, count - i) * gate, count - i);
    }
}

/* A row of dst and residual is some lines at a stride that no prefetcher follows: asked for this
 * many rows ahead. */
enum { FINISH_AHEAD = 24, FINISH_COLUMNS = 32, FINISH_VECTORS = FINISH_COLUMNS / LANES };

/* Whole blocks of bf16, which nearly all are. */
INLINE void finish_block(uint16_t *dst, size_t dst_stride, const float *sums, size_t sum_stride,
                         size_t rows, const vd_cpu_finish_desc *f, const bool gated,
                         const bool adds) {
    const uint16_t *residual = f->residual;
    vf bias[FINISH_VECTORS], gate_bias[FINISH_VECTORS];
    for (size_t i = 0; i < FINISH_VECTORS; i++) {
        bias[i] = f->bias == NULL ? splat(0) : get(f->bias, VD_F32, i * LANES);
        gate_bias[i] = f->gate_bias == NULL ? splat(0) : get(f->gate_bias, VD_F32, i * LANES);
    }
    for (size_t r = 0; r < rows; r++) {
        const size_t at = r * dst_stride, from = r * sum_stride;
        __builtin_prefetch(dst + at + FINISH_AHEAD * dst_stride, 1);
        if (adds)
            __builtin_prefetch(residual + at + FINISH_AHEAD * dst_stride, 0);
        for (size_t i = 0; i < FINISH_VECTORS; i++) {
            vf v = get(sums + from, VD_F32, i * LANES) + bias[i];
            if (gated)
                v *= rough_gelu(get(f->gates + from, VD_F32, i * LANES) + gate_bias[i]);
            if (adds)
                v += get(residual + at, VD_BF16, i * LANES);
            put(dst + at, VD_BF16, i * LANES, v);
        }
    }
}

INLINE void finish_row(void *dst, const float *sums, const float *gates, const void *residual,
                       size_t columns, const vd_cpu_finish_desc *f) {
    for (size_t i = 0; i < columns; i += LANES) {
        const size_t left = columns - i;
        vf v = get_some(sums, VD_F32, i, left);
        if (f->bias != NULL)
            v += get_some(f->bias, VD_F32, i, left);
        if (gates != NULL) {
            vf gate = get_some(gates, VD_F32, i, left);
            if (f->gate_bias != NULL)
                gate += get_some(f->gate_bias, VD_F32, i, left);
            v *= gelu(gate);
        } else {
            v = activated(v, f->act);
        }
        if (residual != NULL)
            v += get_some(residual, f->residual_dtype, i, left);
        put_some(dst, f->dst_dtype, i, v, left);
    }
}

static void finish(void *dst, size_t dst_stride, const float *sums, size_t sum_stride, size_t rows,
                   size_t columns, const vd_cpu_finish_desc *f) {
    const bool gated = f->gates != NULL, adds = f->residual != NULL;
    if (columns == FINISH_COLUMNS && f->dst_dtype == VD_BF16 && (gated || f->act == VD_ACT_NONE) &&
        (!adds || f->residual_dtype == VD_BF16)) {
        if (gated && adds)
            finish_block(dst, dst_stride, sums, sum_stride, rows, f, true, true);
        else if (gated)
            finish_block(dst, dst_stride, sums, sum_stride, rows, f, true, false);
        else if (adds)
            finish_block(dst, dst_stride, sums, sum_stride, rows, f, false, true);
        else
            finish_block(dst, dst_stride, sums, sum_stride, rows, f, false, false);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        unsigned char *to = (unsigned char *)dst + r * dst_stride * vd_dtype_bytes(f->dst_dtype);
        const void *residual = adds ? (const unsigned char *)f->residual +
                                          r * dst_stride * vd_dtype_bytes(f->residual_dtype)
                                    : NULL;
        const float *gates = gated ? f->gates + r * sum_stride : NULL;
        finish_row(to, sums + r * sum_stride, gates, residual, columns, f);
    }
}

/* ---- norms ---------------------------------------------------------------------------------- */

enum { MOMENT_ROWS = 8 };

INLINE void add_to(double *sums, vf v, size_t count) {
    const vd wide = __builtin_convertvector(v, vd);
    vd all = {0};
    if (count >= LANES) {
        memcpy(&all, sums, sizeof all);
        all += wide;
        memcpy(sums, &all, sizeof all);
        return;
    }
    memcpy(&all, sums, count * sizeof(double));
    all += wide;
    memcpy(sums, &all, count * sizeof(double));
}

/* Differences from the first row are summed, so that a mean far from zero cancels nothing: float32
 * for eight rows, then double. */
static void moments(double *mean, double *squares, const void *src, vd_dtype dtype, size_t rows,
                    size_t stride, size_t channels) {
    memset(mean, 0, channels * sizeof *mean);
    memset(squares, 0, channels * sizeof *squares);
    for (size_t row = 0; row < rows; row += MOMENT_ROWS) {
        const size_t run = rows - row < MOMENT_ROWS ? rows - row : MOMENT_ROWS;
        for (size_t i = 0; i < channels; i += LANES) {
            const vf first = get_some(src, dtype, i, channels - i);
            vf sum = {0}, square = {0};
            for (size_t r = 0; r < run; r++) {
                const vf d = get_some(src, dtype, (row + r) * stride + i, channels - i) - first;
                sum += d;
                square += d * d;
            }
            add_to(mean + i, sum, channels - i);
            add_to(squares + i, square, channels - i);
        }
    }
    for (size_t i = 0; i < channels; i += LANES) {
        const vf first = get_some(src, dtype, i, channels - i);
        for (size_t j = i; j < channels && j < i + LANES; j++) {
            const double difference = mean[j] / (double)rows;
            squares[j] -= difference * mean[j];
            if (squares[j] < 0)
                squares[j] = 0;
            mean[j] = (double)first[j - i] + difference;
        }
    }
}

INLINE void normalize_row(void *dst, const vd_dtype dst_dtype, const void *src,
                          const vd_dtype src_dtype, const vd_cpu_norm *norm, size_t channels,
                          const bool rough) {
    for (size_t i = 0; i < channels; i += LANES) {
        const size_t left = channels - i;
        vf v = get_some(src, src_dtype, i, left) - get_some(norm->mean, VD_F32, i, left);
        v = v * get_some(norm->scale, VD_F32, i, left) + get_some(norm->shift, VD_F32, i, left);
        put_some(dst, dst_dtype, i, rough ? rough_silu(v) : activated(v, norm->act), left);
    }
}

static void normalize(void *dst, vd_dtype dst_dtype, const void *src, vd_dtype src_dtype,
                      const vd_cpu_norm *norm, size_t channels) {
    if (dst_dtype == VD_BF16 && src_dtype == VD_BF16 && norm->act == VD_ACT_SILU)
        normalize_row(dst, VD_BF16, src, VD_BF16, norm, channels, true);
    else
        normalize_row(dst, dst_dtype, src, src_dtype, norm, channels, false);
}

/* `row` is padded with `fill` to a whole vector. */
INLINE vf get_filled(const float *row, size_t at, size_t count, float fill) {
    if (count >= LANES)
        return get(row, VD_F32, at);
    vf v = splat(fill);
    memcpy(&v, row + at, count * sizeof(float));
    return v;
}

static void layer_norm(void *dst, vd_dtype dst_dtype, const void *src, vd_dtype src_dtype,
                       const float *scale, const float *shift, float eps, size_t channels,
                       float *row) {
    load(row, src, src_dtype, channels);
    const float first = row[0], part = 1.0F / (float)channels;
    vf sum = {0}, rest = {0}, square = {0};
    for (size_t i = 0; i < channels; i += LANES)
        sum += get_filled(row, i, channels - i, first) - first;
    const float mean = first + sum_of(sum) * part;
    for (size_t i = 0; i < channels; i += LANES) {
        const vf d = get_filled(row, i, channels - i, mean) - mean;
        rest += d;
        square += d * d;
    }
    /* What rounding the mean left over. */
    const float more = sum_of(rest) * part;
    const float variance = sum_of(square) * part - more * more;
    const float factor = 1.0F / sqrtf(variance + eps);
    for (size_t i = 0; i < channels; i += LANES) {
        const size_t left = channels - i;
        const vf d = (get_some(row, VD_F32, i, left) - mean) - more;
        const vf v = d * (get_some(scale, VD_F32, i, left) * factor);
        put_some(dst, dst_dtype, i, v + get_some(shift, VD_F32, i, left), left);
    }
}

/* ---- resize, transpose, combine ------------------------------------------------------------- */

static void blend(void *dst, const void *const corner[4], vd_dtype dtype, float fx, float fy,
                  size_t count) {
    const float gx = 1.0F - fx, gy = 1.0F - fy;
    for (size_t i = 0; i < count; i += LANES) {
        const size_t left = count - i;
        const vf above =
            gx * get_some(corner[0], dtype, i, left) + fx * get_some(corner[1], dtype, i, left);
        const vf below =
            gx * get_some(corner[2], dtype, i, left) + fx * get_some(corner[3], dtype, i, left);
        put_some(dst, dtype, i, gy * above + fy * below, left);
    }
}

INLINE float get_one(const void *src, vd_dtype dtype, size_t at) {
    if (dtype != VD_BF16)
        return ((const float *)src)[at];
    const uint32_t bits = (uint32_t)((const uint16_t *)src)[at] << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

INLINE vf4 get_four(const void *src, vd_dtype dtype, size_t at) {
    if (dtype == VD_BF16) {
        vh4 h;
        memcpy(&h, (const uint16_t *)src + at, sizeof h);
        return (vf4)(__builtin_convertvector(h, vu4) << 16);
    }
    vf4 v;
    memcpy(&v, (const float *)src + at, sizeof v);
    return v;
}

INLINE void put_four(float *dst, vf4 v) {
    memcpy(dst, &v, sizeof v);
}

/* Interleaving the upper with the lower half of the rows three times transposes eight of them. */
INLINE void transpose_eight(uint16_t *dst, size_t dst_stride, const uint16_t *src,
                            size_t src_stride) {
    vh8 row[8], next[8];
    for (size_t i = 0; i < 8; i++)
        memcpy(&row[i], src + i * src_stride, sizeof row[i]);
#pragma GCC unroll 3
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 4; i++) {
            next[2 * i] = __builtin_shufflevector(row[i], row[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            next[2 * i + 1] =
                __builtin_shufflevector(row[i], row[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        memcpy(row, next, sizeof row);
    }
    for (size_t i = 0; i < 8; i++)
        memcpy(dst + i * dst_stride, &row[i], sizeof row[i]);
}

static void transpose_halves(uint16_t *dst, size_t dst_stride, const uint16_t *src,
                             size_t src_stride, size_t rows, size_t columns) {
    const size_t whole_rows = rows & ~(size_t)7, whole_columns = columns & ~(size_t)7;
    for (size_t r = 0; r < whole_rows; r += 8)
        for (size_t c = 0; c < whole_columns; c += 8)
            transpose_eight(dst + c * dst_stride + r, dst_stride, src + r * src_stride + c,
                            src_stride);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = r < whole_rows ? whole_columns : 0; c < columns; c++)
            dst[c * dst_stride + r] = src[r * src_stride + c];
}

/* Eight rows are rounded, then transposed. */
static void transpose_rounded(uint16_t *dst, size_t dst_stride, const float *src, size_t src_stride,
                              size_t rows, size_t columns) {
    enum { ROWS = 8, WIDTH = 64 };
    uint16_t part[ROWS * WIDTH];
    for (size_t r = 0; r < rows; r += ROWS)
        for (size_t c = 0; c < columns; c += WIDTH) {
            const size_t count = rows - r < ROWS ? rows - r : ROWS;
            const size_t width = columns - c < WIDTH ? columns - c : WIDTH;
            for (size_t i = 0; i < count; i++)
                store(part + i * WIDTH, VD_BF16, src + (r + i) * src_stride + c, width);
            transpose_halves(dst + c * dst_stride + r, dst_stride, part, WIDTH, count, width);
        }
}

/* To float32. */
INLINE void transpose_fours(float *dst, size_t dst_stride, const void *src,
                            const vd_dtype src_dtype, size_t src_stride, size_t rows,
                            size_t columns) {
    const size_t whole_rows = rows & ~(size_t)3, whole_columns = columns & ~(size_t)3;
    for (size_t r = 0; r < whole_rows; r += 4)
        for (size_t c = 0; c < whole_columns; c += 4) {
            const vf4 a = get_four(src, src_dtype, r * src_stride + c);
            const vf4 b = get_four(src, src_dtype, (r + 1) * src_stride + c);
            const vf4 e = get_four(src, src_dtype, (r + 2) * src_stride + c);
            const vf4 f = get_four(src, src_dtype, (r + 3) * src_stride + c);
            const vf4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
            const vf4 ef = __builtin_shufflevector(e, f, 0, 4, 1, 5);
            const vf4 ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const vf4 ef2 = __builtin_shufflevector(e, f, 2, 6, 3, 7);
            float *to = dst + c * dst_stride + r;
            put_four(to, __builtin_shufflevector(ab, ef, 0, 1, 4, 5));
            put_four(to + dst_stride, __builtin_shufflevector(ab, ef, 2, 3, 6, 7));
            put_four(to + 2 * dst_stride, __builtin_shufflevector(ab2, ef2, 0, 1, 4, 5));
            put_four(to + 3 * dst_stride, __builtin_shufflevector(ab2, ef2, 2, 3, 6, 7));
        }
    for (size_t r = 0; r < rows; r++)
        for (size_t c = r < whole_rows ? whole_columns : 0; c < columns; c++)
            dst[c * dst_stride + r] = get_one(src, src_dtype, r * src_stride + c);
}

static void transpose(void *dst, vd_dtype dst_dtype, size_t dst_stride, const void *src,
                      vd_dtype src_dtype, size_t src_stride, size_t rows, size_t columns) {
    if (src_dtype == VD_BF16 && dst_dtype == VD_BF16)
        transpose_halves(dst, dst_stride, src, src_stride, rows, columns);
    else if (dst_dtype == VD_BF16)
        transpose_rounded(dst, dst_stride, src, src_stride, rows, columns);
    else if (src_dtype == VD_BF16)
        transpose_fours(dst, dst_stride, src, VD_BF16, src_stride, rows, columns);
    else
        transpose_fours(dst, dst_stride, src, VD_F32, src_stride, rows, columns);
}

static void combine(float *dst, int terms, const double *coefficient, const float *const *src,
                    size_t first, size_t count) {
    enum { BLOCK = 64 };
    for (size_t at = first; at < first + count; at += BLOCK) {
        const size_t run = first + count - at < BLOCK ? first + count - at : BLOCK;
        double sum[BLOCK] = {0};
        for (int k = 0; k < terms; k++)
            for (size_t i = 0; i < run; i++)
                sum[i] += coefficient[k] * (double)src[k][at + i];
        for (size_t i = 0; i < run; i++)
            dst[at + i] = (float)sum[i];
    }
}

/* ---- taps ------------------------------------------------------------------------------------ */

#include "backend/cpu/kernel_taps.inc"

/* ---- weights -------------------------------------------------------------------------------- */

#include "backend/cpu/kernel_pack.inc"

/* ---- matrix products and softmax ------------------------------------------------------------ */

typedef struct strided {
    const float *at;
    size_t row, column;
} strided;

/* `rows` x `vectors` sums in registers. */
INLINE void tile(float *c, size_t ldc, strided a, const float *b, size_t ldb, size_t k,
                 bool accumulate, const int rows, const int vectors) {
    vf sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[r][v] = accumulate ? get(c + (size_t)r * ldc, VD_F32, (size_t)v * LANES) : (vf){0};
    for (size_t p = 0; p < k; p++) {
        vf row[TILE_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            row[v] = get(b + p * ldb, VD_F32, (size_t)v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                sum[r][v] += a.at[(size_t)r * a.row + p * a.column] * row[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            put(c + (size_t)r * ldc, VD_F32, (size_t)v * LANES, sum[r][v]);
}

INLINE void column_of_tiles(float *c, size_t ldc, strided a, const float *b, size_t ldb, size_t m,
                            size_t k, bool accumulate, const int vectors) {
    size_t r = 0;
    for (; r + TILE_ROWS <= m; r += TILE_ROWS, a.at += TILE_ROWS * a.row)
        tile(c + r * ldc, ldc, a, b, ldb, k, accumulate, TILE_ROWS, vectors);
    if (m - r >= 4) {
        tile(c + r * ldc, ldc, a, b, ldb, k, accumulate, 4, vectors);
        r += 4;
        a.at += 4 * a.row;
    }
    for (; r < m; r++, a.at += a.row)
        tile(c + r * ldc, ldc, a, b, ldb, k, accumulate, 1, vectors);
}

INLINE void product_of(float *c, size_t ldc, strided a, const float *b, size_t ldb, size_t m,
                       size_t n, size_t k, bool accumulate) {
    for (size_t at = 0; at < n;) {
        const size_t left = (n - at + LANES - 1) / LANES;
        if (left >= 4 && TILE_VECTORS >= 4) {
            column_of_tiles(c + at, ldc, a, b + at, ldb, m, k, accumulate, TILE_VECTORS);
            at += (size_t)TILE_VECTORS * LANES;
        } else if (left >= 3 && TILE_VECTORS >= 4) {
            column_of_tiles(c + at, ldc, a, b + at, ldb, m, k, accumulate, TILE_VECTORS - 1);
            at += (size_t)(TILE_VECTORS - 1) * LANES;
        } else if (left >= 2) {
            column_of_tiles(c + at, ldc, a, b + at, ldb, m, k, accumulate, 2);
            at += (size_t)2 * LANES;
        } else {
            column_of_tiles(c + at, ldc, a, b + at, ldb, m, k, accumulate, 1);
            at += LANES;
        }
    }
}

static void product(float *c, size_t ldc, const float *a, size_t a_row, size_t a_column,
                    const float *b, size_t ldb, size_t m, size_t n, size_t k, bool accumulate) {
    const strided from = {.at = a, .row = a_row, .column = a_column};
    product_of(c, ldc, from, b, ldb, m, n, k, accumulate);
}

/* 2^x for x <= 0 within 1 ulp; below 2^-126 it is 0. A polynomial that is 1 at 0, fitted by
 * weighted least squares: relative error 2e-9. */
INLINE vf power_of_two(vf x) {
    vu n;
    const vf r = split_exponent(x, &n);
    vf p = POLYNOMIAL(r, 1.5353362e-4F, 1.3398875e-3F, 9.6184369e-3F, 5.5503324e-2F, 2.4022648e-1F,
                      6.9314718e-1F, 1.0F);
    p *= (vf)(n + (vu)splat(1.0F));
    return choose(x < -126.0F, splat(0.0F), p);
}

/* Comparisons pass NaN over, so tops stay numbers, and the power makes it a NaN of the sum. A
 * column of nothing but -infinity adds nothing. */
static void softmax(void *w, vd_dtype dtype, const float *s, size_t stride, size_t rows,
                    size_t columns, float scale, float *top, float *sum, float *factor) {
    const float unit = scale * LOG2_E;
    for (size_t i = 0; i < columns; i += LANES) {
        const vf before = get(top, VD_F32, i);
        vf most = before;
        for (size_t r = 0; r < rows; r++) {
            const vf v = get(s + r * stride, VD_F32, i) * unit;
            most = larger(v, most);
        }
        put(top, VD_F32, i, most);
        const vf base = choose(most == -INFINITY, splat(0.0F), most);
        const vf old = power_of_two(before - base);
        vf added = {0};
        for (size_t r = 0; r < rows; r++) {
            const vf v = power_of_two(get(s + r * stride, VD_F32, i) * unit - base);
            put(w, dtype, r * stride + i, v);
            added += v;
        }
        put(factor, VD_F32, i, old);
        put(sum, VD_F32, i, get(sum, VD_F32, i) * old + added);
    }
}

/* ---- weights in pairs of rows: half a step of a block of B of backend/cpu/amx.h ----------- */

enum { PAIRS_ROWS = 16, PAIRS_COLUMNS = 32, PAIR_BYTES = 64, PAIRS_TILE_BYTES = 1024 };

/* The upper halves of two rows, the first in the lower half. */
INLINE vu pair_up(vu first, vu second) {
    return (first >> 16) | (second & 0xFFFF0000);
}

/* Columns i .. of rows r and r + 1. */
INLINE void put_pairs(void *w, size_t r, size_t i, vu pairs) {
    unsigned char *to =
        (unsigned char *)w + i / 16 * PAIRS_TILE_BYTES + r / 2 * PAIR_BYTES + i % 16 * 4;
    memcpy(to, &pairs, sizeof pairs);
}

/* 2^(x + 1/2) (1 +- 8e-5), -125 <= x <= 125, and 2^-8 of its power of two: the fraction lies in 1
 * .. 2, where 2^-8 is half of what bf16 keeps, so that cutting the lower half off rounds. */
INLINE vu raised(vf x) {
    vu n;
    const vf r = split_exponent(x, &n);
    vf p = POLYNOMIAL(r, 7.802452118e-2F, 3.431039393e-1F, 9.804190882e-1F, 1.414111843F + 0x1p-8F);
    return (vu)p + n;
}

INLINE void power_columns(void *w, const float *s, size_t rows, float unit, const float *base,
                          float *top, size_t i) {
    const vf low = get(base, VD_F32, i), least = splat(-125.0F);
    vf most[2] = {get(top, VD_F32, i), get(top, VD_F32, i)};
    for (size_t r = 0; r < PAIRS_ROWS; r += 2) {
        vu power[2] = {{0}, {0}};
        for (size_t j = 0; j < 2 && r + j < rows; j++) {
            const vf x = get(s + (r + j) * PAIRS_COLUMNS, VD_F32, i) * unit - low;
            most[j] = larger(x, most[j]);
            power[j] = raised(larger(least, x));
        }
        put_pairs(w, r, i, pair_up(power[0], power[1]));
    }
    put(top, VD_F32, i, larger(most[0], most[1]));
}

static void power_pairs(void *w, const float *s, size_t rows, float scale, const float *base,
                        float *top) {
    const float unit = scale * LOG2_E;
    for (size_t i = 0; i < PAIRS_COLUMNS; i += LANES)
        if (rows >= PAIRS_ROWS)
            power_columns(w, s, PAIRS_ROWS, unit, base, top, i);
        else
            power_columns(w, s, rows, unit, base, top, i);
}

static void scale_columns(float *x, size_t stride, size_t rows, size_t columns,
                          const float *factor) {
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i += LANES)
            put(x + r * stride, VD_F32, i, get(x + r * stride, VD_F32, i) * get(factor, VD_F32, i));
}

const vd_cpu_kernels VD_KERNELS = {
    .isa = VD_KERNELS_ISA,
    .load = load,
    .store = store,
    .convert = convert,
    .pack_tiles = pack_tiles,
    .activate = activate,
    .geglu = geglu,
    .finish = finish,
    .moments = moments,
    .normalize = normalize,
    .layer_norm = layer_norm,
    .blend = blend,
    .mix_taps = mix_taps,
    .transpose = transpose,
    .combine = combine,
    .product = product,
    .softmax = softmax,
    .power_pairs = power_pairs,
    .scale_columns = scale_columns,
};

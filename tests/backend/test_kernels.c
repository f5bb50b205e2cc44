/* The inner loops of every instruction set that this machine has: single values exhaustively or in
 * fine steps, products and softmax of all small shapes. */
#include <float.h>
#include <stdlib.h>

#include "backend/cpu/kernels.h"
#include "tests/backend/op_case.h"
#include "tests/check.h"
#include "tests/ref_ops.h"

enum { BATCH = 1 << 12 };

static float from_bits(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint32_t to_bits(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* A value rounded to bf16 as k does it: its instruction takes what is subnormal for zero. */
static uint16_t rounded(const vd_cpu_kernels *k, float x, uint16_t half) {
    const bool flushes = strcmp(k->isa, "avx512_bf16") == 0 && fpclassify(x) == FP_SUBNORMAL;
    return flushes ? half & 0x8000 : half;
}

static void test_bf16(const vd_cpu_kernels *k) {
    static uint16_t half[1 << 16], back[1 << 16];
    static float wide[1 << 16];
    int wrong = 0;
    for (uint32_t i = 0; i < 1 << 16; i++)
        half[i] = (uint16_t)i;
    k->load(wide, half, VD_BF16, 1 << 16);
    k->store(back, VD_BF16, wide, 1 << 16);
    for (uint32_t i = 0; i < 1 << 16; i++) {
        const bool nan = isnan(vd_bf16_to_f32(half[i]));
        wrong += to_bits(wide[i]) != i << 16;
        wrong += nan ? !isnan(vd_bf16_to_f32(back[i])) : back[i] != rounded(k, wide[i], half[i]);
    }
    for (uint64_t bits = 0; bits < 1ULL << 32; bits += 997ULL * BATCH) {
        for (uint32_t i = 0; i < BATCH; i++)
            wide[i] = from_bits((uint32_t)bits + i * 997);
        k->store(back, VD_BF16, wide, BATCH);
        for (uint32_t i = 0; i < BATCH; i++)
            wrong += isnan(wide[i]) ? !isnan(vd_bf16_to_f32(back[i]))
                                    : back[i] != rounded(k, wide[i], vd_f32_to_bf16(wide[i]));
    }
    CHECK(wrong == 0);
}

/* Every value of 16 bits, and counts that fill no vector: bit by bit what one value at a time
 * gives.
 */
static void test_convert(const vd_cpu_kernels *k) {
    static const vd_dtype from[] = {VD_F16, VD_BF16, VD_F32}, to[] = {VD_F32, VD_BF16};
    static uint16_t half[1 << 16];
    static float wide[1 << 16];
    static uint32_t got[1 << 16], want[1 << 16]; /* bits */
    for (uint32_t i = 0; i < 1 << 16; i++) {
        half[i] = (uint16_t)i;
        wide[i] = from_bits(i * 65537 + 12345);
    }
    for (size_t f = 0; f < sizeof from / sizeof from[0]; f++)
        for (size_t t = 0; t < sizeof to / sizeof to[0]; t++)
            for (size_t count = 1 << 16; count > 0; count /= 3) {
                const void *src = from[f] == VD_F32 ? (const void *)wide : half;
                memset(got, 0x55, sizeof got);
                memset(want, 0x55, sizeof want);
                k->convert(got, to[t], src, from[f], count);
                vd_convert_values(want, to[t], src, from[f], count);
                for (size_t i = 0; i < count && from[f] == VD_F32 && to[t] == VD_BF16; i++)
                    ((uint16_t *)want)[i] = rounded(k, wide[i], ((uint16_t *)want)[i]);
                /* The instruction makes every NaN a quiet one. */
                for (size_t i = 0; i < count && from[f] == VD_F16 && to[t] == VD_F32; i++)
                    if (isnan(from_bits(want[i])) && isnan(from_bits(got[i])))
                        want[i] = got[i];
                CHECK_MSG(memcmp(got, want, sizeof got) == 0, "%s: %zu of %s to %s", k->isa, count,
                          vd_dtype_name(from[f]), vd_dtype_name(to[t]));
            }
}

/* Against the layout's definition; bytes outside the tiles stay as they were. */
static void test_pack_tiles(const vd_cpu_kernels *k) {
    enum { ROWS = 16, DEPTH = 32, MOST_TAPS = 9, TILE = 1024, STRIDE = TILE + 64 };
    static uint16_t values[ROWS][DEPTH * MOST_TAPS];
    static unsigned char got[MOST_TAPS * STRIDE], want[MOST_TAPS * STRIDE];
    static unsigned char scratch[MOST_TAPS * TILE];
    static const size_t taps_of[] = {1, 3, 9}, channels_of[] = {32, 31, 16, 1};
    for (size_t i = 0; i < sizeof values / sizeof(uint16_t); i++)
        ((uint16_t *)values)[i] = (uint16_t)(i * 40503);
    for (size_t n = 0; n < 36; n++) {
        const size_t taps = taps_of[n % 3], channels = channels_of[n / 3 % 4];
        const void *row[ROWS];
        vd_dtype dtype[ROWS]; /* of one kind, then of two by turns */
        memset(got, 0x55, sizeof got);
        memset(want, 0x55, sizeof want);
        for (size_t r = 0; r < ROWS; r++) {
            row[r] = n % 5 == 0 && r >= 11 ? NULL : values[r];
            dtype[r] = n / 12 == 0 || (n / 12 == 2 && r % 2 == 0) ? VD_F16 : VD_BF16;
        }
        for (size_t r = 0; r < ROWS; r++)
            for (size_t c = 0; c < DEPTH; c++)
                for (size_t tap = 0; tap < taps; tap++) {
                    uint16_t v = 0;
                    if (c < channels && row[r] != NULL)
                        vd_convert_values(&v, VD_BF16, &values[r][c * taps + tap], dtype[r], 1);
                    memcpy(want + tap * STRIDE + c / 2 * 64 + r * 4 + c % 2 * 2, &v, sizeof v);
                }
        k->pack_tiles(got, STRIDE, row, dtype, channels, taps, scratch);
        CHECK_MSG(memcmp(got, want, sizeof got) == 0, "%s: %zu channels, %zu taps of %s", k->isa,
                  channels, taps, vd_dtype_name(dtype[1]));
    }
}

/* 8 units in the last place: two or three functions with 1 or 2 each. The arguments of exp are
 * rounded, which counts as much more as they are large: x^2 / 2 for gelu, 1.702 x. Results below
 * 1e-35 may be flushed, because 1 + exp(-x) overflows there. */
static void test_activations(const vd_cpu_kernels *k) {
    static const vd_activation acts[] = {VD_ACT_SILU, VD_ACT_GELU, VD_ACT_QUICK_GELU};
    static float x[BATCH], y[BATCH];
    for (size_t a = 0; a < sizeof acts / sizeof acts[0]; a++) {
        double worst = 0;
        for (uint64_t bits = 0; bits < 1ULL << 32; bits += 1499ULL * BATCH) {
            for (uint32_t i = 0; i < BATCH; i++)
                x[i] = y[i] = from_bits((uint32_t)bits + i * 1499);
            k->activate(y, acts[a], BATCH);
            for (uint32_t i = 0; i < BATCH; i++) {
                if (!isfinite(x[i])) {
                    CHECK(!isnan(x[i]) || isnan(y[i]));
                    CHECK(x[i] != INFINITY || y[i] == INFINITY);
                    continue;
                }
                const double v = (double)x[i], expected = ref_activation(v, acts[a]);
                const double argument = acts[a] == VD_ACT_GELU ? v * v : fabs(v);
                const double allowed =
                    fabs(expected) * 0x1p-24 * (8 + 2 * fmin(argument, 1e3)) + 1e-35;
                worst = fmax(worst, fabs((double)y[i] - expected) / allowed);
            }
        }
        CHECK_MSG(worst <= 1, "%s: activation %d, %g of what is allowed", k->isa, (int)acts[a],
                  worst);
    }
}

static void test_geglu(const vd_cpu_kernels *k) {
    float a[37], g[37], got[37];
    op_random(a, 37, 3.0F, VD_F32, 1);
    op_random(g, 37, 3.0F, VD_F32, 2);
    k->geglu(got, a, g, 37);
    for (int i = 0; i < 37; i++) {
        const double expected = (double)a[i] * ref_activation((double)g[i], VD_ACT_GELU);
        CHECK(fabs((double)got[i] - expected) <= fabs(expected) * 0x1p-24 * 32);
    }
}

/* Columns of scores in two blocks, as an online softmax has them, against the softmax of both. */
static void test_softmax(const vd_cpu_kernels *k) {
    enum { ROWS = 40, STRIDE = 48 };
    static float s[2][ROWS * STRIDE], x[2][ROWS * STRIDE];
    static const float amplitudes[] = {0.3F, 4.0F, 60.0F};
    const float scale = 1.5F;
    for (size_t columns = 1; columns <= STRIDE; columns += 5) {
        const float amplitude = amplitudes[columns % 3];
        /* 6 units in the last place for two functions and two products; exponents and their
         * differences, up to 3 * 1.5 amplitudes, are rounded as well. */
        const double allowed = 0x1p-24 * (6 + 6.0 * (double)amplitude);
        float top[STRIDE], sum[STRIDE], factor[2][STRIDE];
        for (int i = 0; i < STRIDE; i++) {
            top[i] = -INFINITY;
            sum[i] = 0;
        }
        for (int b = 0; b < 2; b++) {
            op_random(x[b], (size_t)ROWS * STRIDE, amplitude, VD_F32,
                      (uint32_t)(columns * 2) + (uint32_t)b);
            memcpy(s[b], x[b], sizeof s[b]);
            k->softmax(s[b], VD_F32, s[b], STRIDE, ROWS, columns, scale, top, sum, factor[b]);
        }
        for (size_t c = 0; c < columns; c++) {
            double most = -INFINITY, total = 0;
            for (int i = 0; i < 2 * ROWS; i++)
                most = fmax(most, (double)x[i / ROWS][(size_t)(i % ROWS) * STRIDE + c] * 1.5);
            CHECK(factor[0][c] == 0 && factor[1][c] <= 1);
            int wrong = 0;
            for (int i = 0; i < 2 * ROWS; i++) {
                const size_t at = (size_t)(i % ROWS) * STRIDE + c;
                const double expected = exp((double)x[i / ROWS][at] * 1.5 - most);
                const double got = (double)s[i / ROWS][at] * (i < ROWS ? (double)factor[1][c] : 1);
                total += expected;
                /* Weights below 2^-126 may be 0. */
                wrong += !(fabs(got - expected) <= expected * allowed + 0x1p-126);
            }
            CHECK(wrong == 0);
            CHECK(fabs((double)sum[c] - total) <= total * allowed);
        }
    }
}

/* Scores of -infinity weigh nothing, also before any other; NaN makes the sum NaN. */
static void test_softmax_extremes(const vd_cpu_kernels *k) {
    enum { STRIDE = 16 };
    float s[3 * STRIDE] = {0}, top[STRIDE], sum[STRIDE], factor[STRIDE];
    float *const row[3] = {s, s + STRIDE, s + (size_t)2 * STRIDE};
    for (int i = 0; i < STRIDE; i++) {
        top[i] = -INFINITY;
        sum[i] = 0;
    }
    for (int i = 0; i < 3; i++)
        row[i][0] = -INFINITY;
    k->softmax(s, VD_F32, s, STRIDE, 3, 1, 1.0F, top, sum, factor);
    CHECK(sum[0] == 0 && s[0] == 0 && top[0] == -INFINITY);
    s[0] = row[2][0] = -INFINITY;
    row[1][0] = 2;
    k->softmax(s, VD_F32, s, STRIDE, 3, 1, 1.0F, top, sum, factor);
    CHECK(s[0] == 0 && fabsf(row[1][0] - 1) < 1e-5F && sum[0] == row[1][0]);
    s[0] = 1;
    row[1][0] = NAN;
    row[2][0] = 5;
    k->softmax(s, VD_F32, s, STRIDE, 3, 1, 1.0F, top, sum, factor);
    CHECK(isnan(sum[0]) && isnan(row[1][0]) && fabsf(row[2][0] - 1) < 1e-5F);
    /* A negative scale turns the order round. */
    top[0] = -INFINITY;
    sum[0] = 0;
    s[0] = 100;
    row[1][0] = -100;
    k->softmax(s, VD_F32, s, STRIDE, 2, 1, -1.0F, top, sum, factor);
    CHECK(s[0] == 0 && fabsf(row[1][0] - 1) < 1e-5F && sum[0] == row[1][0]);
}

/* Small integers: sums are exact, so any order of them must give the same bits. */
static void test_product(const vd_cpu_kernels *k) {
    enum { MOST = 100, LD = 112 };
    static float a[MOST * LD], b[MOST * LD], c[MOST * LD];
    static const size_t ns[] = {1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100};
    for (size_t i = 0; i < (size_t)MOST * LD; i++) {
        a[i] = (float)((int)(i * 37 % 11) - 5);
        b[i] = (float)((int)(i * 53 % 13) - 6);
    }
    int wrong = 0;
    for (size_t m = 1; m <= 14; m++)
        for (size_t j = 0; j < sizeof ns / sizeof ns[0]; j++)
            for (size_t kk = 1; kk <= MOST; kk += 1 + kk / 2) {
                const size_t n = ns[j];
                /* a, then a transposed onto it */
                k->product(c, LD, a, LD, 1, b, LD, m, n, kk, false);
                k->product(c, LD, a, 1, LD, b, LD, m, n, kk, true);
                for (size_t r = 0; r < m; r++)
                    for (size_t i = 0; i < n; i++) {
                        float sum = 0;
                        for (size_t p = 0; p < kk; p++)
                            sum += (a[r * LD + p] + a[p * LD + r]) * b[p * LD + i];
                        wrong += c[r * LD + i] != sum;
                    }
            }
    CHECK(wrong == 0);
}

int main(void) {
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
    const struct {
        const vd_cpu_kernels *kernels;
        bool here;
    } sets[] = {{&vd_cpu_kernels_baseline, true},
                {&vd_cpu_kernels_avx2, avx2},
                {&vd_cpu_kernels_avx512, avx512},
                {&vd_cpu_kernels_avx512_bf16, avx512 && __builtin_cpu_supports("avx512bf16")}};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        printf("%s: %s\n", sets[i].kernels->isa, sets[i].here ? "tested" : "not on this machine");
        if (!sets[i].here)
            continue;
        test_bf16(sets[i].kernels);
        test_convert(sets[i].kernels);
        test_pack_tiles(sets[i].kernels);
        test_activations(sets[i].kernels);
        test_geglu(sets[i].kernels);
        test_softmax(sets[i].kernels);
        test_softmax_extremes(sets[i].kernels);
        test_product(sets[i].kernels);
    }
    return CHECK_DONE();
}

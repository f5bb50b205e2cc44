#include "core/rng.h"

#include <math.h>
#include <string.h>

enum { STATE_WORDS = 624, SHIFT_WORDS = 397, BLOCK = 16, HALF_BLOCK = BLOCK / 2 };

static const double two_pi = 6.283185307179586476925286766559;

void vd_rng_seed(vd_rng *rng, uint64_t seed) {
    rng->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < STATE_WORDS; i++) {
        const uint32_t previous = rng->state[i - 1];
        rng->state[i] = 1812433253u * (previous ^ previous >> 30) + i;
    }
    rng->left = 1;
    rng->next = 0;
    rng->has_next_normal = false;
    rng->next_normal = 0;
}

static uint32_t twist(uint32_t u, uint32_t v) {
    const uint32_t mixed = (u & 0x80000000u) | (v & 0x7FFFFFFFu);
    return mixed >> 1 ^ (v & 1u ? 0x9908B0DFu : 0u);
}

static void next_state(vd_rng *rng) {
    uint32_t *s = rng->state;
    for (int i = 0; i < STATE_WORDS; i++)
        s[i] = s[(i + SHIFT_WORDS) % STATE_WORDS] ^ twist(s[i], s[(i + 1) % STATE_WORDS]);
    rng->left = STATE_WORDS;
    rng->next = 0;
}

uint32_t vd_rng_u32(vd_rng *rng) {
    if (--rng->left == 0)
        next_state(rng);
    uint32_t y = rng->state[rng->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9D2C5680u;
    y ^= (y << 15) & 0xEFC60000u;
    y ^= y >> 18;
    return y;
}

static float uniform_f32(vd_rng *rng) {
    return (float)(vd_rng_u32(rng) & 0xFFFFFFu) * 0x1p-24f;
}

static double uniform_f64(vd_rng *rng) {
    const uint64_t high = vd_rng_u32(rng);
    const uint64_t low = vd_rng_u32(rng);
    return (double)((high << 32 | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

/* One normal value of at::normal_distribution<double>. */
static double normal_f64(vd_rng *rng) {
    if (rng->has_next_normal) {
        rng->has_next_normal = false;
        return rng->next_normal;
    }
    const double u1 = uniform_f64(rng);
    const double u2 = uniform_f64(rng);
    const double radius = sqrt(-2 * log1p(-u2));
    const double theta = two_pi * u1;
    rng->next_normal = radius * sin(theta);
    rng->has_next_normal = true;
    return radius * cos(theta);
}

static uint32_t bits_of(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The three functions below follow, operation by operation, the Cephes approximations that PyTorch
 * vectorises (Pommier's avx_mathfun), fused where its compiler fuses. So the noise is PyTorch's to
 * the bit and does not depend on this machine's libm. */

/* Natural logarithm for 0 < v <= 1. */
static float cephes_log(float v) {
    static const float c[] = {7.0376836292E-2f,  -1.1514610310E-1f, 1.1676998740E-1f,
                              -1.2420140846E-1f, 1.4249322787E-1f,  -1.6668057665E-1f,
                              2.0000714765E-1f,  -2.4999993993E-1f, 3.3333331174E-1f};
    static const float sqrt_half = 0.707106781186547524f;
    static const float ln2_low = -2.12194440E-4f;
    static const float ln2_high = 0.693359375f;
    float exponent = (float)((int)(bits_of(v) >> 23) - 126);
    float x = float_of((bits_of(v) & 0x7FFFFFu) | bits_of(0.5f));
    if (x < sqrt_half) {
        exponent -= 1.0f;
        x = x - 1.0f + x;
    } else {
        x -= 1.0f;
    }
    const float z = x * x;
    float y = c[0];
    for (int i = 1; i < 9; i++)
        y = fmaf(y, x, c[i]);
    y *= x;
    y = fmaf(y, z, exponent * ln2_low);
    y = fmaf(-0.5f, z, y);
    return fmaf(exponent, ln2_high, x + y);
}

/* Sine and cosine for 0 <= v <= 2 pi. */
static void cephes_sincos(float v, float *sine, float *cosine) {
    static const float four_over_pi = 1.27323954473516f;
    const int octant = ((int)(v * four_over_pi) + 1) & ~1;
    const float turn = (float)octant;
    float x = fmaf(turn, -0.78515625f, v);
    x = fmaf(turn, -2.4187564849853515625E-4f, x);
    x = fmaf(turn, -3.77489497744594108E-8f, x);

    const float z = x * x;
    float even = fmaf(2.443315711809948E-5f, z, -1.388731625493765E-3f);
    even = fmaf(even, z, 4.166664568298827E-2f);
    even *= z;
    even = fmaf(even, z, -0.5f * z) + 1.0f;
    float odd = fmaf(-1.9515295891E-4f, z, 8.3321608736E-3f);
    odd = fmaf(odd, z, -1.6666654611E-1f);
    odd *= z;
    odd = fmaf(odd, x, x);

    const bool swapped = (octant & 2) != 0;
    const float s = swapped ? even : odd;
    const float c = swapped ? odd : even;
    *sine = (octant & 4) != 0 ? -s : s;
    *cosine = ((octant + 2) & 4) != 0 ? -c : c;
}

/* Box-Muller over one block of uniforms, in place. */
static void block_to_normal(float *v) {
    for (int i = 0; i < HALF_BLOCK; i++) {
        const float radius = sqrtf(-2.0f * cephes_log(1.0f - v[i]));
        const float theta = (float)two_pi * v[i + HALF_BLOCK];
        float sine;
        float cosine;
        cephes_sincos(theta, &sine, &cosine);
        v[i] = radius * cosine + 0.0f; /* as the mean is added there: no negative zero */
        v[i + HALF_BLOCK] = radius * sine + 0.0f;
    }
}

void vd_rng_normal_f32(vd_rng *rng, float *dst, size_t count) {
    if (count < BLOCK) {
        for (size_t i = 0; i < count; i++)
            dst[i] = (float)normal_f64(rng);
        return;
    }
    for (size_t i = 0; i < count; i++)
        dst[i] = uniform_f32(rng);
    size_t at = 0;
    for (; at + BLOCK <= count; at += BLOCK)
        block_to_normal(dst + at);
    if (at < count) {
        float *last = dst + count - BLOCK;
        for (int i = 0; i < BLOCK; i++)
            last[i] = uniform_f32(rng);
        block_to_normal(last);
    }
}

/* PyTorch's CPU generator: mt19937, and torch.randn's two ways of drawing from it. */
#ifndef VD_CORE_RNG_H
#define VD_CORE_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct vd_rng {
    uint32_t state[624];
    int left; /* draws left before the next twist */
    int next;
    bool has_next_normal; /* the cached second value of Box-Muller, as at::CPUGeneratorImpl has */
    double next_normal;
} vd_rng;

/* torch.Generator("cpu").manual_seed(seed): only the low 32 bits seed mt19937. */
void vd_rng_seed(vd_rng *rng, uint64_t seed);

uint32_t vd_rng_u32(vd_rng *rng);

/* torch.randn(count, dtype=float32, generator=g), count >= 16: the vectorised Box-Muller over
 * blocks of 16 with the last 16 redrawn when count is not a multiple; below 16 the scalar double
 * path, whose second value is kept for the next short draw. From 16 on this gives, on every
 * machine, the bits of PyTorch 2.15 on x86 with AVX2 or AVX-512 (measured: no difference in 60
 * million values). PyTorch without AVX2 computes the angle otherwise and differs from both by up
 * to 2.4e-6 (measured in 6 million values). Below 16 equal as far as libm's double functions are.
 */
void vd_rng_normal_f32(vd_rng *rng, float *dst, size_t count);

#endif

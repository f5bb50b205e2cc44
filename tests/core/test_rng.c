#include <stdbool.h>
#include <stdlib.h>

#include "core/rng.h"
#include "core/safetensors.h"
#include "tests/check.h"

static bool same_bytes(const void *a, const void *b, size_t bytes) {
    return memcmp(a, b, bytes) == 0;
}

/* Repeats the draws that a tensor's name tells, "SEED/SIZE,SIZE,...", and compares the end of them
 * (all, but for the long one) with PyTorch's values. */
static void test_draws(const char *name, const vd_tensor *expected) {
    enum { MAX_VALUES = 20000 };
    static float drawn[MAX_VALUES];
    static float golden[MAX_VALUES];
    const size_t kept = (size_t)vd_tensor_elements(expected);
    char *at = NULL;
    vd_rng rng;
    vd_rng_seed(&rng, strtoull(name, &at, 10));
    size_t total = 0;
    bool only_blocks = true;
    while (*at == '/' || *at == ',') {
        const size_t size = strtoul(at + 1, &at, 10);
        CHECK(total + size <= MAX_VALUES);
        if (total + size > MAX_VALUES)
            return;
        vd_rng_normal_f32(&rng, drawn + total, size);
        total += size;
        only_blocks = only_blocks && size >= 16;
    }
    CHECK(kept > 0 && kept <= total);
    vd_convert_values(golden, VD_F32, expected->data, expected->dtype, kept);
    const float *got = drawn + total - kept;
    for (size_t i = 0; i < kept; i++) {
        /* Short draws go through libm's double log1p, sin and cos: another libm may round another
         * way in their last place, which can move the float by one. */
        const bool close =
            nextafterf(golden[i], -INFINITY) <= got[i] && got[i] <= nextafterf(golden[i], INFINITY);
        CHECK_MSG(only_blocks ? same_bytes(&got[i], &golden[i], sizeof(float)) : close,
                  "%s: [%zu] is %.9g, PyTorch has %.9g (tools/make_core_golden.py)", name, i,
                  (double)got[i], (double)golden[i]);
    }
}

/* The first outputs of the reference mt19937ar.c for seed 5489 and the 10000th (C++ standard,
 * [rand.predef]). */
static void test_mt19937(void) {
    vd_rng rng;
    vd_rng_seed(&rng, 5489);
    CHECK(vd_rng_u32(&rng) == 3499211612u);
    CHECK(vd_rng_u32(&rng) == 581869302u);
    uint32_t last = 0;
    for (int i = 3; i <= 10000; i++)
        last = vd_rng_u32(&rng);
    CHECK(last == 4123659995u);
}

/* Only the low 32 bits of a seed count, and seeding forgets the cached value. */
static void test_seed(void) {
    vd_rng a;
    vd_rng b;
    float x[3];
    float y[3];
    vd_rng_seed(&a, 5);
    vd_rng_seed(&b, (UINT64_C(1) << 32) + 5);
    vd_rng_normal_f32(&a, x, 3);
    vd_rng_normal_f32(&b, y, 3);
    CHECK(same_bytes(x, y, sizeof x));
    vd_rng_seed(&a, 5);
    vd_rng_normal_f32(&a, x, 3);
    CHECK(same_bytes(x, y, sizeof x));
    vd_rng_normal_f32(&a, x, 0);
}

int main(void) {
    test_mt19937();
    test_seed();
    vd_checkpoint *ck = NULL;
    CHECK_OK(vd_checkpoint_open_file(VD_SOURCE_DIR "/tests/core/golden_randn.safetensors", &ck));
    if (ck == NULL)
        return CHECK_DONE();
    CHECK(vd_checkpoint_count(ck) == 49);
    for (size_t i = 0; i < vd_checkpoint_count(ck); i++) {
        vd_tensor expected;
        CHECK(vd_checkpoint_find(ck, vd_checkpoint_name(ck, i), &expected));
        test_draws(vd_checkpoint_name(ck, i), &expected);
    }
    vd_checkpoint_destroy(ck);
    return CHECK_DONE();
}

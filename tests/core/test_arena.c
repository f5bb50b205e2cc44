#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/arena.h"
#include "tests/check.h"

enum { UNITS = 600, SLOTS = 40, STEPS = 4000 };

static const size_t align_bytes = VD_ARENA_ALIGN_BYTES;

/* The naive model: one flag per unit of 64 bytes, searched from the start. */
static bool used[UNITS];

static int model_alloc(int units) {
    for (int at = 0; at + units <= UNITS; at++) {
        int n = 0;
        while (n < units && !used[at + n])
            n++;
        if (n == units) {
            memset(used + at, true, (size_t)units);
            return at;
        }
    }
    return -1;
}

static unsigned random_below(uint64_t *state, unsigned n) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*state >> 33) % n;
}

typedef struct slot {
    char *real;
    char *dry;
    int at;
    int units;
} slot;

static void free_slot(slot *s, vd_arena *real, vd_arena *dry) {
    vd_arena_free(real, s->real);
    vd_arena_free(dry, s->dry);
    memset(used + s->at, false, (size_t)s->units);
    *s = (slot){0};
}

/* Random allocations and frees: the offsets are the model's, in memory and dry. */
static void test_sequence(uint64_t seed, vd_arena *real, vd_arena *dry, char *base) {
    slot slots[SLOTS] = {0};
    int peak = 0;
    memset(used, false, sizeof used);
    vd_arena_reset(real, base, UNITS * align_bytes);
    vd_arena_reset(dry, NULL, 0);
    char *dry_base = vd_arena_alloc(dry, 1);
    vd_arena_free(dry, dry_base);
    for (int step = 0; step < STEPS; step++) {
        slot *s = &slots[random_below(&seed, SLOTS)];
        if (s->real != NULL) {
            free_slot(s, real, dry);
            continue;
        }
        const size_t bytes = random_below(&seed, 30 * VD_ARENA_ALIGN_BYTES);
        const int units = bytes == 0 ? 1 : (int)((bytes + align_bytes - 1) / align_bytes);
        const int at = model_alloc(units);
        char *p = vd_arena_alloc(real, bytes);
        CHECK((p == NULL) == (at < 0));
        if (p == NULL || at < 0)
            break; /* a dry arena never refuses: compare only until here */
        *s = (slot){p, vd_arena_alloc(dry, bytes), at, units};
        CHECK(p == base + (size_t)at * align_bytes);
        CHECK((uintptr_t)s->dry - (uintptr_t)dry_base == (uintptr_t)at * align_bytes);
        if (at + units > peak)
            peak = at + units;
        CHECK(vd_arena_peak_bytes(real) == (size_t)peak * align_bytes);
        CHECK(vd_arena_peak_bytes(dry) == (size_t)peak * align_bytes);
    }
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].real != NULL)
            free_slot(&slots[i], real, dry);
    CHECK(vd_arena_live(real) == 0 && vd_arena_live(dry) == 0);
    CHECK(vd_arena_alloc(real, UNITS * align_bytes) == base); /* all coalesced */
}

static void test_limits(vd_arena *arena, char *base) {
    vd_arena_reset(arena, base, 10 * align_bytes);
    CHECK(vd_arena_alloc(arena, 10 * align_bytes + 1) == NULL);
    CHECK(vd_arena_alloc(arena, SIZE_MAX) == NULL);
    char *a = vd_arena_alloc(arena, 0);
    char *b = vd_arena_alloc(arena, 9 * align_bytes);
    CHECK(a == base && b == base + align_bytes);
    CHECK(vd_arena_alloc(arena, 1) == NULL);
    CHECK(vd_arena_live(arena) == 2);
    vd_arena_free(arena, NULL);
    vd_arena_free(arena, a);
    CHECK(vd_arena_alloc(arena, align_bytes) == base);

    vd_arena_reset(arena, NULL, 0); /* more live blocks than the first table holds */
    void *first = vd_arena_alloc(arena, 1);
    CHECK(first != NULL);
    for (int i = 1; i < 5000; i++)
        CHECK(vd_arena_alloc(arena, 1) != NULL);
    CHECK(vd_arena_live(arena) == 5000 && vd_arena_peak_bytes(arena) == 5000 * align_bytes);
    CHECK(vd_arena_alloc(arena, SIZE_MAX - 10) == NULL);
    CHECK(vd_arena_alloc(arena, (size_t)1 << 45) != NULL);
}

int main(void) {
    vd_arena *real = NULL;
    vd_arena *dry = NULL;
    char *base = aligned_alloc(align_bytes, UNITS * align_bytes);
    CHECK_OK(vd_arena_create(&real));
    CHECK_OK(vd_arena_create(&dry));
    CHECK(base != NULL);
    for (uint64_t seed = 1; seed <= 30; seed++)
        test_sequence(seed, real, dry, base);
    test_limits(real, base);
    vd_arena_destroy(real);
    vd_arena_destroy(dry);
    vd_arena_destroy(NULL);
    free(base);
    return CHECK_DONE();
}

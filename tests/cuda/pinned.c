#include "pinned.h"

#include <stdlib.h>
#include <string.h>

/* ---- registered memory ---------------------------------------------------------------------- */

typedef struct range {
    const char *first;
    size_t bytes;
    struct range *next;
} range;
static range *ranges;

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags) {
    range *r = malloc(sizeof *r);
    (void)flags;
    if (r == NULL)
        return cudaErrorMemoryAllocation;
    *r = (range){p, bytes, ranges};
    ranges = r;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p) {
    for (range **at = &ranges; *at != NULL; at = &(*at)->next)
        if ((*at)->first == p) {
            range *gone = *at;
            *at = gone->next;
            free(gone);
            return cudaSuccess;
        }
    return cudaErrorHostMemoryNotRegistered;
}

static bool is_registered(const void *p) {
    const char *at = p;
    for (const range *r = ranges; r != NULL; r = r->next)
        if (at >= r->first && at < r->first + r->bytes)
            return true;
    return false;
}

/* ---- copies that wait ----------------------------------------------------------------------- */

typedef struct copy {
    void *dst;
    const void *src;
    size_t bytes;
} copy;

enum { MOST = 64 };
static copy queue[MOST]; /* of one stream; the numbers are those of all copies so far */
static size_t begun, done;
static cudaStream_t copying;

static void run_until(size_t number) {
    for (; done < number; done++) {
        const copy *c = &queue[done % MOST];
        memcpy(c->dst, c->src, c->bytes);
    }
}

bool vd_pinned_later(void *dst, const void *src, size_t bytes, cudaStream_t stream) {
    if (!is_registered(src))
        return false;
    if (stream != copying || begun - done == MOST)
        run_until(begun);
    copying = stream;
    queue[begun++ % MOST] = (copy){dst, src, bytes};
    return true;
}

/* A handle is room for a number (runtime.c). */
void vd_pinned_mark(cudaEvent_t event, cudaStream_t stream) {
    const size_t number = stream == copying ? begun : 0;
    memcpy(event, &number, sizeof number);
}

void vd_pinned_reach(cudaEvent_t event) {
    size_t number;
    memcpy(&number, event, sizeof number);
    run_until(number);
}

void vd_pinned_wait(cudaStream_t stream) {
    if (stream == copying)
        run_until(begun);
}

/* ---- a device that is lost ------------------------------------------------------------------ */

static bool lost;

bool vd_pinned_lost(void) {
    static long copies;
    const char *at = getenv("VD_EMULATED_LOST");
    lost = lost || (at != NULL && ++copies >= strtol(at, NULL, 10));
    return lost;
}

bool vd_pinned_is_lost(void) {
    return lost;
}

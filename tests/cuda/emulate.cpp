#include "tests/cuda/emulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <vector>

#include "tests/cuda/queue.h"

vd_emulated_state vd_emulated;

namespace {

enum { STACK_BYTES = 128 * 1024, MOST_THREADS = 1024 };

struct coroutine {
    ucontext_t context; /* for the start */
    void *jump[5];      /* for going on */
    char *stack;
    bool started, done;
};

coroutine threads[MOST_THREADS];
coroutine scheduler;
int current = -1; /* -1: no barrier may be reached */
const std::function<void()> *body;

uint3 index_of(unsigned i) {
    const dim3 b = vd_emulated.block;
    return {i % b.x, i / b.x % b.y, i / b.x / b.y};
}

#ifdef __SANITIZE_ADDRESS__ /* knows swapcontext */
void change(coroutine *from, coroutine *to) {
    swapcontext(&from->context, &to->context);
}
#else
/* swapcontext is two system calls; only the first time needs it. */
__attribute__((noinline)) void jump(coroutine *to) {
    __builtin_longjmp(to->jump, 1);
}

__attribute__((noinline)) void change(coroutine *from, coroutine *to) {
    if (__builtin_setjmp(from->jump) != 0)
        return;
    if (to->started)
        jump(to);
    to->started = true;
    setcontext(&to->context);
}
#endif

void enter() {
    (*body)();
    threads[current].done = true;
    change(&threads[current], &scheduler);
}

void start(unsigned i) {
    coroutine &t = threads[i];
    if (t.stack == nullptr)
        t.stack = static_cast<char *>(malloc(STACK_BYTES));
    getcontext(&t.context);
    t.context.uc_stack.ss_sp = t.stack;
    t.context.uc_stack.ss_size = STACK_BYTES;
    t.context.uc_link = nullptr;
    t.started = t.done = false;
    makecontext(&t.context, enter, 0);
}

void run_block_together(unsigned count) {
    scheduler.started = true;
    static const bool backwards = getenv("VD_EMULATED_ORDER") != nullptr;
    for (unsigned i = 0; i < count; i++)
        start(i);
    unsigned waiting = count;
    while (waiting > 0) {
        for (unsigned n = 0; n < count; n++) {
            const unsigned i = backwards ? count - 1 - n : n;
            if (threads[i].done)
                continue;
            current = static_cast<int>(i);
            vd_emulated.thread_index = index_of(i);
            change(&scheduler, &threads[i]);
            waiting -= threads[i].done;
        }
    }
    current = -1;
}

} // namespace

void vd_emulate_barrier() {
    if (current < 0) {
        fprintf(stderr, "a kernel with a barrier was launched without VD_LAUNCH_TOGETHER\n");
        abort();
    }
    change(&threads[current], &scheduler);
}

static void run(dim3 grid, dim3 block, size_t shared_bytes, bool together,
                const std::function<void()> &thread);

void vd_emulate_launch(dim3 grid, dim3 block, size_t shared_bytes, bool together,
                       const std::function<void()> &thread) {
    const unsigned count = block.x * block.y * block.z;
    if (count == 0 || count > MOST_THREADS || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.y > 65535 || grid.z > 65535 || shared_bytes > 48 * 1024) {
        fprintf(stderr, "an impossible launch: %u x %u x %u blocks of %u threads, %zu bytes\n",
                grid.x, grid.y, grid.z, count, shared_bytes);
        abort();
    }
    vd_emulate_submit([=] { run(grid, block, shared_bytes, together, thread); });
}

static void run(dim3 grid, dim3 block, size_t shared_bytes, bool together,
                const std::function<void()> &thread) {
    const unsigned count = block.x * block.y * block.z;
    /* Exactly as large as asked for, and full of NaN, so that AddressSanitizer sees what is beyond
     * and a test what nobody wrote. */
    float *shared = static_cast<float *>(malloc(shared_bytes));
    body = &thread;
    vd_emulated.grid = grid;
    vd_emulated.block = block;
    vd_emulated.shared = shared;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                vd_emulated.block_index = {x, y, z};
                if (shared_bytes > 0)
                    memset(shared, 0xFF, shared_bytes);
                if (together) {
                    run_block_together(count);
                    continue;
                }
                for (unsigned i = 0; i < count; i++) {
                    vd_emulated.thread_index = index_of(i);
                    thread();
                }
            }
    free(shared);
}

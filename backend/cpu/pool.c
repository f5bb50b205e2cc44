#include "backend/cpu/pool.h"

#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* Looks at the flag this often before sleeping: some microseconds, about what waking costs. */
enum { SPINS = 500 };

struct vd_cpu_pool {
    int threads;
    int started;
    pthread_t *thread;
    pthread_mutex_t lock;
    pthread_cond_t work, done;

    /* The job in hand. `round` changes when a new one is there. */
    _Atomic uint64_t round;
    _Atomic int64_t next;
    _Atomic int failed;
    _Atomic int busy; /* workers that have not finished the round */
    bool stop;
    int64_t count;
    vd_cpu_task run;
    void *user;
};

typedef struct worker_start {
    vd_cpu_pool *pool;
    int index;
} worker_start;

static inline void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void take_tasks(vd_cpu_pool *p, int thread) {
    for (;;) {
        const int64_t task = atomic_fetch_add(&p->next, 1);
        if (task >= p->count || atomic_load(&p->failed) != 0)
            return;
        const int rc = p->run(p->user, task, thread);
        if (rc != 0)
            atomic_store(&p->failed, rc);
    }
}

/* Returns when the round differs from `seen`; that round's number. */
static uint64_t await_round(vd_cpu_pool *p, uint64_t seen) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&p->round) != seen)
            return atomic_load(&p->round);
        pause_cpu();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->round) == seen)
        pthread_cond_wait(&p->work, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return atomic_load(&p->round);
}

static void *worker(void *argument) {
    const worker_start start = *(worker_start *)argument;
    vd_cpu_pool *p = start.pool;
    uint64_t seen = 0;
    free(argument);
    omp_set_num_threads(1); /* what oneDNN sees inside */
    for (;;) {
        seen = await_round(p, seen);
        if (p->stop)
            return NULL;
        if (start.index < p->count)
            take_tasks(p, start.index);
        if (atomic_fetch_sub(&p->busy, 1) == 1) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

vd_status vd_cpu_pool_create(int threads, vd_cpu_pool **out) {
    *out = NULL;
    vd_cpu_pool *p = calloc(1, sizeof *p);
    if (p == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the threads of the cpu backend");
    p->threads = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    p->thread = calloc((size_t)threads, sizeof *p->thread);
    for (int i = 1; p->thread != NULL && i < threads; i++) {
        worker_start *start = malloc(sizeof *start);
        if (start != NULL)
            *start = (worker_start){p, i};
        if (start == NULL || pthread_create(&p->thread[i], NULL, worker, start) != 0) {
            free(start);
            break;
        }
        p->started++;
    }
    if (p->thread == NULL || p->started != threads - 1) {
        const int started = p->started + 1;
        vd_cpu_pool_destroy(p);
        return vd_fail(VD_ERR_MEMORY, "only %d of %d threads could be started: use fewer --threads",
                       started, threads);
    }
    *out = p;
    return VD_OK;
}

/* Hands the job to the workers. */
static void begin_round(vd_cpu_pool *p) {
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->round, 1);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
}

void vd_cpu_pool_destroy(vd_cpu_pool *p) {
    if (p == NULL)
        return;
    p->stop = true;
    begin_round(p);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p->thread);
    free(p);
}

int vd_cpu_parallel(vd_cpu_pool *p, int64_t count, vd_cpu_task run, void *user) {
    if (count <= 0)
        return 0;
    const int outer = omp_get_max_threads();
    p->count = count;
    p->run = run;
    p->user = user;
    atomic_store(&p->next, 0);
    atomic_store(&p->failed, 0);
    omp_set_num_threads(1);
    const bool share = count > 1 && p->started > 0;
    if (share) {
        atomic_store(&p->busy, p->started);
        begin_round(p);
    }
    take_tasks(p, 0);
    if (share) {
        for (int i = 0; i < SPINS && atomic_load(&p->busy) != 0; i++)
            pause_cpu();
        if (atomic_load(&p->busy) != 0) {
            pthread_mutex_lock(&p->lock);
            while (atomic_load(&p->busy) != 0)
                pthread_cond_wait(&p->done, &p->lock);
            pthread_mutex_unlock(&p->lock);
        }
    }
    omp_set_num_threads(outer);
    return atomic_load(&p->failed);
}

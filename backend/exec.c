/* The context of a forward: dry runs book memory, a commit takes it, real runs use it. */
#include <stdlib.h>

#include "backend/backend_impl.h"
#include "backend/profile.h"
#include "core/log.h"

vd_status vd_exec_create(vd_backend *be, vd_dtype dtype, vd_exec **out) {
    *out = NULL;
    if (!vd_backend_has_dtype(be, dtype))
        return vd_fail(VD_ERR_BACKEND, "the %s backend cannot compute in %s here; use --dtype %s",
                       vd_backend_name(be), vd_dtype_name(dtype),
                       vd_backend_auto_dtype(be) == VD_BF16 ? "bf16 or f32" : "f32");
    vd_exec *x = calloc(1, sizeof *x);
    if (x == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for an execution context");
    x->be = be;
    x->dtype = dtype;
    x->dry = true;
    vd_status st = vd_arena_create(&x->arena);
    if (st != VD_OK) {
        free(x);
        return st;
    }
    *out = x;
    return VD_OK;
}

static void forget_all(vd_exec *x) {
    for (vd_repetition *r = x->repetitions, *next; r != NULL; r = next) {
        next = r->next;
        if (r->recording != NULL)
            x->be->table->forget(x->be, r->recording);
        free(r);
    }
    x->repetitions = NULL;
}

void vd_exec_destroy(vd_exec *x) {
    if (x == NULL)
        return;
    forget_all(x);
    vd_profiler_destroy(x->profiler);
    vd_arena_destroy(x->arena);
    vd_backend_free(x->be, x->memory);
    free(x);
}

vd_backend *vd_exec_backend(vd_exec *x) {
    return x->be;
}

vd_dtype vd_exec_dtype(const vd_exec *x) {
    return x->dtype;
}

bool vd_exec_dry(const vd_exec *x) {
    return x->dry;
}

size_t vd_exec_peak_bytes(const vd_exec *x) {
    return x->dry ? vd_arena_peak_bytes(x->arena) : x->peak_bytes;
}

vd_status vd_exec_commit(vd_exec *x) {
    if (!x->dry)
        return vd_fail(VD_ERR_BACKEND, "commit: the dry phase is already over");
    if (vd_arena_live(x->arena) != 0)
        return vd_fail(VD_ERR_BACKEND, "commit: %zu activations of the dry run are still alive",
                       vd_arena_live(x->arena));
    const size_t bytes = vd_arena_peak_bytes(x->arena);
    vd_status st = vd_backend_alloc(x->be, bytes == 0 ? 1 : bytes, &x->memory);
    if (st != VD_OK)
        return vd_fail_in(st, "%.1f MiB for activations", (double)bytes / 1048576.0);
    x->peak_bytes = bytes;
    vd_arena_reset(x->arena, x->memory, bytes);
    x->dry = false;
    return VD_OK;
}

void vd_exec_reset(vd_exec *x) {
    forget_all(x);
    vd_arena_reset(x->arena, NULL, 0);
    vd_backend_free(x->be, x->memory);
    x->memory = NULL;
    x->peak_bytes = 0;
    x->dry = true;
}

static vd_status take(vd_exec *x, const char *what, size_t bytes, void **out) {
    *out = vd_arena_alloc(x->arena, bytes);
    if (*out != NULL)
        return VD_OK;
    if (x->dry)
        return vd_fail(VD_ERR_MEMORY, "no memory to plan %s of %zu bytes", what, bytes);
    return vd_fail(VD_ERR_MEMORY,
                   "%s of %zu bytes does not fit in the %zu that were planned: this is not the "
                   "forward of the dry run",
                   what, bytes, x->peak_bytes);
}

vd_status vd_exec_alloc(vd_exec *x, vd_dtype dtype, int rank, const int64_t *dim, vd_tensor *out) {
    *out = (vd_tensor){0};
    if (dtype != VD_F32 && dtype != x->dtype)
        return vd_fail(VD_ERR_BACKEND, "an activation of %s where F32 or %s is computed",
                       vd_dtype_name(dtype), vd_dtype_name(x->dtype));
    if (rank < 0 || rank > VD_MAX_RANK)
        return vd_fail(VD_ERR_BACKEND, "an activation of rank %d", rank);
    vd_tensor t = vd_tensor_view(NULL, dtype, rank, dim);
    char shape[128];
    if (vd_tensor_elements(&t) <= 0)
        return vd_fail(VD_ERR_BACKEND, "an activation of an impossible shape, %s",
                       vd_tensor_describe(&t, shape, sizeof shape));
    vd_status st = take(x, "an activation", vd_tensor_bytes(&t), &t.data);
    if (st == VD_OK)
        *out = t;
    return st;
}

void vd_exec_free(vd_exec *x, vd_tensor *t) {
    vd_arena_free(x->arena, t->data);
    t->data = NULL;
}

vd_status vd_exec_scratch(vd_exec *x, size_t bytes, void **out) {
    return take(x, "scratch", bytes, out);
}

void vd_exec_scratch_free(vd_exec *x, void *ptr) {
    vd_arena_free(x->arena, ptr);
}

void vd_exec_set_interrupt(vd_exec *x, bool (*should_stop)(void *user), void *user) {
    x->should_stop = should_stop;
    x->stop_user = user;
}

void vd_exec_watch(vd_exec *x, vd_exec_watcher watch, void *user) {
    x->watch = watch;
    x->watch_user = user;
}

/* ---- repetition ----------------------------------------------------------------------------- */

/* *known: not for the first time. NULL: no memory to remember it. */
static vd_repetition *find(vd_exec *x, const void *key1, const void *key2, bool *known) {
    for (vd_repetition *r = x->repetitions; r != NULL; r = r->next)
        if (r->key[0] == key1 && r->key[1] == key2) {
            *known = true;
            return r;
        }
    *known = false;
    vd_repetition *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    *r = (vd_repetition){.key = {key1, key2}, .next = x->repetitions};
    x->repetitions = r;
    return r;
}

/* The first time is not recorded: libraries load code and choose at their first call, which a
 * capture may refuse. */
vd_status vd_exec_repeat(vd_exec *x, const void *key1, const void *key2,
                         vd_status (*body)(void *user), void *user) {
    const vd_backend_table *table = x->be->table;
    bool known = false;
    /* A repetition would not bring weights to the device. */
    if (table->record == NULL || vd_backend_offloads(x->be) || x->unrecordable || x->dry ||
        x->watch != NULL || x->profiler != NULL)
        return body(user);
    vd_repetition *r = find(x, key1, key2, &known);
    if (!known)
        return body(user);
    if (r->recording == NULL) {
        const vd_status st = table->record(x->be, body, user, &r->recording);
        if (st == VD_ERR_INTERRUPTED)
            return st;
        if (st != VD_OK) {
            x->unrecordable = true;
            vd_log(VD_LOG_WARNING, "the steps are launched op by op: %s", vd_error_message());
            return body(user);
        }
    }
    return table->replay(x->be, r->recording);
}

/* ---- profile -------------------------------------------------------------------------------- */

vd_status vd_exec_profile_start(vd_exec *x) {
    if (x->profiler == NULL)
        return vd_profiler_create(&x->profiler);
    vd_profiler_clear(x->profiler);
    return VD_OK;
}

const vd_op_profile *vd_exec_profile(const vd_exec *x, size_t *count) {
    *count = 0;
    return x->profiler == NULL ? NULL : vd_profiler_lines(x->profiler, count);
}

void vd_exec_profile_stop(vd_exec *x) {
    vd_profiler_destroy(x->profiler);
    x->profiler = NULL;
}

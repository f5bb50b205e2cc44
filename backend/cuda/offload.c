#include "backend/cuda/offload.h"

#include <stdlib.h>

/* One is computed with, the others are filled: enough for a long copy behind a short op. */
enum { SLOTS = 3, PAGE_BYTES = 4096 };

typedef struct slot {
    void *memory;
    int held;          /* the weight that is there or on its way; -1: none */
    cudaEvent_t ready; /* behind the copy */
    cudaEvent_t used;  /* behind the last op that read it */
} slot;

struct vd_cuda_offload {
    cudaStream_t copies;
    slot slot[SLOTS];
    size_t slot_bytes; /* that all slots have; 0: not taken yet */
    size_t widest;     /* of the weights */
    int turn;          /* the slot that is filled next */
    int last;          /* the weight that was used last; -1: none */
    /* Weights by number; NULL: gone. Numbers are not used again, so that `next` never dangles. */
    vd_cuda_weight **weight;
    int count, room;
};

static vd_status make(vd_cuda_device *cuda) {
    vd_status st = VD_OK;
    struct vd_cuda_offload *o = calloc(1, sizeof *o);
    if (o == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory to stream weights with");
    cuda->offload = o;
    o->last = -1;
    VD_TRY(vd_cuda_status(cudaStreamCreateWithFlags(&o->copies, cudaStreamNonBlocking),
                          "making a stream"));
    for (int i = 0; i < SLOTS; i++) {
        o->slot[i].held = -1;
        VD_TRY(vd_cuda_status(cudaEventCreateWithFlags(&o->slot[i].ready, cudaEventDisableTiming),
                              "making an event"));
        VD_TRY(vd_cuda_status(cudaEventCreateWithFlags(&o->slot[i].used, cudaEventDisableTiming),
                              "making an event"));
    }
done:
    if (st != VD_OK)
        vd_cuda_offload_destroy(cuda);
    return st;
}

vd_status vd_cuda_set_offload(vd_backend *be, bool on) {
    vd_cuda_device *cuda = be->device;
    return on && cuda->offload == NULL ? make(cuda) : VD_OK;
}

/* ---- slots ---------------------------------------------------------------------------------- */

/* Nothing is copied or computed with any more: what waits for that is slow, and not in a loop. */
static void free_slots(vd_backend *be) {
    const vd_cuda_device *cuda = be->device;
    struct vd_cuda_offload *o = cuda->offload;
    (void)cudaStreamSynchronize(o->copies);
    (void)cudaStreamSynchronize(cuda->stream);
    for (int i = 0; i < SLOTS; i++) {
        (void)cudaFree(o->slot[i].memory);
        o->slot[i].memory = NULL;
        o->slot[i].held = -1;
    }
    be->weight_bytes -= SLOTS * o->slot_bytes;
    o->slot_bytes = 0;
}

/* At the first use, which is in a dry run, all weights are there. */
static vd_status take_slots(vd_backend *be) {
    const vd_cuda_device *cuda = be->device;
    struct vd_cuda_offload *o = cuda->offload;
    vd_status st = VD_OK;
    if (o->slot_bytes >= o->widest)
        return st;
    free_slots(be);
    for (int i = 0; i < SLOTS; i++)
        VD_TRY(vd_cuda_take(o->widest, &o->slot[i].memory));
    o->slot_bytes = o->widest;
    be->weight_bytes += SLOTS * o->slot_bytes;
done:
    if (st != VD_OK) {
        free_slots(be);
        st = vd_fail_in(st, "for weights that are streamed");
    }
    return st;
}

/* Begins to copy a weight into the next slot, behind the op that still reads what is there. */
static vd_status fill(struct vd_cuda_offload *o, const vd_cuda_weight *w, slot **out) {
    slot *s = &o->slot[o->turn];
    vd_status st;
    o->turn = (o->turn + 1) % SLOTS;
    s->held = -1;
    VD_TRY(vd_cuda_status(cudaStreamWaitEvent(o->copies, s->used, 0), "streaming weights"));
    VD_TRY(vd_cuda_status(
        cudaMemcpyAsync(s->memory, w->host, w->bytes, cudaMemcpyHostToDevice, o->copies),
        "streaming weights"));
    VD_TRY(vd_cuda_status(cudaEventRecord(s->ready, o->copies), "streaming weights"));
    s->held = w->number;
    *out = s;
done:
    return st;
}

static slot *find(struct vd_cuda_offload *o, int number) {
    for (int i = 0; i < SLOTS; i++)
        if (o->slot[i].held == number)
            return &o->slot[i];
    return NULL;
}

/* ---- weights -------------------------------------------------------------------------------- */

static vd_status give_number(struct vd_cuda_offload *o, vd_cuda_weight *w) {
    if (o->count == o->room) {
        const int room = o->room == 0 ? 1024 : 2 * o->room;
        vd_cuda_weight **more = realloc(o->weight, (size_t)room * sizeof(vd_cuda_weight *));
        if (more == NULL)
            return vd_fail(VD_ERR_MEMORY, "no memory for a weight");
        o->weight = more;
        o->room = room;
    }
    w->number = o->count;
    w->next = -1;
    o->weight[o->count++] = w;
    return VD_OK;
}

vd_status vd_cuda_offload_weight(vd_backend *be, vd_cuda_weight *w, size_t bytes) {
    struct vd_cuda_offload *o = ((vd_cuda_device *)be->device)->offload;
    vd_status st;
    bool pinned = false;
    /* Pages of our own, so that the process is seen to have them; CUDA's would not be. */
    w->host = aligned_alloc(PAGE_BYTES, (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
    if (w->host == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for %.2f GB of a weight behind %.2f GB of them",
                       (double)bytes / 1e9, (double)be->offloaded_bytes / 1e9);
    VD_TRY(vd_cuda_status(cudaHostRegister(w->host, bytes, cudaHostRegisterDefault),
                          "pinning memory for weights"));
    pinned = true;
    VD_TRY(give_number(o, w));
    w->bytes = bytes;
    be->offloaded_bytes += bytes;
    o->widest = bytes > o->widest ? bytes : o->widest;
done:
    if (st != VD_OK) {
        if (pinned)
            (void)cudaHostUnregister(w->host);
        free(w->host);
        w->host = NULL;
    }
    return st;
}

void vd_cuda_offload_forget(vd_backend *be, vd_cuda_weight *w) {
    const vd_cuda_device *cuda = be->device;
    struct vd_cuda_offload *o = cuda->offload;
    slot *s = find(o, w->number);
    (void)cudaStreamSynchronize(o->copies); /* it may be on its way */
    if (s != NULL)
        s->held = -1;
    o->weight[w->number] = NULL;
    if (o->last == w->number)
        o->last = -1;
    (void)cudaHostUnregister(w->host);
    free(w->host);
    be->offloaded_bytes -= w->bytes;
    if (be->offloaded_bytes == 0) { /* the last one */
        free_slots(be);
        o->widest = 0;
    }
}

/* ---- use ------------------------------------------------------------------------------------ */

vd_status vd_cuda_weight_acquire(vd_backend *be, const vd_weight *weight, const void **memory) {
    vd_cuda_device *cuda = be->device;
    struct vd_cuda_offload *o = cuda->offload;
    const vd_cuda_weight *w = vd_cuda_weight_of(weight);
    vd_status st;
    *memory = w->memory;
    if (w->host == NULL)
        return VD_OK;
    VD_TRY(take_slots(be));
    slot *s = find(o, w->number);
    if (s == NULL)
        VD_TRY(fill(o, w, &s));
    VD_TRY(vd_cuda_status(cudaStreamWaitEvent(cuda->stream, s->ready, 0), "streaming weights"));
    *memory = s->memory;
done:
    return st;
}

vd_status vd_cuda_weight_release(vd_backend *be, const vd_weight *weight) {
    vd_cuda_device *cuda = be->device;
    struct vd_cuda_offload *o = cuda->offload;
    vd_cuda_weight *w = vd_cuda_weight_of(weight);
    vd_status st = VD_OK;
    if (w->host == NULL)
        return st;
    slot *s = find(o, w->number);
    VD_TRY(vd_cuda_status(cudaEventRecord(s->used, cuda->stream), "streaming weights"));
    if (o->last >= 0 && o->weight[o->last] != NULL)
        o->weight[o->last]->next = w->number;
    o->last = w->number;
    /* Behind the last of them comes into this one's slot, which is free when the op is done. */
    for (int i = 0, n = w->next; i < SLOTS && n >= 0 && o->weight[n] != NULL; i++) {
        const vd_cuda_weight *next = o->weight[n];
        slot *filled;
        if (n == w->number)
            break;
        if (find(o, n) == NULL)
            VD_TRY(fill(o, next, &filled));
        n = next->next;
    }
done:
    return st;
}

void vd_cuda_offload_destroy(vd_cuda_device *cuda) {
    struct vd_cuda_offload *o = cuda->offload;
    if (o == NULL)
        return;
    if (o->copies != NULL)
        (void)cudaStreamSynchronize(o->copies);
    for (int i = 0; i < SLOTS; i++) {
        (void)cudaFree(o->slot[i].memory);
        if (o->slot[i].ready != NULL)
            (void)cudaEventDestroy(o->slot[i].ready);
        if (o->slot[i].used != NULL)
            (void)cudaEventDestroy(o->slot[i].used);
    }
    if (o->copies != NULL)
        (void)cudaStreamDestroy(o->copies);
    free(o->weight);
    free(o);
    cuda->offload = NULL;
}

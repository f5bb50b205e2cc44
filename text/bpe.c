#include "text/bpe.h"

#include <stdlib.h>

typedef struct merge_entry {
    int32_t left; /* -1: empty */
    int32_t right;
    uint32_t rank;
    int32_t merged;
} merge_entry;

struct vd_bpe {
    int32_t byte_id[2][256];
    merge_entry *table; /* open addressing, at most half full */
    size_t mask;
    uint32_t next_rank;
};

vd_status vd_bpe_create(size_t max_merges, vd_bpe **out) {
    *out = NULL;
    size_t slots = 16;
    while (slots / 2 < max_merges)
        slots *= 2;
    vd_bpe *bpe = calloc(1, sizeof *bpe);
    merge_entry *table = malloc(slots * sizeof *table);
    if (bpe == NULL || table == NULL) {
        free(bpe);
        free(table);
        return vd_fail(VD_ERR_MEMORY, "not enough memory for %zu tokenizer merges", max_merges);
    }
    for (size_t i = 0; i < slots; i++)
        table[i].left = -1;
    bpe->table = table;
    bpe->mask = slots - 1;
    *out = bpe;
    return VD_OK;
}

void vd_bpe_destroy(vd_bpe *bpe) {
    if (bpe == NULL)
        return;
    free(bpe->table);
    free(bpe);
}

void vd_bpe_set_byte(vd_bpe *bpe, bool last, uint8_t byte, int32_t id) {
    bpe->byte_id[last][byte] = id;
}

/* The pair's slot, or the empty one where it would go. */
static merge_entry *slot_of(const vd_bpe *bpe, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
    size_t at = (size_t)h & bpe->mask;
    while (bpe->table[at].left >= 0 &&
           (bpe->table[at].left != left || bpe->table[at].right != right))
        at = (at + 1) & bpe->mask;
    return &bpe->table[at];
}

void vd_bpe_add_merge(vd_bpe *bpe, int32_t left, int32_t right, int32_t merged) {
    *slot_of(bpe, left, right) = (merge_entry){left, right, bpe->next_rank++, merged};
}

/* Lowest rank first; of equal ranks the leftmost. */
static bool before(const vd_bpe_candidate *a, const vd_bpe_candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(vd_bpe_candidate *heap, size_t *count, vd_bpe_candidate item) {
    size_t at = (*count)++;
    while (at > 0 && before(&item, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

static vd_bpe_candidate heap_pop(vd_bpe_candidate *heap, size_t *count) {
    vd_bpe_candidate top = heap[0];
    vd_bpe_candidate item = heap[--*count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= *count)
            break;
        if (child + 1 < *count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &item))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
    return top;
}

static bool reserve(vd_bpe_scratch *scratch, size_t bytes) {
    if (bytes <= scratch->capacity)
        return true;
    size_t capacity = bytes < 64 ? 64 : bytes;
    vd_bpe_scratch_free(scratch);
    scratch->symbols = malloc(capacity * sizeof *scratch->symbols);
    /* n - 1 pairs at the start, and each of at most n - 1 merges makes two more. */
    scratch->heap = malloc(3 * capacity * sizeof *scratch->heap);
    if (scratch->symbols == NULL || scratch->heap == NULL) {
        vd_bpe_scratch_free(scratch);
        return false;
    }
    scratch->capacity = capacity;
    return true;
}

static void offer(const vd_bpe *bpe, vd_bpe_scratch *scratch, size_t *count, int32_t at) {
    const vd_bpe_symbol *left = &scratch->symbols[at];
    const merge_entry *m = slot_of(bpe, left->id, scratch->symbols[left->next].id);
    if (m->left >= 0)
        heap_push(scratch->heap, count, (vd_bpe_candidate){m->rank, at, m->merged});
}

vd_status vd_bpe_split(const vd_bpe *bpe, vd_bpe_scratch *scratch, const char *word, size_t bytes) {
    if (!reserve(scratch, bytes))
        return vd_fail(VD_ERR_MEMORY, "not enough memory to tokenize a word of %zu bytes", bytes);
    vd_bpe_symbol *s = scratch->symbols;
    for (size_t i = 0; i < bytes; i++) {
        bool last = i + 1 == bytes;
        s[i] = (vd_bpe_symbol){bpe->byte_id[last][(uint8_t)word[i]], 1, (int32_t)i - 1,
                               last ? -1 : (int32_t)i + 1};
    }
    size_t count = 0;
    for (size_t i = 0; i + 1 < bytes; i++)
        offer(bpe, scratch, &count, (int32_t)i);
    while (count > 0) {
        vd_bpe_candidate top = heap_pop(scratch->heap, &count);
        vd_bpe_symbol *left = &s[top.at];
        if (left->bytes == 0 || left->next < 0)
            continue;
        vd_bpe_symbol *right = &s[left->next];
        /* The neighbours may have changed since the candidate was offered. */
        const merge_entry *m = slot_of(bpe, left->id, right->id);
        if (m->left < 0 || m->merged != top.merged)
            continue;
        left->id = top.merged;
        left->bytes += right->bytes;
        left->next = right->next;
        right->bytes = 0;
        if (left->prev >= 0)
            offer(bpe, scratch, &count, left->prev);
        if (left->next >= 0) {
            s[left->next].prev = top.at;
            offer(bpe, scratch, &count, top.at);
        }
    }
    return VD_OK;
}

void vd_bpe_scratch_free(vd_bpe_scratch *scratch) {
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (vd_bpe_scratch){0};
}

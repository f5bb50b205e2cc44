/* Byte-pair merging of one word, on token ids only. */
#ifndef VD_TEXT_BPE_H
#define VD_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct vd_bpe vd_bpe;

/* One token of a split word. The tokens are a list through `next`, from entry 0 to -1. */
typedef struct vd_bpe_symbol {
    int32_t id;
    uint32_t bytes; /* of the word that it stands for; 0 once merged into its left neighbour */
    int32_t prev;
    int32_t next;
} vd_bpe_symbol;

typedef struct vd_bpe_candidate {
    uint32_t rank;
    int32_t at;
    int32_t merged;
} vd_bpe_candidate;

/* Memory that vd_bpe_split reuses between words. Starts zeroed. */
typedef struct vd_bpe_scratch {
    vd_bpe_symbol *symbols;
    vd_bpe_candidate *heap;
    size_t capacity;
} vd_bpe_scratch;

/* Room for `max_merges` merges. All bytes have id 0 until set. */
vd_status vd_bpe_create(size_t max_merges, vd_bpe **out);
void vd_bpe_destroy(vd_bpe *bpe);

/* The id of a byte inside a word, or (last) at its end. */
void vd_bpe_set_byte(vd_bpe *bpe, bool last, uint8_t byte, int32_t id);

/* Merges rank in the order in which they are added; a pair added again takes the later rank. Ids
 * are not negative. No more than max_merges calls. */
void vd_bpe_add_merge(vd_bpe *bpe, int32_t left, int32_t right, int32_t merged);

/* Splits a word of 1 to INT32_MAX / 4 bytes in O(n log n): scratch->symbols holds the result until
 * the next call. VD_ERR_MEMORY. */
vd_status vd_bpe_split(const vd_bpe *bpe, vd_bpe_scratch *scratch, const char *word, size_t bytes);
void vd_bpe_scratch_free(vd_bpe_scratch *scratch);

#endif

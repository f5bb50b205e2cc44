/* The tokens of a tokenizer folder that stand for themselves in a prompt, from
 * tokenizer_config.json and special_tokens_map.json. */
#ifndef VD_TEXT_SPECIAL_TOKENS_H
#define VD_TEXT_SPECIAL_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "text/vocab.h"

typedef struct vd_special_token {
    char *content; /* UTF-8, not empty */
    size_t bytes;
    int32_t *normal; /* content after vd_unicode_normalize */
    size_t normal_count;
    bool normalized; /* looked for in normalized text, not in the raw prompt */
    int32_t id;
} vd_special_token;

typedef struct vd_special_tokens {
    vd_special_token *tokens;
    size_t count;
    int32_t start_id;
    int32_t end_id;
    int32_t pad_id;
    int32_t unknown_id; /* -1: not in the vocabulary */
    int32_t id_limit;   /* highest id + 1 */
    size_t max_length;  /* model_max_length; SIZE_MAX if there is none */
} vd_special_tokens;

/* VD_ERR_INPUT: wrong types, another tokenizer class, a start, end or pad token that is not in the
 * vocabulary, an added token without a place for its id. `*out` is zeroed on failure. */
vd_status vd_special_tokens_load(const char *dir, const vd_vocab *vocab, vd_special_tokens *out);
void vd_special_tokens_free(vd_special_tokens *specials);

/* The longest raw-text token that `text` starts with, or NULL. */
const vd_special_token *vd_special_at(const vd_special_tokens *specials, const char *text,
                                      size_t bytes);

/* The same for the tokens that are looked for in normalized text. */
const vd_special_token *vd_special_at_normal(const vd_special_tokens *specials, const int32_t *text,
                                             size_t count);

#endif

/* The CLIP tokenizer: prompt -> token ids.
 *
 *     vd_tokenizer *t;
 *     vd_tokenizer_open("model/tokenizer", &t);
 *     int32_t ids[77];
 *     size_t untruncated;
 *     char *dropped;
 *     vd_tokenizer_encode(t, prompt, 77, ids, &untruncated, &dropped);
 *     if (dropped != NULL)
 *         vd_log(VD_LOG_WARNING, "the prompt is cut; not used: \"%s\"", dropped);
 *     free(dropped);
 *     vd_tokenizer_destroy(t);
 */
#ifndef VD_TEXT_TOKENIZER_H
#define VD_TEXT_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum { VD_PROMPT_MAX_BYTES = 1 << 20 };

typedef struct vd_tokenizer vd_tokenizer;

/* Reads a tokenizer folder: vocab.json and merges.txt (or tokenizer.json), special_tokens_map.json
 * and tokenizer_config.json (either may be absent). VD_ERR_INPUT: a file is missing or malformed,
 * an id is out of range or used twice, a merge or a special token is not in the vocabulary. */
vd_status vd_tokenizer_open(const char *dir, vd_tokenizer **out);

/* The same; if `dir` has no vocabulary of its own, the one in `vocab_dir` is taken. */
vd_status vd_tokenizer_open_shared(const char *dir, const char *vocab_dir, vd_tokenizer **out);
void vd_tokenizer_destroy(vd_tokenizer *t);

/* The folder's model_max_length; SIZE_MAX if it sets none (or an absurd one). */
size_t vd_tokenizer_max_length(const vd_tokenizer *t);

/* The highest id that encode can give, + 1: what the text encoder's vocab_size must reach. */
size_t vd_tokenizer_vocab_size(const vd_tokenizer *t);

/* Writes ids[max_length]: start, the prompt's tokens (the first max_length - 2), end, padding.
 * `*untruncated_length`, if not NULL, is the number of tokens with start and end before cutting.
 * `*dropped`, if not NULL, is NULL when all fits, else the part of the prompt that was cut, in
 * normalized spelling (lower case), owned by the caller. An empty prompt is legal.
 * VD_ERR_USAGE: not UTF-8, longer than VD_PROMPT_MAX_BYTES, max_length below 2. Thread-safe. */
vd_status vd_tokenizer_encode(const vd_tokenizer *t, const char *utf8, size_t max_length,
                              int32_t *ids, size_t *untruncated_length, char **dropped);

#endif

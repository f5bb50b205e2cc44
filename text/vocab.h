/* A tokenizer folder's vocabulary and merges: vocab.json and merges.txt, or the two inside a
 * tokenizer.json. Needed only while a tokenizer is opened. */
#ifndef VD_TEXT_VOCAB_H
#define VD_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/json.h"
#include "core/status.h"
#include "text/bpe.h"

enum { VD_VOCAB_MAX_IDS = 1 << 20 };

typedef struct vd_vocab vd_vocab;

bool vd_vocab_exists(const char *dir);

/* VD_ERR_INPUT: no such files, not JSON, an id that is not an integer in [0, VD_VOCAB_MAX_IDS), an
 * id given twice. */
vd_status vd_vocab_open(const char *dir, vd_vocab **out);
void vd_vocab_destroy(vd_vocab *vocab);

/* The file that the vocabulary came from, for messages. */
const char *vd_vocab_path(const vd_vocab *vocab);

/* The tokenizer.json, if that is where the vocabulary came from, else NULL. */
const vd_json *vd_vocab_tokenizer_json(const vd_vocab *vocab);

/* -1 if absent. `token` need not be terminated. */
int32_t vd_vocab_find(const vd_vocab *vocab, const char *token, size_t bytes);

/* The highest id + 1. */
int32_t vd_vocab_id_limit(const vd_vocab *vocab);

/* Byte ids and merges. Bytes that the vocabulary lacks get the id `unknown`; if that is -1, they
 * are VD_ERR_INPUT, as are a malformed line and a merge that names or makes an absent token. */
vd_status vd_vocab_load_bpe(const vd_vocab *vocab, int32_t unknown, vd_bpe **out);

/* Reads DIR/NAME; *out is NULL if there is no such file. */
vd_status vd_tokenizer_read_json(const char *dir, const char *name, vd_json **out);

#endif

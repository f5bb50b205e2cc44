#include "text/tokenizer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "text/bpe.h"
#include "text/special_tokens.h"
#include "text/unicode.h"
#include "text/vocab.h"

struct vd_tokenizer {
    vd_bpe *bpe;
    vd_special_tokens specials;
};

typedef struct token {
    int32_t id;
    uint32_t offset; /* where it starts in encoder.text */
} token;

typedef struct encoder {
    const vd_tokenizer *t;
    vd_bpe_scratch scratch;
    char *text; /* the normalized prompt, UTF-8 */
    size_t text_bytes;
    size_t text_capacity;
    token *tokens;
    size_t count;
    size_t capacity;
} encoder;

vd_status vd_tokenizer_open(const char *dir, vd_tokenizer **out) {
    return vd_tokenizer_open_shared(dir, dir, out);
}

vd_status vd_tokenizer_open_shared(const char *dir, const char *vocab_dir, vd_tokenizer **out) {
    vd_status st = VD_OK;
    vd_vocab *vocab = NULL;
    *out = NULL;
    vd_tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory for the tokenizer", dir);
    VD_TRY(vd_vocab_open(vd_vocab_exists(dir) ? dir : vocab_dir, &vocab));
    VD_TRY(vd_special_tokens_load(dir, vocab, &t->specials));
    VD_TRY(vd_vocab_load_bpe(vocab, t->specials.unknown_id, &t->bpe));
    *out = t;
    t = NULL;
done:
    vd_vocab_destroy(vocab);
    vd_tokenizer_destroy(t);
    return st;
}

void vd_tokenizer_destroy(vd_tokenizer *t) {
    if (t == NULL)
        return;
    vd_bpe_destroy(t->bpe);
    vd_special_tokens_free(&t->specials);
    free(t);
}

size_t vd_tokenizer_max_length(const vd_tokenizer *t) {
    return t->specials.max_length;
}

size_t vd_tokenizer_vocab_size(const vd_tokenizer *t) {
    return (size_t)t->specials.id_limit;
}

static vd_status out_of_memory(void) {
    return vd_fail(VD_ERR_MEMORY, "not enough memory to tokenize the prompt");
}

/* `buffer` with room for `more` elements of `size` bytes after `count`; NULL if that is too much.
 */
static void *grow(void *buffer, size_t *capacity, size_t count, size_t more, size_t size) {
    if (buffer != NULL && count + more <= *capacity)
        return buffer;
    size_t wanted = 2 * (count + more) + 64;
    void *bigger = realloc(buffer, wanted * size);
    if (bigger != NULL)
        *capacity = wanted;
    return bigger;
}

static vd_status add_token(encoder *e, int32_t id, size_t offset) {
    token *tokens = grow(e->tokens, &e->capacity, e->count, 1, sizeof *tokens);
    if (tokens == NULL)
        return out_of_memory();
    e->tokens = tokens;
    tokens[e->count++] = (token){id, (uint32_t)offset};
    return VD_OK;
}

static vd_status add_text(encoder *e, const char *text, size_t bytes) {
    char *buffer = grow(e->text, &e->text_capacity, e->text_bytes, bytes, 1);
    if (buffer == NULL)
        return out_of_memory();
    e->text = buffer;
    memcpy(buffer + e->text_bytes, text, bytes);
    e->text_bytes += bytes;
    return VD_OK;
}

static vd_status add_codepoints(encoder *e, const int32_t *text, size_t count) {
    vd_status st = VD_OK;
    for (size_t i = 0; i < count && st == VD_OK; i++) {
        char utf8[VD_UTF8_MAX_BYTES];
        st = add_text(e, utf8, vd_utf8_put(utf8, text[i]));
    }
    return st;
}

static vd_status add_word(encoder *e, const int32_t *word, size_t count) {
    size_t offset = e->text_bytes;
    vd_status st = VD_OK;
    VD_TRY(add_codepoints(e, word, count));
    VD_TRY(vd_bpe_split(e->t->bpe, &e->scratch, e->text + offset, e->text_bytes - offset));
    for (int32_t at = 0; at >= 0; at = e->scratch.symbols[at].next) {
        VD_TRY(add_token(e, e->scratch.symbols[at].id, offset));
        offset += e->scratch.symbols[at].bytes;
    }
done:
    return st;
}

static bool starts_with(const int32_t *text, size_t count, const char *ascii) {
    size_t length = strlen(ascii);
    if (length > count)
        return false;
    for (size_t i = 0; i < length; i++)
        if (text[i] != (unsigned char)ascii[i])
            return false;
    return true;
}

/* The length of the splitting pattern's match at `text`, which does not start with a space. */
static size_t match_word(const int32_t *text, size_t count) {
    static const char *const contractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof contractions / sizeof *contractions; i++)
        if (starts_with(text, count, contractions[i]))
            return strlen(contractions[i]);
    vd_char_class kind = vd_char_class_of(text[0]);
    size_t length = 1;
    if (kind != VD_CHAR_NUMBER)
        while (length < count && vd_char_class_of(text[length]) == kind)
            length++;
    return length;
}

/* A marker that appears only after lower-casing is one match of the pattern, which GPT-2's pattern
 * then cuts in three: "<|", "startoftext", "|>". Its length, or 0 if there is none. */
static size_t match_marker(const int32_t *text, size_t count) {
    static const char *const markers[] = {"<|startoftext|>", "<|endoftext|>"};
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++)
        if (starts_with(text, count, markers[i]))
            return strlen(markers[i]);
    return 0;
}

/* Normalized text without special tokens: splits it into words. */
static vd_status encode_words(encoder *e, const int32_t *text, size_t count) {
    vd_status st = VD_OK;
    for (size_t at = 0; at < count;) {
        size_t length = match_marker(text + at, count - at);
        if (length > 0) {
            VD_TRY(add_word(e, text + at, 2));
            VD_TRY(add_word(e, text + at + 2, length - 4));
            VD_TRY(add_word(e, text + at + length - 2, 2));
        } else if (vd_char_class_of(text[at]) == VD_CHAR_SPACE) {
            length = 1;
            VD_TRY(add_codepoints(e, text + at, length));
        } else {
            length = match_word(text + at, count - at);
            VD_TRY(add_word(e, text + at, length));
        }
        at += length;
    }
done:
    return st;
}

/* Raw text without raw special tokens: normalizes it and cuts it at the normalized ones. */
static vd_status encode_raw(encoder *e, const char *utf8, size_t bytes) {
    vd_status st = VD_OK;
    int32_t *text = NULL;
    size_t count = 0;
    size_t from = 0;
    if (bytes == 0)
        return VD_OK;
    VD_TRY(vd_unicode_normalize(utf8, bytes, &text, &count));
    for (size_t at = 0; at < count;) {
        const vd_special_token *special =
            vd_special_at_normal(&e->t->specials, text + at, count - at);
        if (special == NULL) {
            at++;
            continue;
        }
        VD_TRY(encode_words(e, text + from, at - from));
        VD_TRY(add_token(e, special->id, e->text_bytes));
        VD_TRY(add_codepoints(e, special->normal, special->normal_count));
        at += special->normal_count;
        from = at;
    }
    VD_TRY(encode_words(e, text + from, count - from));
done:
    free(text);
    return st;
}

static vd_status encode_prompt(encoder *e, const char *utf8, size_t bytes) {
    vd_status st = VD_OK;
    size_t from = 0;
    for (size_t at = 0; at < bytes;) {
        const vd_special_token *special = vd_special_at(&e->t->specials, utf8 + at, bytes - at);
        if (special == NULL) {
            at++;
            continue;
        }
        VD_TRY(encode_raw(e, utf8 + from, at - from));
        VD_TRY(add_token(e, special->id, e->text_bytes));
        VD_TRY(add_text(e, special->content, special->bytes));
        at += special->bytes;
        from = at;
    }
    VD_TRY(encode_raw(e, utf8 + from, bytes - from));
done:
    return st;
}

/* The normalized text from the first token that was cut. */
static vd_status copy_dropped(const encoder *e, size_t kept, char **dropped) {
    size_t from = e->tokens[kept].offset;
    while (from > 0 && ((unsigned char)e->text[from] & 0xc0) == 0x80)
        from--; /* a token may start inside a character */
    *dropped = strndup(e->text + from, e->text_bytes - from);
    return *dropped != NULL ? VD_OK : out_of_memory();
}

vd_status vd_tokenizer_encode(const vd_tokenizer *t, const char *utf8, size_t max_length,
                              int32_t *ids, size_t *untruncated_length, char **dropped) {
    vd_status st = VD_OK;
    encoder e = {.t = t};
    size_t bytes = strlen(utf8);
    if (dropped != NULL)
        *dropped = NULL;
    if (max_length < 2)
        return vd_fail(VD_ERR_USAGE, "a token sequence of length %zu has no room for a prompt",
                       max_length);
    if (bytes > VD_PROMPT_MAX_BYTES)
        return vd_fail(VD_ERR_USAGE, "the prompt has %zu bytes; at most %d can be", bytes,
                       VD_PROMPT_MAX_BYTES);
    size_t valid = vd_utf8_valid_prefix(utf8, bytes);
    if (valid < bytes)
        return vd_fail(VD_ERR_USAGE, "the prompt is not UTF-8 (at byte %zu); re-encode it as UTF-8",
                       valid);
    VD_TRY(encode_prompt(&e, utf8, bytes));
    size_t kept = e.count < max_length - 2 ? e.count : max_length - 2;
    if (kept < e.count && dropped != NULL)
        VD_TRY(copy_dropped(&e, kept, dropped));
    ids[0] = t->specials.start_id;
    for (size_t i = 0; i < kept; i++)
        ids[i + 1] = e.tokens[i].id;
    ids[kept + 1] = t->specials.end_id;
    for (size_t i = kept + 2; i < max_length; i++)
        ids[i] = t->specials.pad_id;
    if (untruncated_length != NULL)
        *untruncated_length = e.count + 2;
done:
    vd_bpe_scratch_free(&e.scratch);
    free(e.text);
    free(e.tokens);
    return st;
}

#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/text.h"
#include "text/unicode.h"

enum { MERGES_MAX_BYTES = 1 << 26 };

#define WORD_END "</w>"

typedef struct vocab_entry {
    const char *token; /* in the document; NULL: empty */
    size_t bytes;
    int32_t id;
} vocab_entry;

struct vd_vocab {
    vd_json *doc;
    char *path;
    char *merges_path; /* NULL: the merges are in doc */
    const vd_json_value *json_merges;
    vocab_entry *table; /* open addressing, at most half full */
    size_t mask;
    int32_t id_limit;
};

static bool file_exists(const char *dir, const char *name) {
    char *path = vd_format("%s/%s", dir, name);
    bool there = path != NULL && access(path, F_OK) == 0;
    free(path);
    return there;
}

vd_status vd_tokenizer_read_json(const char *dir, const char *name, vd_json **out) {
    *out = NULL;
    if (!file_exists(dir, name))
        return VD_OK;
    char *path = vd_format("%s/%s", dir, name);
    if (path == NULL)
        return vd_fail(VD_ERR_MEMORY, "not enough memory to read %s/%s", dir, name);
    vd_status st = vd_json_read(path, "tokenizer file", out);
    free(path);
    return st;
}

bool vd_vocab_exists(const char *dir) {
    return file_exists(dir, "vocab.json") || file_exists(dir, "tokenizer.json");
}

/* The token's slot, or the empty one where it would go. */
static vocab_entry *slot_of(const vd_vocab *vocab, const char *token, size_t bytes) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ (uint8_t)token[i]) * 0x100000001b3u;
    size_t at = (size_t)(h ^ h >> 32) & vocab->mask;
    while (vocab->table[at].token != NULL &&
           (vocab->table[at].bytes != bytes || memcmp(vocab->table[at].token, token, bytes) != 0))
        at = (at + 1) & vocab->mask;
    return &vocab->table[at];
}

int32_t vd_vocab_find(const vd_vocab *vocab, const char *token, size_t bytes) {
    const vocab_entry *e = slot_of(vocab, token, bytes);
    return e->token != NULL ? e->id : -1;
}

static vd_status out_of_memory(const vd_vocab *vocab) {
    return vd_fail(VD_ERR_MEMORY, "%s: not enough memory for the vocabulary", vocab->path);
}

/* Fills the table from an object {token: id}. */
static vd_status read_tokens(vd_vocab *vocab, const vd_json_value *tokens) {
    vd_status st = VD_OK;
    size_t slots = 16;
    size_t count = tokens != NULL ? vd_json_size(tokens) : 0;
    uint8_t *seen = NULL;
    if (tokens == NULL || vd_json_type_of(tokens) != VD_JSON_OBJECT)
        return vd_fail(VD_ERR_INPUT, "%s: no vocabulary (an object of token: id)", vocab->path);
    if (count > VD_VOCAB_MAX_IDS)
        return vd_json_fail(vocab->doc, tokens, "%zu tokens, at most %d can be", count,
                            VD_VOCAB_MAX_IDS);
    while (slots / 2 < count)
        slots *= 2;
    vocab->table = calloc(slots, sizeof *vocab->table);
    vocab->mask = slots - 1;
    seen = calloc(VD_VOCAB_MAX_IDS, 1);
    if (vocab->table == NULL || seen == NULL) {
        st = out_of_memory(vocab);
        goto done;
    }
    for (const vd_json_value *v = vd_json_first(tokens); v != NULL; v = vd_json_next(v)) {
        double id = vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : -1;
        if (!(id >= 0 && id < VD_VOCAB_MAX_IDS) || id != (double)(int32_t)id) {
            st = vd_json_fail(vocab->doc, v, "a token's id must be an integer from 0 to %d",
                              VD_VOCAB_MAX_IDS - 1);
            goto done;
        }
        int32_t index = (int32_t)id;
        if (seen[index]) {
            st = vd_json_fail(vocab->doc, v, "the id %d belongs to another token already", index);
            goto done;
        }
        seen[index] = 1;
        const char *token = vd_json_key(v);
        size_t bytes = strlen(token);
        *slot_of(vocab, token, bytes) = (vocab_entry){token, bytes, index};
        if (index >= vocab->id_limit)
            vocab->id_limit = index + 1;
    }
done:
    free(seen);
    return st;
}

/* tokenizer.json holds the tokens and the merges under "model". */
static vd_status read_fast(vd_vocab *vocab) {
    vd_status st = VD_OK;
    const char *type;
    const char *suffix;
    const vd_json_value *root = vd_json_root(vocab->doc);
    const vd_json_value *model = vd_json_get(root, "model");
    if (model == NULL || vd_json_type_of(model) != VD_JSON_OBJECT)
        return vd_fail(VD_ERR_INPUT, "%s: no \"model\" with a vocabulary", vocab->path);
    VD_TRY(vd_json_text(vocab->doc, model, "type", "BPE", &type));
    VD_TRY(vd_json_text(vocab->doc, model, "end_of_word_suffix", WORD_END, &suffix));
    if (strcmp(type, "BPE") != 0 || strcmp(suffix, WORD_END) != 0)
        return vd_json_fail(vocab->doc, model,
                            "a %s model with word suffix \"%s\" is not CLIP's (BPE, \"%s\")", type,
                            suffix, WORD_END);
    vocab->json_merges = vd_json_get(model, "merges");
    if (vocab->json_merges == NULL || vd_json_type_of(vocab->json_merges) != VD_JSON_ARRAY)
        return vd_json_fail(vocab->doc, model, "no list \"merges\"");
    VD_TRY(read_tokens(vocab, vd_json_get(model, "vocab")));
done:
    return st;
}

vd_status vd_vocab_open(const char *dir, vd_vocab **out) {
    vd_status st = VD_OK;
    *out = NULL;
    vd_vocab *vocab = calloc(1, sizeof *vocab);
    if (vocab == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory for the vocabulary", dir);
    bool fast = !file_exists(dir, "vocab.json");
    vocab->path = vd_format("%s/%s", dir, fast ? "tokenizer.json" : "vocab.json");
    vocab->merges_path = fast ? NULL : vd_format("%s/merges.txt", dir);
    if (vocab->path == NULL || (!fast && vocab->merges_path == NULL)) {
        st = vd_fail(VD_ERR_MEMORY, "%s: not enough memory for the vocabulary", dir);
        goto done;
    }
    if (fast && !file_exists(dir, "tokenizer.json")) {
        st = vd_fail(VD_ERR_INPUT,
                     "%s: no tokenizer here; it needs vocab.json and merges.txt, or tokenizer.json",
                     dir);
        goto done;
    }
    VD_TRY(vd_json_read(vocab->path, "tokenizer vocabulary", &vocab->doc));
    VD_TRY(fast ? read_fast(vocab) : read_tokens(vocab, vd_json_root(vocab->doc)));
    *out = vocab;
    vocab = NULL;
done:
    vd_vocab_destroy(vocab);
    return st;
}

void vd_vocab_destroy(vd_vocab *vocab) {
    if (vocab == NULL)
        return;
    vd_json_destroy(vocab->doc);
    free(vocab->path);
    free(vocab->merges_path);
    free(vocab->table);
    free(vocab);
}

const char *vd_vocab_path(const vd_vocab *vocab) {
    return vocab->path;
}

const vd_json *vd_vocab_tokenizer_json(const vd_vocab *vocab) {
    return vocab->merges_path == NULL ? vocab->doc : NULL;
}

int32_t vd_vocab_id_limit(const vd_vocab *vocab) {
    return vocab->id_limit;
}

static vd_status set_bytes(const vd_vocab *vocab, int32_t unknown, vd_bpe *bpe) {
    int32_t next_stand_in = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174);
        char token[VD_UTF8_MAX_BYTES + sizeof WORD_END];
        size_t bytes = vd_utf8_put(token, itself ? byte : next_stand_in++);
        memcpy(token + bytes, WORD_END, sizeof WORD_END);
        for (int last = 0; last < 2; last++) {
            size_t length = last ? bytes + strlen(WORD_END) : bytes;
            int32_t id = vd_vocab_find(vocab, token, length);
            if (id < 0)
                id = unknown;
            if (id < 0)
                return vd_fail(VD_ERR_INPUT,
                               "%s: the vocabulary has neither \"%.*s\" (byte %d) nor the unknown "
                               "token; take the tokenizer folder that belongs to the text encoder",
                               vocab->path, (int)length, token, byte);
            vd_bpe_set_byte(bpe, last, (uint8_t)byte, id);
        }
    }
    return VD_OK;
}

static vd_status add_merge(const vd_vocab *vocab, const char *left, size_t left_bytes,
                           const char *right, size_t right_bytes, vd_bpe *bpe) {
    size_t bytes = left_bytes + right_bytes;
    char *joined = malloc(bytes + 1);
    if (joined == NULL)
        return out_of_memory(vocab);
    memcpy(joined, left, left_bytes);
    memcpy(joined + left_bytes, right, right_bytes);
    int32_t left_id = vd_vocab_find(vocab, left, left_bytes);
    int32_t right_id = vd_vocab_find(vocab, right, right_bytes);
    int32_t merged_id = vd_vocab_find(vocab, joined, bytes);
    vd_status st = VD_OK;
    if (left_id >= 0 && right_id >= 0 && merged_id >= 0)
        vd_bpe_add_merge(bpe, left_id, right_id, merged_id);
    else
        st = vd_fail(VD_ERR_INPUT,
                     "the merge \"%.*s %.*s\" needs a token that is not in %s; the two must come "
                     "from the same tokenizer",
                     (int)(left_bytes < 40 ? left_bytes : 40), left,
                     (int)(right_bytes < 40 ? right_bytes : 40), right, vocab->path);
    free(joined);
    return st;
}

/* "left right", one space, neither part empty. */
static bool split_merge(const char *text, size_t bytes, size_t *left_bytes) {
    const char *space = memchr(text, ' ', bytes);
    if (space == NULL || space == text || space + 1 == text + bytes)
        return false;
    *left_bytes = (size_t)(space - text);
    return memchr(space + 1, ' ', bytes - *left_bytes - 1) == NULL;
}

static vd_status add_merge_line(const vd_vocab *vocab, const char *line, size_t bytes,
                                vd_bpe *bpe) {
    static const char version[] = "#version";
    if (bytes > 0 && line[bytes - 1] == '\r')
        bytes--;
    if (bytes == 0 || (bytes >= strlen(version) && memcmp(line, version, strlen(version)) == 0))
        return VD_OK;
    size_t left;
    if (!split_merge(line, bytes, &left))
        return vd_fail(VD_ERR_INPUT, "a merge is two tokens with one space between");
    return add_merge(vocab, line, left, line + left + 1, bytes - left - 1, bpe);
}

static vd_status load_merges_file(const vd_vocab *vocab, int32_t unknown, vd_bpe **out) {
    vd_status st = VD_OK;
    char *text = NULL;
    size_t bytes = 0;
    VD_TRY(vd_read_file(vocab->merges_path, MERGES_MAX_BYTES, &text, &bytes));
    size_t lines = 1;
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    VD_TRY(vd_bpe_create(lines, out));
    VD_TRY(set_bytes(vocab, unknown, *out));
    const char *line = text;
    for (size_t number = 1; number <= lines; number++) {
        size_t left = (size_t)(text + bytes - line);
        const char *newline = memchr(line, '\n', left);
        st = add_merge_line(vocab, line, newline != NULL ? (size_t)(newline - line) : left, *out);
        if (st != VD_OK) {
            vd_fail_in(st, "%s: line %zu", vocab->merges_path, number);
            goto done;
        }
        line = newline != NULL ? newline + 1 : text + bytes;
    }
done:
    free(text);
    return st;
}

/* A merge in tokenizer.json: "left right" or ["left", "right"]. */
static vd_status add_json_merge(const vd_vocab *vocab, const vd_json_value *merge, vd_bpe *bpe) {
    const char *left = NULL;
    const char *right = NULL;
    size_t left_bytes = 0;
    if (vd_json_type_of(merge) == VD_JSON_STRING) {
        left = vd_json_string(merge);
        if (split_merge(left, strlen(left), &left_bytes))
            right = left + left_bytes + 1;
    } else if (vd_json_type_of(merge) == VD_JSON_ARRAY && vd_json_size(merge) == 2) {
        const vd_json_value *first = vd_json_first(merge);
        const vd_json_value *second = vd_json_next(first);
        if (vd_json_type_of(first) == VD_JSON_STRING && vd_json_type_of(second) == VD_JSON_STRING) {
            left = vd_json_string(first);
            left_bytes = strlen(left);
            right = vd_json_string(second);
        }
    }
    if (right == NULL)
        return vd_json_fail(vocab->doc, merge,
                            "a merge is \"left right\" or [\"left\", \"right\"]");
    vd_status st = add_merge(vocab, left, left_bytes, right, strlen(right), bpe);
    if (st != VD_OK) {
        char where[256];
        vd_fail_in(st, "%s: %s", vocab->path, vd_json_path(vocab->doc, merge, where, sizeof where));
    }
    return st;
}

static vd_status load_json_merges(const vd_vocab *vocab, int32_t unknown, vd_bpe **out) {
    vd_status st = VD_OK;
    VD_TRY(vd_bpe_create(vd_json_size(vocab->json_merges), out));
    VD_TRY(set_bytes(vocab, unknown, *out));
    for (const vd_json_value *m = vd_json_first(vocab->json_merges); m != NULL; m = vd_json_next(m))
        VD_TRY(add_json_merge(vocab, m, *out));
done:
    return st;
}

vd_status vd_vocab_load_bpe(const vd_vocab *vocab, int32_t unknown, vd_bpe **out) {
    *out = NULL;
    vd_status st = vocab->merges_path != NULL ? load_merges_file(vocab, unknown, out)
                                              : load_json_merges(vocab, unknown, out);
    if (st != VD_OK) {
        vd_bpe_destroy(*out);
        *out = NULL;
    }
    return st;
}

#include "text/special_tokens.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "text/unicode.h"

enum { MAX_SPECIAL_TOKENS = 1024 };

/* What is read of one token before it has an id. */
typedef struct token_fields {
    const char *content;
    bool normalized;
} token_fields;

/* The files of one folder while they are read. */
typedef struct loader {
    const char *dir;
    const vd_vocab *vocab;
    vd_json *config; /* tokenizer_config.json or NULL */
    vd_json *map;    /* special_tokens_map.json or NULL */
    vd_special_tokens *out;
    size_t
        listed; /* the first `listed` tokens come from a list with ids, which outranks the names */
} loader;

static vd_special_token *find_content(const vd_special_tokens *specials, const char *content) {
    for (size_t i = 0; i < specials->count; i++)
        if (strcmp(specials->tokens[i].content, content) == 0)
            return &specials->tokens[i];
    return NULL;
}

static vd_status append(loader *l, const token_fields *fields, int32_t id) {
    vd_special_tokens *out = l->out;
    if (out->count == MAX_SPECIAL_TOKENS)
        return vd_fail(VD_ERR_INPUT, "%s: more than %d special tokens", l->dir, MAX_SPECIAL_TOKENS);
    if (out->tokens == NULL)
        out->tokens = calloc(MAX_SPECIAL_TOKENS, sizeof *out->tokens);
    char *content = strdup(fields->content);
    if (out->tokens == NULL || content == NULL) {
        free(content);
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory for its special tokens", l->dir);
    }
    vd_special_token *t = &out->tokens[out->count++];
    *t = (vd_special_token){
        .content = content, .bytes = strlen(content), .normalized = fields->normalized, .id = id};
    if (id >= out->id_limit)
        out->id_limit = id + 1;
    return vd_unicode_normalize(content, t->bytes, &t->normal, &t->normal_count);
}

/* A token is its content, or an object with "content" and flags. */
static vd_status read_fields(const vd_json *doc, const vd_json_value *v, bool special,
                             token_fields *fields) {
    vd_status st = VD_OK;
    bool single_word = false;
    fields->normalized = false;
    if (vd_json_type_of(v) == VD_JSON_STRING) {
        fields->content = vd_json_string(v);
    } else if (vd_json_type_of(v) == VD_JSON_OBJECT) {
        VD_TRY(vd_json_text(doc, v, "content", "", &fields->content));
        VD_TRY(vd_json_flag(doc, v, "special", special, &special));
        VD_TRY(vd_json_flag(doc, v, "normalized", !special, &fields->normalized));
        VD_TRY(vd_json_flag(doc, v, "single_word", false, &single_word));
    } else {
        return vd_json_fail(doc, v, "a token is a string or an object with \"content\"");
    }
    if (fields->content[0] == '\0' || !vd_utf8_valid(fields->content, strlen(fields->content)))
        return vd_json_fail(doc, v, "a token must be UTF-8 text that is not empty");
    if (single_word)
        return vd_json_fail(doc, v, "tokens with \"single_word\": true are not supported");
done:
    return st;
}

/* A token with its own id: one that the vocabulary has keeps the vocabulary's. */
static vd_status add_listed(loader *l, const vd_json *doc, const vd_json_value *v, int64_t id) {
    token_fields fields = {"", false};
    vd_status st = read_fields(doc, v, false, &fields);
    if (st != VD_OK)
        return st;
    int32_t known = vd_vocab_find(l->vocab, fields.content, strlen(fields.content));
    if (find_content(l->out, fields.content) != NULL)
        return vd_json_fail(doc, v, "the token is listed twice");
    if (known < 0 && (id < vd_vocab_id_limit(l->vocab) || id >= VD_VOCAB_MAX_IDS))
        return vd_json_fail(doc, v, "an added token's id must be from %d to %d",
                            vd_vocab_id_limit(l->vocab), VD_VOCAB_MAX_IDS - 1);
    return append(l, &fields, known >= 0 ? known : (int32_t)id);
}

/* {"49406": {"content": ...}, ...} of tokenizer_config.json. */
static vd_status add_decoder(loader *l, const vd_json_value *decoder) {
    if (vd_json_type_of(decoder) != VD_JSON_OBJECT)
        return vd_json_fail(l->config, decoder, "must be an object of id: token");
    for (const vd_json_value *v = vd_json_first(decoder); v != NULL; v = vd_json_next(v)) {
        int64_t id;
        if (!vd_parse_int(vd_json_key(v), &id))
            return vd_json_fail(l->config, v, "the key must be a token's id");
        vd_status st = add_listed(l, l->config, v, id);
        if (st != VD_OK)
            return st;
    }
    return VD_OK;
}

/* [{"id": 49406, "content": ...}, ...] of tokenizer.json. */
static vd_status add_fast_list(loader *l, const vd_json *doc, const vd_json_value *list) {
    vd_status st = VD_OK;
    if (vd_json_type_of(list) != VD_JSON_ARRAY)
        return vd_json_fail(doc, list, "must be a list of tokens");
    for (const vd_json_value *v = vd_json_first(list); v != NULL; v = vd_json_next(v)) {
        int64_t id;
        VD_TRY(vd_json_int(doc, v, "id", 0, VD_VOCAB_MAX_IDS - 1, -1, &id));
        VD_TRY(add_listed(l, doc, v, id));
    }
done:
    return st;
}

/* The token of a role ("pad_token"): special_tokens_map.json before tokenizer_config.json before
 * the class's default. `*id` is -1 if it has none. */
static vd_status add_named(loader *l, const char *role, const char *fallback, int32_t *id) {
    vd_json *const docs[] = {l->map, l->config};
    token_fields fields = {fallback, false};
    for (size_t i = 0; i < 2; i++) {
        const vd_json_value *v = docs[i] != NULL ? vd_json_get(vd_json_root(docs[i]), role) : NULL;
        if (v == NULL || vd_json_type_of(v) == VD_JSON_NULL)
            continue;
        vd_status st = read_fields(docs[i], v, true, &fields);
        if (st != VD_OK)
            return st;
        break;
    }
    vd_special_token *known = find_content(l->out, fields.content);
    if (known != NULL) {
        *id = known->id;
        if (known >= l->out->tokens + l->listed)
            known->normalized = fields.normalized; /* as in the reference, the later name wins */
        return VD_OK;
    }
    *id = vd_vocab_find(l->vocab, fields.content, strlen(fields.content));
    return *id >= 0 ? append(l, &fields, *id) : VD_OK;
}

static vd_status require(const loader *l, const char *role, int32_t id) {
    if (id >= 0)
        return VD_OK;
    return vd_fail(VD_ERR_INPUT,
                   "%s: the %s is not in %s; take the tokenizer folder that belongs to the text "
                   "encoder",
                   l->dir, role, vd_vocab_path(l->vocab));
}

static vd_status check_class(const loader *l) {
    const char *name;
    vd_status st =
        vd_json_text(l->config, vd_json_root(l->config), "tokenizer_class", "CLIPTokenizer", &name);
    if (st == VD_OK && strcmp(name, "CLIPTokenizer") != 0 && strcmp(name, "CLIPTokenizerFast") != 0)
        st = vd_json_fail(l->config, vd_json_get(vd_json_root(l->config), "tokenizer_class"),
                          "\"%s\" is not supported; only CLIPTokenizer is", name);
    return st;
}

static vd_status read_max_length(loader *l) {
    double length;
    const vd_json_value *root = vd_json_root(l->config);
    vd_status st =
        vd_json_double(l->config, root, "model_max_length", 2, HUGE_VAL, HUGE_VAL, &length);
    if (st == VD_OK && length < INT32_MAX)
        l->out->max_length = (size_t)length;
    return st;
}

static vd_status load(loader *l) {
    vd_status st = VD_OK;
    const vd_json *fast = vd_vocab_tokenizer_json(l->vocab);
    const vd_json_value *listed = NULL;
    VD_TRY(vd_tokenizer_read_json(l->dir, "tokenizer_config.json", &l->config));
    if (l->config != NULL) {
        VD_TRY(check_class(l));
        VD_TRY(read_max_length(l));
        listed = vd_json_get(vd_json_root(l->config), "added_tokens_decoder");
    }
    if (listed != NULL) {
        VD_TRY(add_decoder(l, listed));
    } else {
        /* As in the reference: beside a list of ids, the older file does not count. */
        VD_TRY(vd_tokenizer_read_json(l->dir, "special_tokens_map.json", &l->map));
        listed = fast != NULL ? vd_json_get(vd_json_root(fast), "added_tokens") : NULL;
        if (listed != NULL)
            VD_TRY(add_fast_list(l, fast, listed));
    }
    l->listed = l->out->count;
    VD_TRY(add_named(l, "bos_token", "<|startoftext|>", &l->out->start_id));
    VD_TRY(add_named(l, "eos_token", "<|endoftext|>", &l->out->end_id));
    VD_TRY(add_named(l, "unk_token", "<|endoftext|>", &l->out->unknown_id));
    VD_TRY(add_named(l, "pad_token", "<|endoftext|>", &l->out->pad_id));
    VD_TRY(require(l, "start token (bos_token)", l->out->start_id));
    VD_TRY(require(l, "end token (eos_token)", l->out->end_id));
    VD_TRY(require(l, "padding token (pad_token)", l->out->pad_id));
done:
    return st;
}

vd_status vd_special_tokens_load(const char *dir, const vd_vocab *vocab, vd_special_tokens *out) {
    *out = (vd_special_tokens){.id_limit = vd_vocab_id_limit(vocab), .max_length = SIZE_MAX};
    loader l = {.dir = dir, .vocab = vocab, .out = out};
    vd_status st = load(&l);
    vd_json_destroy(l.config);
    vd_json_destroy(l.map);
    if (st != VD_OK)
        vd_special_tokens_free(out);
    return st;
}

void vd_special_tokens_free(vd_special_tokens *specials) {
    for (size_t i = 0; i < specials->count; i++) {
        free(specials->tokens[i].content);
        free(specials->tokens[i].normal);
    }
    free(specials->tokens);
    *specials = (vd_special_tokens){0};
}

const vd_special_token *vd_special_at(const vd_special_tokens *specials, const char *text,
                                      size_t bytes) {
    const vd_special_token *best = NULL;
    for (size_t i = 0; i < specials->count; i++) {
        const vd_special_token *t = &specials->tokens[i];
        if (!t->normalized && t->bytes <= bytes && t->content[0] == text[0] &&
            (best == NULL || t->bytes > best->bytes) && memcmp(t->content, text, t->bytes) == 0)
            best = t;
    }
    return best;
}

const vd_special_token *vd_special_at_normal(const vd_special_tokens *specials, const int32_t *text,
                                             size_t count) {
    const vd_special_token *best = NULL;
    for (size_t i = 0; i < specials->count; i++) {
        const vd_special_token *t = &specials->tokens[i];
        if (t->normalized && t->normal_count <= count && t->normal[0] == text[0] &&
            (best == NULL || t->normal_count > best->normal_count) &&
            memcmp(t->normal, text, t->normal_count * sizeof *text) == 0)
            best = t;
    }
    return best;
}

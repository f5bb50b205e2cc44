/* Seeded mutations of the small tokenizer's files: opening one either works or is VD_ERR_INPUT with
 * a message, and one that opens encodes. Meant to run under sanitizers as well. */
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "folder.h"
#include "tests/check.h"
#include "text/tokenizer.h"

enum { ROUNDS = 2000, MAX_LENGTH = 16 };

static uint64_t state = 0x5eed;

static size_t below(size_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return limit == 0 ? 0 : (size_t)(state % limit);
}

/* Changes `data` (with room for `capacity`) in one of eight ways; returns its new size. */
static size_t mutate(unsigned char *data, size_t bytes, size_t capacity) {
    static const char *const tokens[] = {"\"",   "{",     "}",    "[",     ",",  ":",      "\\u",
                                         "</w>", "1e999", "-1",   "99999", " ",  "\n",     "\xff",
                                         "null", "true",  "\xcc", "\\ud8", "#v", "\\u0000"};
    size_t at = below(bytes);
    size_t span = 1 + below(below(8) == 0 ? 400 : 8);
    if (span > bytes - at)
        span = bytes - at;
    const char *token = tokens[below(sizeof tokens / sizeof *tokens)];
    switch (below(8)) {
    case 0: /* a bit */
        if (bytes > 0)
            data[at] ^= (unsigned char)(1u << below(8));
        return bytes;
    case 1: /* a byte */
        if (bytes > 0)
            data[at] = (unsigned char)below(256);
        return bytes;
    case 2: /* cut out */
        memmove(data + at, data + at + span, bytes - at - span);
        return bytes - span;
    case 3: /* cut short */
        return at;
    case 4: /* doubled */
        if (bytes + span > capacity)
            return bytes;
        memmove(data + at + span, data + at, bytes - at);
        return bytes + span;
    case 5: /* a digit or letter for another: the file stays well formed */
    case 6:
        while (at < bytes && !isalnum(data[at]))
            at++;
        if (at < bytes)
            data[at] = (unsigned char)(isdigit(data[at]) ? '0' + below(10) : 'a' + below(26));
        return bytes;
    default: /* something of the format */
        span = strlen(token);
        if (bytes + span > capacity)
            return bytes;
        memmove(data + at + span, data + at, bytes - at);
        memcpy(data + at, token, span);
        return bytes + span;
    }
}

static bool round_trip(const char *what) {
    static const char prompt[] = "A red circle, moving <|endoftext|>! \xc3\x89\xe6\x9d\xb1 9";
    vd_tokenizer *t = NULL;
    int32_t ids[MAX_LENGTH];
    vd_status st = vd_tokenizer_open(folder_path, &t);
    CHECK_MSG((st == VD_OK) == (t != NULL), "%s", what);
    CHECK_MSG(st == VD_OK || (st == VD_ERR_INPUT && vd_error_message()[0] != '\0'),
              "%s: status %d, %s", what, (int)st, vd_error_message());
    if (t == NULL)
        return false;
    char *dropped = NULL;
    CHECK_OK(vd_tokenizer_encode(t, prompt, MAX_LENGTH, ids, NULL, &dropped));
    for (size_t i = 0; i < MAX_LENGTH; i++)
        CHECK_MSG(ids[i] >= 0 && (size_t)ids[i] < vd_tokenizer_vocab_size(t), "%s: id %d", what,
                  ids[i]);
    free(dropped);
    vd_tokenizer_destroy(t);
    return true;
}

int main(void) {
    enum { CAPACITY = 1 << 20 };
    unsigned char *data = malloc(CAPACITY);
    int opened = 0;
    if (data == NULL)
        return 1;
    folder_create();
    folder_reset();
    for (int i = 0; i < ROUNDS; i++) {
        const char *name = folder_names[below(4)];
        size_t bytes;
        char *original = folder_original(name, &bytes);
        size_t original_bytes = bytes;
        memcpy(data, original, bytes);
        for (size_t times = 1 + below(3); times > 0; times--)
            bytes = mutate(data, bytes, CAPACITY);
        folder_put_bytes(name, data, bytes);
        char what[64];
        snprintf(what, sizeof what, "round %d, %s", i, name);
        opened += round_trip(what);
        folder_put_bytes(name, original, original_bytes);
        free(original);
    }
    folder_remove();
    free(data);
    printf("%d of %d mutated folders opened\n", opened, ROUNDS);
    CHECK(opened > 0 && opened < ROUNDS);
    return CHECK_DONE();
}

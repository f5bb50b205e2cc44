/* tokenize_lines FOLDER [VOCABULARY_FOLDER] <in >out: for each NUL-terminated string of stdin, one
 * line with its token ids (start and end included, nothing cut). Driven by
 * tools/check_tokenizer.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

static int fail(const char *what) {
    fprintf(stderr, "tokenize_lines: %s\n", what);
    return 1;
}

static int print_ids(const vd_tokenizer *t, const char *text) {
    size_t capacity = 4 * strlen(text) + 2; /* no byte gives more than four tokens */
    size_t count = 0;
    int32_t *ids = malloc(capacity * sizeof *ids);
    if (ids == NULL)
        return fail("not enough memory");
    if (vd_tokenizer_encode(t, text, capacity, ids, &count, NULL) != VD_OK || count > capacity) {
        free(ids);
        return fail(vd_error_message());
    }
    for (size_t i = 0; i < count; i++)
        printf(i == 0 ? "%d" : " %d", ids[i]);
    putchar('\n');
    free(ids);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return fail("usage: tokenize_lines FOLDER [VOCABULARY_FOLDER]");
    vd_tokenizer *t;
    if (vd_tokenizer_open_shared(argv[1], argv[argc > 2 ? 2 : 1], &t) != VD_OK)
        return fail(vd_error_message());
    char *line = NULL;
    size_t capacity = 0;
    int bad = 0;
    while (!bad && getdelim(&line, &capacity, '\0', stdin) >= 0)
        bad = print_ids(t, line);
    free(line);
    vd_tokenizer_destroy(t);
    return bad;
}

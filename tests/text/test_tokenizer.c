/* Expected ids come from transformers' CLIPTokenizer (5.x): the golden case, and the literals
 * below. */
#include <stdlib.h>
#include <time.h>

#include "core/json.h"
#include "folder.h"
#include "tests/check.h"
#include "tests/golden.h"
#include "text/tokenizer.h"

#define GOLDEN VD_BINARY_DIR "/golden/"
#define BIG_TOKENIZER GOLDEN "t2v-ms/tokenizer"

static void check_ids(const vd_tokenizer *t, const char *text, const int32_t *expected,
                      size_t count) {
    int32_t ids[128] = {0};
    size_t length = 0;
    CHECK_OK(vd_tokenizer_encode(t, text, 128, ids, &length, NULL));
    CHECK_MSG(length == count, "%s: %zu tokens, expected %zu", text, length, count);
    for (size_t i = 0; i < count && i < length; i++)
        CHECK_MSG(ids[i] == expected[i], "%s: token %zu is %d, expected %d", text, i, ids[i],
                  expected[i]);
}
#define CHECK_IDS(t, text, ...)                                                                    \
    check_ids((t), (text), (const int32_t[]){__VA_ARGS__},                                         \
              sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void golden_mode(const golden *g, const golden_case *c, const vd_json_value *prompts,
                        const char *mode, const char *vocab_dir, size_t max_length) {
    char dir[512];
    char setting[32];
    char output[64];
    const char *relative = NULL;
    vd_tokenizer *t = NULL;
    size_t rows = vd_json_size(prompts);
    int32_t *ids = calloc(rows * max_length, sizeof *ids);
    int32_t *lengths = calloc(rows, sizeof *lengths);
    snprintf(setting, sizeof setting, "pad_%s", mode);
    CHECK_OK(vd_json_text(c->doc, c->settings, setting, NULL, &relative));
    CHECK_OK(vd_tokenizer_open_shared(golden_path(g, relative, dir, sizeof dir), vocab_dir, &t));
    if (t != NULL && ids != NULL && lengths != NULL) {
        CHECK(vd_tokenizer_max_length(t) == 77);
        CHECK(vd_tokenizer_vocab_size(t) == 49408);
        size_t row = 0;
        for (const vd_json_value *p = vd_json_first(prompts); p != NULL; p = vd_json_next(p)) {
            size_t length = 0;
            char *dropped = NULL;
            CHECK_OK(vd_tokenizer_encode(t, vd_json_string(p), max_length, ids + row * max_length,
                                         &length, &dropped));
            CHECK((dropped != NULL) == (length > max_length));
            free(dropped);
            lengths[row++] = (int32_t)length;
        }
        snprintf(output, sizeof output, "ids_pad_%s", mode);
        CHECK(golden_compare(c, output, VD_I32, ids, rows * max_length, GOLDEN_F32));
        snprintf(output, sizeof output, "untruncated_len_pad_%s", mode);
        CHECK(golden_compare(c, output, VD_I32, lengths, rows, GOLDEN_F32));
    }
    vd_tokenizer_destroy(t);
    free(ids);
    free(lengths);
}

static void test_golden(void) {
    golden *g = golden_open(GOLDEN "manifest.json");
    golden_case *c;
    while ((c = golden_next(g, "tokenizer", NULL)) != NULL) {
        char path[512];
        const char *relative = NULL;
        int64_t max_length = 0;
        vd_json *prompts = NULL;
        CHECK_OK(vd_json_text(c->doc, c->settings, "prompts", NULL, &relative));
        CHECK_OK(vd_json_int(c->doc, c->settings, "max_length", 2, 1000, 0, &max_length));
        CHECK_OK(vd_json_read(golden_path(g, relative, path, sizeof path), "prompts", &prompts));
        if (prompts != NULL) {
            const vd_json_value *list = vd_json_root(prompts);
            golden_mode(g, c, list, "eot", BIG_TOKENIZER, (size_t)max_length);
            golden_mode(g, c, list, "excl", BIG_TOKENIZER, (size_t)max_length);
        }
        vd_json_destroy(prompts);
    }
    CHECK(golden_close(g) == 0);
}

static void test_small(void) {
    vd_tokenizer *t = NULL;
    CHECK_OK(vd_tokenizer_open(SHAPES_TOKENIZER, &t));
    if (t == NULL)
        return;
    CHECK(vd_tokenizer_max_length(t) == 16);
    CHECK(vd_tokenizer_vocab_size(t) == 598);
    CHECK_IDS(t, "a red circle moving right on a white background", 121, 35, 77, 103, 107, 118, 71,
              35, 114, 120, 122);
    CHECK_IDS(t, "A RED Circle, moving LEFT!", 121, 35, 77, 103, 146, 107, 106, 124, 122);
    CHECK_IDS(t, "", 121, 122);

    static const int32_t cut[16] = {121, 19,  22,  258, 94, 80, 48, 4,
                                    261, 176, 160, 117, 82, 47, 11, 122};
    int32_t ids[17];
    size_t length = 0;
    char *dropped = NULL;
    ids[16] = -7;
    CHECK_OK(vd_tokenizer_encode(
        t, "two blue squares; 3 green TRIANGLES & more words than fit in sixteen", 16, ids, &length,
        &dropped));
    CHECK(length == 41);
    CHECK(memcmp(ids, cut, sizeof cut) == 0 && ids[16] == -7);
    CHECK_MSG(dropped != NULL && strcmp(dropped, "es & more words than fit in sixteen") == 0, "%s",
              dropped != NULL ? dropped : "nothing dropped");
    free(dropped);

    CHECK_OK(vd_tokenizer_encode(t, "\xc3\x89\xc3\x89\xc3\x89", 3, ids, &length, &dropped));
    CHECK(length == 8 && ids[0] == 121 && ids[2] == 122);
    CHECK_MSG(dropped != NULL && strcmp(dropped, "\xc3\xa9\xc3\xa9\xc3\xa9") == 0,
              "a cut inside a character must quote it whole");
    free(dropped);
    CHECK_OK(vd_tokenizer_encode(t, "red", 2, ids, NULL, NULL));
    CHECK(ids[0] == 121 && ids[1] == 122);
    vd_tokenizer_destroy(t);
}

static void test_bad_prompts(void) {
    vd_tokenizer *t = NULL;
    int32_t ids[8];
    char *dropped = NULL;
    CHECK_OK(vd_tokenizer_open(SHAPES_TOKENIZER, &t));
    if (t == NULL)
        return;
    CHECK_FAILS(vd_tokenizer_encode(t, "red \xff", 8, ids, NULL, &dropped), VD_ERR_USAGE, "byte 4");
    CHECK_FAILS(vd_tokenizer_encode(t, "\xed\xa0\x80", 8, ids, NULL, NULL), VD_ERR_USAGE, "UTF-8");
    CHECK_FAILS(vd_tokenizer_encode(t, "\xc0\xaf", 8, ids, NULL, NULL), VD_ERR_USAGE, "UTF-8");
    CHECK_FAILS(vd_tokenizer_encode(t, "red", 1, ids, NULL, NULL), VD_ERR_USAGE, "length 1");
    char *long_prompt = calloc(VD_PROMPT_MAX_BYTES + 2, 1);
    if (long_prompt != NULL) {
        memset(long_prompt, 'a', VD_PROMPT_MAX_BYTES + 1);
        CHECK_FAILS(vd_tokenizer_encode(t, long_prompt, 8, ids, NULL, NULL), VD_ERR_USAGE, "bytes");
    }
    free(long_prompt);
    vd_tokenizer_destroy(t);
}

/* What the folder's files say about special tokens, with the full vocabulary. */
static void test_special_tokens(void) {
    vd_tokenizer *t = NULL;
    folder_clear();
    CHECK_OK(vd_tokenizer_open_shared(folder_path, BIG_TOKENIZER, &t));
    CHECK_IDS(t, "<|STARTOFTEXT|> a", 49406, 27, 347, 993, 6659, 4160, 91, 285, 320, 49407);
    CHECK_IDS(t, "ab!c<|endoftext|>", 49406, 3937, 256, 322, 49407, 49407);
    CHECK(vd_tokenizer_max_length(t) == SIZE_MAX);
    vd_tokenizer_destroy(t);

    /* Token objects; "normalized" ones are looked for after lower-casing and NFC. */
    folder_put("special_tokens_map.json",
               "{\"bos_token\": {\"content\": \"<|startoftext|>\", \"lstrip\": false, "
               "\"normalized\": true, \"rstrip\": false, \"single_word\": false},"
               " \"eos_token\": {\"content\": \"<|endoftext|>\", \"normalized\": true},"
               " \"unk_token\": {\"content\": \"<|endoftext|>\", \"normalized\": true},"
               " \"pad_token\": \"!\"}");
    folder_put("tokenizer_config.json", "{\"pad_token\": \"<|endoftext|>\", \"model_max_length\": "
                                        "1000000000000000019884624838656}");
    CHECK_OK(vd_tokenizer_open_shared(folder_path, BIG_TOKENIZER, &t));
    CHECK(vd_tokenizer_max_length(t) == SIZE_MAX);
    CHECK_IDS(t, "<|ENDOFTEXT|> <|STARTOFTEXT|>", 49406, 49407, 49406, 49407);
    CHECK_IDS(t, "<|startoftext|>\xcc\xb8 a", 49406, 27, 347, 993, 6659, 4160, 91, 22684, 363, 320,
              49407);
    CHECK_IDS(t, "a!", 49406, 320, 0, 49407);
    vd_tokenizer_destroy(t);

    /* A list with ids in tokenizer_config.json makes special_tokens_map.json void. */
    folder_put("tokenizer_config.json",
               "{\"bos_token\": \"<|startoftext|>\", \"pad_token\": \"<|endoftext|>\","
               " \"added_tokens_decoder\": {\"49406\": {\"content\": \"<|startoftext|>\", "
               "\"normalized\": true, \"special\": true}, \"49408\": {\"content\": \"<My Style>\"},"
               " \"49409\": {\"content\": \"<x>\", \"normalized\": false}}}");
    CHECK_OK(vd_tokenizer_open_shared(folder_path, BIG_TOKENIZER, &t));
    CHECK(vd_tokenizer_vocab_size(t) == 49410);
    CHECK_IDS(t, "a!b<|STARTOFTEXT|>", 49406, 320, 256, 321, 49406, 49407);
    CHECK_IDS(t, "a <My  Style> <my style> <X> <x>", 49406, 320, 49408, 49408, 283, 343, 285, 49409,
              49407);
    vd_tokenizer_destroy(t);
}

/* {"model": {...}} from vocab.json and merges.txt; pairs: merges as lists of two. */
static void put_fast(int pairs) {
    size_t bytes;
    char *vocab = folder_original("vocab.json", &bytes);
    char *merges = folder_original("merges.txt", &bytes);
    size_t capacity = strlen(vocab) + 8 * strlen(merges) + 1000;
    char *json = calloc(capacity, 1);
    char *at = json;
    if (json == NULL)
        exit(1);
    at += sprintf(at,
                  "{\"added_tokens\": [{\"id\": 121, \"content\": \"<|startoftext|>\", "
                  "\"normalized\": true, \"special\": true}], "
                  "\"model\": {\"type\": \"BPE\", \"vocab\": %s, \"merges\": [",
                  vocab);
    const char *separator = "";
    strtok(merges, "\n"); /* the version */
    for (char *line = strtok(NULL, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char *space = strchr(line, ' ');
        *space = '\0';
        at += sprintf(at, pairs ? "%s[\"%s\",\"%s\"]" : "%s\"%s %s\"", separator, line, space + 1);
        separator = ",";
    }
    sprintf(at, "]}}");
    folder_put("tokenizer.json", json);
    free(json);
    free(vocab);
    free(merges);
}

static void test_fast_file(void) {
    for (int pairs = 0; pairs < 2; pairs++) {
        vd_tokenizer *t = NULL;
        folder_reset();
        folder_put("vocab.json", NULL);
        folder_put("merges.txt", NULL);
        put_fast(pairs);
        CHECK_OK(vd_tokenizer_open(folder_path, &t));
        if (t != NULL) {
            CHECK_IDS(t, "A RED Circle, moving LEFT!", 121, 35, 77, 103, 146, 107, 106, 124, 122);
            CHECK_IDS(t, "<|STARTOFTEXT|>", 121, 121, 122);
        }
        vd_tokenizer_destroy(t);
    }
    vd_tokenizer *t = NULL;
    folder_put("tokenizer.json", "{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}");
    CHECK_FAILS(vd_tokenizer_open(folder_path, &t), VD_ERR_INPUT, "Unigram");
    folder_put("tokenizer.json", "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a\"]}}");
    CHECK_FAILS(vd_tokenizer_open(folder_path, &t), VD_ERR_INPUT, "tokenizer.json");
    CHECK(t == NULL);
}

static void test_bad_files(void) {
    static const struct {
        const char *file;
        const char *text; /* NULL: the file is missing */
        const char *message;
    } cases[] = {
        {"vocab.json", NULL, "vocab.json and merges.txt"},
        {"vocab.json", "{\"a\": 0,", "vocab.json"},
        {"vocab.json", "[1]", "no vocabulary"},
        {"vocab.json", "{\"a\": 0, \"b\": 0}", "$.b"},
        {"vocab.json", "{\"a\": -1}", "$.a"},
        {"vocab.json", "{\"a\": 1048576}", "$.a"},
        {"vocab.json", "{\"a\": 1e300}", "$.a"},
        {"vocab.json", "{\"a\": NaN}", "$.a"},
        {"vocab.json", "{\"a\": 1.5}", "$.a"},
        {"vocab.json", "{\"a\": \"1\"}", "$.a"},
        {"vocab.json", "{\"a\": 0, \"a\": 1}", "vocab.json"},
        {"vocab.json", "{}", "start token"},
        {"vocab.json", "{\"<|startoftext|>\": 1}", "end token"},
        {"vocab.json", "{\"<|startoftext|>\": 1, \"<|endoftext|>\": 2}", "merges.txt: line 2"},
        {"merges.txt", NULL, "merges.txt"},
        {"merges.txt", "#version: 0.2\ni n\nr q\n", "merges.txt: line 3: the merge \"r q\""},
        {"merges.txt", "#version: 0.2\nnosuch n\n", "\"nosuch n\""},
        {"merges.txt", "#version: 0.2\nin\n", "line 2"},
        {"merges.txt", "#version: 0.2\ni  n\n", "line 2"},
        {"merges.txt", "#version: 0.2\ni n g\n", "line 2"},
        {"merges.txt", " n\n", "line 1"},
        {"special_tokens_map.json", "{\"pad_token\": \"nosuch\"}", "padding token"},
        {"special_tokens_map.json", "{\"bos_token\": \"nosuch\"}", "start token"},
        {"special_tokens_map.json", "{\"eos_token\": {\"content\": \"nosuch\"}}", "end token"},
        {"special_tokens_map.json", "{\"pad_token\": 3}", "$.pad_token"},
        {"special_tokens_map.json", "{\"pad_token\": \"\"}", "$.pad_token"},
        {"special_tokens_map.json", "{\"pad_token\": {}}", "$.pad_token"},
        {"special_tokens_map.json", "{\"pad_token\": {\"content\": \"a\", \"single_word\": true}}",
         "single_word"},
        {"special_tokens_map.json", "nonsense", "special_tokens_map.json"},
        {"tokenizer_config.json", "{\"tokenizer_class\": \"T5Tokenizer\"}", "T5Tokenizer"},
        {"tokenizer_config.json", "{\"model_max_length\": 1}", "$.model_max_length"},
        {"tokenizer_config.json", "{\"model_max_length\": \"77\"}", "$.model_max_length"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": [1]}", "$.added_tokens_decoder"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": \"a\"}}", "token's id"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"5\": \"new\"}}", "from 598"},
        {"tokenizer_config.json",
         "{\"added_tokens_decoder\": {\"600\": \"new\", \"601\": \"new\"}}", "twice"},
        {"tokenizer_config.json", "{\"added_tokens_decoder\": {\"600\": \"p\", \"600\": \"q\"}}",
         "tokenizer_config.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vd_tokenizer *t = NULL;
        folder_reset();
        folder_put(cases[i].file, cases[i].text);
        CHECK_FAILS(vd_tokenizer_open(folder_path, &t), VD_ERR_INPUT, cases[i].message);
        CHECK_MSG(strstr(vd_error_message(), folder_path) != NULL, "\"%s\" names no file",
                  vd_error_message());
        CHECK(t == NULL);
        vd_tokenizer_destroy(t);
    }
    /* Windows line ends, blank lines and no version line do no harm. */
    vd_tokenizer *t = NULL;
    folder_reset();
    folder_put("merges.txt", "i n\r\n\r\nin g</w>");
    CHECK_OK(vd_tokenizer_open(folder_path, &t));
    vd_tokenizer_destroy(t);
    CHECK_FAILS(vd_tokenizer_open("no/such/folder", &t), VD_ERR_INPUT, "no/such/folder");
    /* A byte that the vocabulary lacks is the unknown token; without that, a bad vocabulary. */
    folder_clear();
    folder_put("vocab.json", "{\"<|startoftext|>\": 0, \"<|endoftext|>\": 1, \"a</w>\": 2}");
    folder_put("merges.txt", "");
    CHECK_OK(vd_tokenizer_open(folder_path, &t));
    CHECK_IDS(t, "a b", 0, 2, 1, 1);
    vd_tokenizer_destroy(t);
    folder_put("tokenizer_config.json", "{\"unk_token\": \"nosuch\"}");
    CHECK_FAILS(vd_tokenizer_open(folder_path, &t), VD_ERR_INPUT, "unknown token");
}

static double seconds_since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)(now.tv_sec - start->tv_sec) + 1e-9 * (double)(now.tv_nsec - start->tv_nsec);
}

/* Texts on which a quadratic step would take minutes: the bound of 10 s of processor time leaves
 * room for sanitizers and slow machines, a run takes about a tenth of a second. */
static void test_long_words(void) {
    static const char *const repeated[] = {"a", "ab", "!", "\xcc\xa3\xcc\x81", "e\xcc\x81 "};
    enum { REPEATS = 100000 };
    vd_tokenizer *t = NULL;
    CHECK_OK(vd_tokenizer_open(BIG_TOKENIZER, &t));
    for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++) {
        size_t unit = strlen(repeated[i]);
        char *text = calloc(REPEATS * unit + 1, 1);
        if (text == NULL)
            exit(1);
        for (size_t r = 0; r < REPEATS; r++)
            memcpy(text + r * unit, repeated[i], unit);
        int32_t ids[77];
        size_t length = 0;
        struct timespec start;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
        CHECK_OK(vd_tokenizer_encode(t, text, 77, ids, &length, NULL));
        CHECK(length > 77);
        CHECK_MSG(seconds_since(&start) < 10, "text %zu took %.1f s", i, seconds_since(&start));
        free(text);
    }
    vd_tokenizer_destroy(t);
}

int main(void) {
    folder_create();
    test_golden();
    test_small();
    test_bad_prompts();
    test_special_tokens();
    test_fast_file();
    test_bad_files();
    test_long_words();
    folder_remove();
    return CHECK_DONE();
}

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/json.h"
#include "tests/check.h"

static vd_json *parse(const char *text) {
    vd_json *doc = NULL;
    CHECK_OK(vd_json_parse(text, strlen(text), "t.json", &doc));
    return doc;
}

static void test_values(void) {
    vd_json *doc = parse("{\"a\": [1, -2.5e3, true, false, null, \"x\\u00e9\\n\"], \"b\": {}, "
                         "\"lo\": -Infinity, \"hi\":Infinity,\"n\":[NaN]}");
    if (doc == NULL)
        return;
    const vd_json_value *root = vd_json_root(doc);
    CHECK(vd_json_type_of(root) == VD_JSON_OBJECT && vd_json_size(root) == 5);
    const vd_json_value *v = vd_json_first(vd_json_get(root, "a"));
    CHECK(vd_json_type_of(v) == VD_JSON_NUMBER && vd_json_number(v) == 1);
    CHECK(vd_json_key(v) == NULL && strcmp(vd_json_key(vd_json_get(root, "b")), "b") == 0);
    v = vd_json_next(v);
    CHECK(vd_json_number(v) == -2500);
    v = vd_json_next(v);
    CHECK(vd_json_type_of(v) == VD_JSON_BOOL && vd_json_bool(v));
    v = vd_json_next(v);
    CHECK(vd_json_type_of(v) == VD_JSON_BOOL && !vd_json_bool(v));
    v = vd_json_next(v);
    CHECK(vd_json_type_of(v) == VD_JSON_NULL && vd_json_size(v) == 0);
    v = vd_json_next(v);
    CHECK(strcmp(vd_json_string(v), "x\xC3\xA9\n") == 0);
    CHECK(vd_json_next(v) == NULL);
    CHECK(vd_json_number(vd_json_get(root, "lo")) == -INFINITY);
    CHECK(vd_json_number(vd_json_get(root, "hi")) == INFINITY);
    const vd_json_value *nan_value = vd_json_first(vd_json_get(root, "n"));
    CHECK(vd_json_type_of(nan_value) == VD_JSON_NUMBER && isnan(vd_json_number(nan_value)));
    CHECK(vd_json_get(root, "A") == NULL && vd_json_get(nan_value, "x") == NULL);
    CHECK(vd_json_first(vd_json_get(root, "b")) == NULL);
    vd_json_destroy(doc);
    vd_json_destroy(NULL);
}

static void test_paths(void) {
    char buf[400];
    vd_json *doc = parse("{\"jobs\": [{}, {\"seed\": 3, \"a key\": [[0, 7]]}]}");
    if (doc == NULL)
        return;
    const vd_json_value *root = vd_json_root(doc);
    const vd_json_value *job = vd_json_next(vd_json_first(vd_json_get(root, "jobs")));
    CHECK(strcmp(vd_json_path(doc, root, buf, sizeof buf), "$") == 0);
    CHECK(strcmp(vd_json_path(doc, job, buf, sizeof buf), "$.jobs[1]") == 0);
    const vd_json_value *seed = vd_json_get(job, "seed");
    CHECK(strcmp(vd_json_path(doc, seed, buf, sizeof buf), "$.jobs[1].seed") == 0);
    const vd_json_value *seven =
        vd_json_next(vd_json_first(vd_json_first(vd_json_get(job, "a key"))));
    CHECK(strcmp(vd_json_path(doc, seven, buf, sizeof buf), "$.jobs[1][\"a key\"][0][1]") == 0);
    CHECK(strcmp(vd_json_path(doc, seven, buf, 5), "$.jo") == 0);
    CHECK_FAILS(vd_json_fail(doc, seed, "is %s", "odd"), VD_ERR_INPUT,
                "t.json: $.jobs[1].seed: is odd");
    CHECK_FAILS(vd_json_fail(doc, NULL, "is odd"), VD_ERR_INPUT, "t.json: is odd");
    vd_json_destroy(doc);

    /* Keys far longer than the path's buffer. */
    static char text[4000];
    char *p = text;
    for (int i = 0; i < 20; i++)
        p += sprintf(p, "{\"%0150d\":", i);
    p += sprintf(p, "1");
    for (int i = 0; i < 20; i++)
        p += sprintf(p, "}");
    doc = parse(text);
    const vd_json_value *v = doc == NULL ? NULL : vd_json_root(doc);
    while (v != NULL && vd_json_first(v) != NULL)
        v = vd_json_first(v);
    CHECK(doc != NULL && strlen(vd_json_path(doc, v, buf, sizeof buf)) < sizeof buf);
    vd_json_destroy(doc);
}

static void test_malformed(void) {
    static const struct {
        const char *text;
        const char *words;
    } cases[] = {
        {"", "t.json:1:1: the JSON text ends too early"},
        {"   ", "ends too early"},
        {"{\"a\": 1", "t.json:1:8: the JSON text ends too early"},
        {"{\n  \"a\": 1,\n  \"b\" 2\n}", "t.json:3:7: the JSON text is malformed here"},
        {"[1, 2] x", "t.json:1:8: neither a number nor true, false or null"},
        {"[1] []", "t.json:1:5: "},
        {"[1,]", "t.json:1:4: "},
        {"[1 2]", "t.json:1:4: "},
        {"{\"a\":1,}", "t.json:1:8: a key in double quotes is expected"},
        {"{1: 2}", "t.json:1:2: a key in double quotes is expected"},
        {"{NaN: 2}", "t.json:1:2: a key in double quotes is expected"},
        {"[[], {\"b\": {}, [", "t.json:1:16: a key in double quotes"},
        {"{,}", "t.json:1:2: a key in double quotes"},
        {"]", "t.json:1:1: "},
        {"[}", "t.json:1:2: "},
        {"[01]", "t.json:1:2: neither a number"},
        {"[1.]", "t.json:1:2: neither a number"},
        {"[.5]", "t.json:1:2: neither a number"},
        {"[+5]", "t.json:1:2: neither a number"},
        {"[1e]", "t.json:1:2: neither a number"},
        {"[0x10]", "t.json:1:2: neither a number"},
        {"[1-2]", "t.json:1:2: neither a number"},
        {"[-]", "t.json:1:2: neither a number"},
        {"[-NaN]", "t.json:1:2: neither a number"},
        {"[nan]", "t.json:1:2: neither a number"},
        {"[NaNny]", "t.json:1:2: neither a number"},
        {"[True]", "t.json:1:2: neither a number"},
        {"['a']", "t.json:1:2: a character that no JSON text has here"},
        {"[1] // no", "t.json:1:5: a character"},
        {"[\"abc", "t.json:1:2: this string has no end"},
        {"[\"abc\\\"]", "t.json:1:2: this string has no end"},
        {"[\"a\nb\"]", "t.json:1:4: a control character"},
        {"[\"\\q\"]", "t.json:1:"},
        {"[\"\\ud800\"]", "t.json:1:"},
        {"[\"\\udc00x\"]", "t.json:1:"},
        {"[\"\\u12\"]", "t.json:1:"},
        {"[\"a\\u0000b\"]", "t.json:1:4: \\u0000"},
        {"\xEF\xBB\xBF{}", "t.json:1:1: a byte order mark"},
        {"\"\xC3\xA9\" \xFF", "t.json:1:5: the text is not valid UTF-8"},
        {"{\"a\": 1, \"b\": 2, \"a\": 3}", "t.json: $.a: the key occurs twice"},
        {"[{\"x\": {\"k\\u0065y\": 1, \"key\": 2}}]", "t.json: $[0].x.key: the key occurs twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vd_json *doc = (vd_json *)&doc;
        const size_t n = strlen(cases[i].text);
        CHECK_FAILS(vd_json_parse(cases[i].text, n, "t.json", &doc), VD_ERR_INPUT, cases[i].words);
        CHECK_MSG(doc == NULL, "%s", cases[i].text);
    }
    vd_json *doc = NULL;
    CHECK_FAILS(vd_json_parse("[1]\0[2]", 7, "t.json", &doc), VD_ERR_INPUT,
                "t.json:1:4: a NUL byte");
    CHECK_FAILS(vd_json_parse("[1]\0", 4, "t.json", &doc), VD_ERR_INPUT, "t.json:1:4: a NUL byte");
}

static void test_sizes(void) {
    static char text[20 << 20];
    vd_json *doc = NULL;
    memset(text, '[', 1000);
    CHECK_FAILS(vd_json_parse(text, 1000, "t.json", &doc), VD_ERR_INPUT,
                "t.json:1:201: nested deeper than 200");
    memset(text + 200, ']', 200);
    CHECK_OK(vd_json_parse(text, 400, "t.json", &doc));
    vd_json_destroy(doc);
    memset(text, '1', 16000);
    CHECK_FAILS(vd_json_parse(text, 16000, "t.json", &doc), VD_ERR_INPUT,
                "t.json:1:1: a number of more than 63 characters");
    CHECK_OK(vd_json_parse(text, 63, "t.json", &doc));
    CHECK(doc != NULL &&
          vd_json_number(vd_json_root(doc)) ==
              strtod("111111111111111111111111111111111111111111111111111111111111111", NULL));
    vd_json_destroy(doc);
    text[0] = '[';
    for (size_t i = 1; i < sizeof text; i++)
        text[i] = i % 2 == 0 ? ',' : '0';
    CHECK_FAILS(vd_json_parse(text, sizeof text - 1, "t.json", &doc), VD_ERR_INPUT, "more values");
    CHECK_FAILS(vd_json_parse(text, (size_t)257 << 20, "t.json", &doc), VD_ERR_INPUT, "at most");
}

static void test_typed(void) {
    vd_json *doc =
        parse("{\"i\": 7, \"f\": 2.5, \"s\": \"x\", \"t\": true, \"z\": null, \"n\": NaN, "
              "\"inf\": Infinity, \"big\": 9007199254740993, \"p\": 9007199254740992, "
              "\"e\": 3e0, \"l\": [1]}");
    if (doc == NULL)
        return;
    const vd_json_value *r = vd_json_root(doc);
    int64_t i = 0;
    double d = 0;
    bool b = false;
    const char *s = NULL;
    CHECK_OK(vd_json_int(doc, r, "i", 0, 7, -1, &i));
    CHECK(i == 7);
    CHECK_OK(vd_json_int(doc, r, "e", 0, 7, -1, &i));
    CHECK(i == 3);
    CHECK_OK(vd_json_int(doc, r, "absent", 0, 7, -1, &i));
    CHECK(i == -1);
    CHECK_OK(vd_json_int(doc, r, "z", 0, 7, -2, &i));
    CHECK(i == -2);
    CHECK_OK(vd_json_int(doc, r, "p", INT64_MIN, INT64_MAX, 0, &i));
    CHECK(i == INT64_C(9007199254740992));
    CHECK_FAILS(vd_json_int(doc, r, "i", 0, 6, 4, &i), VD_ERR_INPUT,
                "t.json: $.i: an integer from 0 to 6 is expected, not 7");
    CHECK(i == 4);
    CHECK_FAILS(vd_json_int(doc, r, "i", 8, 9, 0, &i), VD_ERR_INPUT, "from 8 to 9");
    CHECK_FAILS(vd_json_int(doc, r, "f", 0, 6, 0, &i), VD_ERR_INPUT, "not 2.5");
    CHECK_FAILS(vd_json_int(doc, r, "n", 0, 6, 0, &i), VD_ERR_INPUT, "$.n: an integer");
    CHECK_FAILS(vd_json_int(doc, r, "inf", INT64_MIN, INT64_MAX, 0, &i), VD_ERR_INPUT, "$.inf");
    CHECK_FAILS(vd_json_int(doc, r, "s", 0, 6, 0, &i), VD_ERR_INPUT, "$.s: a number is expected");
    CHECK_FAILS(vd_json_int(doc, r, "t", 0, 6, 0, &i), VD_ERR_INPUT, "$.t: a number is expected");
    CHECK_FAILS(vd_json_int(doc, vd_json_get(r, "l"), "x", 0, 6, 0, &i), VD_ERR_INPUT,
                "$.l: an object is expected");

    CHECK_OK(vd_json_double(doc, r, "f", 0, 3, 0, &d));
    CHECK(d == 2.5);
    CHECK_OK(vd_json_double(doc, r, "inf", 0, INFINITY, 0, &d));
    CHECK(d == INFINITY);
    CHECK_OK(vd_json_double(doc, r, "absent", 0, 3, 1.5, &d));
    CHECK(d == 1.5);
    CHECK_FAILS(vd_json_double(doc, r, "f", 0, 2, 0, &d), VD_ERR_INPUT,
                "$.f: a number from 0 to 2 is expected, not 2.5");
    CHECK_FAILS(vd_json_double(doc, r, "n", -INFINITY, INFINITY, 0, &d), VD_ERR_INPUT, "$.n: ");
    CHECK_OK(vd_json_flag(doc, r, "t", false, &b));
    CHECK(b);
    CHECK_OK(vd_json_flag(doc, r, "z", true, &b));
    CHECK(b);
    CHECK_FAILS(vd_json_flag(doc, r, "i", false, &b), VD_ERR_INPUT,
                "$.i: true or false is expected");
    CHECK_OK(vd_json_text(doc, r, "s", "d", &s));
    CHECK(strcmp(s, "x") == 0);
    CHECK_OK(vd_json_text(doc, r, "absent", "d", &s));
    CHECK(strcmp(s, "d") == 0);
    CHECK_FAILS(vd_json_text(doc, r, "l", "d", &s), VD_ERR_INPUT, "$.l: a string is expected");
    vd_json_destroy(doc);
}

static void test_only_keys(void) {
    static const char *const allowed[] = {"prompt", "seed", "steps", NULL};
    vd_json *doc =
        parse("[{\"seed\": 1, \"prompt\": \"\"}, {\"sed\": 1}, {\"zebra_crossing\": 1}, 3]");
    if (doc == NULL)
        return;
    const vd_json_value *v = vd_json_first(vd_json_root(doc));
    CHECK_OK(vd_json_only_keys(doc, v, allowed));
    v = vd_json_next(v);
    CHECK_FAILS(vd_json_only_keys(doc, v, allowed), VD_ERR_INPUT,
                "t.json: $[1].sed: unknown key; did you mean \"seed\"?");
    v = vd_json_next(v);
    CHECK_FAILS(vd_json_only_keys(doc, v, allowed), VD_ERR_INPUT,
                "$[2].zebra_crossing: unknown key; known are: prompt, seed, steps");
    v = vd_json_next(v);
    CHECK_FAILS(vd_json_only_keys(doc, v, allowed), VD_ERR_INPUT, "$[3]: an object is expected");
    vd_json_destroy(doc);
}

static void test_files(void) {
    vd_json *doc = NULL;
    FILE *f = fopen("json_test.tmp", "wb");
    CHECK(f != NULL && fputs("{\"a\":\n x}", f) >= 0 && fclose(f) == 0);
    CHECK_FAILS(vd_json_read("json_test.tmp", "job file", &doc), VD_ERR_INPUT,
                "job file: json_test.tmp:2:2: ");
    CHECK_FAILS(vd_json_read("absent.json", "job file", &doc), VD_ERR_INPUT,
                "job file: absent.json: cannot be opened");
    unlink("json_test.tmp");
    CHECK_OK(vd_json_read(VD_SOURCE_DIR "/models/shapes/scheduler/scheduler_config.json",
                          "scheduler config", &doc));
    const char *name = NULL;
    if (doc != NULL)
        CHECK_OK(vd_json_text(doc, vd_json_root(doc), "_class_name", NULL, &name));
    CHECK(name != NULL);
    vd_json_destroy(doc);
}

static void put_all(vd_json_writer *w, const vd_json *source) {
    vd_json_begin_object(w, NULL);
    vd_json_put_string(w, "s", "q\" \\ \n \x01 \xC3\xA9 bad \xFF end");
    vd_json_put_int(w, "i", INT64_MIN);
    vd_json_put_double(w, "d", 3.5);
    vd_json_put_double(w, "whole", 7);
    vd_json_put_double(w, "third", 1.0 / 3);
    vd_json_put_double(w, "nan", NAN);
    vd_json_put_double(w, "inf", INFINITY);
    vd_json_put_bool(w, "b", true);
    vd_json_put_null(w, "z");
    vd_json_begin_array(w, "l");
    vd_json_put_double(w, NULL, 0.1);
    vd_json_begin_object(w, NULL);
    vd_json_end(w);
    vd_json_end(w);
    vd_json_put_value(w, "copy", vd_json_root(source));
    vd_json_end(w);
}

static void test_writer(void) {
    vd_json_writer *w = NULL;
    char *text = NULL;
    vd_json *source = parse("{\"x\":[1.5,{\"y\":null}],\"n\":NaN,\"t\":[true,\"s\"]}");
    CHECK_OK(vd_json_writer_create(&w));
    put_all(w, source);
    CHECK_OK(vd_json_writer_finish(w, false, &text));
    CHECK_MSG(text != NULL &&
                  strcmp(text, "{\"s\":\"q\\\" \\\\ \\n \\u0001 \xC3\xA9 bad \xEF\xBF\xBD end\","
                               "\"i\":-9223372036854775808,\"d\":3.5,\"whole\":7,"
                               "\"third\":0.3333333333333333,\"nan\":null,\"inf\":null,\"b\":true,"
                               "\"z\":null,\"l\":[0.1,{}],\"copy\":{\"x\":[1.5,{\"y\":null}],"
                               "\"n\":null,\"t\":[true,\"s\"]}}") == 0,
              "%s", text == NULL ? "nothing" : text);
    free(text);
    CHECK_OK(vd_json_writer_finish(w, true, &text));
    vd_json *again = text == NULL ? NULL : parse(text);
    CHECK(again != NULL && vd_json_size(vd_json_root(again)) == 11);
    vd_json_destroy(again);
    free(text);
    vd_json_writer_destroy(w);
    vd_json_writer_destroy(NULL);
    vd_json_destroy(source);
}

static void test_writer_misuse(void) {
    vd_json_writer *w = NULL;
    char *text = NULL;
    for (int kind = 0; kind < 7; kind++) {
        CHECK_OK(vd_json_writer_create(&w));
        if (kind == 0)
            vd_json_begin_object(w, NULL);
        if (kind == 1)
            vd_json_end(w);
        if (kind == 2) {
            vd_json_begin_object(w, NULL);
            vd_json_put_null(w, NULL);
            vd_json_end(w);
        }
        if (kind == 3) {
            vd_json_begin_array(w, NULL);
            vd_json_put_null(w, "key");
            vd_json_end(w);
        }
        if (kind == 4) {
            vd_json_put_null(w, NULL);
            vd_json_begin_array(w, NULL);
        }
        for (int i = 0; kind == 5 && i < 1000; i++)
            vd_json_begin_array(w, NULL);
        CHECK_FAILS(vd_json_writer_finish(w, false, &text), VD_ERR_USAGE, "JSON");
        CHECK(text == NULL);
        vd_json_writer_destroy(w);
    }
}

/* Doubles of random bits come back the same, in no more than 17 digits. */
static void test_round_trip(void) {
    uint64_t state = 1;
    for (int i = 0; i < 20000; i++) {
        vd_json_writer *w = NULL;
        vd_json *doc = NULL;
        char *text = NULL;
        double v;
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint64_t bits = state ^ state >> 29;
        memcpy(&v, &bits, sizeof v);
        if (i % 2 == 0)
            v = (double)(bits % 100000) / 1000;
        if (!isfinite(v))
            continue;
        if (vd_json_writer_create(&w) != VD_OK)
            break;
        vd_json_put_double(w, NULL, v);
        CHECK_OK(vd_json_writer_finish(w, false, &text));
        CHECK(text != NULL && strlen(text) <= (i % 2 == 0 ? 6u : 24u));
        CHECK_OK(vd_json_parse(text, strlen(text), "number", &doc));
        CHECK_MSG(doc != NULL && vd_json_number(vd_json_root(doc)) == v, "%.17g: %s", v, text);
        vd_json_destroy(doc);
        free(text);
        vd_json_writer_destroy(w);
    }
}

int main(void) {
    test_values();
    test_paths();
    test_malformed();
    test_sizes();
    test_typed();
    test_only_keys();
    test_files();
    test_writer();
    test_writer_misuse();
    test_round_trip();
    return CHECK_DONE();
}

/* Deterministic mutations of valid documents: whatever comes out, the readers return a status. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/json.h"
#include "core/safetensors.h"
#include "tests/check.h"

enum { ROUNDS = 20000, ROOM = 2048 };

static uint64_t state = 0x9E3779B97F4A7C15u;

static size_t random_below(size_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(state >> 33) % n;
}

/* Changes, inserts, removes or repeats a few bytes; returns the new length. */
static size_t mutate(unsigned char *bytes, size_t n) {
    static const char *const pieces[] = {
        "NaN",
        "-Infinity",
        "\"",
        "\\",
        "\\u0000",
        "\\ud800",
        "[",
        "{",
        "]",
        "}",
        ",",
        ":",
        "-1",
        "1e999",
        "9007199254740993",
        "18446744073709551616",
        "0.5",
        "\"a\":",
        "null",
        "\xFF",
        "\xED\xA0\x80",
        "\xEF\xBB\xBF",
        "F8_E4M3",
        "BF16",
        "__metadata__",
        "1111111111111111111111",
    };
    for (size_t edits = 1 + random_below(4); edits > 0; edits--) {
        const size_t at = random_below(n);
        const size_t kind = random_below(6);
        if (kind == 0) {
            bytes[at] = (unsigned char)random_below(256);
        } else if (kind == 1) {
            bytes[at] ^= (unsigned char)(1u << random_below(8));
        } else if (kind == 2) {
            const size_t gone = 1 + random_below(n - at < 8 ? n - at : 8);
            memmove(bytes + at, bytes + at + gone, n - at - gone);
            n = n - gone > 0 ? n - gone : 1;
        } else if (kind == 3) {
            bytes[at] = (unsigned char)('0' + random_below(10));
        } else {
            const char *piece = pieces[random_below(sizeof pieces / sizeof pieces[0])];
            const size_t room = ROOM - n;
            const size_t more = strlen(piece) < room ? strlen(piece) : room;
            memmove(bytes + at + more, bytes + at, n - at);
            for (size_t k = 0; k < more; k++)
                bytes[at + k] = (unsigned char)piece[k];
            n += more;
        }
    }
    return n;
}

static size_t values_seen;

static void walk(const vd_json *doc, const vd_json_value *v) {
    char buf[64];
    values_seen++;
    CHECK(vd_json_path(doc, v, buf, sizeof buf)[0] == '$');
    if (vd_json_type_of(v) == VD_JSON_STRING)
        values_seen += strlen(vd_json_string(v)) > 100;
    for (const vd_json_value *m = vd_json_first(v); m != NULL; m = vd_json_next(m))
        walk(doc, m);
}

/* A document that was read can be written, and what was written read. */
static void rewrite(const vd_json *doc) {
    vd_json_writer *w = NULL;
    vd_json *again = NULL;
    char *text = NULL;
    CHECK_OK(vd_json_writer_create(&w));
    vd_json_put_value(w, NULL, vd_json_root(doc));
    CHECK_OK(vd_json_writer_finish(w, false, &text));
    if (text != NULL)
        CHECK_OK(vd_json_parse(text, strlen(text), "again", &again));
    vd_json_destroy(again);
    free(text);
    vd_json_writer_destroy(w);
}

static void fuzz_json(void) {
    static const char *const seeds[] = {
        "{\"_class_name\": \"DDIMScheduler\", \"lambda_min_clipped\": -Infinity, \"x\": [NaN, "
        "1.5e-3], "
        "\"beta_start\": 0.00085, \"trained_betas\": null, \"clip_sample\": false}",
        "[{\"prompt\": \"a caf\\u00e9 \\ud83c\\udfac\", \"seed\": 7, \"size\": [512, 320]}, [], "
        "{}, \"\"]",
        "{\"a\":{\"b\":{\"c\":[[[[1,2,3],[4]]]]}}}",
        "17",
    };
    int accepted = 0;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned char bytes[ROOM];
        const char *seed = seeds[random_below(sizeof seeds / sizeof seeds[0])];
        for (size_t k = 0; seed[k] != '\0'; k++)
            bytes[k] = (unsigned char)seed[k];
        const size_t n = mutate(bytes, strlen(seed));
        char *exact = malloc(n); /* so that a read beyond the end is seen */
        if (exact == NULL)
            break;
        memcpy(exact, bytes, n);
        vd_json *doc = NULL;
        const vd_status st = vd_json_parse(exact, n, "fuzz", &doc);
        CHECK(st == VD_OK ? doc != NULL : st == VD_ERR_INPUT && doc == NULL);
        if (doc != NULL) {
            accepted++;
            walk(doc, vd_json_root(doc));
            rewrite(doc);
        } else {
            CHECK(strncmp(vd_error_message(), "fuzz:", 5) == 0);
        }
        vd_json_destroy(doc);
        free(exact);
    }
    CHECK(accepted > ROUNDS / 100 && accepted < ROUNDS); /* both ways were taken */
}

static size_t make_seed_file(unsigned char *bytes) {
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"conv.weight\":{\"dtype\":\"F32\",\"shape\":[2,1,2],\"data_offsets\":[0,16]},"
        "\"conv.bias\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[16,20]},"
        "\"ids\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[20,28]}}   ";
    const size_t n = sizeof header - 1;
    memset(bytes, 0, 8);
    bytes[0] = (unsigned char)(n & 255);
    bytes[1] = (unsigned char)(n >> 8);
    for (size_t k = 0; k < n; k++)
        bytes[8 + k] = (unsigned char)header[k];
    memset(bytes + 8 + n, 0x3C, 28);
    return 8 + n + 28;
}

/* Reads every value, then takes what a model would take. */
static void use(vd_checkpoint *ck) {
    for (size_t i = 0; i < vd_checkpoint_count(ck); i++) {
        vd_tensor t;
        CHECK(vd_checkpoint_find(ck, vd_checkpoint_name(ck, i), &t));
        const int64_t count = vd_tensor_elements(&t);
        CHECK(count >= 0 && count <= ROOM);
        static double values[ROOM];
        if (count > 0 && count <= ROOM)
            vd_convert_values(values, VD_F64, t.data, t.dtype, (size_t)count);
    }
    vd_checkpoint_take(ck, "conv.weight", 3, (int64_t[]){2, 1, 2});
    vd_checkpoint_take(ck, "conv.bias", 1, (int64_t[]){2});
    vd_checkpoint_ignore(ck, "ids");
    const vd_status st = vd_checkpoint_finish(ck, "fuzz");
    CHECK(st == VD_OK || st == VD_ERR_INPUT);
}

static void fuzz_safetensors(void) {
    char path[64];
    const int fd = memfd_create("fuzz", MFD_CLOEXEC); /* 20,000 files are slow on a disk */
    CHECK(fd >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int accepted = 0;
    for (int i = 0; i < ROUNDS && fd >= 0; i++) {
        unsigned char bytes[ROOM];
        const size_t whole = make_seed_file(bytes);
        size_t n = 8 + mutate(bytes + 8, whole - 8);
        if (random_below(4) == 0) {
            bytes[random_below(8)] = (unsigned char)random_below(256);
        } else { /* keep the length right, so that what lies behind it is reached */
            const size_t header = n - 8 > 28 ? n - 8 - 28 : 0;
            bytes[0] = (unsigned char)(header & 255);
            bytes[1] = (unsigned char)(header >> 8);
        }
        if (random_below(8) == 0)
            n = random_below(n + 1);
        CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
        vd_checkpoint *ck = NULL;
        const vd_status st = vd_checkpoint_open_file(path, &ck);
        CHECK(st == VD_OK ? ck != NULL : st == VD_ERR_INPUT && ck == NULL);
        if (ck != NULL) {
            accepted++;
            use(ck);
        } else {
            CHECK(strncmp(vd_error_message(), path, strlen(path)) == 0);
        }
        vd_checkpoint_destroy(ck);
    }
    CHECK(accepted > ROUNDS / 100 && accepted < ROUNDS);
    close(fd);
}

int main(void) {
    fuzz_json();
    fuzz_safetensors();
    CHECK(values_seen > 0);
    return CHECK_DONE();
}

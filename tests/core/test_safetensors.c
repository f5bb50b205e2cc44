#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/safetensors.h"
#include "core/sha256.h"
#include "core/text.h"
#include "tests/check.h"

static char folder[64] = "safetensors-XXXXXX";
static char path[512];

static void put_bytes(const char *name, const void *data, size_t bytes) {
    char file[512];
    snprintf(file, sizeof file, "%s/%s", folder, name);
    FILE *f = fopen(file, "wb");
    CHECK(f != NULL && fwrite(data, 1, bytes, f) == bytes && fclose(f) == 0);
}

static void put_text(const char *name, const char *text) {
    put_bytes(name, text, strlen(text));
}

/* A safetensors file by its bytes: the header's length, the header, then 0, 1, 2, ... as data. */
static void put_file(const char *name, const char *header, size_t data_bytes) {
    static unsigned char bytes[4096];
    const size_t n = strlen(header);
    memset(bytes, 0, 8);
    bytes[0] = (unsigned char)(n & 255);
    bytes[1] = (unsigned char)(n >> 8);
    snprintf((char *)bytes + 8, sizeof bytes - 8, "%s", header);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + n + i] = (unsigned char)i;
    put_bytes(name, bytes, 8 + n + data_bytes);
}

static const char *in_folder(const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void remove_file(const char *name) {
    CHECK(unlink(in_folder(name)) == 0);
}

static void clear_folder(void) {
    DIR *d = opendir(folder);
    for (const struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d))
        if (e->d_name[0] != '.')
            remove_file(e->d_name);
    if (d != NULL)
        closedir(d);
}

static const char every_dtype[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"f64\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},"
    "\"f32\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]},"
    "\"f16\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[16,22]},"
    "\"bf16\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[22,24]},"
    "\"i64\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[24,32]},"
    "\"i32\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[33,37]},"
    "\"u8\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[32,33]},"
    "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[37,37]},"
    "\"bool\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[37,39]}}   ";

static void test_good_file(void) {
    static const struct {
        const char *name;
        const char *described;
        unsigned char first;
    } expected[] = {
        {"bf16", "BF16[]", 22},  {"bool", "BOOL[2]", 37},   {"f16", "F16[3]", 16},
        {"f32", "F32[1, 2]", 8}, {"f64", "F64[1]", 0},      {"i32", "I32[1]", 33},
        {"i64", "I64[1]", 24},   {"none", "F32[0, 7]", 37}, {"u8", "U8[1]", 32},
    };
    vd_checkpoint *ck = NULL;
    put_file("model.safetensors", every_dtype, 39);
    CHECK_OK(vd_checkpoint_open(folder, "model", &ck));
    if (ck == NULL)
        return;
    CHECK(strcmp(vd_checkpoint_path(ck), in_folder("model.safetensors")) == 0);
    CHECK(vd_checkpoint_count(ck) == 9);
    for (size_t i = 0; i < 9; i++) {
        char buf[64];
        vd_tensor t;
        CHECK(strcmp(vd_checkpoint_name(ck, i), expected[i].name) == 0);
        CHECK(vd_checkpoint_find(ck, expected[i].name, &t));
        CHECK(strcmp(vd_tensor_describe(&t, buf, sizeof buf), expected[i].described) == 0);
        if (vd_tensor_bytes(&t) > 0)
            CHECK(*(const unsigned char *)t.data == expected[i].first);
    }
    vd_tensor t;
    CHECK(!vd_checkpoint_find(ck, "f", &t) && !vd_checkpoint_find(ck, "__metadata__", &t));

    /* The identity is sha256 of the file. */
    static unsigned char bytes[4096];
    char hex[VD_SHA256_HEX_BYTES];
    char identity[72];
    uint8_t digest[VD_SHA256_BYTES];
    FILE *f = fopen(path, "rb");
    const size_t n = f == NULL ? 0 : fread(bytes, 1, sizeof bytes, f);
    CHECK(f != NULL && fclose(f) == 0 && n > 0);
    vd_sha256(bytes, n, digest);
    CHECK_OK(vd_checkpoint_hash(ck, identity));
    CHECK(strncmp(identity, "sha256:", 7) == 0 &&
          strcmp(identity + 7, vd_sha256_hex(digest, hex)) == 0);
    vd_checkpoint_destroy(ck);
    vd_checkpoint_destroy(NULL);
}

#define T(dtype, shape, offsets)                                                                   \
    "{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define A(dtype, shape, offsets) "{\"a\":" T(dtype, shape, offsets) "}"

/* One header each, the bytes of data after it, and what the message must say. */
static const struct {
    const char *header;
    size_t data_bytes;
    const char *words;
} corruptions[] = {
    {A("\"F32\"", "[2]", "[0,8]"), 7, "$.a: its data end at 8 and the file holds 7 bytes"},
    {A("\"F32\"", "[2]", "[0,8]"), 0, "truncated"},
    {A("\"F32\"", "[2]", "[0,8]"), 9, "1 bytes after the last tensor"},
    {A("\"F32\"", "[2]", "[8,0]"), 8, "$.a.data_offsets: a begin and a not smaller end"},
    {A("\"F32\"", "[2]", "[0]"), 8, "$.a.data_offsets: a begin and"},
    {A("\"F32\"", "[2]", "[]"), 8, "$.a.data_offsets: a begin and"},
    {A("\"F32\"", "[2]", "[0,4,8]"), 8, "$.a.data_offsets: at most 2"},
    {A("\"F32\"", "[2]", "[-8,0]"), 8, "$.a.data_offsets[0]: an integer from 0"},
    {A("\"F32\"", "[2]", "[0,8.5]"), 8, "$.a.data_offsets[1]: an integer from 0"},
    {A("\"F32\"", "[2]", "[0,1e300]"), 8, "$.a.data_offsets[1]: an integer from 0"},
    {A("\"F32\"", "[2]", "[0,Infinity]"), 8, "$.a.data_offsets[1]: an integer from 0"},
    {A("\"F32\"", "[2]", "[NaN,8]"), 8, "$.a.data_offsets[0]: an integer from 0"},
    {A("\"F32\"", "[2]", "[0,\"8\"]"), 8, "$.a.data_offsets[1]: an integer from 0"},
    {A("\"F32\"", "[2]", "[0,18446744073709551616]"), 8, "$.a.data_offsets[1]: an integer"},
    {A("\"F32\"", "[2]", "[9007199254740984,9007199254740992]"), 8, "its data end at"},
    {A("\"F32\"", "[3]", "[0,8]"), 8, "$.a: its shape and dtype need 12 bytes"},
    {A("\"F16\"", "[2]", "[0,8]"), 8, "$.a: its shape and dtype need 4 bytes"},
    {A("\"F32\"", "[]", "[0,8]"), 8, "$.a: its shape and dtype need 4 bytes"},
    {A("\"F32\"", "[-2]", "[0,8]"), 8, "$.a.shape[0]: an integer from 0"},
    {A("\"F32\"", "[2.5]", "[0,8]"), 8, "$.a.shape[0]: an integer from 0"},
    {A("\"F32\"", "[true]", "[0,8]"), 8, "$.a.shape[0]: an integer from 0"},
    {A("\"F32\"", "[[2]]", "[0,8]"), 8, "$.a.shape[0]: an integer from 0"},
    {A("\"F32\"", "[9223372036854775807]", "[0,8]"), 8, "$.a.shape[0]: an integer from 0"},
    {A("\"F32\"", "[4294967296,4294967296]", "[0,8]"), 8, "$.a.shape: the shape is too large"},
    {A("\"F32\"", "[2097152,2097152,2097152,2]", "[0,8]"), 8, "$.a.shape: the shape is too large"},
    {A("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "$.a.shape: at most 8 values"},
    {A("\"F8_E4M3\"", "[8]", "[0,8]"), 8, "$.a: dtype F8_E4M3 is not supported"},
    {A("\"f32\"", "[2]", "[0,8]"), 8, "$.a: dtype f32 is not supported"},
    {A("7", "[2]", "[0,8]"), 8, "$.a: lacks a dtype"},
    {A("\"F32\"", "2", "[0,8]"), 8, "$.a: lacks a dtype"},
    {A("\"F32\"", "[2]", "{\"begin\":0,\"end\":8}"), 8, "$.a: lacks a dtype"},
    {"{\"a\":7}", 0, "$.a: lacks a dtype"},
    {"{\"a\":[1,2]}", 0, "$.a: lacks a dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0]}}", 0, "$.a: lacks a dtype"},
    {"{\"a\":" T("\"U8\"", "[8]", "[0,8]") ",\"a\":" T("\"U8\"", "[8]", "[8,16]") "}", 16,
     "$.a: the key occurs twice"},
    {"{\"a\":" T("\"U8\"", "[8]", "[0,8]") ",\"b\":" T("\"U8\"", "[8]", "[4,12]") "}", 12,
     "tensor b overlaps tensor a"},
    {"{\"a\":" T("\"U8\"", "[8]", "[0,8]") ",\"b\":" T("\"U8\"", "[8]", "[0,8]") "}", 8,
     "overlaps tensor"},
    {"{\"a\":" T("\"U8\"", "[8]", "[0,8]") ",\"b\":" T("\"U8\"", "[4]", "[12,16]") "}", 16,
     "a hole of 4 bytes before tensor b"},
    {A("\"U8\"", "[4]", "[4,8]"), 8, "a hole of 4 bytes before tensor a"},
    {"{}", 1, "1 bytes after the last tensor"},
    {"[1]", 0, "does not begin with '{'"},
    {" {}", 0, "does not begin with '{'"},
    {"", 0, "does not begin with '{'"},
    {"{\"a\":", 0, ":1:6: the JSON text ends too early"},
    {"{\"a\" 7}", 0, ":1:6: "},
    {"{\"a\xFF\":7}", 0, ":1:4: the text is not valid UTF-8"},
    {"{}x", 0, ":1:3: "},
};

static void test_corruptions(void) {
    for (size_t i = 0; i < sizeof corruptions / sizeof corruptions[0]; i++) {
        vd_checkpoint *ck = (vd_checkpoint *)&ck;
        put_file("bad.safetensors", corruptions[i].header, corruptions[i].data_bytes);
        CHECK_FAILS(vd_checkpoint_open_file(in_folder("bad.safetensors"), &ck), VD_ERR_INPUT,
                    corruptions[i].words);
        CHECK_MSG(strstr(vd_error_message(), path) != NULL, "%s", vd_error_message());
        CHECK(ck == NULL);
    }
}

/* Damage outside the header's JSON. */
static void test_bad_lengths(void) {
    vd_checkpoint *ck = NULL;
    const char *file = in_folder("bad.safetensors");
    put_bytes("bad.safetensors", "", 0);
    CHECK_FAILS(vd_checkpoint_open_file(file, &ck), VD_ERR_INPUT, "holds 0 bytes");
    put_bytes("bad.safetensors", "\0\0\0\0\0\0\0", 7);
    CHECK_FAILS(vd_checkpoint_open_file(file, &ck), VD_ERR_INPUT, "holds 7 bytes");
    put_bytes("bad.safetensors", "\3\0\0\0\0\0\0\0{}", 10);
    CHECK_FAILS(vd_checkpoint_open_file(file, &ck), VD_ERR_INPUT,
                "truncated: its header needs 3 bytes and 2 are left");
    put_bytes("bad.safetensors", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10);
    CHECK_FAILS(vd_checkpoint_open_file(file, &ck), VD_ERR_INPUT, "18446744073709551615 bytes");
    put_bytes("bad.safetensors", "\1\xE1\xF5\5\0\0\0\0{}", 10);
    CHECK_FAILS(vd_checkpoint_open_file(file, &ck), VD_ERR_INPUT, "100000001 bytes");
    put_text("bad.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n");
    CHECK_FAILS(vd_checkpoint_open_file(file, &ck), VD_ERR_INPUT, "git lfs pull");
    put_bytes("bad.safetensors", "\4\0\0\0\0\0\0\0{}\0 ", 12);
    CHECK_FAILS(vd_checkpoint_open_file(file, &ck), VD_ERR_INPUT, "a NUL byte");
    CHECK_FAILS(vd_checkpoint_open_file(folder, &ck), VD_ERR_INPUT, "not a regular file");
    CHECK_FAILS(vd_checkpoint_open_file("absent.safetensors", &ck), VD_ERR_INPUT,
                "absent.safetensors: cannot be opened");
    put_bytes("bad.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
    CHECK_OK(vd_checkpoint_open_file(file, &ck));
    CHECK(ck != NULL && vd_checkpoint_count(ck) == 0);
    vd_tensor t;
    CHECK(!vd_checkpoint_find(ck, "a", &t));
    CHECK_OK(vd_checkpoint_finish(ck, "nothing"));
    vd_checkpoint_destroy(ck);
    clear_folder();
}

static void test_take(void) {
    vd_checkpoint *ck = NULL;
    put_file("model.safetensors", every_dtype, 39);
    CHECK_OK(vd_checkpoint_open(folder, "model", &ck));
    if (ck == NULL)
        return;
    vd_tensor t = vd_checkpoint_take(ck, "f32", 2, (int64_t[]){1, 2});
    CHECK(t.data != NULL && t.dtype == VD_F32);
    t = vd_checkpoint_take(ck, "f16", 0, NULL);
    CHECK(t.data != NULL && t.rank == 1 && t.dim[0] == 3);
    CHECK(vd_checkpoint_take(ck, "bf16", 0, NULL).data != NULL);
    CHECK(vd_checkpoint_take(ck, "f64", 1, (int64_t[]){1}).data != NULL);
    CHECK(vd_checkpoint_take(ck, "none", 2, (int64_t[]){0, 7}).dim[1] == 7);
    vd_checkpoint_ignore(ck, "i64");
    vd_checkpoint_ignore(ck, "i32");
    vd_checkpoint_ignore(ck, "u8");
    vd_checkpoint_ignore(ck, "bool");
    vd_checkpoint_ignore(ck, "absent");
    CHECK_OK(vd_checkpoint_finish(ck, "unet"));
    vd_checkpoint_destroy(ck);

    CHECK_OK(vd_checkpoint_open(folder, "model", &ck));
    t = vd_checkpoint_take(ck, "a", 2, (int64_t[]){8, 4});
    CHECK(t.data == NULL && t.rank == 2 && t.dim[0] == 8 && t.dim[1] == 4);
    vd_checkpoint_take(ck, "b", 0, NULL);
    t = vd_checkpoint_take(ck, "f32", 2, (int64_t[]){2, 1});
    CHECK(t.data == NULL && t.dim[0] == 2);
    t = vd_checkpoint_take(ck, "i64", 1, (int64_t[]){1});
    CHECK(t.data == NULL);
    CHECK(vd_checkpoint_take(ck, "f64", 1, (int64_t[]){1}).data != NULL);
    CHECK(vd_checkpoint_take(ck, "f64", 1, (int64_t[]){1}).data == NULL);
    for (int i = 0; i < 2; i++) /* asking again does not add to the list */
        CHECK_FAILS(vd_checkpoint_finish(ck, "unet"), VD_ERR_INPUT,
                    "unet: 2 tensors missing: a, b; 1 of another shape: f32 (F32[1, 2], expected "
                    "[2, 1]); 1 not of a float type: i64 (I64); 1 used twice: f64; 6 not used by "
                    "this model: bf16, bool, f16, i32, none, u8 (in ");
    CHECK(strchr(vd_error_message(), '\n') == NULL);
    vd_checkpoint_destroy(ck);

    CHECK_OK(vd_checkpoint_open(folder, "model", &ck));
    for (int i = 0; i < 12; i++) {
        char name[300];
        snprintf(name, sizeof name, "layer%d%s", i, i == 11 ? "" : ".weight");
        vd_checkpoint_take(ck, name, 0, NULL);
    }
    CHECK_FAILS(vd_checkpoint_finish(ck, "vae"), VD_ERR_INPUT,
                "vae: 12 tensors missing: layer0.weight, layer1.weight, layer2.weight, "
                "layer3.weight, layer4.weight, layer5.weight, layer6.weight, layer7.weight and 4 "
                "more; 9 not used by this model: bf16, ");
    vd_checkpoint_destroy(ck);

    /* Long names: still one line that ends with the file. */
    CHECK_OK(vd_checkpoint_open(folder, "model", &ck));
    for (int i = 0; i < 300; i++) {
        char name[600];
        snprintf(name, sizeof name, "%0500d", i);
        vd_checkpoint_take(ck, name, 8, (int64_t[]){1, 2, 3, 4, 5, 6, 7, INT64_MAX});
    }
    CHECK_FAILS(vd_checkpoint_finish(ck, "vae"), VD_ERR_INPUT, "model.safetensors)");
    vd_checkpoint_destroy(ck);
    clear_folder();
}

#define U8_1(name) "\"" name "\":" T("\"U8\"", "[1]", "[0,1]")

static void test_sharded(void) {
    vd_checkpoint *ck = NULL;
    put_file("m-00001-of-00002.safetensors", "{" U8_1("b") "}", 1);
    put_file("m-00002-of-00002.safetensors", "{" U8_1("a") "}", 1);
    put_text("m.safetensors.index.json",
             "{\"metadata\":{\"total_size\":2},\"weight_map\":{"
             "\"a\":\"m-00002-of-00002.safetensors\",\"b\":\"m-00001-of-00002.safetensors\"}}");
    CHECK_OK(vd_checkpoint_open(folder, "m", &ck));
    if (ck != NULL) {
        CHECK(vd_checkpoint_count(ck) == 2 && strcmp(vd_checkpoint_name(ck, 0), "a") == 0);
        CHECK(strcmp(vd_checkpoint_path(ck), in_folder("m-00001-of-00002.safetensors")) == 0);
        char identity[72];
        CHECK_OK(vd_checkpoint_hash(ck, identity));
    }
    vd_checkpoint_destroy(ck);

    static const struct {
        const char *index;
        const char *words;
    } cases[] = {
        {"{\"weight_map\":{\"b\":\"m-00002-of-00002.safetensors\"}}",
         "$.weight_map.b: m-00002-of-00002.safetensors holds no such tensor"},
        {"{\"weight_map\":{\"c\":\"m-00002-of-00002.safetensors\"}}", "$.weight_map.c: "},
        {"{\"weight_map\":{\"a\":\"m-3.safetensors\"}}", "shard m-3.safetensors is missing"},
        {"{\"weight_map\":{\"a\":\"../m-00002-of-00002.safetensors\"}}", "in the index's own"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "in the index's own folder"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "in the index's own folder"},
        {"{\"weight_map\":{\"a\":\"\"}}", "in the index's own folder"},
        {"{\"weight_map\":{\"a\":\".\"}}", "not a regular file"},
        {"{\"weight_map\":{\"a\":7}}", "$.weight_map.a: the name of a file"},
        {"{\"weight_map\":{}}", "a weight_map with"},
        {"{\"weight_map\":[]}", "a weight_map with"},
        {"{}", "a weight_map with"},
        {"[]", "a weight_map with"},
        {"{", "m.safetensors.index.json:1:2: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_text("m.safetensors.index.json", cases[i].index);
        CHECK_FAILS(vd_checkpoint_open(folder, "m", &ck), VD_ERR_INPUT, cases[i].words);
        CHECK(ck == NULL);
    }
    put_file("m-00001-of-00002.safetensors", "{" U8_1("a") "}", 1);
    put_text("m.safetensors.index.json", "{\"weight_map\":{\"a\":\"m-00002-of-00002.safetensors\","
                                         "\"b\":\"m-00001-of-00002.safetensors\"}}");
    CHECK_FAILS(vd_checkpoint_open(folder, "m", &ck), VD_ERR_INPUT, "tensor a is also in");
    clear_folder();
}

static void test_variants(void) {
    static const struct {
        const char *file; /* put into the folder before the next open: the better comes later */
        bool is_index;
    } steps[] = {
        {"m.safetensors.index.fp16.json", true},
        {"m.fp16.safetensors", false},
        {"m.safetensors.index.json", true},
        {"m.safetensors", false},
    };
    vd_checkpoint *ck = NULL;
    CHECK_FAILS(vd_checkpoint_open("absent-folder", "m", &ck), VD_ERR_INPUT, "no such folder");
    CHECK_FAILS(vd_checkpoint_open(folder, "m", &ck), VD_ERR_INPUT, "no m.safetensors in this");
    put_text("other.safetensors", "x");
    CHECK_FAILS(vd_checkpoint_open(folder, "m", &ck), VD_ERR_INPUT, "rename other.safetensors");
    put_text("pytorch_model.bin", "x");
    CHECK_FAILS(vd_checkpoint_open(folder, "m", &ck), VD_ERR_INPUT,
                "pytorch_model.bin is a pickle, which is not read: load");
    for (size_t i = 0; i < 4; i++) {
        char shard[32];
        char index[128];
        snprintf(shard, sizeof shard, "shard%zu.safetensors", i);
        snprintf(index, sizeof index, "{\"weight_map\":{\"a\":\"%s\"}}", shard);
        put_file(steps[i].is_index ? shard : steps[i].file, "{" U8_1("a") "}", 1);
        if (steps[i].is_index)
            put_text(steps[i].file, index);
        CHECK_OK(vd_checkpoint_open(folder, "m", &ck));
        const char *expected = in_folder(steps[i].is_index ? shard : steps[i].file);
        CHECK(ck != NULL && strcmp(vd_checkpoint_path(ck), expected) == 0);
        vd_checkpoint_destroy(ck);
    }
    clear_folder();
}

static bool same_bytes(const void *a, const void *b, size_t bytes) {
    return a != NULL && memcmp(a, b, bytes) == 0;
}

static void test_write(void) {
    const float weights[] = {1.5f, -2, 3, 4, 5, 6};
    const uint8_t byte = 9;
    const char *const names[] = {"w \"quoted\"", "byte", "empty"};
    const vd_tensor tensors[] = {
        VD_VIEW((void *)weights, VD_F32, 2, 3),
        vd_tensor_view((void *)&byte, VD_U8, 0, NULL),
        VD_VIEW(NULL, VD_F16, 0, 4),
    };
    const char *const metadata[] = {"made by", "a test", NULL};
    const char *file = in_folder("out.safetensors");
    vd_checkpoint *ck = NULL;
    CHECK_OK(vd_safetensors_write(file, names, tensors, 3, metadata));
    CHECK_OK(vd_checkpoint_open_file(file, &ck));
    if (ck == NULL)
        return;
    CHECK(vd_checkpoint_count(ck) == 3);
    const vd_tensor t = vd_checkpoint_take(ck, "w \"quoted\"", 2, (int64_t[]){2, 3});
    CHECK(same_bytes(t.data, weights, sizeof weights));
    CHECK((uintptr_t)t.data % 8 == 0);
    vd_checkpoint_destroy(ck);
    CHECK_OK(vd_safetensors_write(file, NULL, NULL, 0, NULL)); /* replaces it */
    CHECK_OK(vd_checkpoint_open_file(file, &ck));
    CHECK(ck != NULL && vd_checkpoint_count(ck) == 0);
    vd_checkpoint_destroy(ck);

    const char *const twice[] = {"a", "a"};
    const char *const bad_utf8[] = {"\xFF"};
    const char *const reserved[] = {"__metadata__"};
    const vd_tensor negative = VD_VIEW(NULL, VD_F16, -1);
    CHECK_FAILS(vd_safetensors_write(file, twice, tensors, 2, NULL), VD_ERR_USAGE, "twice");
    CHECK_FAILS(vd_safetensors_write(file, bad_utf8, tensors, 1, NULL), VD_ERR_USAGE, "\\xFF");
    CHECK_FAILS(vd_safetensors_write(file, reserved, tensors, 1, NULL), VD_ERR_USAGE, "__meta");
    CHECK_FAILS(vd_safetensors_write(file, names, &negative, 1, NULL), VD_ERR_USAGE, "shape");
    CHECK_FAILS(vd_safetensors_write("absent-folder/x", names, tensors, 3, NULL), VD_ERR_OUTPUT,
                "absent-folder/x.tmp-");
    CHECK(mkdir(in_folder("taken"), 0700) == 0);
    CHECK_FAILS(vd_safetensors_write(path, names, tensors, 3, NULL), VD_ERR_OUTPUT,
                "taken: cannot be written: Is a directory");
    CHECK(rmdir(path) == 0);

    remove_file("out.safetensors"); /* no temporary file is left */
    DIR *d = opendir(folder);
    for (const struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d))
        CHECK_MSG(e->d_name[0] == '.', "%s is left", e->d_name);
    if (d != NULL)
        closedir(d);
}

int main(void) {
    if (mkdtemp(folder) == NULL) {
        fprintf(stderr, "no test folder: %s\n", strerror(errno));
        return 1;
    }
    test_good_file();
    test_corruptions();
    test_bad_lengths();
    test_take();
    test_sharded();
    test_variants();
    test_write();
    clear_folder();
    CHECK(rmdir(folder) == 0);
    return CHECK_DONE();
}

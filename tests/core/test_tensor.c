#include <float.h>
#include <stdlib.h>

#include "core/tensor.h"
#include "tests/check.h"

/* The value of a 16-bit float by the definition of its fields. */
static double value_of_bits(unsigned bits, int fraction_bits, int bias) {
    const unsigned fraction = bits & ((1u << fraction_bits) - 1);
    const int exponent_max = (1 << (15 - fraction_bits)) - 1;
    const int exponent = (int)(bits >> fraction_bits) & exponent_max;
    const double sign = bits & 0x8000u ? -1 : 1;
    if (exponent == exponent_max)
        return fraction == 0 ? sign * INFINITY : NAN;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp(fraction + (double)(1u << fraction_bits), exponent - bias - fraction_bits);
}

typedef struct format {
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);
    int fraction_bits;
    int bias;
    unsigned infinity;
} format;

static void test_format(const format *f) {
    for (unsigned bits = 0; bits <= 0xFFFF; bits++) {
        const double expected = value_of_bits(bits, f->fraction_bits, f->bias);
        const float got = f->widen((uint16_t)bits);
        if (isnan(expected)) {
            CHECK(isnan(got));
            const uint16_t back = f->narrow(got);
            CHECK(isnan(f->widen(back)) && (back & 0x8000u) == (bits & 0x8000u));
            continue;
        }
        CHECK_MSG((double)got == expected && !signbit(got) == !signbit(expected), "%04X", bits);
        CHECK_MSG(f->narrow(got) == bits, "%04X", bits);
    }
    /* Around the middle of every two neighbours. */
    for (unsigned low = 0; low + 1 < f->infinity; low++) {
        const double a = value_of_bits(low, f->fraction_bits, f->bias);
        const double b = value_of_bits(low + 1, f->fraction_bits, f->bias);
        const float middle = (float)((a + b) / 2);
        CHECK((double)middle == (a + b) / 2);
        const unsigned even = low & 1u ? low + 1 : low;
        CHECK_MSG(f->narrow(middle) == even, "%04X", low);
        CHECK_MSG(f->narrow(nextafterf(middle, 0)) == low, "%04X", low);
        CHECK_MSG(f->narrow(nextafterf(middle, INFINITY)) == low + 1, "%04X", low);
        CHECK_MSG(f->narrow(-middle) == (0x8000u | even), "%04X", low);
    }
    const double largest = value_of_bits(f->infinity - 1, f->fraction_bits, f->bias);
    const double step = largest - value_of_bits(f->infinity - 2, f->fraction_bits, f->bias);
    const float limit = (float)(largest + step / 2); /* rounds to even: to infinity */
    CHECK(f->narrow(nextafterf(limit, 0)) == f->infinity - 1);
    CHECK(f->narrow(limit) == f->infinity);
    CHECK(f->narrow(FLT_MAX) == f->infinity);
    CHECK(f->narrow(-INFINITY) == (0x8000u | f->infinity));
}

static void test_shapes(void) {
    char buf[64];
    vd_tensor t = VD_VIEW(NULL, VD_F32, 1, 4, 8, 16);
    CHECK(t.rank == 4 && vd_tensor_elements(&t) == 512 && vd_tensor_bytes(&t) == 2048);
    CHECK(strcmp(vd_tensor_describe(&t, buf, sizeof buf), "F32[1, 4, 8, 16]") == 0);
    CHECK(strcmp(vd_tensor_describe(&t, buf, 8), "F32[1, ") == 0);
    vd_tensor scalar = vd_tensor_view(NULL, VD_F16, 0, NULL);
    CHECK(vd_tensor_elements(&scalar) == 1 && vd_tensor_bytes(&scalar) == 2);
    CHECK(strcmp(vd_tensor_describe(&scalar, buf, sizeof buf), "F16[]") == 0);

    const int64_t big = INT64_C(1) << 31;
    vd_tensor fits = VD_VIEW(NULL, VD_U8, big, big);
    CHECK(vd_tensor_elements(&fits) == INT64_C(1) << 62);
    vd_tensor over = VD_VIEW(NULL, VD_F32, big, big);
    CHECK(vd_tensor_elements(&over) == -1 && vd_tensor_bytes(&over) == 0);
    vd_tensor empty = VD_VIEW(NULL, VD_F32, big, big, big, 0);
    CHECK(vd_tensor_elements(&empty) == 0 && vd_tensor_bytes(&empty) == 0);
    vd_tensor negative = VD_VIEW(NULL, VD_F32, 0, -1);
    CHECK(vd_tensor_elements(&negative) == -1);
    const int64_t nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    vd_tensor too_many = vd_tensor_view(NULL, VD_F32, 9, nine);
    CHECK(vd_tensor_elements(&too_many) == -1);

    vd_tensor same = VD_VIEW(NULL, VD_F16, 1, 4, 8, 16);
    vd_tensor other = VD_VIEW(NULL, VD_F32, 1, 4, 8);
    CHECK(vd_tensor_same_shape(&t, &same) && !vd_tensor_same_shape(&t, &other));
    CHECK(!vd_tensor_same_shape(&fits, &empty));

    static const char *const names[] = {"F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL"};
    static const size_t sizes[] = {8, 4, 2, 2, 8, 4, 1, 1};
    for (int i = 0; i < 8; i++) {
        vd_dtype dtype = VD_BOOL;
        CHECK(vd_dtype_parse(names[i], &dtype) && (int)dtype == i);
        CHECK(strcmp(vd_dtype_name(dtype), names[i]) == 0 && vd_dtype_bytes(dtype) == sizes[i]);
    }
    vd_dtype dtype = VD_I32;
    CHECK(!vd_dtype_parse("F8_E4M3", &dtype) && !vd_dtype_parse("f32", &dtype) && dtype == VD_I32);
}

static bool same_values(const double *a, const double *b, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* Small values that every type holds, between every two types, from an odd address to an odd one.
 */
static void test_every_pair(void) {
    enum { COUNT = 37 };
    const double ones[COUNT] = {1, 0, 1, 1};
    unsigned char from[8 * COUNT + 1];
    unsigned char to[8 * COUNT + 2];
    double back[COUNT];
    for (int a = VD_F64; a <= VD_BOOL; a++) {
        for (int b = VD_F64; b <= VD_BOOL; b++) {
            const size_t end = 1 + COUNT * vd_dtype_bytes((vd_dtype)b);
            vd_convert_values(from + 1, (vd_dtype)a, ones, VD_F64, COUNT);
            to[0] = to[end] = 0xA5;
            vd_convert_values(to + 1, (vd_dtype)b, from + 1, (vd_dtype)a, COUNT);
            CHECK(to[0] == 0xA5 && to[end] == 0xA5);
            vd_convert_values(back, VD_F64, to + 1, (vd_dtype)b, COUNT);
            CHECK_MSG(same_values(back, ones, COUNT), "%s to %s", vd_dtype_name((vd_dtype)a),
                      vd_dtype_name((vd_dtype)b));
        }
    }
}

static void test_integers(void) {
    const double d[] = {-1.9, 1.9, NAN, INFINITY, -INFINITY, 255.9, 256, -0.5, 3e9, -3e9, 1e300};
    enum { COUNT = sizeof d / sizeof d[0] };
    int64_t i64[COUNT];
    int32_t i32[COUNT];
    uint8_t u8[COUNT];
    uint8_t flags[COUNT];
    const int64_t want64[] = {-1,  1, 0,          INT64_MAX,   INT64_MIN, 255,
                              256, 0, 3000000000, -3000000000, INT64_MAX};
    const int32_t want32[] = {-1,  1, 0,         INT32_MAX, INT32_MIN, 255,
                              256, 0, INT32_MAX, INT32_MIN, INT32_MAX};
    const uint8_t want8[] = {0, 1, 0, 255, 0, 255, 255, 0, 255, 0, 255};
    vd_convert_values(i64, VD_I64, d, VD_F64, COUNT);
    vd_convert_values(i32, VD_I32, d, VD_F64, COUNT);
    vd_convert_values(u8, VD_U8, d, VD_F64, COUNT);
    vd_convert_values(flags, VD_BOOL, d, VD_F64, COUNT);
    CHECK(memcmp(i64, want64, sizeof i64) == 0);
    CHECK(memcmp(i32, want32, sizeof i32) == 0);
    CHECK(memcmp(u8, want8, sizeof u8) == 0);
    for (size_t i = 0; i < COUNT; i++)
        CHECK(flags[i] == 1);
    vd_convert_values(i32, VD_I32, i64, VD_I64, COUNT);
    CHECK(memcmp(i32, want32, sizeof i32) == 0);

    const uint8_t odd_bool = 2;
    uint8_t clean = 7;
    vd_convert_values(&clean, VD_BOOL, &odd_bool, VD_BOOL, 1);
    CHECK(clean == 1);
}

/* Values where rounding to float on the way would give the wrong neighbour. */
static void test_single_rounding(void) {
    const double above_tie = 1 + 0x1p-11 + 0x1p-40;
    const double below_tie = 1 + 3 * 0x1p-11 - 0x1p-40;
    uint16_t v = 0;
    vd_convert_values(&v, VD_F16, &above_tie, VD_F64, 1);
    CHECK(v == 0x3C01);
    vd_convert_values(&v, VD_F16, &below_tie, VD_F64, 1);
    CHECK(v == 0x3C01);
    const double tiny = 1e-300;
    vd_convert_values(&v, VD_F16, &tiny, VD_F64, 1);
    CHECK(v == 0);
    const int64_t big[] = {(INT64_C(1) << 60) + (INT64_C(1) << 52) + 1,
                           -(INT64_C(1) << 60) - (INT64_C(1) << 52) - 1,
                           (INT64_C(1) << 60) + (INT64_C(1) << 52)};
    uint16_t rounded[3];
    vd_convert_values(rounded, VD_BF16, big, VD_I64, 3);
    CHECK(vd_bf16_to_f32(rounded[0]) == 0x1p60f + 0x1p53f);
    CHECK(vd_bf16_to_f32(rounded[1]) == -0x1p60f - 0x1p53f);
    CHECK(vd_bf16_to_f32(rounded[2]) == 0x1p60f);
    const int64_t i = (INT64_C(1) << 54) + (INT64_C(1) << 30) + 1; /* double would drop the 1 */
    float f = 0;
    vd_convert_values(&f, VD_F32, &i, VD_I64, 1);
    CHECK(f == 0x1p54f + 0x1p31f);
}

int main(void) {
    test_format(&(format){vd_f16_to_f32, vd_f32_to_f16, 10, 15, 0x7C00});
    test_format(&(format){vd_bf16_to_f32, vd_f32_to_bf16, 7, 127, 0x7F80});
    test_shapes();
    test_every_pair();
    test_integers();
    test_single_rounding();
    return CHECK_DONE();
}

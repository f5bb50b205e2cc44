/* Dispersion matrices against exact rational solutions (golden cases), against least squares on the
 * equations written out one by one, and against what is known of their shape. */
#include "unet3d/disperse.h"

#include <float.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/text.h"
#include "tests/check.h"
#include "tests/golden.h"

typedef struct parameters {
    int64_t small, large, size, scale;
    double eta;
} parameters;

static double *solve(const parameters *p) {
    double *R = calloc((size_t)(p->large * p->large * p->small * p->small), sizeof *R);
    CHECK(R != NULL);
    if (R)
        CHECK_OK(vd_disperse_solve(p->small, p->large, p->size, p->scale, p->eta, R));
    return R;
}

/* ---- golden cases -------------------------------------------------------------------------- */

static int64_t whole(const golden_case *c, const char *key) {
    int64_t v = 0;
    CHECK_OK(vd_json_int(c->doc, c->settings, key, 1, 100, 0, &v));
    return v;
}

static void check_matrix(const golden_case *c) {
    parameters p = {whole(c, "small"), whole(c, "large"), whole(c, "n"), whole(c, "scale"), 0};
    double condition = 0;
    vd_disperse_info info;
    CHECK_OK(vd_json_double(c->doc, c->settings, "eta", 0, 1, 0, &p.eta));
    CHECK_OK(vd_json_double(c->doc, c->settings, "cond", 1, 1e6, 0, &condition));
    size_t count = (size_t)(p.large * p.large * p.small * p.small);
    double *R = solve(&p);
    CHECK(golden_compare(c, "R", VD_F64, R, count, GOLDEN_F32));
    free(R);
    CHECK_OK(vd_disperse_describe(p.small, p.large, p.size, p.scale, p.eta, &info));
    int64_t pixels = p.size * p.size, fine = p.scale * (p.size - 1) + 1;
    CHECK(info.unknowns == p.large * p.large);
    CHECK(info.equations == fine * fine * pixels + pixels * pixels);
    /* An estimate for people to read: three digits of it are printed. */
    CHECK_MSG(fabs(info.condition - condition) <= 1e-3 * condition, "%s: %g, expected %g", c->name,
              info.condition, condition);
}

static void check_kernels(const golden_case *c) {
    vd_tensor shape;
    float *weight = golden_input(c, "weight", VD_F32, NULL, &shape);
    const char *name;
    CHECK(weight != NULL);
    for (size_t i = 0; weight && (name = golden_output_name(c, i)) != NULL; i++) {
        const vd_json_value *v = vd_json_first(vd_json_get(c->settings, name));
        int64_t number[4] = {0};
        parameters p = {0};
        for (int k = 0; k < 4; k++, v = vd_json_next(v))
            number[k] = (int64_t)vd_json_number(v);
        CHECK(vd_parse_double(vd_json_string(v), &p.eta));
        p = (parameters){number[0], number[1], number[2], number[3], p.eta};
        int64_t pairs = shape.dim[0] * shape.dim[1];
        size_t count = (size_t)(pairs * p.large * p.large);
        float *kernel = calloc(count, sizeof *kernel);
        double *R = solve(&p);
        CHECK(shape.dim[2] == p.small && shape.dim[3] == p.small);
        if (kernel && R)
            vd_disperse_kernel(kernel, weight, pairs, p.small, p.large, R);
        CHECK(golden_compare(c, name, VD_F32, kernel, count, GOLDEN_F32));
        free(kernel);
        free(R);
    }
    free(weight);
}

static void check_golden(void) {
    int matrices = 0, kernels = 0;
    golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    golden_case *c;
    while ((c = golden_next(g, "disperse", "")) != NULL) {
        if (strcmp(c->module, "dispersion_matrix") == 0) {
            check_matrix(c);
            matrices++;
        } else if (c->module[0] == '\0') {
            check_kernels(c);
            kernels++;
        } else {
            const char *name;
            for (size_t i = 0; (name = golden_output_name(c, i)) != NULL; i++)
                golden_skip(c, name, "a convolution, not a matrix");
        }
    }
    CHECK(golden_close(g) == 0);
    CHECK(matrices == 7 && kernels == 1);
}

/* ---- the equations one by one -------------------------------------------------------------- */

/* U of a line: sample `h` of `size` as seen at `at` of the enlarged line. */
static double bilinear(const parameters *p, int64_t at, int64_t h) {
    double distance = fabs((double)at / (double)p->scale - (double)h);
    return distance < 1 ? 1 - distance : 0;
}

static double enlarged(const parameters *p, int64_t y, int64_t x, int64_t h) {
    return bilinear(p, y, h / p->size) * bilinear(p, x, h % p->size);
}

/* What tap `tap` of a taps x taps kernel at output `o` of a width x width map reads of pixel `h` of
 * the input: directly (width == size) or enlarged. */
static double reads(const parameters *p, int64_t taps, int64_t width, int64_t o, int64_t tap,
                    int64_t h) {
    int64_t y = o / width + tap / taps - taps / 2, x = o % width + tap % taps - taps / 2;
    if (y < 0 || y >= width || x < 0 || x >= width)
        return 0;
    return width == p->size ? y * width + x == h : enlarged(p, y, x, h);
}

/* One row of [A | B] for each output o and input h, structure first. `width` 0: only counts. */
static size_t write_equations(const parameters *p, double *row, size_t width) {
    int64_t pixels = p->size * p->size, fine = p->scale * (p->size - 1) + 1;
    size_t count = 0, unknowns = (size_t)(p->large * p->large);
    for (int64_t o = 0; o < fine * fine + pixels; o++)
        for (int64_t h = 0; h < pixels; h++, count++) {
            bool structure = o < fine * fine;
            if (width == 0)
                continue;
            double *at = row + count * width, *right = at + unknowns;
            for (int64_t i = 0; i < p->large * p->large; i++)
                at[i] = structure ? reads(p, p->large, fine, o, i, h)
                                  : p->eta * reads(p, p->large, p->size, o - fine * fine, i, h);
            for (int64_t j = 0; j < p->small * p->small; j++) {
                double sum = 0;
                for (int64_t q = 0; structure && q < pixels; q++)
                    sum +=
                        enlarged(p, o / fine, o % fine, q) * reads(p, p->small, p->size, q, j, h);
                right[j] =
                    structure ? sum : p->eta * reads(p, p->small, p->size, o - fine * fine, j, h);
            }
        }
    return count;
}

/* Householder's QR on [A | B] in place, then back substitution: R into the first rows of B. */
static void least_squares(double *m, size_t rows, size_t width, size_t unknowns) {
    for (size_t k = 0; k < unknowns; k++) {
        double square = 0;
        for (size_t r = k; r < rows; r++)
            square += m[r * width + k] * m[r * width + k];
        double pivot = m[k * width + k] > 0 ? -sqrt(square) : sqrt(square);
        double head = m[k * width + k] - pivot;
        for (size_t column = k + 1; column < width; column++) {
            double dot = head * m[k * width + column];
            for (size_t r = k + 1; r < rows; r++)
                dot += m[r * width + k] * m[r * width + column];
            double share = dot / (-pivot * head);
            m[k * width + column] -= share * head;
            for (size_t r = k + 1; r < rows; r++)
                m[r * width + column] -= share * m[r * width + k];
        }
        m[k * width + k] = pivot;
    }
    for (size_t k = unknowns; k-- > 0;)
        for (size_t column = unknowns; column < width; column++) {
            double sum = m[k * width + column];
            for (size_t i = k + 1; i < unknowns; i++)
                sum -= m[k * width + i] * m[i * width + column];
            m[k * width + column] = sum / m[k * width + k];
        }
}

static void check_equations(void) {
    static const parameters cases[] = {{3, 5, 4, 2, 0.2}, {5, 7, 3, 3, 0.02}, {3, 7, 2, 4, 0.3},
                                       {3, 5, 4, 2, 0},   {1, 3, 2, 2, 3},    {3, 9, 5, 1, 0.1},
                                       {5, 9, 4, 2, 0.2}};
    for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
        const parameters *p = &cases[n];
        size_t unknowns = (size_t)(p->large * p->large), columns = (size_t)(p->small * p->small);
        size_t width = unknowns + columns, rows = write_equations(p, NULL, 0);
        double *m = calloc(rows * width, sizeof *m), *R = solve(p), worst = 0;
        vd_disperse_info info;
        CHECK_OK(vd_disperse_describe(p->small, p->large, p->size, p->scale, p->eta, &info));
        CHECK(info.equations == (int64_t)rows);
        CHECK(m != NULL);
        if (m && R) {
            write_equations(p, m, width);
            least_squares(m, rows, width, unknowns);
            for (size_t i = 0; i < unknowns; i++)
                for (size_t j = 0; j < columns; j++)
                    worst = fmax(worst, fabs(R[i * columns + j] - m[i * width + unknowns + j]));
            /* The error of QR here: a few roundings times a condition number of at most 50. */
            CHECK_MSG(worst <= 1e-13, "%d -> %d: off by %g", (int)p->small, (int)p->large, worst);
            printf("%d -> %d, size %d, scale %d, eta %g: %g from QR\n", (int)p->small,
                   (int)p->large, (int)p->size, (int)p->scale, p->eta, worst);
        }
        free(m);
        free(R);
    }
}

/* ---- what is known of R -------------------------------------------------------------------- */

/* Tap i of a width x width kernel after one of the square's 8 symmetries. */
static int64_t moved(int64_t i, int64_t width, int symmetry) {
    int64_t y = i / width, x = i % width;
    if (symmetry & 1)
        y = width - 1 - y;
    if (symmetry & 2)
        x = width - 1 - x;
    return symmetry & 4 ? x * width + y : y * width + x;
}

static void check_symmetry(const parameters *p) {
    double *R = solve(p), worst = 0;
    int64_t columns = p->small * p->small;
    for (int symmetry = 1; R && symmetry < 8; symmetry++)
        for (int64_t i = 0; i < p->large * p->large; i++)
            for (int64_t j = 0; j < columns; j++)
                worst = fmax(
                    worst,
                    fabs(R[i * columns + j] -
                         R[moved(i, p->large, symmetry) * columns + moved(j, p->small, symmetry)]));
    /* Refined to the last bits: entries are about 1. */
    CHECK_MSG(worst <= 4 * DBL_EPSILON, "off by %g", worst);
    free(R);
}

static void check_published(void) {
    /* method.md's four digits for 3 -> 5, size 3, scale 2, eta 0.05. */
    static const double sums[9] = {1.1267, 1.0613, 1.1267, 1.0613, 1,
                                   1.0613, 1.1267, 1.0613, 1.1267};
    double *R = solve(&(parameters){3, 5, 3, 2, 0.05});
    for (int j = 0; R && j < 9; j++) {
        double sum = 0;
        for (int i = 0; i < 25; i++)
            sum += R[i * 9 + j];
        CHECK_MSG(fabs(sum - sums[j]) <= 0.5e-4, "column %d sums to %g", j, sum);
    }
    for (int i = 0; R && i < 25; i++)
        CHECK(fabs(R[i * 9 + 4] - (i == 12 ? 1 : 0)) <= DBL_EPSILON);
    free(R);
}

/* Where nothing is enlarged the small kernel itself is the answer, in a frame of zeros. */
static void check_scale_of_one(void) {
    double *R = solve(&(parameters){3, 7, 6, 1, 0.3});
    for (int i = 0; R && i < 49; i++)
        for (int j = 0; j < 9; j++) {
            bool same_place = i / 7 - 2 == j / 3 && i % 7 - 2 == j % 3;
            CHECK(fabs(R[i * 9 + j] - (same_place ? 1 : 0)) <= 4 * DBL_EPSILON);
        }
    free(R);
}

static void check_repeats(const parameters *p) {
    double *a = solve(p), *b = solve(p);
    CHECK(a && b &&
          memcmp(a, b, (size_t)(p->large * p->large * p->small * p->small) * sizeof *a) == 0);
    free(a);
    free(b);
}

/* A kernel with one tap of 1 becomes that tap's column. */
static void check_unit_kernels(void) {
    enum { PAIRS = 9, GUARD = 7 };
    float src[PAIRS * 9] = {0}, dst[PAIRS * 25 + GUARD];
    double *R = solve(&(parameters){3, 5, 3, 2, 0.05});
    for (int j = 0; j < PAIRS; j++)
        src[j * 9 + j] = 1;
    for (size_t i = 0; i < sizeof dst / sizeof dst[0]; i++)
        dst[i] = -77;
    if (R)
        vd_disperse_kernel(dst, src, PAIRS, 3, 5, R);
    for (int j = 0; R && j < PAIRS; j++)
        for (int i = 0; i < 25; i++)
            CHECK(dst[j * 25 + i] == (float)R[i * 9 + j]);
    for (int i = 0; i < GUARD; i++)
        CHECK(dst[PAIRS * 25 + i] == -77);
    free(R);
}

/* ---- what cannot be ------------------------------------------------------------------------ */

static void check_refusals(void) {
    static const struct {
        parameters p;
        const char *words;
    } bad[] = {
        {{2, 5, 3, 2, 0.1}, "odd"},           {{3, 6, 3, 2, 0.1}, "odd"},
        {{0, 5, 3, 2, 0.1}, "odd"},           {{-3, 5, 3, 2, 0.1}, "odd"},
        {{3, -5, 3, 2, 0.1}, "odd"},          {{3, 3, 3, 2, 0.1}, "large 3"},
        {{5, 3, 3, 2, 0.1}, "large 3"},       {{3, 33, 40, 2, 0.1}, "large 33"},
        {{3, INT64_MAX, 3, 2, 0.1}, "large"}, {{3, 5, 0, 2, 0.1}, "size 0"},
        {{3, 5, -1, 2, 0.1}, "size -1"},      {{3, 5, 1025, 2, 0.1}, "size 1025"},
        {{3, 5, INT64_MAX, 2, 0.1}, "size"},  {{3, 5, 3, 0, 0.1}, "scale 0"},
        {{3, 5, 3, -2, 0.1}, "scale -2"},     {{3, 5, 3, 65, 0.1}, "scale 65"},
        {{3, 5, 3, INT64_MAX, 1}, "scale"},   {{3, 5, 3, 2, -0.1}, "eta -0.1"},
        {{3, 5, 3, 2, NAN}, "eta"},           {{3, 5, 3, 2, INFINITY}, "eta"},
        {{3, 5, 3, 2, -INFINITY}, "eta"},     {{3, 5, 3, 2, 2e6}, "eta"},
    };
    double R[25 * 9];
    vd_disperse_info info;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const parameters *p = &bad[i].p;
        CHECK_FAILS(vd_disperse_solve(p->small, p->large, p->size, p->scale, p->eta, R),
                    VD_ERR_USAGE, bad[i].words);
        CHECK_FAILS(vd_disperse_describe(p->small, p->large, p->size, p->scale, p->eta, &info),
                    VD_ERR_USAGE, bad[i].words);
    }
    /* Taps that reach no pixel from anywhere: 1, 2 and 2 pixels under 5 taps. */
    CHECK_FAILS(vd_disperse_solve(3, 5, 1, 2, 0, R), VD_ERR_INPUT, "do not determine");
    CHECK_FAILS(vd_disperse_solve(3, 5, 1, 2, 0.05, R), VD_ERR_INPUT, "do not determine");
    CHECK_FAILS(vd_disperse_solve(3, 5, 2, 1, 0.05, R), VD_ERR_INPUT, "do not determine");
    CHECK_FAILS(vd_disperse_describe(3, 5, 2, 1, 0, &info), VD_ERR_INPUT, "do not determine");
    CHECK_OK(vd_disperse_solve(3, 5, 2, 2, 0, R));
}

/* The corners of what is allowed stay solvable: sizes and weights far from the golden ones. */
static void check_extremes(void) {
    static const parameters cases[] = {
        {7, 15, 64, 8, 0.05}, {7, 15, 2, 8, 0}, {3, 5, 1024, 64, 1e6}, {3, 31, 2, 64, 1e-200}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_symmetry(&cases[i]);
        check_repeats(&cases[i]);
    }
}

int main(void) {
    check_golden();
    check_equations();
    check_symmetry(&(parameters){3, 5, 3, 2, 0.05});
    check_symmetry(&(parameters){5, 7, 4, 3, 0.1});
    check_published();
    check_scale_of_one();
    check_repeats(&(parameters){3, 7, 4, 3, 0.05});
    check_unit_kernels();
    check_refusals();
    check_extremes();
    return CHECK_DONE();
}

#include "unet3d/disperse.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Everything about the structure term is separable: its matrix is A1 = a1 (x) a1 and its right-hand
 * side B1 = b1 (x) b1, with the one-dimensional
 *     a1[(o,h), i] = u[o + i - large/2, h]      b1[(o,h), j] = u[o, h - j + small/2]
 * where u [fine, size] enlarges a line. The pixel term counts coinciding taps and is diagonal. So
 * the normal equations are N = a (x) a + pixel, with a = a1' a1 and right-hand sides b (x) b. As u
 * holds multiples of 1/scale, scale^2 a and scale^2 b are whole numbers; N is kept scale^4 times as
 * large, so that only the pixel term is rounded at all. */
typedef struct dispersion {
    int small, large, size, scale;
    int unknowns;   /* large^2 */
    double *a;      /* [large, large] scale^2 a1' a1 */
    double *b;      /* [large, small] scale^2 a1' b1 */
    double *pixel;  /* [large^2] scale^4 eta^2 times how many pixels the tap reaches */
    double *factor; /* [large^2, large^2] Cholesky factor of N, lower triangle */
} dispersion;

/* A pivot this small beside its diagonal is what roundings leave of zero. */
static const double zero_pivot = 1e-12;

static vd_status check_kernels(int64_t small, int64_t large) {
    if (small < 1 || small % 2 == 0 || large < 1 || large % 2 == 0)
        return vd_fail(VD_ERR_USAGE,
                       "dispersion: small %lld, large %lld: kernels have an odd number of taps",
                       (long long)small, (long long)large);
    if (large <= small || large > VD_DISPERSE_MAX_KERNEL)
        return vd_fail(VD_ERR_USAGE,
                       "dispersion: large %lld: must be above small (%lld) and at most %d",
                       (long long)large, (long long)small, VD_DISPERSE_MAX_KERNEL);
    return VD_OK;
}

static vd_status check_parameters(int64_t small, int64_t large, int64_t size, int64_t scale,
                                  double eta) {
    vd_status st = check_kernels(small, large);
    if (st != VD_OK)
        return st;
    if (size < 1 || size > VD_DISPERSE_MAX_SIZE)
        return vd_fail(VD_ERR_USAGE, "dispersion: size %lld: must be from 1 to %d", (long long)size,
                       VD_DISPERSE_MAX_SIZE);
    if (scale < 1 || scale > VD_DISPERSE_MAX_SCALE)
        return vd_fail(VD_ERR_USAGE, "dispersion: scale %lld: must be from 1 to %d",
                       (long long)scale, VD_DISPERSE_MAX_SCALE);
    if (!(eta >= 0 && eta <= VD_DISPERSE_MAX_ETA))
        return vd_fail(VD_ERR_USAGE, "dispersion: eta %g: must be from 0 to %g", eta,
                       VD_DISPERSE_MAX_ETA);
    return VD_OK;
}

static vd_status undetermined(const dispersion *d) {
    return vd_fail(VD_ERR_INPUT,
                   "dispersion %d -> %d, size %d, scale %d: the equations do not determine every "
                   "tap on an enlarged map of %d x %d; take a larger size or scale, or a smaller "
                   "large kernel",
                   d->small, d->large, d->size, d->scale, d->scale * (d->size - 1) + 1,
                   d->scale * (d->size - 1) + 1);
}

/* scale * u[at, sample] */
static int64_t share(const dispersion *d, int64_t at, int64_t sample) {
    int64_t distance = llabs(d->scale * sample - at);
    return distance < d->scale ? d->scale - distance : 0;
}

static void fill_a(dispersion *d) {
    int64_t fine = (int64_t)d->scale * (d->size - 1) + 1;
    for (int i = 0; i < d->large; i++)
        for (int k = 0; k <= i; k++) {
            int64_t sum = 0;
            for (int64_t o = 0; o < fine; o++) {
                int64_t p = o + i - d->large / 2, q = o + k - d->large / 2;
                if (p < 0 || p >= fine || q < 0 || q >= fine)
                    continue;
                for (int64_t h = p / d->scale; h <= p / d->scale + 1 && h < d->size; h++)
                    sum += share(d, p, h) * share(d, q, h);
            }
            d->a[i * d->large + k] = d->a[k * d->large + i] = (double)sum;
        }
}

static void fill_b(dispersion *d) {
    int64_t fine = (int64_t)d->scale * (d->size - 1) + 1;
    for (int i = 0; i < d->large; i++)
        for (int j = 0; j < d->small; j++) {
            int64_t sum = 0;
            for (int64_t o = 0; o < fine; o++) {
                int64_t p = o + i - d->large / 2;
                if (p < 0 || p >= fine)
                    continue;
                for (int64_t h = p / d->scale; h <= p / d->scale + 1 && h < d->size; h++) {
                    int64_t from = h - j + d->small / 2;
                    if (from >= 0 && from < d->size)
                        sum += share(d, p, h) * share(d, o, from);
                }
            }
            d->b[i * d->small + j] = (double)sum;
        }
}

static void fill_pixel(dispersion *d, double eta) {
    double root = eta * d->scale * d->scale;
    for (int y = 0; y < d->large; y++)
        for (int x = 0; x < d->large; x++) {
            int rows = d->size - abs(y - d->large / 2), columns = d->size - abs(x - d->large / 2);
            double reached = rows > 0 && columns > 0 ? (double)rows * columns : 0;
            d->pixel[y * d->large + x] = root * root * reached;
        }
}

/* Makes N in `factor` and replaces it by its Cholesky factor. */
static vd_status factorise(dispersion *d) {
    int n = d->unknowns, large = d->large;
    for (int i = 0; i < n; i++) {
        double *row = d->factor + (size_t)i * (size_t)n;
        for (int k = 0; k <= i; k++) {
            double sum = d->a[i / large * large + k / large] * d->a[i % large * large + k % large];
            double limit = 0;
            if (k == i) {
                sum += d->pixel[i];
                limit = zero_pivot * sum;
            }
            const double *other = d->factor + (size_t)k * (size_t)n;
            for (int m = 0; m < k; m++)
                sum -= row[m] * other[m];
            if (k < i)
                row[k] = sum / other[k];
            else if (!(sum > limit))
                return undetermined(d);
            else
                row[i] = sqrt(sum);
        }
    }
    return VD_OK;
}

/* x [unknowns, columns] = N^-1 x */
static void substitute(const dispersion *d, double *x, int columns) {
    size_t n = (size_t)d->unknowns, width = (size_t)columns;
    for (size_t i = 0; i < n; i++) {
        double *row = x + i * width;
        for (size_t k = 0; k < i; k++)
            for (size_t j = 0; j < width; j++)
                row[j] -= d->factor[i * n + k] * x[k * width + j];
        for (size_t j = 0; j < width; j++)
            row[j] /= d->factor[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        double *row = x + i * width;
        for (size_t k = i + 1; k < n; k++)
            for (size_t j = 0; j < width; j++)
                row[j] -= d->factor[k * n + i] * x[k * width + j];
        for (size_t j = 0; j < width; j++)
            row[j] /= d->factor[i * n + i];
    }
}

static void dispersion_clear(dispersion *d) {
    free(d->a);
    free(d->b);
    free(d->pixel);
    free(d->factor);
}

/* Clear `d` whatever the result. */
static vd_status dispersion_init(dispersion *d, int64_t small, int64_t large, int64_t size,
                                 int64_t scale, double eta) {
    vd_status st = check_parameters(small, large, size, scale, eta);
    *d = (dispersion){0};
    if (st != VD_OK)
        return st;
    d->small = (int)small;
    d->large = (int)large;
    d->size = (int)size;
    d->scale = (int)scale;
    d->unknowns = d->large * d->large;
    size_t unknowns = (size_t)d->unknowns;
    d->a = calloc(unknowns, sizeof *d->a);
    d->b = calloc(unknowns, sizeof *d->b);
    d->pixel = calloc(unknowns, sizeof *d->pixel);
    d->factor = calloc(unknowns * unknowns, sizeof *d->factor);
    if (!d->a || !d->b || !d->pixel || !d->factor)
        return vd_fail(VD_ERR_MEMORY, "no memory for a dispersion matrix of %zu taps", unknowns);
    fill_a(d);
    fill_b(d);
    fill_pixel(d, eta);
    return factorise(d);
}

/* A sum kept to about twice the digits of a double. */
typedef struct long_sum {
    double high, low;
} long_sum;

/* s + (high + low) * y */
static long_sum add_product(long_sum s, double high, double low, double y) {
    double product = high * y;
    double product_error = fma(high, y, -product) + low * y;
    double sum = s.high + product;
    double back = sum - s.high;
    double sum_error = (s.high - (sum - back)) + (product - back);
    return (long_sum){sum, s.low + (sum_error + product_error)};
}

/* residual [unknowns, small^2] = right-hand sides - N R. The entries of `a` and `b` are whole
 * numbers, so that this is the residual of the true equations and not of rounded ones.
 * `half` has room for large^2. */
static void find_residual(const dispersion *d, const double *R, double *residual, long_sum *half) {
    int large = d->large, small = d->small, columns = small * small, shift = (large - small) / 2;
    for (int j = 0; j < columns; j++) {
        for (int y = 0; y < large; y++)
            for (int x = 0; x < large; x++) {
                long_sum s = {0, 0};
                for (int k = 0; k < large; k++)
                    s = add_product(s, R[(k * large + x) * columns + j], 0, d->a[y * large + k]);
                half[y * large + x] = s;
            }
        for (int y = 0; y < large; y++)
            for (int x = 0; x < large; x++) {
                int i = y * large + x;
                bool same_place = y - shift == j / small && x - shift == j % small;
                long_sum s = {same_place ? d->pixel[i] : 0, 0};
                s = add_product(s, d->b[y * small + j / small], 0, d->b[x * small + j % small]);
                s = add_product(s, -R[i * columns + j], 0, d->pixel[i]);
                for (int k = 0; k < large; k++)
                    s = add_product(s, -half[y * large + k].high, -half[y * large + k].low,
                                    d->a[k * large + x]);
                residual[i * columns + j] = s.high + s.low;
            }
    }
}

/* Cholesky alone leaves an error of some 1e-16 times the squared condition number. With residuals
 * that are exact to twice the digits, solving again for them leaves the last bit. */
static vd_status refine(const dispersion *d, double *R, double *correction, long_sum *half) {
    size_t count = (size_t)d->unknowns * (size_t)d->small * (size_t)d->small;
    double before = INFINITY;
    memset(R, 0, count * sizeof *R);
    for (;;) {
        double change = 0, largest = 0;
        find_residual(d, R, correction, half);
        substitute(d, correction, d->small * d->small);
        for (size_t i = 0; i < count; i++) {
            R[i] += correction[i];
            change = fmax(change, fabs(correction[i]));
            largest = fmax(largest, fabs(R[i]));
        }
        if (change <= DBL_EPSILON * largest)
            return VD_OK;
        if (!(change < before / 2))
            return undetermined(d);
        before = change;
    }
}

vd_status vd_disperse_solve(int64_t small, int64_t large, int64_t size, int64_t scale, double eta,
                            double *R) {
    vd_status st = VD_OK;
    dispersion d;
    double *correction = NULL;
    long_sum *half = NULL;
    VD_TRY(dispersion_init(&d, small, large, size, scale, eta));
    correction = calloc((size_t)d.unknowns * (size_t)(small * small), sizeof *correction);
    half = calloc((size_t)d.unknowns, sizeof *half);
    if (!correction || !half) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a dispersion matrix of %d taps", d.unknowns);
        goto done;
    }
    VD_TRY(refine(&d, R, correction, half));
done:
    dispersion_clear(&d);
    free(correction);
    free(half);
    return st;
}

/* y = N x */
static void multiply(const dispersion *d, double *y, const double *x, double *half) {
    int large = d->large;
    for (int r = 0; r < large; r++)
        for (int c = 0; c < large; c++) {
            half[r * large + c] = 0;
            for (int k = 0; k < large; k++)
                half[r * large + c] += d->a[r * large + k] * x[k * large + c];
        }
    for (int r = 0; r < large; r++)
        for (int c = 0; c < large; c++) {
            y[r * large + c] = d->pixel[r * large + c] * x[r * large + c];
            for (int k = 0; k < large; k++)
                y[r * large + c] += half[r * large + k] * d->a[k * large + c];
        }
}

/* The largest eigenvalue of N, or of its inverse, by power iteration. `work` has room for
 * 3 large^2. */
static double largest_eigenvalue(const dispersion *d, bool of_inverse, double *work) {
    size_t n = (size_t)d->unknowns;
    double *x = work, *y = work + n, *half = work + 2 * n, value = 0;
    /* Without a symmetry, so that no eigenvector is orthogonal to it. */
    for (size_t i = 0; i < n; i++)
        x[i] = cos((double)(i * i)) + 1e-3 * (double)i;
    for (int step = 0; step < 1000; step++) {
        double before = value, square = 0;
        if (of_inverse) {
            memcpy(y, x, n * sizeof *y);
            substitute(d, y, 1);
        } else {
            multiply(d, y, x, half);
        }
        for (size_t i = 0; i < n; i++)
            square += y[i] * y[i];
        value = sqrt(square);
        for (size_t i = 0; i < n; i++)
            x[i] = y[i] / value;
        if (step > 20 && fabs(value - before) <= 1e-7 * value)
            break;
    }
    return value;
}

vd_status vd_disperse_describe(int64_t small, int64_t large, int64_t size, int64_t scale,
                               double eta, vd_disperse_info *info) {
    vd_status st = VD_OK;
    dispersion d;
    double *work = NULL;
    *info = (vd_disperse_info){0};
    VD_TRY(dispersion_init(&d, small, large, size, scale, eta));
    work = calloc(3 * (size_t)d.unknowns, sizeof *work);
    if (!work) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a dispersion matrix of %d taps", d.unknowns);
        goto done;
    }
    int64_t pixels = size * size, fine = scale * (size - 1) + 1;
    info->unknowns = d.unknowns;
    info->equations = fine * fine * pixels + pixels * pixels;
    info->condition =
        sqrt(largest_eigenvalue(&d, false, work)) * sqrt(largest_eigenvalue(&d, true, work));
done:
    dispersion_clear(&d);
    free(work);
    return st;
}

void vd_disperse_kernel(float *dst, const float *src, int64_t pairs, int64_t small, int64_t large,
                        const double *R) {
    size_t in = (size_t)(small * small), out = (size_t)(large * large);
    for (size_t pair = 0; pair < (size_t)pairs; pair++)
        for (size_t i = 0; i < out; i++) {
            double sum = 0;
            for (size_t j = 0; j < in; j++)
                sum += R[i * in + j] * (double)src[pair * in + j];
            dst[pair * out + i] = (float)sum;
        }
}

/* Low frequencies of an image. The two that matter along an axis are 0 and -1, so the transforms
 * are products with three rows: ones, cosine and sine of one turn. A row of the image is a task;
 * rows are summed in a fixed order, in double. */
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/dnnl_util.h"

enum { PARTS = 3 }; /* ones, cosine, sine */

typedef struct spectrum_job {
    const vd_cpu_kernels *kernels;
    vd_tensor *t;
    double change; /* (factor - 1) / (h w) */
    int64_t n, h, w, channels, padded;
    float *wave;  /* [PARTS, w], zeros where a frequency of -1 does not exist */
    float *rows;  /* [n * h, PARTS, padded]: along a row, then what to add to it */
    float *line;  /* [w, padded] for each thread */
    double *turn; /* [h, 2]: cosine, sine of y turns by h; zeros where h is 1 */
} spectrum_job;

static float *line_of(const spectrum_job *job, int thread) {
    return job->line + (int64_t)thread * job->w * job->padded;
}

static unsigned char *pixel_at(const spectrum_job *job, int64_t row, int64_t x) {
    const size_t bytes = (size_t)job->channels * vd_dtype_bytes(job->t->dtype);
    return (unsigned char *)job->t->data + (size_t)(row * job->w + x) * bytes;
}

static void load_line(const spectrum_job *job, int64_t row, float *line) {
    for (int64_t x = 0; x < job->w; x++) {
        float *to = line + x * job->padded;
        memset(to + job->channels, 0, (size_t)(job->padded - job->channels) * sizeof *to);
        job->kernels->load(to, pixel_at(job, row, x), job->t->dtype, (size_t)job->channels);
    }
}

/* rows[row] = wave times the image's row */
static int along_row(void *user, int64_t row, int thread) {
    const spectrum_job *job = user;
    float *line = line_of(job, thread);
    const size_t padded = (size_t)job->padded;
    load_line(job, row, line);
    job->kernels->product(job->rows + row * PARTS * job->padded, padded, job->wave, (size_t)job->w,
                          1, line, padded, PARTS, padded, (size_t)job->w, false);
    return 0;
}

/* Of one channel: the sums over the rows times 1 and times exp(i y), for the three parts. */
typedef struct sums {
    double plain[PARTS], re[PARTS], im[PARTS];
} sums;

/* With X(u, v) the spectrum, a row y gets (factor - 1) / (h w) times
 *     Re [X(0,0) + X(-1,0) e^(-iy) + (X(0,-1) + X(-1,-1) e^(-iy)) e^(-ix)]
 * which is again a sum of the three parts. */
static int along_columns(void *user, int64_t image, int thread) {
    const spectrum_job *job = user;
    float *first = job->rows + image * job->h * PARTS * job->padded;
    (void)thread;
    for (int64_t c = 0; c < job->channels; c++) {
        sums s = {0};
        for (int64_t y = 0; y < job->h; y++)
            for (int p = 0; p < PARTS; p++) {
                const double v = (double)first[(y * PARTS + p) * job->padded + c];
                s.plain[p] += v;
                s.re[p] += v * job->turn[2 * y];
                s.im[p] += v * job->turn[2 * y + 1];
            }
        /* (re + i im) at the frequency -1 along a row, which is cosine + i sine */
        const double re = s.re[1] - s.im[2], im = s.im[1] + s.re[2];
        for (int64_t y = 0; y < job->h; y++) {
            const double co = job->turn[2 * y], si = job->turn[2 * y + 1];
            const double add[PARTS] = {s.plain[0] + s.re[0] * co + s.im[0] * si,
                                       s.plain[1] + re * co + im * si,
                                       s.plain[2] + im * co - re * si};
            for (int p = 0; p < PARTS; p++)
                first[(y * PARTS + p) * job->padded + c] = (float)(job->change * add[p]);
        }
    }
    return 0;
}

/* image row += wave^T times rows[row] */
static int add_row(void *user, int64_t row, int thread) {
    const spectrum_job *job = user;
    float *line = line_of(job, thread);
    const size_t padded = (size_t)job->padded;
    load_line(job, row, line);
    job->kernels->product(line, padded, job->wave, 1, (size_t)job->w,
                          job->rows + row * PARTS * job->padded, padded, (size_t)job->w, padded,
                          PARTS, true);
    for (int64_t x = 0; x < job->w; x++)
        job->kernels->store(pixel_at(job, row, x), job->t->dtype, line + x * job->padded,
                            (size_t)job->channels);
    return 0;
}

static void fill_waves(spectrum_job *job) {
    const double turn = 2 * acos(-1.0) / (double)job->w, down = 2 * acos(-1.0) / (double)job->h;
    for (int64_t y = 0; y < job->h; y++) {
        job->turn[2 * y] = job->h > 1 ? cos(down * (double)y) : 0;
        job->turn[2 * y + 1] = job->h > 1 ? sin(down * (double)y) : 0;
    }
    for (int64_t x = 0; x < job->w; x++) {
        job->wave[x] = 1;
        job->wave[job->w + x] = job->w > 1 ? (float)cos(turn * (double)x) : 0;
        job->wave[2 * job->w + x] = job->w > 1 ? (float)sin(turn * (double)x) : 0;
    }
}

vd_status vd_cpu_scale_low_frequencies(vd_exec *x, vd_tensor *t, double factor) {
    vd_status st;
    spectrum_job job = {.kernels = vd_cpu(x)->kernels,
                        .t = t,
                        .change = (factor - 1) / (double)(t->dim[1] * t->dim[2]),
                        .n = t->dim[0],
                        .h = t->dim[1],
                        .w = t->dim[2],
                        .channels = t->dim[3],
                        .padded = (t->dim[3] + VD_CPU_PAD - 1) / VD_CPU_PAD * VD_CPU_PAD};
    const int64_t rows = job.n * job.h;
    const int64_t lines = rows < x->be->threads ? rows : x->be->threads;
    void *turn = NULL, *wave = NULL, *sums_of_rows = NULL, *line = NULL;
    VD_TRY(vd_exec_scratch(x, (size_t)(2 * job.h) * sizeof(double), &turn));
    VD_TRY(vd_exec_scratch(x, (size_t)(PARTS * job.w) * sizeof(float), &wave));
    VD_TRY(vd_exec_scratch(x, (size_t)(rows * PARTS * job.padded) * sizeof(float), &sums_of_rows));
    VD_TRY(vd_exec_scratch(x, (size_t)(lines * job.w * job.padded) * sizeof(float), &line));
    if (!x->dry) {
        vd_cpu_pool *pool = vd_cpu(x)->pool;
        job.turn = turn;
        job.wave = wave;
        job.rows = sums_of_rows;
        job.line = line;
        fill_waves(&job);
        vd_cpu_parallel(pool, rows, along_row, &job);
        vd_cpu_parallel(pool, job.n, along_columns, &job);
        vd_cpu_parallel(pool, rows, add_row, &job);
    }
done:
    vd_exec_scratch_free(x, line);
    vd_exec_scratch_free(x, sums_of_rows);
    vd_exec_scratch_free(x, wave);
    vd_exec_scratch_free(x, turn);
    return st;
}

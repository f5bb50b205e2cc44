/* What `vidilate bench` is asked, and what it measures. */
#ifndef VD_CLI_BENCH_H
#define VD_CLI_BENCH_H

#include "backend/backend.h"

typedef struct bench_args {
    const char *model, *settings, *backend, *dtype;
    int64_t width, height, frames, steps, threads;
    struct {
        bool width, height, frames; /* else the model's own */
    } has;
    bool json, offload;
} bench_args;

typedef struct bench_times {
    double min_ms, median_ms;
    double cpu_ms; /* least processor time, of all threads together: says more on a busy machine */
} bench_times;

typedef struct bench_result {
    char device[192], dtype[8];
    int64_t width, height, frames;
    bench_times step;    /* both branches in one pass, and guidance */
    bench_times forward; /* one branch */
    double load_ms;      /* from the files to ready for the first step */
    int64_t peak_rss_bytes;
    size_t weight_bytes, arena_bytes; /* packed weights; activations and scratch of a step */
    size_t offloaded_bytes;           /* weights that stay on the host */
    double tflop;                     /* of one forward */
    double matmul_peak_tflops;
    vd_op_profile *ops; /* of one step; malloc'ed, longest first */
    size_t op_count;
} bench_result;

/* VD_ERR_USAGE: sizes that the model cannot have. VD_ERR_INPUT, VD_ERR_MEMORY, VD_ERR_BACKEND: as
 * vd_unet_open and vd_settings_read. The result is freed by bench_result_free, also on failure. */
vd_status bench_run(const bench_args *a, bench_result *out);
void bench_result_free(bench_result *r);

/* The best rate of vd_linear in `dtype` over a few large shapes, in TFLOP/s. */
vd_status bench_matmul_peak(vd_backend *be, vd_dtype dtype, double *out);

/* On stdout. */
vd_status bench_print_json(const bench_result *r);
void bench_print_table(const bench_result *r);

#endif

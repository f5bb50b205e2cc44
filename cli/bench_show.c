#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "core/json.h"

static double rate(double amount, double seconds) {
    return seconds > 0 ? amount / seconds : 0;
}

static void put_times(vd_json_writer *w, const char *key, const bench_times *t) {
    vd_json_begin_object(w, key);
    vd_json_put_double(w, "min", t->min_ms);
    vd_json_put_double(w, "median", t->median_ms);
    vd_json_put_double(w, "cpu", t->cpu_ms);
    vd_json_end(w);
}

vd_status bench_print_json(const bench_result *r) {
    vd_status st = VD_OK;
    vd_json_writer *w = NULL;
    char *text = NULL;
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    vd_json_put_string(w, "device", r->device);
    vd_json_put_string(w, "dtype", r->dtype);
    vd_json_put_int(w, "frames", r->frames);
    vd_json_put_int(w, "width", r->width);
    vd_json_put_int(w, "height", r->height);
    put_times(w, "step_ms", &r->step);
    put_times(w, "forward_ms", &r->forward);
    vd_json_put_double(w, "load_ms", r->load_ms);
    vd_json_put_int(w, "peak_rss_bytes", r->peak_rss_bytes);
    vd_json_put_int(w, "weight_bytes", (int64_t)r->weight_bytes);
    vd_json_put_int(w, "offloaded_bytes", (int64_t)r->offloaded_bytes);
    vd_json_put_int(w, "arena_bytes", (int64_t)r->arena_bytes);
    vd_json_put_double(w, "tflop", r->tflop);
    vd_json_put_double(w, "matmul_peak_tflops", r->matmul_peak_tflops);
    vd_json_begin_array(w, "ops");
    for (size_t i = 0; i < r->op_count; i++) {
        const vd_op_profile *op = &r->ops[i];
        vd_json_begin_object(w, NULL);
        vd_json_put_string(w, "name", op->name);
        vd_json_put_int(w, "calls", op->calls);
        vd_json_put_double(w, "ms", op->seconds * 1e3);
        vd_json_put_double(w, "tflops", rate(op->flop, op->seconds) * 1e-12);
        vd_json_put_double(w, "gb_s", rate(op->bytes, op->seconds) * 1e-9);
        vd_json_end(w);
    }
    vd_json_end(w);
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, true, &text));
    puts(text);
done:
    vd_json_writer_destroy(w);
    free(text);
    return st;
}

static void print_op(const bench_result *r, const vd_op_profile *op, double all_s) {
    const double tflops = rate(op->flop, op->seconds) * 1e-12;
    printf("%-44s %5lld %9.2f %5.1f%% %8.3f %5.1f%% %7.2f\n", op->name, (long long)op->calls,
           op->seconds * 1e3, 100 * rate(op->seconds, all_s), tflops,
           100 * rate(tflops, r->matmul_peak_tflops), rate(op->bytes, op->seconds) * 1e-9);
}

/* The first word of an op's name is its kind. */
static void print_kinds(const bench_result *r, double all_s) {
    for (size_t i = 0; i < r->op_count; i++) {
        vd_op_profile kind = {0};
        const size_t length = strcspn(r->ops[i].name, " /");
        bool seen = false;
        for (size_t k = 0; k < r->op_count; k++) {
            const vd_op_profile *op = &r->ops[k];
            if (strcspn(op->name, " /") != length || strncmp(op->name, r->ops[i].name, length) != 0)
                continue;
            seen = seen || k < i;
            kind.calls += op->calls;
            kind.seconds += op->seconds;
            kind.flop += op->flop;
            kind.bytes += op->bytes;
        }
        snprintf(kind.name, sizeof kind.name, "%.*s", (int)length, r->ops[i].name);
        if (!seen)
            print_op(r, &kind, all_s);
    }
}

void bench_print_table(const bench_result *r) {
    double all_s = 0, flop = 0;
    for (size_t i = 0; i < r->op_count; i++) {
        all_s += r->ops[i].seconds;
        flop += r->ops[i].flop;
    }
    printf("%s, %s; %lld frames of %lldx%lld\n", r->device, r->dtype, (long long)r->frames,
           (long long)r->width, (long long)r->height);
    printf("guided step %.1f ms (median %.1f), forward of one branch %.1f ms (median %.1f), load "
           "%.0f ms\n",
           r->step.min_ms, r->step.median_ms, r->forward.min_ms, r->forward.median_ms, r->load_ms);
    printf("processor time of all threads: step %.1f ms, forward %.1f ms\n", r->step.cpu_ms,
           r->forward.cpu_ms);
    printf("peak memory %.0f MiB: packed weights %.0f, activations %.0f\n",
           (double)r->peak_rss_bytes / 1048576, (double)r->weight_bytes / 1048576,
           (double)r->arena_bytes / 1048576);
    if (r->offloaded_bytes > 0)
        printf("on the host: %.0f MiB of weights\n", (double)r->offloaded_bytes / 1048576);
    printf("one forward %.3f TFLOP at %.3f TFLOP/s; best matrix product %.3f TFLOP/s\n\n", r->tflop,
           rate(r->tflop, r->forward.min_ms * 1e-3), r->matmul_peak_tflops);
    printf("%-44s %5s %9s %6s %8s %6s %7s\n", "op, of one guided step", "calls", "ms", "share",
           "TFLOP/s", "peak", "GB/s");
    for (size_t i = 0; i < r->op_count; i++)
        print_op(r, &r->ops[i], all_s);
    printf("\n");
    print_kinds(r, all_s);
    vd_op_profile all = {.name = "all", .seconds = all_s, .flop = flop};
    for (size_t i = 0; i < r->op_count; i++) {
        all.calls += r->ops[i].calls;
        all.bytes += r->ops[i].bytes;
    }
    print_op(r, &all, all_s);
}

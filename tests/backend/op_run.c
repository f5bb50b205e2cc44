#include "tests/backend/op_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/backend_name.h"

vd_status op_devices_open(op_devices *d) {
    static const int threads[OP_DEVICES] = {1, 2, 3, 7};
    static const vd_dtype dtypes[OP_DTYPES] = {VD_F32, VD_BF16, VD_F16};
    const char *name = check_backend();
    /* An emulated device is slow, and computes the same again for certain. */
    const int count = strcmp(name, "cpu") == 0             ? OP_DEVICES
                      : getenv("VD_TEST_EMULATED") != NULL ? 1
                                                           : 2;
    *d = (op_devices){.dtypes = 0};
    for (int i = 0; i < count; i++) {
        vd_status st = vd_backend_open(name, threads[i], &d->be[i]);
        if (st != VD_OK) {
            op_devices_close(d);
            return st;
        }
        d->threads[i] = threads[i];
        d->count++;
    }
    for (int i = 0; i < OP_DTYPES; i++)
        if (vd_backend_has_dtype(d->be[0], dtypes[i]))
            d->dtype[d->dtypes++] = dtypes[i];
    printf("%s: %d dtypes\n", vd_backend_description(d->be[0]), d->dtypes);
    return VD_OK;
}

void op_devices_close(op_devices *d) {
    for (int i = 0; i < d->count; i++)
        vd_backend_close(d->be[i]);
    d->count = 0;
}

static void *allocate(size_t bytes) {
    void *p = malloc(bytes);
    if (p == NULL) {
        fprintf(stderr, "no memory for a test\n");
        exit(1);
    }
    return p;
}

float *op_values(size_t count, float scale, vd_dtype dtype, uint32_t seed) {
    float *values = allocate(count * sizeof *values);
    op_random(values, count, scale, dtype, seed);
    return values;
}

float op_round(float value, vd_dtype dtype) {
    if (dtype == VD_BF16)
        return vd_bf16_to_f32(vd_f32_to_bf16(value));
    return dtype == VD_F16 ? vd_f16_to_f32(vd_f32_to_f16(value)) : value;
}

void op_source_create(int rank, const int64_t *dim, float scale, uint32_t seed, op_source *out) {
    static const vd_dtype dtypes[] = {VD_F32, VD_F16, VD_BF16};
    static int turn;
    const vd_dtype dtype = dtypes[turn++ % 3];
    vd_tensor t = vd_tensor_view(NULL, dtype, rank, dim);
    const size_t count = (size_t)vd_tensor_elements(&t);
    out->values = op_values(count, scale, dtype, seed);
    out->memory = allocate(vd_tensor_bytes(&t) + 1);
    void *aligned = allocate(vd_tensor_bytes(&t));
    vd_convert_values(aligned, dtype, out->values, VD_F32, count);
    t.data = (unsigned char *)out->memory + 1;
    memcpy(t.data, aligned, vd_tensor_bytes(&t));
    free(aligned);
    out->tensor = t;
}

void op_source_destroy(op_source *s) {
    free(s->values);
    free(s->memory);
}

static void compare(op_check *c, const void *bytes) {
    const size_t count = (size_t)vd_tensor_elements(&c->result);
    float *got = allocate(count * sizeof *got);
    vd_convert_values(got, VD_F32, bytes, c->result.dtype, count);
    op_error e = op_compare(got, c->expected, count, c->terms, c->result.dtype);
    if (!op_error_ok(&e)) {
        fprintf(stderr,
                "%s (exec %s): NMSE %.3g of %.3g, worst error %.3g of what is allowed, at %lld: "
                "%.9g for %.9g\n",
                c->line, vd_dtype_name(c->dtype), e.nmse, e.max_nmse, e.worst,
                (long long)e.worst_at, (double)got[e.worst_at], c->expected[e.worst_at]);
        c->failures++;
    }
    free(got);
}

void op_check_result(op_check *c, void *bytes, int threads) {
    if (c->first == NULL) {
        compare(c, bytes);
        c->first = bytes;
        return;
    }
    if (memcmp(c->first, bytes, vd_tensor_bytes(&c->result)) != 0) {
        fprintf(stderr, "%s (exec %s): %d threads give other bits\n", c->line,
                vd_dtype_name(c->dtype), threads);
        c->failures++;
    }
    free(bytes);
}

void op_check_end(op_check *c) {
    free(c->first);
    c->first = NULL;
}

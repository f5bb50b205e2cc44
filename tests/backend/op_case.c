#include "tests/backend/op_case.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD_BYTES = 128, GUARD = 0xA5 };

int op_cases(const char *name, void (*run)(void *user, const char *line), void *user) {
    char path[512], line[OP_CASE_BYTES];
    snprintf(path, sizeof path, "%s/tests/backend/cases/%s", VD_SOURCE_DIR, name);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    const char *every = getenv("VD_TEST_EVERY");
    const long apart = every != NULL ? strtol(every, NULL, 10) : 1;
    int count = 0;
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0' || line[0] == '#')
            continue;
        if (apart < 2 || count % apart == 0)
            run(user, line);
        count++;
    }
    fclose(f);
    return count;
}

/* The text after KEY=, or NULL. */
static const char *find(const char *line, const char *key) {
    const size_t length = strlen(key);
    for (const char *at = line; (at = strstr(at, key)) != NULL; at += length)
        if ((at == line || at[-1] == ' ') && at[length] == '=')
            return at + length + 1;
    return NULL;
}

int64_t op_number(const char *line, const char *key, int index, int64_t missing) {
    const char *at = find(line, key);
    for (int i = 0; at != NULL; i++) {
        char *end;
        long long value = strtoll(at, &end, 10);
        if (end == at)
            return missing;
        if (i == index)
            return value;
        at = *end == 'x' || *end == ',' ? end + 1 : NULL;
    }
    return missing;
}

bool op_is(const char *line, const char *key, const char *value) {
    const char *at = find(line, key);
    const size_t length = strlen(value);
    return at != NULL && strncmp(at, value, length) == 0 &&
           (at[length] == '\0' || isspace((unsigned char)at[length]));
}

vd_activation op_activation(const char *line) {
    static const char *const names[] = {[VD_ACT_SILU] = "silu",
                                        [VD_ACT_GELU] = "gelu",
                                        [VD_ACT_QUICK_GELU] = "quick_gelu",
                                        [VD_ACT_GEGLU] = "geglu"};
    for (int i = VD_ACT_SILU; i <= VD_ACT_GEGLU; i++)
        if (op_is(line, "act", names[i]))
            return (vd_activation)i;
    return VD_ACT_NONE;
}

void op_random(float *values, size_t count, float scale, vd_dtype dtype, uint32_t seed) {
    uint32_t state = seed * 2654435761U + 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525U + 1013904223U;
        float v = ((float)(state >> 8) / 8388608.0F - 1.0F) * scale;
        if (dtype == VD_BF16)
            v = vd_bf16_to_f32(vd_f32_to_bf16(v));
        else if (dtype == VD_F16)
            v = vd_f16_to_f32(vd_f32_to_f16(v));
        values[i] = v;
    }
}

/* ---- buffers -------------------------------------------------------------------------------- */

vd_status op_buffer_create(vd_backend *be, vd_dtype dtype, int rank, const int64_t *dim,
                           const float *values, op_buffer *out) {
    *out = (op_buffer){.be = be, .t = vd_tensor_view(NULL, dtype, rank, dim)};
    const size_t bytes = vd_tensor_bytes(&out->t);
    const size_t count = (size_t)vd_tensor_elements(&out->t);
    vd_status st;
    unsigned char *host = malloc(bytes + (size_t)2 * GUARD_BYTES);
    void *base = NULL;
    if (host == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a test");
    memset(host, GUARD, bytes + (size_t)2 * GUARD_BYTES);
    if (values != NULL)
        vd_convert_values(host + GUARD_BYTES, dtype, values, VD_F32, count);
    else
        memset(host + GUARD_BYTES, 0xFF, bytes);
    VD_TRY(vd_backend_alloc(be, bytes + (size_t)2 * GUARD_BYTES, &base));
    VD_TRY(vd_backend_upload(be, base, host, bytes + (size_t)2 * GUARD_BYTES));
    out->base = base;
    out->t.data = out->base + GUARD_BYTES;
    base = NULL;
done:
    vd_backend_free(be, base);
    free(host);
    return st;
}

void op_buffer_destroy(op_buffer *b) {
    if (b->base != NULL)
        vd_backend_free(b->be, b->base);
    b->base = NULL;
}

bool op_buffer_sentinels(const op_buffer *b) {
    unsigned char guard[2 * GUARD_BYTES];
    if (vd_backend_download(b->be, guard, b->base, GUARD_BYTES) != VD_OK ||
        vd_backend_download(b->be, guard + GUARD_BYTES,
                            b->base + GUARD_BYTES + vd_tensor_bytes(&b->t), GUARD_BYTES) != VD_OK)
        return false;
    for (size_t i = 0; i < sizeof guard; i++)
        if (guard[i] != GUARD)
            return false;
    return true;
}

vd_status op_buffer_bytes(const op_buffer *b, void *bytes) {
    return vd_backend_download(b->be, bytes, b->t.data, vd_tensor_bytes(&b->t));
}

vd_status op_buffer_read(const op_buffer *b, float *values) {
    void *bytes = malloc(vd_tensor_bytes(&b->t));
    if (bytes == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a test");
    vd_status st = op_buffer_bytes(b, bytes);
    if (st == VD_OK)
        vd_convert_values(values, VD_F32, bytes, b->t.dtype, (size_t)vd_tensor_elements(&b->t));
    free(bytes);
    return st;
}

/* ---- comparison ----------------------------------------------------------------------------- */

op_error op_compare(const float *got, const double *expected, size_t count, double terms,
                    vd_dtype dtype) {
    /* Half a unit in the last place; the errors of rounding are even in it, so a third squared on
     * average, give or take 0.3 / sqrt(count): 3 sigma. */
    const double round = dtype == VD_BF16 ? 0x1p-8 : dtype == VD_F16 ? 0x1p-11 : 0x1p-24;
    const double sum = sqrt(terms + 16) * 0x1p-24;
    /* Activations are computed with an error of a few units in the last place of float32. */
    const double slack = 4;
    double error = 0, power = 0;
    for (size_t i = 0; i < count; i++) {
        error += ((double)got[i] - expected[i]) * ((double)got[i] - expected[i]);
        power += expected[i] * expected[i];
    }
    const double rms = sqrt(power / (double)count);
    op_error e = {.nmse = power > 0 ? error / power : error,
                  .max_nmse =
                      round * round * (1.0 / 3 + 0.9 / sqrt((double)count)) + slack * sum * sum,
                  .max_worst = 1};
    for (size_t i = 0; i < count; i++) {
        /* 6 sigma of the sum's error, on a scale of what is summed, which is near the rms. */
        const double allowed = round * fabs(expected[i]) + 6 * slack * sum * (rms + 0x1p-20);
        const double part = fabs((double)got[i] - expected[i]) / allowed;
        if (!(part <= e.worst)) {
            e.worst = part;
            e.worst_at = (int64_t)i;
        }
    }
    return e;
}

bool op_error_ok(const op_error *e) {
    return e->nmse <= e->max_nmse && e->worst <= e->max_worst;
}

/* Draws the networks of the parity data again (tools/pack_golden.py says what was kept of them):
 *     draw_golden FOLDER OUTPUT_FOLDER
 * FOLDER holds drawn.json and perhaps rest.safetensors. Fails if a single bit comes out otherwise
 * than in PyTorch. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "core/sha256.h"
#include "core/text.h"

enum { MAX_TENSORS = 4096, MAX_SIDE = 1 << 20 };

typedef struct drawing {
    vd_json *recipe;
    vd_checkpoint *rest;
    vd_rng rng;
    vd_dtype dtype;
    vd_sha256_state sha;
    const char *name[MAX_TENSORS];
    vd_tensor tensor[MAX_TENSORS]; /* the first `drawn` own their data */
    size_t drawn, count;
} drawing;

static vd_status read_shape(const drawing *d, const vd_json_value *entry, vd_tensor *t) {
    const vd_json_value *shape = vd_json_get(entry, "shape");
    *t = (vd_tensor){.dtype = d->dtype};
    for (const vd_json_value *v = shape ? vd_json_first(shape) : NULL; v; v = vd_json_next(v)) {
        const double side = vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : 0;
        if (!(side >= 1 && side <= MAX_SIDE) || t->rank == VD_MAX_RANK)
            return vd_json_fail(d->recipe, v, "not a side of a tensor");
        t->dim[t->rank++] = (int64_t)side;
    }
    return t->rank > 0 ? VD_OK : vd_json_fail(d->recipe, entry, "an entry has a `shape`");
}

/* One parameter: draw * gain / sqrt(fan) + offset, each step rounded to float32 as PyTorch does. */
static vd_status draw(drawing *d, const vd_json_value *entry) {
    vd_status st = VD_OK;
    const char *name = NULL;
    double gain = 0, fan = 0, offset = 0;
    vd_tensor *t = &d->tensor[d->count];
    float *values = NULL;
    VD_TRY(vd_json_text(d->recipe, entry, "name", NULL, &name));
    VD_TRY(vd_json_double(d->recipe, entry, "gain", 0, 100, 0, &gain));
    VD_TRY(vd_json_double(d->recipe, entry, "fan", 1, 1e9, 1, &fan));
    VD_TRY(vd_json_double(d->recipe, entry, "offset", 0, 1, 0, &offset));
    VD_TRY(read_shape(d, entry, t));
    const size_t count = (size_t)vd_tensor_elements(t);
    values = malloc(count * sizeof *values);
    t->data = malloc(vd_tensor_bytes(t));
    d->drawn++;
    d->name[d->count++] = name;
    if (!name || !values || !t->data) {
        st = vd_fail(VD_ERR_MEMORY, "no name or no memory for a tensor");
        goto done;
    }
    vd_rng_normal_f32(&d->rng, values, count);
    const float divisor = (float)sqrt(fan);
    for (size_t i = 0; i < count; i++)
        values[i] = values[i] * (float)gain / divisor + (float)offset;
    vd_convert_values(t->data, d->dtype, values, VD_F32, count);
    vd_sha256_add(&d->sha, t->data, vd_tensor_bytes(t));
done:
    free(values);
    return st;
}

static vd_status draw_all(drawing *d) {
    vd_status st = VD_OK;
    const vd_json_value *root = vd_json_root(d->recipe), *list = vd_json_get(root, "tensors");
    const char *dtype = NULL, *wanted = NULL;
    int64_t seed = 0;
    uint8_t digest[VD_SHA256_BYTES];
    char hex[VD_SHA256_HEX_BYTES];
    VD_TRY(vd_json_int(d->recipe, root, "seed", 0, UINT32_MAX, 0, &seed));
    VD_TRY(vd_json_text(d->recipe, root, "dtype", "", &dtype));
    VD_TRY(vd_json_text(d->recipe, root, "sha256", "", &wanted));
    if (!vd_dtype_parse(dtype, &d->dtype) || !list || vd_json_size(list) > MAX_TENSORS) {
        st = vd_json_fail(d->recipe, root, "no dtype, or no list of at most %d tensors",
                          MAX_TENSORS);
        goto done;
    }
    vd_rng_seed(&d->rng, (uint64_t)seed);
    vd_sha256_begin(&d->sha);
    for (const vd_json_value *v = vd_json_first(list); v; v = vd_json_next(v))
        VD_TRY(draw(d, v));
    vd_sha256_end(&d->sha, digest);
    if (strcmp(vd_sha256_hex(digest, hex), wanted) != 0)
        st = vd_json_fail(d->recipe, root, "the weights drawn are not PyTorch's: SHA-256 %s", hex);
done:
    return st;
}

static vd_status add_rest(drawing *d) {
    for (size_t i = 0; d->rest && i < vd_checkpoint_count(d->rest); i++) {
        if (d->count == MAX_TENSORS)
            return vd_fail(VD_ERR_INPUT, "more than %d tensors", MAX_TENSORS);
        d->name[d->count] = vd_checkpoint_name(d->rest, i);
        vd_checkpoint_find(d->rest, d->name[d->count], &d->tensor[d->count]);
        d->count++;
    }
    return VD_OK;
}

int main(int argc, char **argv) {
    static drawing d;
    vd_status st = VD_OK;
    const char *file = NULL;
    char *recipe = NULL, *rest = NULL, *output = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: draw_golden FOLDER OUTPUT_FOLDER\n");
        return 2;
    }
    recipe = vd_format("%s/drawn.json", argv[1]);
    rest = vd_format("%s/rest.safetensors", argv[1]);
    if (!recipe || !rest) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a path");
        goto done;
    }
    VD_TRY(vd_json_read(recipe, "recipe of weights", &d.recipe));
    VD_TRY(vd_json_text(d.recipe, vd_json_root(d.recipe), "file", "model.safetensors", &file));
    if (access(rest, F_OK) == 0)
        VD_TRY(vd_checkpoint_open_file(rest, &d.rest));
    VD_TRY(draw_all(&d));
    VD_TRY(add_rest(&d));
    output = vd_format("%s/%s", argv[2], file);
    st = output ? vd_safetensors_write(output, d.name, d.tensor, d.count, NULL)
                : vd_fail(VD_ERR_MEMORY, "no memory for a path");
done:
    if (st != VD_OK)
        fprintf(stderr, "draw_golden: %s\n", vd_error_message());
    for (size_t i = 0; i < d.drawn; i++)
        free(d.tensor[i].data);
    vd_checkpoint_destroy(d.rest);
    vd_json_destroy(d.recipe);
    free(recipe);
    free(rest);
    free(output);
    return st == VD_OK ? 0 : 1;
}

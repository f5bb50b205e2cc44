/* Decoding in pieces: tiles against diffusers and ScaleCrafter, bands against the whole decode. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encode/vae_bands.h"
#include "tests/backend_name.h"
#include "tests/check.h"
#include "tests/golden.h"

typedef struct picture {
    float *values; /* [n, H, W, 3] */
    size_t count, peak_bytes;
} picture;

/* latents [n, h, w, 4], channels-last. */
static picture decode(vd_backend *be, vd_vae *vae, vd_dtype dtype, const vd_vae_tiling *tiling,
                      const float *latents, int64_t n, int64_t h, int64_t w) {
    picture out = {0};
    vd_exec *x = NULL;
    const int64_t scale = vd_vae_scale(vd_vae_get_config(vae));
    vd_tensor src = VD_VIEW(NULL, VD_F32, n, h, w, 4);
    vd_tensor dst = VD_VIEW(NULL, VD_F32, n, h * scale, w * scale, 3);
    CHECK_OK(vd_backend_alloc(be, vd_tensor_bytes(&src), &src.data));
    CHECK_OK(vd_backend_alloc(be, vd_tensor_bytes(&dst), &dst.data));
    CHECK_OK(vd_backend_upload(be, src.data, latents, vd_tensor_bytes(&src)));
    CHECK_OK(vd_exec_create(be, dtype, &x));
    for (int dry = 1; dry >= 0; dry--) {
        CHECK_OK(vd_vae_decode_tiled(vae, x, &dst, &src, tiling));
        if (dry)
            CHECK_OK(vd_exec_commit(x));
    }
    out.peak_bytes = vd_exec_peak_bytes(x);
    out.count = (size_t)vd_tensor_elements(&dst);
    out.values = malloc(out.count * sizeof *out.values);
    CHECK(out.values != NULL);
    CHECK_OK(vd_backend_download(be, out.values, dst.data, out.count * sizeof *out.values));
    vd_backend_free(be, src.data);
    vd_backend_free(be, dst.data);
    vd_exec_destroy(x);
    return out;
}

static float *transposed(const float *src, int64_t n, int64_t rows, int64_t columns) {
    float *dst = malloc((size_t)(n * rows * columns) * sizeof *dst);
    CHECK(dst != NULL);
    for (int64_t i = 0; i < n * rows * columns; i++) {
        const int64_t item = i / (rows * columns), r = i / columns % rows, c = i % columns;
        dst[(item * columns + c) * rows + r] = src[i];
    }
    return dst;
}

/* ---- golden --------------------------------------------------------------------------------- */

static void check_tiles(golden *g, golden_case *c, vd_backend *be) {
    char dir[512];
    vd_vae *vae = NULL;
    vd_tensor in;
    bool sync = vd_json_get(c->settings, "sync_group_norm") != NULL;
    float *planes = golden_input(c, "latent", VD_F32, NULL, &in);
    CHECK(golden_component(g, c->model, "vae", dir, sizeof dir) != NULL);
    CHECK_OK(vd_vae_open(be, dir, VD_VAE_DECODER, VD_F32, &vae));
    if (!vae || !planes)
        return;
    const vd_vae_tiling tiling =
        vd_vae_tiling_defaults(vd_vae_get_config(vae), sync ? VD_VAE_SYNC_TILES : VD_VAE_TILES);
    CHECK(tiling.tile_latents ==
          (int64_t)vd_json_number(vd_json_get(c->settings, "tile_latent_min_size")));
    CHECK(tiling.tile_px ==
          (int64_t)vd_json_number(vd_json_get(c->settings, "tile_sample_min_size")));
    float *rows = transposed(planes, in.dim[0], in.dim[1], in.dim[2] * in.dim[3]);
    picture p = decode(be, vae, VD_F32, &tiling, rows, in.dim[0], in.dim[2], in.dim[3]);
    float *image = transposed(p.values, in.dim[0], (int64_t)p.count / in.dim[0] / 3, 3);
    CHECK(golden_compare(c, "image", VD_F32, image, p.count, GOLDEN_F32));
    free(image);
    free(p.values);
    free(rows);
    free(planes);
    vd_vae_destroy(vae);
}

static void leave_out(golden_case *c) {
    const char *name;
    for (size_t i = 0; (name = golden_output_name(c, i)) != NULL; i++)
        golden_skip(c, name, "not tiled: test_vae, or test_cli_golden for the norm alone");
}

static int check_golden(vd_backend *be) {
    golden_case *c = NULL;
    int run = 0;
    golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    while ((c = golden_next(g, "vae", NULL)) != NULL) {
        if (!vd_json_get(c->settings, "tile_overlap_factor")) {
            leave_out(c);
            continue;
        }
        check_tiles(g, c, be);
        run++;
    }
    CHECK(golden_close(g) == 0);
    return run;
}

/* ---- exact ---------------------------------------------------------------------------------- */

static float *noise(size_t count) {
    float *values = malloc(count * sizeof *values);
    CHECK(values != NULL);
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525U + 1013904223U;
        values[i] = (float)(state >> 8) / 8388608.0F - 1; /* [-1, 1) */
    }
    return values;
}

/* bfloat16 rounds where the whole decode does, except that a sum in another order may fall on the
 * other side; a few such steps of 2^-8 may meet in a pixel. */
static double bound_of(vd_dtype dtype) {
    return dtype == VD_F32 ? 2e-5 : 0.1;
}

/* Returns the activations' peak. */
static size_t check_exact(vd_backend *be, vd_vae *vae, vd_dtype dtype, const picture *whole,
                          const float *latents, const int64_t *size, size_t memory_bytes) {
    const vd_vae_tiling tiling = {.mode = VD_VAE_EXACT, .memory_bytes = memory_bytes};
    picture p = decode(be, vae, dtype, &tiling, latents, size[0], size[1], size[2]);
    double worst = 0, square = 0;
    CHECK(p.count == whole->count);
    for (size_t i = 0; i < p.count; i++) {
        const double d = fabs((double)p.values[i] - (double)whole->values[i]);
        worst = d > worst || isnan(d) ? d : worst;
        square += d * d / (double)p.count;
    }
    CHECK_MSG(worst <= bound_of(dtype), "%lldx%lldx%lld in %zu bytes: off by %g",
              (long long)size[0], (long long)size[1], (long long)size[2], memory_bytes, worst);
    CHECK(sqrt(square) <= bound_of(dtype) / 10);
    free(p.values);
    return p.peak_bytes;
}

static void check_bands(vd_backend *be, const char *model, vd_dtype dtype) {
    /* Odd sides, rows that do and do not divide into bands, one that is lower than a halo. */
    static const int64_t sizes[][3] = {{1, 5, 7}, {2, 17, 12}, {1, 33, 9}, {1, 1, 3}};
    static const size_t memory[] = {0, 300 << 10, 1 << 20, 64 << 20};
    vd_vae *vae = NULL;
    CHECK_OK(vd_vae_open(be, model, VD_VAE_DECODER, dtype, &vae));
    if (!vae)
        return;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        const vd_vae_tiling all = {.mode = VD_VAE_WHOLE};
        float *latents = noise((size_t)(sizes[s][0] * sizes[s][1] * sizes[s][2] * 4));
        picture whole =
            decode(be, vae, dtype, &all, latents, sizes[s][0], sizes[s][1], sizes[s][2]);
        size_t least = SIZE_MAX;
        for (size_t m = 0; m < sizeof memory / sizeof memory[0]; m++) {
            const size_t peak = check_exact(be, vae, dtype, &whole, latents, sizes[s], memory[m]);
            least = peak < least ? peak : least;
        }
        /* Bands are eight rows at least, which in the small decoder of the bfloat16 run is much. */
        CHECK(sizes[s][1] < 16 || least * (dtype == VD_F32 ? 2 : 1) < whole.peak_bytes);
        free(whole.values);
        free(latents);
    }
    vd_vae_destroy(vae);
}

/* ---- the plan ------------------------------------------------------------------------------- */

/* The decoder of Stable Diffusion: 128, 256, 512, 512 channels, three resnets a block. */
static int large_units(vd_vae_unit *unit) {
    static const int64_t width[] = {512, 512, 256, 128};
    int count = 0;
    int64_t in = 512;
    unit[count++] = (vd_vae_unit){.kind = VD_VAE_RESNET, .in = in, .out = in};
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 3; j++, in = width[i])
            unit[count++] = (vd_vae_unit){.kind = VD_VAE_RESNET, .in = in, .out = width[i]};
        if (i < 3)
            unit[count++] = (vd_vae_unit){.kind = VD_VAE_UPSAMPLE, .in = in, .out = in};
    }
    unit[count++] = (vd_vae_unit){.kind = VD_VAE_OUTPUT, .in = in, .out = 3};
    return count;
}

static void check_plan(void) {
    static const vd_vae_resnet resnet;
    static const vd_norm_layer norm;
    vd_vae_unit unit[VD_VAE_MAX_UNITS];
    vd_band_segment segment[VD_VAE_MAX_UNITS];
    vd_band_chain chain = {
        .unit = unit, .h = 512, .w = 512, .value_bytes = 4, .ends_outside = true};
    chain.count = large_units(unit);
    for (int i = 0; i < chain.count; i++) {
        unit[i].resnet = unit[i].kind == VD_VAE_RESNET ? &resnet : NULL;
        unit[i].norm = unit[i].kind == VD_VAE_OUTPUT ? &norm : NULL;
    }
    /* Each unit once, in order, whatever the memory; more of it never means more segments kept
     * apart from their input. */
    for (size_t memory = 0; memory < (size_t)64 << 30; memory = memory * 4 + (1 << 28)) {
        const int count = vd_band_plan(&chain, memory, segment);
        int at = 0;
        for (int i = 0; i < count; i++) {
            CHECK(segment[i].first == at && segment[i].end > at && segment[i].rows > 0);
            at = segment[i].end;
        }
        CHECK(at == chain.count);
    }
    /* With all the memory nothing is computed twice but what upsampling makes for its norm. */
    const int count = vd_band_plan(&chain, (size_t)200 << 30, segment);
    for (int i = 0; i < count; i++)
        CHECK(segment[i].end == segment[i].first + 1);
}

/* Sizes of tiles that cannot be. */
static void check_refusals(vd_backend *be, const char *model) {
    vd_vae *vae = NULL;
    vd_exec *x = NULL;
    float latents[4 * 16 * 16] = {0};
    static float image[3 * 128 * 128];
    const vd_tensor src = VD_VIEW(latents, VD_F32, 1, 16, 16, 4);
    vd_tensor dst = VD_VIEW(image, VD_F32, 1, 128, 128, 3);
    CHECK_OK(vd_vae_open(be, model, VD_VAE_DECODER, VD_F32, &vae));
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    const vd_vae_tiling bad[] = {
        {.mode = VD_VAE_TILES, .tile_latents = 7, .tile_px = 56, .overlap = 0.25},
        {.mode = VD_VAE_TILES, .tile_latents = 8, .tile_px = 60, .overlap = 0.25},
        {.mode = VD_VAE_SYNC_TILES, .tile_latents = 8, .tile_px = 64, .overlap = 0.75},
        {.mode = VD_VAE_TILES, .tile_latents = 0, .tile_px = 0, .overlap = 0.25},
        {.mode = VD_VAE_TILES, .tile_latents = 8, .tile_px = 64, .overlap = NAN},
    };
    for (size_t i = 0; vae && i < sizeof bad / sizeof bad[0]; i++)
        CHECK(vd_vae_decode_tiled(vae, x, &dst, &src, &bad[i]) == VD_ERR_INPUT);
    vd_exec_destroy(x);
    vd_vae_destroy(vae);
}

int main(void) {
    static const char model[] = VD_BINARY_DIR "/golden/t2v-ms/vae";
    vd_backend *be = NULL;
    CHECK_OK(vd_backend_open(check_backend(), 2, &be));
    CHECK(check_golden(be) == 3);
    check_bands(be, model, VD_F32);
    if (vd_backend_has_dtype(be, VD_BF16))
        check_bands(be, VD_SOURCE_DIR "/models/shapes/vae", VD_BF16);
    check_plan();
    check_refusals(be, model);
    vd_backend_close(be);
    return CHECK_DONE();
}

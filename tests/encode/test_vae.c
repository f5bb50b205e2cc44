/* AutoencoderKL against diffusers: decode, encode, single modules, bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "encode/vae_impl.h"
#include "tests/backend_name.h"
#include "tests/check.h"
#include "tests/golden.h"

/* [n, c, h, w] <-> [n, h, w, c] on the host. */
static float *to_channels_last(const float *src, int64_t n, int64_t c, int64_t pixels) {
    float *dst = malloc((size_t)(n * c * pixels) * sizeof *dst);
    CHECK(dst != NULL);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < pixels; p++)
                dst[(i * pixels + p) * c + k] = src[(i * c + k) * pixels + p];
    return dst;
}

static float *to_planes(const float *src, int64_t n, int64_t c, int64_t pixels) {
    return to_channels_last(src, n, pixels, c);
}

static void check_whole(golden *g, golden_case *c, vd_backend *be, vd_dtype dtype) {
    char dir[512];
    vd_vae *vae = NULL;
    vd_exec *x = NULL;
    vd_tensor in, src, dst;
    golden_bound bound = dtype == VD_F32 ? GOLDEN_F32 : GOLDEN_BF16;
    bool decode = golden_has_input(c, "latent");
    float *planes = golden_input(c, decode ? "latent" : "image", VD_F32, NULL, &in);
    CHECK(golden_component(g, c->model, "vae", dir, sizeof dir) != NULL);
    CHECK_OK(vd_vae_open(be, dir, VD_VAE_BOTH, dtype, &vae));
    if (!vae || !planes)
        return;
    int64_t scale = vd_vae_scale(vd_vae_get_config(vae)), n = in.dim[0];
    int64_t h = decode ? in.dim[2] * scale : in.dim[2] / scale;
    int64_t w = decode ? in.dim[3] * scale : in.dim[3] / scale;
    int64_t channels = decode ? 3 : 2 * vd_vae_get_config(vae)->latent_channels;
    src = VD_VIEW(NULL, VD_F32, n, in.dim[2], in.dim[3], in.dim[1]);
    dst = VD_VIEW(NULL, VD_F32, n, h, w, channels);
    float *rows = to_channels_last(planes, n, in.dim[1], in.dim[2] * in.dim[3]);
    CHECK_OK(vd_backend_alloc(be, vd_tensor_bytes(&src), &src.data));
    CHECK_OK(vd_backend_alloc(be, vd_tensor_bytes(&dst), &dst.data));
    CHECK_OK(vd_backend_upload(be, src.data, rows, vd_tensor_bytes(&src)));
    CHECK_OK(vd_exec_create(be, dtype, &x));
    for (int dry = 1; dry >= 0; dry--) {
        CHECK_OK(decode ? vd_vae_decode(vae, x, &dst, &src) : vd_vae_encode(vae, x, &dst, &src));
        if (dry)
            CHECK_OK(vd_exec_commit(x));
    }
    size_t count = (size_t)vd_tensor_elements(&dst);
    float *out = malloc(count * sizeof *out);
    CHECK(out != NULL);
    CHECK_OK(vd_backend_download(be, out, dst.data, count * sizeof *out));
    if (decode) {
        float *image = to_planes(out, n, channels, h * w);
        CHECK(golden_compare(c, "image", VD_F32, image, count, bound));
        free(image);
    } else {
        float *moments = to_planes(out, n, channels, h * w);
        /* Cases have one picture, so the mean is the first half. */
        CHECK(n == 1);
        for (size_t i = count / 2; i < count; i++)
            moments[i] = fminf(fmaxf(moments[i], -30), 20);
        CHECK(golden_compare(c, "mean", VD_F32, moments, count / 2, bound));
        CHECK(golden_compare(c, "logvar", VD_F32, moments + count / 2, count / 2, bound));
        free(moments);
    }
    free(out);
    free(rows);
    free(planes);
    vd_backend_free(be, src.data);
    vd_backend_free(be, dst.data);
    vd_exec_destroy(x);
    vd_vae_destroy(vae);
}

static const void *find_module(const vd_vae *vae, const char *module, bool *resnet) {
    int block, index;
    if (sscanf(module, "vae:decoder.up_blocks.%d.resnets.%d", &block, &index) == 2 &&
        block < vae->config.levels && index < vae->decoder.block[block].resnets) {
        *resnet = true;
        return &vae->decoder.block[block].resnet[index];
    }
    *resnet = false;
    return strcmp(module, "vae:decoder.mid_block.attentions.0") == 0 ? &vae->decoder.mid_attention
                                                                     : NULL;
}

static void check_module(golden *g, golden_case *c, vd_backend *be) {
    char dir[512];
    vd_vae *vae = NULL;
    vd_exec *x = NULL;
    vd_tensor in, device;
    bool resnet = false;
    float *planes = golden_input(c, "x", VD_F32, NULL, &in);
    CHECK(golden_component(g, c->model, "vae", dir, sizeof dir) != NULL);
    CHECK_OK(vd_vae_open(be, dir, VD_VAE_DECODER, VD_F32, &vae));
    if (!vae || !planes)
        return;
    const void *module = find_module(vae, c->module, &resnet);
    CHECK_MSG(module != NULL, "%s", c->module);
    int64_t pixels = in.dim[2] * in.dim[3];
    float *rows = to_channels_last(planes, in.dim[0], in.dim[1], pixels), *out = NULL;
    size_t count = 0;
    CHECK_OK(vd_exec_create(be, VD_F32, &x));
    for (int dry = 1; module && dry >= 0; dry--) {
        CHECK_OK(VD_ALLOC(x, VD_F32, &device, in.dim[0], in.dim[2], in.dim[3], in.dim[1]));
        if (!dry)
            CHECK_OK(vd_backend_upload(be, device.data, rows, vd_tensor_bytes(&device)));
        CHECK_OK(resnet ? vd_vae_resnet_forward(x, module, &device)
                        : vd_vae_attention_forward(x, module, &device, NULL));
        count = (size_t)vd_tensor_elements(&device);
        if (!dry) {
            out = malloc(count * sizeof *out);
            CHECK_OK(vd_backend_download(be, out, device.data, count * sizeof *out));
        }
        int64_t channels = device.dim[3];
        vd_exec_free(x, &device);
        if (dry) {
            CHECK_OK(vd_exec_commit(x));
            continue;
        }
        float *y = to_planes(out, in.dim[0], channels, pixels);
        CHECK(golden_compare(c, "y", VD_F32, y, count, GOLDEN_F32));
        free(y);
    }
    free(out);
    free(rows);
    free(planes);
    vd_exec_destroy(x);
    vd_vae_destroy(vae);
}

static void check_bytes(golden_case *c) {
    size_t count = 0;
    float *image = golden_input(c, "image", VD_F32, &count, NULL);
    unsigned char *bytes = malloc(count + 1);
    CHECK(image && bytes);
    vd_vae_to_bytes(bytes, image, count);
    CHECK(golden_compare(c, "round", VD_U8, bytes, count, GOLDEN_F32));
    golden_skip(c, "truncate", "what export_to_video does; this program rounds");
    free(bytes);
    free(image);
    const float odd[] = {NAN, INFINITY, -INFINITY, 1e30F};
    unsigned char out[4];
    vd_vae_to_bytes(out, odd, 4);
    CHECK(out[0] == 0 && out[1] == 255 && out[2] == 0 && out[3] == 255);
}

static void skip_all(golden_case *c, const char *why) {
    const char *name;
    for (size_t i = 0; (name = golden_output_name(c, i)) != NULL; i++)
        golden_skip(c, name, why);
}

int main(void) {
    vd_backend *be = NULL;
    golden_case *c = NULL;
    CHECK_OK(vd_backend_open(check_backend(), 2, &be));
    golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    while ((c = golden_next(g, "vae", NULL)) != NULL) {
        if (strcmp(c->module, "postprocess") == 0)
            check_bytes(c);
        else if (c->model[0] != '\0' && !vd_json_get(c->settings, "tile_overlap_factor")) {
            check_whole(g, c, be, VD_F32);
            if (golden_has_input(c, "latent") && vd_backend_has_dtype(be, VD_BF16))
                check_whole(g, c, be, VD_BF16);
        } else
            skip_all(c, "in test_vae_tiled");
    }
    CHECK(golden_close(g) == 0);
    g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    while ((c = golden_next(g, "module", "t2v-ms")) != NULL) {
        if (strncmp(c->module, "vae:", 4) == 0)
            check_module(g, c, be);
        else
            skip_all(c, "not of the autoencoder");
    }
    CHECK(golden_close(g) == 0);
    vd_backend_close(be);
    return CHECK_DONE();
}

/* Plans of the real cuDNN, without a GPU: every kind of convolution and attention that the networks
 * have must find one for an H100 (and be restored from its text), or the backend would fall back to
 * its own slower kernels there. Nothing is run. */
#include <stdlib.h>

#include "backend/cuda/dnn.h"
#include "tests/check.h"

/* cuDNN's description of a device; figures of an H100 SXM. */
static const char h100[] =
    "{\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64],"
    " \"regsPerBlock\": 65536, \"multiProcessorCount\": 132, \"smClockRateKHz\": 1980000,"
    " \"memClockRateKHz\": 2619000, \"l2CacheSize\": 52428800, \"warpSize\": 32,"
    " \"maxSharedMemoryPerBlock\": 49152, \"maxSharedMemoryPerBlockOptin\": 232448,"
    " \"reservedSharedMemoryPerBlock\": 1024, \"maxRegistersPerSM\": 65536, \"pciDeviceId\": 0,"
    " \"maxCtasPerSM\": 32, \"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": 2048,"
    " \"isTccDriver\": 0, \"supportCoopLaunch\": 1, \"deviceVer\": 900, \"driverVer\": 13000,"
    " \"cudaDeviceId\": 0, \"totalGlobalMem\": 85000000000, \"cudartVer\": 13000,"
    " \"deviceName\": \"NVIDIA H100 80GB HBM3\", \"cudnnVersion\": 91900, \"schemaVersion\": 1}";

static vd_dnn_conv dense(int64_t in, int64_t out, int64_t side) {
    return (vd_dnn_conv){.n = 32,
                         .in = in,
                         .out = out,
                         .src_h = side,
                         .src_w = side,
                         .dst_h = side,
                         .dst_w = side,
                         .kernel_h = 3,
                         .kernel_w = 3,
                         .stride_h = 1,
                         .stride_w = 1,
                         .dilation_h = 1,
                         .dilation_w = 1,
                         .pad_top = 1,
                         .pad_left = 1,
                         .dtype = VD_BF16,
                         .dst_dtype = VD_BF16,
                         .bias_rows = 1};
}

static void check_conv(vd_dnn *d, const char *what, const vd_dnn_conv *key) {
    vd_dnn_graph *g, *again;
    char *text = NULL;
    size_t bytes;
    CHECK_OK(vd_dnn_plan_conv(d, key, 1, &g));
    CHECK_MSG(g != NULL, "%s: no plan", what);
    if (g == NULL)
        return;
    CHECK_OK(vd_dnn_save(g, 0, &text, &bytes));
    CHECK_OK(vd_dnn_restore_conv(d, key, text, bytes, &again));
    CHECK_MSG(again != NULL && vd_dnn_workspace_bytes(again, 0) == vd_dnn_workspace_bytes(g, 0),
              "%s: not restored", what);
    vd_dnn_graph_destroy(g);
    vd_dnn_graph_destroy(again);
    free(text);
}

static void test_convs(vd_dnn *d) {
    vd_dnn_conv c = dense(320, 320, 64);
    check_conv(d, "dense", &c);
    c.bias_rows = c.n;
    c.residual = true;
    check_conv(d, "a bias for each image, residual", &c);
    c.dilation_h = c.dilation_w = 2;
    c.pad_top = c.pad_left = 2;
    check_conv(d, "dilated", &c);
    c = dense(640, 640, 64);
    c.stride_h = c.stride_w = 2;
    c.dst_h = c.dst_w = 32;
    check_conv(d, "stride 2", &c);
    c.pad_top = c.pad_left = 0;
    check_conv(d, "stride 2, padded behind only", &c);
    c = dense(320, 320, 64);
    c.n = 2;
    c.src_h = c.dst_h = 16;
    c.src_w = c.dst_w = 4096;
    c.kernel_w = 1;
    c.pad_left = 0;
    c.residual = true;
    check_conv(d, "temporal", &c);
    c = dense(320, 4, 64);
    c.dst_dtype = VD_F32;
    check_conv(d, "the last layer", &c);
    c = dense(1280, 640, 16);
    c.dtype = c.dst_dtype = VD_F16;
    check_conv(d, "f16", &c);
    c = dense(320, 320, 33);
    c.n = 128;
    c.dst_h = c.dst_w = 31;
    c.pad_top = c.pad_left = 0;
    c.bias_rows = 0;
    c.dst_dtype = VD_F32;
    check_conv(d, "phases", &c);
}

static void check_attention(vd_dnn *d, const char *what, int64_t heads, int64_t dim, int64_t tokens,
                            int64_t keys) {
    const int64_t width = heads * dim, row = keys == tokens ? 3 * width : width;
    const vd_dnn_attention key = {.batch = 32,
                                  .heads = heads,
                                  .head_dim = dim,
                                  .q_tokens = tokens,
                                  .kv_tokens = keys,
                                  .q_batch = tokens * row,
                                  .q_token = row,
                                  .k_batch = keys * (row == width ? 2 * width : row),
                                  .k_token = row == width ? 2 * width : row,
                                  .v_batch = keys * (row == width ? 2 * width : row),
                                  .v_token = row == width ? 2 * width : row,
                                  .out_batch = tokens * width,
                                  .out_token = width,
                                  .scale = 0.125F,
                                  .dtype = VD_BF16};
    vd_dnn_graph *g;
    CHECK_OK(vd_dnn_plan_attention(d, &key, &g));
    CHECK_MSG(g != NULL, "%s: no plan", what);
    vd_dnn_graph_destroy(g);
}

int main(void) {
    enum { SKIPPED = 77 };
    vd_dnn *d;
    if (vd_dnn_version() < VD_DNN_OLDEST_ATTENTION) {
        printf("skipped: cuDNN %zu; 9.13.1 plans attention in one operation\n", vd_dnn_version());
        return SKIPPED;
    }
    CHECK_OK(vd_dnn_create_without_device(h100, &d));
    if (d == NULL)
        return CHECK_DONE();
    test_convs(d);
    check_attention(d, "spatial", 5, 64, 4096, 4096);
    check_attention(d, "of the text", 5, 64, 4096, 77);
    check_attention(d, "heads of 40", 8, 40, 4096, 4096);
    check_attention(d, "heads of 160", 8, 160, 256, 256);
    check_attention(d, "the decoder's", 1, 512, 4096, 4096);
    vd_dnn_destroy(d);
    return CHECK_DONE();
}

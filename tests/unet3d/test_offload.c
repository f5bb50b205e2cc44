/* Weights that stay on the host: the same bits as with weights on the device, in less of its
 * memory; and networks that come and go. */
#include "tests/backend_name.h"
#include "tests/unet3d/inputs.h"

static const char dir[] = VD_BINARY_DIR "/golden/t2v-ms/unet";

static bool open_on(vd_backend *be, bool offload, unet_run *run) {
    *run = (unet_run){.be = be};
    if (offload)
        CHECK_OK(vd_backend_set_offload(be, true));
    CHECK_OK(vd_unet_open(be, dir, VD_F32, &run->u));
    if (offload)
        CHECK_OK(vd_backend_set_offload(be, false));
    CHECK_OK(vd_exec_create(be, VD_F32, &run->x));
    return run->u != NULL && run->x != NULL;
}

static void close_network(unet_run *run) {
    vd_exec_destroy(run->x);
    vd_unet_destroy(run->u);
}

static void check_same(unet_run *run, const inputs *in, const float *expected) {
    float *y = predict(run, in, NULL);
    CHECK(y != NULL && memcmp(y, expected, prediction_size(in) * sizeof *y) == 0);
    free(y);
}

/* Two networks take turns, so that what was learned of the order of weights is wrong. */
static void test_turns(vd_backend *be, const inputs *in, const float *expected) {
    unet_run one = {0}, other = {0};
    if (open_on(be, true, &one) && open_on(be, true, &other)) {
        check_same(&one, in, expected);
        check_same(&other, in, expected);
        check_same(&one, in, expected);
    }
    close_network(&other);
    check_same(&one, in, expected);
    close_network(&one);
}

static void test_device(vd_backend *be, const golden_case *c, const inputs *in) {
    unet_run run;
    float *expected = NULL;
    size_t whole = 0;
    if (open_on(be, false, &run)) {
        expected = predict(&run, in, NULL);
        whole = vd_backend_weight_bytes(be);
        CHECK(!vd_backend_offloads(be) && vd_backend_offloaded_bytes(be) == 0);
    }
    close_network(&run);
    if (expected == NULL)
        return;
    CHECK(golden_compare(c, "sample", VD_F32, expected, prediction_size(in), GOLDEN_F32));
    size_t left_before, left_after, total;
    CHECK(vd_backend_memory(be, &left_before, &total));
    if (open_on(be, true, &run)) {
        check_same(&run, in, expected);
        check_same(&run, in, expected);
        CHECK(vd_backend_offloads(be));
        const size_t there = vd_backend_weight_bytes(be), away = vd_backend_offloaded_bytes(be);
        printf("%zu bytes of weights: %zu on the host, %zu on the device\n", whole, away, there);
        CHECK(away > 0 && there < whole / 2);
        CHECK(vd_backend_memory(be, &left_after, &total) && left_after <= left_before);
    }
    close_network(&run);
    CHECK(vd_backend_weight_bytes(be) == 0 && vd_backend_offloaded_bytes(be) == 0);
    CHECK(!vd_backend_offloads(be));
    test_turns(be, in, expected);
    free(expected);
}

int main(void) {
    vd_backend *be = NULL;
    const char *name = check_backend();
    golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    golden_case *c = golden_next(g, "unet", "t2v-ms");
    inputs in = {0};
    CHECK_OK(vd_backend_open(name, 0, &be));
    if (be != NULL && vd_backend_on_host(be)) {
        CHECK_FAILS(vd_backend_set_offload(be, true), VD_ERR_USAGE, "leave the option out");
        CHECK(!vd_backend_offloads(be));
        golden_skip(c, "sample", "test_forward compares it");
    } else if (be != NULL && c != NULL && inputs_read(c, &in)) {
        test_device(be, c, &in);
    }
    inputs_free(&in);
    vd_backend_close(be);
    CHECK(golden_close(g) == 0);
    return CHECK_DONE();
}

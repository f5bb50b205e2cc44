#include <stdlib.h>

#include "tests/check.h"
#include "tests/golden.h"
#include "video/guidance.h"

static void test_golden(void) {
    golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
    golden_case *c;
    while ((c = golden_next(g, "guidance", NULL)) != NULL) {
        size_t count = 0;
        vd_tensor shape = {0};
        float *u = golden_input(c, "strong_uncond", VD_F32, &count, &shape);
        float *t = golden_input(c, "strong_text", VD_F32, NULL, NULL);
        float *b = golden_input(c, "base_uncond", VD_F32, NULL, NULL);
        float *eps = malloc((count + 1) * sizeof *eps);
        double w = 0;
        double phi = 0;
        CHECK_OK(vd_json_double(c->doc, c->settings, "guidance_scale", 0, 100, 0, &w));
        CHECK_OK(vd_json_double(c->doc, c->settings, "guidance_rescale", 0, 1, 0, &phi));
        CHECK(u != NULL && t != NULL && b != NULL && eps != NULL);
        if (u == NULL || t == NULL || b == NULL || eps == NULL)
            exit(CHECK_DONE());
        size_t batch = (size_t)shape.dim[0];

        vd_guidance_mix(eps, u, u, t, w, count);
        CHECK(golden_compare(c, "cfg", VD_F32, eps, count, GOLDEN_F32));
        CHECK_OK(vd_guidance_rescale(eps, t, phi, batch, count / batch));
        CHECK(golden_compare(c, "cfg_rescaled", VD_F32, eps, count, GOLDEN_F32));

        /* In place in the prediction that the sampler no longer needs. */
        vd_guidance_mix(b, b, u, t, w, count);
        CHECK(golden_compare(c, "ndcfg", VD_F32, b, count, GOLDEN_F32));
        CHECK_OK(vd_guidance_rescale(b, t, phi, batch, count / batch));
        CHECK(golden_compare(c, "ndcfg_rescaled", VD_F32, b, count, GOLDEN_F32));
        free(u);
        free(t);
        free(b);
        free(eps);
    }
    CHECK(golden_close(g) == 0);
}

static void test_limits(void) {
    float eps[4] = {3, 3, 1, 2};
    const float text[4] = {0, 1, 4, 4};
    CHECK_FAILS(vd_guidance_rescale(eps, text, NAN, 2, 2), VD_ERR_USAGE, "0 to 1");
    CHECK_FAILS(vd_guidance_rescale(eps, text, 1.5, 2, 2), VD_ERR_USAGE, "0 to 1");
    CHECK_FAILS(vd_guidance_rescale(eps, text, 1, 4, 1), VD_ERR_USAGE, "2 values");
    CHECK_OK(vd_guidance_rescale(eps, text, 1, 2, 2));
    CHECK(eps[0] == 3 && eps[1] == 3); /* no deviation to divide by: left alone */
    CHECK(eps[2] == 0 && eps[3] == 0); /* the text's deviation is 0 */
}

int main(void) {
    test_golden();
    test_limits();
    return CHECK_DONE();
}

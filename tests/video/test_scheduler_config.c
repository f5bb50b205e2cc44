/* scheduler_config.json: defaults, another class over a file's keys, refusals. */
#include <stdlib.h>

#include "tests/check.h"
#include "video/scheduler.h"

static vd_status parse(const char *json, const char *name, vd_scheduler_config *out) {
    vd_json *doc = NULL;
    vd_status st = vd_json_parse(json, strlen(json), "bad.json", &doc);
    if (st == VD_OK)
        st = vd_scheduler_config_from_json(doc, vd_json_root(doc), name, out);
    vd_json_destroy(doc);
    return st;
}

static void test_defaults(void) {
    vd_scheduler_config c = {0};
    CHECK_OK(parse("{\"_class_name\": \"DDIMScheduler\"}", NULL, &c));
    CHECK(c.class_id == VD_SCHEDULER_DDIM && c.train_steps == 1000 && c.beta_start == 0.0001 &&
          c.beta_end == 0.02 && c.beta_schedule == VD_BETAS_LINEAR);
    CHECK(c.clip_sample && c.clip_sample_range == 1 && c.set_alpha_to_one && c.steps_offset == 0);
    CHECK(c.spacing == VD_SPACING_LEADING && c.prediction == VD_PREDICT_EPSILON);
    CHECK_OK(parse("{\"class_name\": \"PNDMScheduler\"}", NULL, &c));
    CHECK(!c.skip_prk_steps && !c.set_alpha_to_one && c.spacing == VD_SPACING_LEADING);
    CHECK_OK(parse("{}", "LCMScheduler", &c));
    CHECK(c.beta_schedule == VD_BETAS_SCALED_LINEAR && c.beta_start == 0.00085 &&
          c.beta_end == 0.012 && c.original_inference_steps == 50 && c.timestep_scaling == 10 &&
          !c.clip_sample);
    CHECK_OK(parse("{}", "dpmpp2m", &c));
    CHECK(c.solver_order == 2 && c.solver_type == VD_SOLVER_MIDPOINT && c.lower_order_final &&
          !c.final_sigma_min && !c.use_karras_sigmas && c.spacing == VD_SPACING_LINSPACE);
    CHECK_OK(parse("{}", "dpmpp2m-karras", &c));
    CHECK(c.class_id == VD_SCHEDULER_DPMPP && c.use_karras_sigmas);
    CHECK_OK(parse("{}", "euler-karras", &c));
    CHECK(c.class_id == VD_SCHEDULER_EULER && c.use_karras_sigmas);
    CHECK_OK(parse("{\"use_karras_sigmas\": true}", "euler-a", &c));
    CHECK(c.class_id == VD_SCHEDULER_EULER_A && !c.use_karras_sigmas); /* it has no such key */
    CHECK_OK(parse("{}", "unipc", &c));
    CHECK(c.solver_type == VD_SOLVER_BH2 && c.lower_order_final);
}

/* Another class takes the keys that are there, and its own defaults for the rest. */
static void test_other_class(void) {
    const char *file = "{\"_class_name\": \"DDIMScheduler\", \"beta_start\": 0.00085, "
                       "\"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", "
                       "\"clip_sample\": false, \"steps_offset\": 1, \"trained_betas\": null, "
                       "\"prediction_type\": \"v_prediction\", \"some_other_key\": [1, {}]}";
    vd_scheduler_config c = {0};
    CHECK_OK(parse(file, "dpmpp2m", &c));
    CHECK(c.class_id == VD_SCHEDULER_DPMPP && c.beta_schedule == VD_BETAS_SCALED_LINEAR);
    CHECK(c.steps_offset == 1 && c.prediction == VD_PREDICT_V);
    CHECK(c.spacing == VD_SPACING_LINSPACE); /* not DDIM's implied leading */
    CHECK_OK(parse("{\"solver_type\": \"bh2\"}", "dpmpp2m", &c));
    CHECK(c.solver_type == VD_SOLVER_MIDPOINT);
    CHECK_OK(parse("{\"solver_type\": \"heun\"}", "unipc", &c));
    CHECK(c.solver_type == VD_SOLVER_BH2);
    /* What only the file's own class would act on does not matter to another. */
    CHECK_OK(
        parse("{\"algorithm_type\": \"sde-dpmsolver++\", \"use_lu_lambdas\": true}", "ddim", &c));
    CHECK_OK(parse("{\"thresholding\": true}", "euler", &c));
    CHECK_OK(parse("{\"lambda_min_clipped\": -Infinity, \"variance_type\": null, "
                   "\"use_beta_sigmas\": false, \"disable_corrector\": []}",
                   "dpmpp2m", &c));
}

static void test_trained_betas(void) {
    vd_scheduler_config c = {0};
    CHECK_OK(
        parse("{\"num_train_timesteps\": 3, \"trained_betas\": [0.1, 0.25, 0.5]}", "ddim", &c));
    float alphas[3];
    CHECK_OK(vd_scheduler_alphas_cumprod(&c, alphas));
    CHECK(fabsf(alphas[0] - 0.9F) < 1e-6F && fabsf(alphas[1] - 0.675F) < 1e-6F &&
          fabsf(alphas[2] - 0.3375F) < 1e-6F);
    vd_scheduler_config_clear(&c);
    vd_scheduler_config_clear(&c);
}

static void test_refusals(void) {
    /* Each is refused by this scheduler; the message names the file, the key and what it can be. */
    static const struct {
        const char *name;
        const char *json;
        const char *says;
    } rows[] = {
        {NULL, "{}", "_class_name"},
        {NULL, "[]", "object"},
        {NULL, "{\"_class_name\": 3}", "$._class_name"},
        {NULL, "{\"_class_name\": \"HeunDiscreteScheduler\"}", "HeunDiscreteScheduler"},
        {NULL, "{\"_class_name\": \"\\u001b[31m\"}", "$._class_name"},
        {"ddim", "{\"num_train_timesteps\": 1000000000}", "$.num_train_timesteps"},
        {"ddim", "{\"num_train_timesteps\": 0}", "$.num_train_timesteps"},
        {"ddim", "{\"num_train_timesteps\": 1}", "$.num_train_timesteps"},
        {"ddim", "{\"num_train_timesteps\": -1000}", "$.num_train_timesteps"},
        {"ddim", "{\"num_train_timesteps\": 99.5}", "$.num_train_timesteps"},
        {"ddim", "{\"num_train_timesteps\": \"1000\"}", "$.num_train_timesteps"},
        {"ddim", "{\"beta_start\": NaN}", "$.beta_start"},
        {"ddim", "{\"beta_start\": -0.1}", "$.beta_start"},
        {"ddim", "{\"beta_start\": 0}", "$.beta_start"},
        {"ddim", "{\"beta_end\": 1}", "$.beta_end"},
        {"ddim", "{\"beta_end\": Infinity}", "$.beta_end"},
        {"ddim", "{\"beta_schedule\": \"sigmoid\"}", "squaredcos_cap_v2"},
        {"ddim", "{\"trained_betas\": [0.1, 0.2]}", "1000 numbers"},
        {"ddim", "{\"trained_betas\": 0.1}", "1000 numbers"},
        {"ddim", "{\"num_train_timesteps\": 2, \"trained_betas\": [0.1, NaN]}",
         "$.trained_betas[1]"},
        {"ddim", "{\"num_train_timesteps\": 2, \"trained_betas\": [0.1, \"x\"]}",
         "$.trained_betas[1]"},
        {"ddim", "{\"steps_offset\": 1000000}", "$.steps_offset"},
        {"ddim", "{\"steps_offset\": -1}", "$.steps_offset"},
        {"ddim", "{\"prediction_type\": \"flow_prediction\"}", "$.prediction_type"},
        {"euler-a", "{\"prediction_type\": \"sample\"}", "epsilon, v_prediction"},
        {"pndm", "{\"prediction_type\": \"sample\"}", "epsilon, v_prediction"},
        {"ddim", "{\"timestep_spacing\": \"linear\"}", "leading, linspace, trailing"},
        {"ddim", "{\"thresholding\": true}", "$.thresholding"},
        {"lcm", "{\"thresholding\": true}", "$.thresholding"},
        {"ddim", "{\"clip_sample\": \"no\"}", "$.clip_sample"},
        {"ddim", "{\"clip_sample_range\": 0}", "$.clip_sample_range"},
        {"ddim", "{\"clip_sample_range\": -1}", "$.clip_sample_range"},
        {"dpmpp2m", "{\"algorithm_type\": \"dpmsolver\"}", "dpmsolver++"},
        {"dpmpp2m", "{\"algorithm_type\": \"sde-dpmsolver++\"}", "$.algorithm_type"},
        {"dpmpp2m", "{\"algorithm_type\": 7}", "$.algorithm_type"},
        {"dpmpp2m", "{\"solver_order\": 4}", "$.solver_order"},
        {"dpmpp2m", "{\"solver_order\": 0}", "$.solver_order"},
        {"dpmpp2m", "{\"solver_type\": \"rk4\"}", "$.solver_type"},
        {"dpmpp2m", "{\"use_lu_lambdas\": true}", "$.use_lu_lambdas"},
        {"dpmpp2m", "{\"use_exponential_sigmas\": true}", "$.use_exponential_sigmas"},
        {"euler", "{\"use_exponential_sigmas\": true}", "$.use_exponential_sigmas"},
        {"unipc", "{\"use_beta_sigmas\": true}", "$.use_beta_sigmas"},
        {"unipc", "{\"use_flow_sigmas\": true}", "$.use_flow_sigmas"},
        {"unipc", "{\"predict_x0\": false}", "$.predict_x0"},
        {"unipc", "{\"disable_corrector\": [0]}", "$.disable_corrector"},
        {"unipc", "{\"solver_p\": {}}", "$.solver_p"},
        {"dpmpp2m", "{\"lambda_min_clipped\": -5.1}", "$.lambda_min_clipped"},
        {"dpmpp2m", "{\"variance_type\": \"learned\"}", "$.variance_type"},
        {"dpmpp2m", "{\"final_sigmas_type\": \"last\"}", "zero, sigma_min"},
        {"euler", "{\"interpolation_type\": \"log_linear\"}", "$.interpolation_type"},
        {"euler", "{\"timestep_type\": \"continuous\"}", "$.timestep_type"},
        {"euler", "{\"sigma_max\": -1}", "$.sigma_max"},
        {"lcm", "{\"original_inference_steps\": 1001}", "$.original_inference_steps"},
        {"lcm", "{\"timestep_scaling\": 0}", "$.timestep_scaling"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vd_scheduler_config c = {0};
        CHECK_FAILS(parse(rows[i].json, rows[i].name, &c), VD_ERR_INPUT, rows[i].says);
        CHECK_MSG(strstr(vd_error_message(), "bad.json") != NULL, "%s", vd_error_message());
        CHECK_MSG(strchr(vd_error_message(), '\n') == NULL &&
                      strchr(vd_error_message(), 27) == NULL,
                  "row %zu is not one plain line", i);
        CHECK(c.trained_betas == NULL);
    }
    vd_scheduler_config c = {0};
    CHECK_FAILS(parse("{}", "dpmp2m", &c), VD_ERR_USAGE, "did you mean dpmpp2m");
    CHECK_FAILS(parse("{}", "", &c), VD_ERR_USAGE, "unknown");
    CHECK_FAILS(parse("{}", "euler-a-karras", &c), VD_ERR_USAGE, "unknown");
    CHECK_FAILS(vd_scheduler_config_read("/nonexistent/s.json", NULL, &c), VD_ERR_INPUT,
                "/nonexistent/s.json");
}

/* The file that ships. */
static void test_shipped(void) {
    vd_scheduler_config c = {0};
    CHECK_OK(vd_scheduler_config_read(
        VD_SOURCE_DIR "/models/shapes/scheduler/scheduler_config.json", NULL, &c));
    CHECK(c.class_id == VD_SCHEDULER_DDIM && c.prediction == VD_PREDICT_V && c.steps_offset == 1);
    vd_scheduler_config_clear(&c);
}

int main(void) {
    test_defaults();
    test_other_class();
    test_trained_betas();
    test_refusals();
    test_shipped();
    return CHECK_DONE();
}

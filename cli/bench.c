#include "cli/bench.h"

#include <stdlib.h>

#include "cli/cli.h"

int cli_bench(int argc, char **argv) {
    static const char *const backends[] = {"auto", "cpu", "cuda", NULL};
    static const char *const dtypes[] = {"auto", "f32", "bf16", "f16", NULL};
    vd_status st = VD_OK;
    bool done_early = false;
    char *shipped = NULL;
    bench_result result = {0};
    bench_args a = {.backend = "auto", .dtype = "auto", .steps = 3};
    const cli_option options[] = {
        {"model", 0, CLI_TEXT, &a.model, "DIR",
         "model folder; unet/ is enough (the model that ships)", NULL, NULL},
        {"frames", 0, CLI_INT, &a.frames, "N", "number of frames (the model's own)", NULL,
         &a.has.frames},
        {"width", 0, CLI_INT, &a.width, "PX", "width (the model's own)", NULL, &a.has.width},
        {"height", 0, CLI_INT, &a.height, "PX", "height (the model's own)", NULL, &a.has.height},
        {"steps", 0, CLI_INT, &a.steps, "K", "how often each thing is timed (3)", NULL, NULL},
        {"settings", 0, CLI_TEXT, &a.settings, "FILE",
         "the method's settings, as render takes them; the first step is timed", NULL, NULL},
        {"backend", 0, CLI_CHOICE, &a.backend, "NAME", "auto, cpu or cuda (auto)", backends, NULL},
        {"dtype", 0, CLI_CHOICE, &a.dtype, "TYPE", "auto, f32, bf16 or f16 (auto: the fastest)",
         dtypes, NULL},
        {"threads", 0, CLI_INT, &a.threads, "N", "CPU threads (one per core)", NULL, NULL},
        {"offload", 0, CLI_FLAG, &a.offload, NULL,
         "weights stay in the host's memory and come to the device layer by layer", NULL, NULL},
        {"json", 0, CLI_FLAG, &a.json, NULL, "print one JSON object", NULL, NULL},
    };
    cli_command command = {.name = "bench",
                           .usage = "[options]",
                           .summary = "Times one guided denoising step (both branches) of a "
                                      "model's UNet on random inputs, op by op,\nand one forward "
                                      "(one branch), beside the best matrix product that this "
                                      "machine does.",
                           .options = options,
                           .option_count = sizeof options / sizeof options[0]};
    VD_TRY(cli_parse(&command, argc, argv, &done_early));
    if (done_early)
        goto done;
    if (!a.model) {
        VD_TRY(cli_shipped_model(&shipped));
        a.model = shipped;
    }
    VD_TRY(bench_run(&a, &result));
    if (a.json)
        VD_TRY(bench_print_json(&result));
    else
        bench_print_table(&result);
done:
    bench_result_free(&result);
    free(shipped);
    cli_command_free(&command);
    return cli_report(st);
}

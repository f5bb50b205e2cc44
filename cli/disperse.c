#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "core/safetensors.h"
#include "unet3d/disperse.h"

int cli_disperse(int argc, char **argv) {
    vd_status st = VD_OK;
    bool done_early = false;
    int64_t small = 3, large = 5, size = 3, scale = 2;
    double eta = 0.05, *R = NULL;
    const char *output = NULL, *name = "R";
    vd_disperse_info info;
    const cli_option options[] = {
        {"small", 0, CLI_INT, &small, "N", "taps of the kernel that is there, odd (3)", NULL, NULL},
        {"large", 0, CLI_INT, &large, "N", "taps of the kernel that takes its place, odd (5)", NULL,
         NULL},
        {"size", 0, CLI_INT, &size, "N",
         "pixels along a side of the inputs that R is fitted to (3)", NULL, NULL},
        {"scale", 0, CLI_INT, &scale, "N", "how many times larger the map becomes (2)", NULL, NULL},
        {"eta", 0, CLI_DOUBLE, &eta, "X", "weight of agreeing on the map itself as well (0.05)",
         NULL, NULL},
        {"output", 'o', CLI_TEXT, &output, "FILE", "where R goes: a .safetensors file", NULL, NULL},
    };
    cli_command command = {.name = "disperse",
                           .usage = "[options] -o FILE",
                           .summary = "Solves for the dispersion matrix R, float64 [large*large, "
                                      "small*small]: R times the taps of a\nkernel, in rows, are "
                                      "the taps of the larger one that takes its place.",
                           .options = options,
                           .option_count = sizeof options / sizeof options[0]};
    VD_TRY(cli_parse(&command, argc, argv, &done_early));
    if (done_early)
        goto done;
    if (!output || strcmp(output, "-") == 0) {
        st = vd_fail(VD_ERR_USAGE, "disperse: give -o FILE, a .safetensors file");
        goto done;
    }
    VD_TRY(vd_disperse_describe(small, large, size, scale, eta, &info));
    int64_t rows = large * large, columns = small * small;
    R = calloc((size_t)(rows * columns), sizeof *R);
    if (!R) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for R of %lld x %lld", (long long)rows,
                     (long long)columns);
        goto done;
    }
    VD_TRY(vd_disperse_solve(small, large, size, scale, eta, R));
    vd_tensor tensor = VD_VIEW(R, VD_F64, rows, columns);
    VD_TRY(vd_safetensors_write(output, &name, &tensor, 1, NULL));
    printf("%lldx%lld -> %lldx%lld taps, size %lld, scale %lld, eta %g: %lld unknowns for each of "
           "%lld taps, %lld equations, condition number about %.3g -> %s\n",
           (long long)small, (long long)small, (long long)large, (long long)large, (long long)size,
           (long long)scale, eta, (long long)info.unknowns, (long long)columns,
           (long long)info.equations, info.condition, output);
done:
    free(R);
    cli_command_free(&command);
    return cli_report(st);
}

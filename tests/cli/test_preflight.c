/* The memory that --dry-run foresees is what the render then takes, within 10 %: the kernel's
 * figure for the process, ru_maxrss. What the process has before its first stage is measured by the
 * dry run and is no reason for another tolerance. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/json.h"
#include "core/text.h"
#include "tests/check.h"

enum { MOST_ARGS = 48 };

static const char model[] = VD_SOURCE_DIR "/models/shapes";

#ifdef __SANITIZE_ADDRESS__
static const bool measures_memory = false; /* the sanitizer keeps what is freed, and shadows all */
#else
static const bool measures_memory = true;
#endif

/* Runs `program render` with the common options and these; its standard output goes to a file.
 * Returns the exit code. */
static int run(char *program, const char *out, const char *const *options, const char *const *more,
               struct rusage *usage) {
    static const char *const common[] = {"render",     "--prompt", "a ring",  "--steps", "1",
                                         "--progress", "none",     "--model", model,     NULL};
    const char *args[MOST_ARGS] = {program};
    int count = 1, status = 0;
    for (const char *const *c = common; *c; c++)
        args[count++] = *c;
    for (; *options; options++)
        args[count++] = *options;
    for (; *more; more++)
        args[count++] = *more;
    const pid_t pid = fork();
    if (pid == 0) {
        const int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
            _exit(99);
        execv(program, (char *const *)args);
        _exit(99);
    }
    CHECK(wait4(pid, &status, 0, usage) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static double number(const vd_json *doc, const char *key) {
    double value = 0;
    CHECK_OK(vd_json_double(doc, vd_json_root(doc), key, 0, 1e18, -1, &value));
    return value;
}

static void check_render(char *program, const char *const *options) {
    static const char *const dry[] = {"--dry-run", "--json", "-o", "preflight.mp4", NULL};
    static const char *const real[] = {"-o", "preflight.mp4", NULL};
    vd_json *doc = NULL;
    struct rusage usage = {0};
    CHECK(run(program, "preflight.json", options, dry, &usage) == 0);
    CHECK(access("preflight.mp4", F_OK) != 0);
    CHECK(vd_json_read("preflight.json", "dry run", &doc) == VD_OK);
    if (!doc)
        return;
    const double foreseen = number(doc, "peak_bytes"), output = number(doc, "output_bytes");
    CHECK(number(doc, "seconds") > 0 && number(doc, "calls") == 1);
    CHECK(run(program, "preflight.txt", options, real, &usage) == 0);
    FILE *file = fopen("preflight.mp4", "re");
    CHECK(file && fseek(file, 0, SEEK_END) == 0);
    const long bytes = file ? ftell(file) : 0;
    CHECK_MSG(bytes > 0 && (double)bytes <= output, "%ld bytes, foreseen %.0f", bytes, output);
    if (file)
        (void)fclose(file);
    CHECK(unlink("preflight.mp4") == 0);
    const double took = 1024.0 * (double)usage.ru_maxrss;
    printf("foreseen %.1f MB, took %.1f MB: %.3f\n", foreseen / 1e6, took / 1e6, foreseen / took);
    if (measures_memory)
        CHECK_MSG(foreseen > 0.9 * took && foreseen < 1.1 * took,
                  "%s %s...: foreseen %.1f MB, took %.1f MB", options[0], options[1],
                  foreseen / 1e6, took / 1e6);
    vd_json_destroy(doc);
}

int main(int argc, char **argv) {
    static const char *const cases[][12] = {
        {"--width", "64", "--height", "64", NULL},
        {"--width", "128", "--height", "128", "--dtype", "f32", NULL}, /* re-dilated */
        {"--width", "256", "--height", "256", "--frames", "2", "--method", "direct", NULL},
        /* Where the decoding is the peak: whole, in bands, in tiles; and many frames to encode. */
        {"--width", "384", "--height", "384", "--frames", "1", "--guidance", "1", "--method",
         "direct", NULL},
        {"--width", "384", "--height", "384", "--frames", "1", "--vae-tiling", "exact",
         "--vae-memory", "0.03", "--method=direct", NULL},
        {"--width", "256", "--height", "256", "--frames", "1", "--vae-tiling", "plain", NULL},
        {"--width", "256", "--height", "256", "--frames", "1", "--vae-tiling", "sync", NULL},
        {"--width", "64", "--height", "64", "--frames", "40", "--guidance", "1", NULL},
    };
    CHECK(argc == 2);
    for (size_t i = 0; argc == 2 && i < sizeof cases / sizeof cases[0]; i++)
        check_render(argv[1], cases[i]);
    (void)unlink("preflight.json");
    (void)unlink("preflight.txt");
    if (!measures_memory)
        printf("SKIPPED: memory is not compared under the sanitizers\n");
    return CHECK_DONE();
}

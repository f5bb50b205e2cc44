/* Mutations of valid job files, checked as `vidilate batch --check` does: whatever comes out, the
 * exit code is 0 (still valid), 2 or 3. Usage: test_jobs_fuzz [FILES [SEED]] */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/cli.h"
#include "tests/check.h"

enum { ROOM = 8192, TOKENS = 1024, DEFAULT_FILES = 1000 };

#define MODEL VD_SOURCE_DIR "/models/shapes"

static const char *const valid[] = {
    "{\"version\": 1, \"defaults\": {\"steps\": 2, \"model\": \"" MODEL
    "\"}, \"jobs\": [{\"name\": "
    "\"a\", \"prompt\": \"a ring\", \"seed\": \"18446744073709551615\", \"guidance\": 7.5}, "
    "{\"name\": \"b.c_d-e\", \"prompt\": \"caf\\u00e9\", \"scale\": 1.5, \"scheduler\": \"unipc\", "
    "\"container\": \"png\"}], \"matrix\": {\"eta\": [0, 0.5, 1], \"dtype\": [\"auto\", \"f32\"]}}",
    "{\"jobs\": [{\"prompt\": \"x\", \"width\": 64, \"height\": 32, \"frames\": 4, \"fps\": "
    "23.976, "
    "\"codec\": \"libx265\", \"crf\": 20, \"pix-fmt\": \"yuv420p\", \"threads\": 1, \"model\": "
    "\"" MODEL "\", \"settings\": {\"dilate\": {\"mid_block\": 2, \"down_blocks.0\": [1.5, 2]}, "
    "\"dilate_tau\": 30, \"progressive\": false}}]}",
    "{\"version\": 1, \"defaults\": {\"prompt\": \"\", \"negative-prompt\": \"n\", "
    "\"guidance-rescale\": 0.7, \"backend\": \"cpu\", \"method\": \"direct\", \"model\": \"" MODEL
    "\"}, \"matrix\": {\"seed\": [1, 2, 3], \"steps\": [1, 50]}}",
};

static const char picks[] =
    "{\"version\": 1, \"picks\": [{\"file\": \"d/a.mp4\", \"verdict\": \"pick\", \"rank\": 1, "
    "\"note\": \"n\", \"settings\": {\"prompt\": \"a\", \"width\": 64, \"height\": 64, \"frames\": "
    "8, \"fps\": 8, \"steps\": 2, \"seed\": \"3\", \"model\": \"shapes\", \"model-hash\": \"h\", "
    "\"settings\": {\"dilate\": {\"mid_block\": 2}}}}, {\"file\": \"b.mp4\", \"verdict\": "
    "\"reject\", \"settings\": {}}]}";

/* Values, then what breaks the file's form. */
static const char *const pieces[] = {
    "NaN",
    "-Infinity",
    "\"\"",
    "\"a\"",
    "\"..\"",
    "\"a/b\"",
    "-1",
    "0",
    "1e999",
    "1e20",
    "0.5",
    "9007199254740993",
    "null",
    "true",
    "[]",
    "{}",
    "[1]",
    "\"@\"",
    "\"x265\"",
    "\"seed\"",
    "\"jobs\"",
    "\"prompt\"",
    "\"from\"",
    "\"latents\"",
    "\"settings\"",
    "\"output\"",
    "\"@/dev/null\"",
    "\"/dev/zero\"",
    "\"name\"",
    "16384",
    "65536",
    "\"%d\"",
    "\"cuda\"",
    "\"f16\"",
    "\"mid_block\"",
    "{\"dilate\": {\"x\": 0}}",
    "\"\\u0000\"",
    "\xFF",
    "[",
    "{",
    "]",
    "}",
    ",",
    ":",
};
enum { PIECES = sizeof pieces / sizeof pieces[0], VALUES = PIECES - 8 };

static uint64_t state = 0x9E3779B97F4A7C15u;

static size_t random_below(size_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(state >> 33) % n;
}

/* Begin and end of each text, number and sign. */
static size_t find_tokens(const char *text, size_t at[TOKENS][2]) {
    size_t count = 0;
    for (size_t i = 0; text[i] && count < TOKENS;) {
        size_t begin = i;
        if (text[i] == ' ') {
            i++;
            continue;
        }
        if (text[i] == '"')
            do
                i += text[i] == '\\' && text[i + 1] ? 2 : 1;
            while (text[i] && text[i] != '"');
        else if (strchr("{}[]:,", text[i]) == NULL)
            while (text[i + 1] && strchr("{}[]:, \"", text[i + 1]) == NULL)
                i++;
        i += text[i] != '\0';
        at[count][0] = begin;
        at[count++][1] = i;
    }
    return count;
}

static void replace(char *text, size_t begin, size_t end, const char *piece, size_t length) {
    size_t rest = strlen(text + end) + 1;
    if (begin + length + rest > ROOM)
        return;
    memmove(text + begin + length, text + end, rest);
    memcpy(text + begin, piece, length);
}

/* A token becomes another piece or another token, is removed, doubled, or has a byte changed. */
static void mutate(char *text) {
    static size_t at[TOKENS][2];
    char copy[ROOM];
    size_t count = find_tokens(text, at);
    if (count == 0)
        return;
    bool keep_form = random_below(4) > 0;
    const char *piece = pieces[random_below(keep_form ? VALUES : PIECES)];
    const size_t *t = NULL, *other = NULL;
    for (int tries = 0; tries < 100; tries++) {
        t = at[random_below(count)];
        other = at[random_below(count)];
        if (!keep_form || (!strchr("{}[]:,", text[t[0]]) && !strchr("{}[]:,", text[other[0]])))
            break;
    }
    memcpy(copy, text, sizeof copy);
    switch (random_below(keep_form ? 3 : 6)) {
    case 0:
    case 1:
        replace(text, t[0], t[1], piece, strlen(piece));
        break;
    case 2:
        replace(text, t[0], t[1], copy + other[0], other[1] - other[0]);
        break;
    case 3:
        replace(text, t[0], t[1], "", 0);
        break;
    case 4:
        replace(text, t[0], t[0], copy + t[0], t[1] - t[0]);
        break;
    default:
        text[t[0] + random_below(t[1] - t[0])] = (char)(1 + random_below(255));
        break;
    }
}

static int run(char *path, bool from_picks) {
    static char check[] = "--check", out[] = "--out=fuzz", from[] = "--from", model[] = "--model",
                shapes[] = MODEL;
    char *file[] = {check, out, path, NULL};
    char *clips[] = {check, out, from, path, model, shapes, NULL};
    return from_picks ? cli_batch(6, clips) : cli_batch(3, file);
}

int main(int argc, char **argv) {
    long files = argc > 1 ? strtol(argv[1], NULL, 10) : DEFAULT_FILES;
    long codes[4] = {0};
    char path[64];
    if (argc > 2)
        state += strtoul(argv[2], NULL, 10);
    const int fd = memfd_create("jobs", MFD_CLOEXEC);
    const int told = dup(STDERR_FILENO);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(fd >= 0 && told >= 0 && freopen("/dev/null", "w", stdout) &&
          freopen("/dev/null", "w", stderr));
    for (long i = 0; i < files; i++) {
        char text[ROOM] = "";
        size_t which = random_below(4);
        snprintf(text, sizeof text, "%s", which < 3 ? valid[which] : picks);
        for (size_t edits = random_below(8) == 0 ? 0 : 1 + random_below(3); edits > 0; edits--)
            mutate(text);
        CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
        int code = run(path, which == 3);
        if (code != 0 && code != 2 && code != 3)
            dprintf(told, "exit code %d (%s) for: %s\n", code, vd_error_message(), text);
        CHECK(code == 0 || code == 2 || code == 3);
        codes[code & 3]++;
    }
    CHECK(access("fuzz", F_OK) != 0); /* nothing is made */
    dprintf(
        told,
        "%ld files: %ld still valid, %ld with exit code 2, %ld with 3; %d of %d checks failed\n",
        files, codes[0], codes[2], codes[3], check_failures, check_count);
    CHECK(codes[0] > files / 100 && codes[2] > files / 100 && codes[3] > files / 100);
    close(fd);
    return CHECK_DONE();
}

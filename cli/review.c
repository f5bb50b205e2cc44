#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/json.h"
#include "core/text.h"
#include "review/review.h"
#include "video/vidilate.h"

static const char PAGE_NAME[] = "review.html", SHEET_NAME[] = "review-sheet-%d.png";

typedef struct review_args {
    const char *dir, *output, *sheet, *embed;
    bool json, no_sheet;
} review_args;

/* "folder/" of a path, "" if it has none; malloc'ed. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? strndup(path, (size_t)(slash - path + 1)) : strdup("");
}

/* A path as a pattern of frames, in which "%" stands twice. */
static char *pattern_in(const char *folder, const char *name) {
    char *doubled = malloc(2 * strlen(folder) + 1), *to = doubled;
    if (!doubled)
        return NULL;
    for (const char *c = folder; *c; c++) {
        *to++ = *c;
        if (*c == '%')
            *to++ = '%';
    }
    *to = '\0';
    char *out = vd_format("%s%s", doubled, name);
    free(doubled);
    return out;
}

static vd_status look_at_clips(vd_review *review, const char *work_dir) {
    const bool terminal = isatty(STDERR_FILENO) != 0;
    vd_status st = VD_OK;
    for (size_t i = 0; i < review->clip_count && st == VD_OK; i++) {
        if (terminal)
            fprintf(stderr, "\rclip %zu of %zu ", i + 1, review->clip_count);
        st = cli_interrupted(NULL) ? vd_fail(VD_ERR_INTERRUPTED, "interrupted")
                                   : vd_review_look(review, i, work_dir);
    }
    if (terminal)
        fprintf(stderr, "\r\033[K");
    if (st == VD_OK)
        st = vd_review_finish(review);
    for (size_t i = 0; i < review->left_out_count && st == VD_OK; i++)
        fprintf(stderr, "vidilate: warning: left out %s/%s: %s\n", review->dir,
                review->left_out[i].file, review->left_out[i].reason);
    return st;
}

static vd_status print_json(const vd_review *review) {
    vd_json_writer *w = NULL;
    char *text = NULL;
    vd_status st = VD_OK;
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    VD_TRY(vd_review_put(review, w, NULL, NULL));
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, true, &text));
    puts(text);
done:
    vd_json_writer_destroy(w);
    free(text);
    return st;
}

static vd_status write_page(const review_args *a, const vd_review *review, const char *output) {
    const vd_embed embed = strcmp(a->embed, "always") == 0  ? VD_EMBED_ALWAYS
                           : strcmp(a->embed, "never") == 0 ? VD_EMBED_NEVER
                                                            : VD_EMBED_AUTO;
    char program[64];
    vd_page_info info;
    snprintf(program, sizeof program, "vidilate %s", vd_version());
    vd_status st = vd_page_write(review, output, program, embed, &info);
    if (st != VD_OK || a->json)
        return st;
    printf("%s: %zu clips, %.1f MB, ", output, review->clip_count, (double)info.bytes / 1e6);
    if (info.embedded)
        printf("all in this one file\n");
    else if (embed == VD_EMBED_NEVER)
        printf("plays the clips in %s, which must stay where they are\n", review->dir);
    else
        printf("plays the clips in %s, which must stay where they are: with them inside it would "
               "be %.0f MB (--embed always)\n",
               review->dir, (double)info.embedded_bytes / 1e6);
    return VD_OK;
}

/* Pages of an earlier review that had more. */
static vd_status remove_old_sheets(const char *folder, int pages) {
    for (;; pages++) {
        char *path = vd_format("%sreview-sheet-%d.png", folder, pages + 1);
        if (!path)
            return vd_fail(VD_ERR_MEMORY, "no memory for a path");
        const int failed = unlink(path);
        free(path);
        if (failed)
            return VD_OK;
    }
}

static vd_status write_sheets(const review_args *a, const vd_review *review, const char *folder,
                              const char *pattern) {
    vd_status st = VD_OK;
    int pages = 0;
    VD_TRY(vd_sheets_write(review, pattern, &pages));
    if (!a->sheet)
        VD_TRY(remove_old_sheets(folder, pages));
    if (!a->json && a->sheet)
        printf("%s: %d contact sheet%s\n", pattern, pages, pages == 1 ? "" : "s");
    else if (!a->json && pages == 1)
        printf("%sreview-sheet-1.png: contact sheet\n", folder);
    else if (!a->json)
        printf("%sreview-sheet-1.png to -%d.png: contact sheets\n", folder, pages);
done:
    return st;
}

static vd_status run(const review_args *a) {
    vd_status st = VD_OK;
    vd_review *review = NULL;
    char *folder = NULL, *output = NULL, *pattern = NULL, *dir = strdup(a->dir);
    for (size_t n = dir ? strlen(dir) : 0; n > 1 && dir[n - 1] == '/'; n--)
        dir[n - 1] = '\0';
    output = a->output ? strdup(a->output) : dir ? vd_format("%s/%s", dir, PAGE_NAME) : NULL;
    folder = output ? folder_of(output) : NULL;
    if (folder)
        pattern = a->sheet ? strdup(a->sheet) : pattern_in(folder, SHEET_NAME);
    if (!pattern) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for a path");
        goto done;
    }
    VD_TRY(vd_review_open(dir, &review));
    VD_TRY(vd_page_check(output));
    if (!a->no_sheet)
        VD_TRY(vd_sheets_check(pattern));
    VD_TRY(look_at_clips(review, folder[0] ? folder : "."));
    VD_TRY(write_page(a, review, output));
    if (!a->no_sheet)
        VD_TRY(write_sheets(a, review, folder, pattern));
    if (a->json)
        VD_TRY(print_json(review));
done:
    vd_review_close(review);
    free(folder);
    free(output);
    free(pattern);
    free(dir);
    return st;
}

static bool is_page_name(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && (strcasecmp(dot, ".html") == 0 || strcasecmp(dot, ".htm") == 0);
}

static vd_status check_args(const review_args *a) {
    if (!a->dir)
        return vd_fail(VD_ERR_USAGE, "review: give the folder of the clips");
    if (a->output && !is_page_name(a->output))
        return vd_fail(VD_ERR_USAGE, "review: -o %s: must be the name of an .html file", a->output);
    if (a->sheet && a->no_sheet)
        return vd_fail(VD_ERR_USAGE, "review: give --sheet or --no-sheet, not both");
    return VD_OK;
}

int cli_review(int argc, char **argv) {
    static const char *const embed_modes[] = {"auto", "always", "never", NULL};
    vd_status st = VD_OK;
    bool done_early = false;
    review_args a = {.embed = "auto"};
    const cli_option options[] = {
        {"output", 'o', CLI_TEXT, &a.output, "FILE", "the page, .html (DIR/review.html)", NULL,
         NULL},
        {"embed", 0, CLI_CHOICE, &a.embed, "MODE",
         "clips inside the page: always, never, or auto: up to 64 MB (auto)", embed_modes, NULL},
        {"sheet", 0, CLI_TEXT, &a.sheet, "FILE",
         "contact sheets, NAME%d.png (review-sheet-%d.png beside the page)", NULL, NULL},
        {"no-sheet", 0, CLI_FLAG, &a.no_sheet, NULL, "no contact sheets", NULL, NULL},
        {"json", 0, CLI_FLAG, &a.json, NULL, "print the clips' settings and scores as JSON", NULL,
         NULL},
    };
    cli_command command = {
        .name = "review",
        .usage = "[options] DIR",
        .summary =
            "Makes a page of the clips in a folder: side by side by prompt, method and seed, "
            "played in step,\nwith scores, to compare, pick and rank. Its export, "
            "picks.json, is what vidilate batch --from renders\nagain, larger. The page "
            "needs no network and, with the clips inside, no other file.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .positional = &a.dir,
        .positional_max = 1};
    VD_TRY(cli_parse(&command, argc, argv, &done_early));
    if (done_early)
        goto done;
    VD_TRY(check_args(&a));
    VD_TRY(run(&a));
done:
    cli_command_free(&command);
    return cli_report(st);
}

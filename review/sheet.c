/* Contact sheets: a clip a row, its frames from left to right in time, under two lines of text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/json.h"
#include "core/text.h"
#include "encode/sink.h"
#include "review/parts.h"
#include "review/sheet_text.h"

enum {
    GAP = 4,
    MARGIN = 12,
    TEXT_HEIGHT = 2 * (VD_GLYPH_HEIGHT + 2) + 2,
    WIDTH = 2 * MARGIN + VD_STRIP_FRAMES * VD_STRIP_SIDE + (VD_STRIP_FRAMES - 1) * GAP,
    PAGE_HEIGHT = 2400,
};

static const uint8_t background[3] = {22, 24, 28}, bright[3] = {225, 228, 232};
static const uint8_t dim[3] = {139, 148, 158}, warning[3] = {240, 165, 60};

static int row_height(const vd_review_clip *clip) {
    return TEXT_HEIGHT + clip->strip.height + 2 * GAP;
}

/* The clips [first, end) that fit on a page, and what is left of its height. */
static size_t page_end(const vd_review *r, size_t first, int *height) {
    int used = 2 * MARGIN;
    size_t i = first;
    while (i < r->clip_count && (i == first || used + row_height(&r->clips[i]) <= PAGE_HEIGHT))
        used += row_height(&r->clips[i++]);
    *height = used;
    return i;
}

/* "a red circle": the prompt; the file's name where none is recorded. */
static vd_status draw_prompt(const vd_canvas *canvas, const vd_review_clip *clip, int y) {
    vd_json *doc = NULL;
    const char *prompt = "";
    vd_status st = VD_OK;
    if (clip->settings != NULL) {
        VD_TRY(vd_json_parse(clip->settings, strlen(clip->settings), clip->file, &doc));
        /* Another type than a text is no prompt. */
        const vd_json_value *v = vd_json_get(vd_json_root(doc), "prompt");
        if (v != NULL && vd_json_type_of(v) == VD_JSON_STRING)
            prompt = vd_json_string(v);
    }
    vd_draw_text(canvas, MARGIN, y, prompt[0] != '\0' ? prompt : clip->file, bright);
done:
    vd_json_destroy(doc);
    return st;
}

/* A line of text from x to the right border. */
static void clear_line(const vd_canvas *canvas, int x, int y) {
    for (int v = y; v < y + VD_GLYPH_HEIGHT; v++)
        for (int u = x; u < canvas->width; u++)
            memcpy(canvas->rgb + 3 * ((size_t)v * (size_t)canvas->width + (size_t)u), background,
                   3);
}

static void draw_facts(const vd_canvas *canvas, const vd_review_clip *clip, int y) {
    const vd_clip_scores *s = &clip->scores;
    char line[512], repeats[32] = "-", marks[128] = "";
    if (!isnan(s->repetition))
        (void)snprintf(repeats, sizeof repeats, "%.2f", s->repetition);
    (void)snprintf(line, sizeof line,
                   "%.120s  %lldx%lld  %lld frames  flicker %.1f  motion %.1f  sharpness %.0f  "
                   "repetition %s",
                   clip->file, (long long)clip->width_px, (long long)clip->height_px,
                   (long long)clip->frames, s->flicker, s->motion, s->sharpness, repeats);
    vd_draw_text(canvas, MARGIN, y, line, dim);
    for (int m = 0; m < VD_MARK_COUNT; m++) {
        if (clip->marks & (1U << m)) {
            const size_t used = strlen(marks);
            (void)snprintf(marks + used, sizeof marks - used, "  ! %s",
                           vd_review_mark_name((vd_review_mark)m));
        }
    }
    const int x = canvas->width - MARGIN - (int)strlen(marks) * VD_GLYPH_WIDTH;
    clear_line(canvas, x, y - VD_GLYPH_HEIGHT - 2);
    vd_draw_text(canvas, x, y - VD_GLYPH_HEIGHT - 2, marks, warning);
}

static void draw_strip(const vd_canvas *canvas, const vd_strip *s, int y) {
    const size_t row_bytes = 3 * (size_t)s->width;
    for (int i = 0; i < s->count; i++) {
        const int x = MARGIN + i * (VD_STRIP_SIDE + GAP);
        const uint8_t *from = s->rgb + (size_t)i * (size_t)s->height * row_bytes;
        for (int v = 0; v < s->height; v++)
            memcpy(canvas->rgb + 3 * ((size_t)(y + v) * (size_t)canvas->width + (size_t)x),
                   from + (size_t)v * row_bytes, row_bytes);
    }
}

static vd_status draw_page(const vd_canvas *canvas, const vd_review *r, size_t first, size_t end) {
    const size_t pixels = (size_t)canvas->width * (size_t)canvas->height;
    vd_status st = VD_OK;
    int y = MARGIN;
    for (size_t i = 0; i < pixels; i++)
        memcpy(canvas->rgb + 3 * i, background, 3);
    for (size_t i = first; i < end && st == VD_OK; i++) {
        const vd_review_clip *clip = &r->clips[i];
        st = draw_prompt(canvas, clip, y);
        draw_facts(canvas, clip, y + VD_GLYPH_HEIGHT + 2);
        draw_strip(canvas, &clip->strip, y + TEXT_HEIGHT);
        y += row_height(clip);
    }
    return st;
}

/* Number of pages and the height of the highest: PNG frames have one size. */
static int plan(const vd_review *r, int *height) {
    int pages = 0;
    *height = 2 * MARGIN;
    for (size_t i = 0; i < r->clip_count; pages++) {
        int used = 0;
        i = page_end(r, i, &used);
        *height = used > *height ? used : *height;
    }
    return pages;
}

static vd_sink_options sheet_options(const char *path, int height, int pages) {
    static const vd_metadata mark = {VD_SHEET_KEY, "contact sheet"};
    vd_sink_options options = VD_SINK_OPTIONS_DEFAULT;
    options.path = path;
    options.width_px = WIDTH;
    options.height_px = height;
    options.fps = 1;
    options.frame_count = pages;
    options.metadata = &mark;
    options.metadata_count = 1;
    return options;
}

vd_status vd_sheets_check(const char *path) {
    const vd_sink_options options = sheet_options(path, PAGE_HEIGHT, 1);
    const size_t bytes = strlen(path);
    if (bytes < 4 || strcasecmp(path + bytes - 4, ".png") != 0)
        return vd_fail(VD_ERR_USAGE, "%s: contact sheets are PNG: give NAME%%d.png", path);
    return vd_sink_options_check(&options);
}

vd_status vd_sheets_write(const vd_review *r, const char *path, int *pages) {
    vd_canvas canvas = {.width = WIDTH};
    vd_frame_sink *sink = NULL;
    vd_status st = VD_OK;
    VD_TRY(vd_review_check(r));
    *pages = plan(r, &canvas.height);
    const vd_sink_options options = sheet_options(path, canvas.height, *pages);
    VD_TRY(vd_frame_sink_open(&options, &sink));
    canvas.rgb = malloc(3 * (size_t)canvas.width * (size_t)canvas.height);
    if (canvas.rgb == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "%s: not enough memory", path);
        goto done;
    }
    for (size_t first = 0; first < r->clip_count;) {
        int used = 0;
        const size_t end = page_end(r, first, &used);
        VD_TRY(draw_page(&canvas, r, first, end));
        VD_TRY(vd_frame_sink_write(sink, canvas.rgb));
        first = end;
    }
    VD_TRY(vd_frame_sink_finish(sink));
done:
    vd_frame_sink_destroy(sink);
    free(canvas.rgb);
    return st;
}

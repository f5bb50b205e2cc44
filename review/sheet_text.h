/* Small text on a picture; for review/ only. */
#ifndef VD_REVIEW_SHEET_TEXT_H
#define VD_REVIEW_SHEET_TEXT_H

#include <stdint.h>

enum { VD_GLYPH_WIDTH = 6, VD_GLYPH_HEIGHT = 10 };

/* [height][width][3], RGB. */
typedef struct vd_canvas {
    uint8_t *rgb;
    int width, height;
} vd_canvas;

/* One line, its upper left corner at (x, y), cut at the right border. "?" stands for what is not
 * ASCII. */
void vd_draw_text(const vd_canvas *canvas, int x, int y, const char *text, const uint8_t color[3]);

#endif

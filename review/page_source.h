/* The page's sources, page/ in this folder, as the build makes arrays of them. */
#ifndef VD_REVIEW_PAGE_SOURCE_H
#define VD_REVIEW_PAGE_SOURCE_H

#include <stddef.h>

extern const unsigned char vd_page_template[]; /* page.html; {{name}} stands for a part */
extern const size_t vd_page_template_bytes;
extern const unsigned char vd_page_style[]; /* page.css */
extern const size_t vd_page_style_bytes;
extern const unsigned char vd_page_script[]; /* the .js files, one after another */
extern const size_t vd_page_script_bytes;

#endif

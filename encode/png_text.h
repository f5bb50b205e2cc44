/* Text chunks of PNG files (PNG specification, 11.3.4); for encode/ only. */
#ifndef VD_ENCODE_PNG_TEXT_H
#define VD_ENCODE_PNG_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "encode/sink.h"

/* Bytes before the first chunk after IHDR: the place for text chunks. */
#define VD_PNG_HEADER_BYTES 33

bool vd_png_is(const uint8_t *data, size_t bytes);

/* The chunks of all entries, one after another; freed by the caller. ASCII text becomes tEXt,
 * which every reader knows, other text iTXt. */
vd_status vd_png_text_write(const vd_metadata *metadata, size_t count, uint8_t **out,
                            size_t *bytes);

/* One entry, pointing into the file's bytes; not NUL-terminated. A NULL key ends the walk. */
typedef struct vd_png_text {
    const char *key;
    size_t key_bytes;
    const char *value;
    size_t value_bytes;
} vd_png_text;

/* Walks the tEXt and uncompressed iTXt chunks of a PNG file; `*offset` starts at 0. Values of tEXt
 * that are not UTF-8 are passed over. VD_ERR_INPUT: the chunks are damaged. */
vd_status vd_png_text_next(const uint8_t *data, size_t bytes, size_t *offset, vd_png_text *out);

#endif

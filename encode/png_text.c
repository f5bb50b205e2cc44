#include "encode/png_text.h"

#include <stdlib.h>
#include <string.h>

#include <libavutil/crc.h>
#include <libavutil/intreadwrite.h>

#include "core/text.h"

static const uint8_t png_signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

/* Chunk types as big-endian numbers. */
#define TEXT_TYPE 0x74455874U
#define ITXT_TYPE 0x69545874U
#define IEND_TYPE 0x49454e44U

/* Keyword, then: compression flag, method, an empty language and an empty translated keyword. */
static const char itxt_middle[5] = {0, 0, 0, 0, 0};

bool vd_png_is(const uint8_t *data, size_t bytes) {
    return bytes >= sizeof png_signature && memcmp(data, png_signature, sizeof png_signature) == 0;
}

static bool is_ascii(const char *s) {
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s >= 0x80)
            return false;
    }
    return true;
}

/* Bytes between the keyword and the text. */
static size_t middle_bytes(const vd_metadata *entry) {
    return is_ascii(entry->value) ? 1 : sizeof itxt_middle;
}

static size_t text_chunk(uint8_t *out, const vd_metadata *entry) {
    const size_t key = strlen(entry->key), middle = middle_bytes(entry);
    const size_t value = strlen(entry->value), body = key + middle + value;
    AV_WB32(out, (uint32_t)body);
    AV_WB32(out + 4, middle == 1 ? TEXT_TYPE : ITXT_TYPE);
    memcpy(out + 8, entry->key, key);
    memcpy(out + 8 + key, itxt_middle, middle);
    memcpy(out + 8 + key + middle, entry->value, value);
    uint32_t crc = av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), UINT32_MAX, out + 4, body + 4);
    AV_WB32(out + 8 + body, ~crc);
    return body + 12;
}

vd_status vd_png_text_write(const vd_metadata *metadata, size_t count, uint8_t **out,
                            size_t *bytes) {
    size_t total = 0;
    *out = NULL;
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t body =
            strlen(metadata[i].key) + middle_bytes(&metadata[i]) + strlen(metadata[i].value);
        if (body > INT32_MAX)
            return vd_fail(VD_ERR_USAGE, "metadata %s: too long for a PNG file", metadata[i].key);
        total += body + 12;
    }
    uint8_t *chunks = malloc(total + 1);
    if (chunks == NULL)
        return vd_fail(VD_ERR_MEMORY, "metadata: not enough memory for %zu bytes", total);
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += text_chunk(chunks + used, &metadata[i]);
    *out = chunks;
    *bytes = used;
    return VD_OK;
}

/* Splits a chunk's body; false when it is not text that we read. */
static bool split_text(uint32_t type, const char *body, size_t bytes, vd_png_text *out) {
    const char *end = body + bytes, *key_end = memchr(body, '\0', bytes);
    if (key_end == NULL || key_end == body)
        return false;
    const char *value = key_end + 1;
    if (type == ITXT_TYPE) {
        /* Flag (0: not compressed), method, language, translated keyword. */
        if (end - value < 2 || value[0] != 0)
            return false;
        value += 2;
        for (int i = 0; i < 2; i++) {
            const char *zero = memchr(value, '\0', (size_t)(end - value));
            if (zero == NULL)
                return false;
            value = zero + 1;
        }
    } else if (type != TEXT_TYPE) {
        return false;
    }
    *out = (vd_png_text){body, (size_t)(key_end - body), value, (size_t)(end - value)};
    return memchr(value, '\0', out->value_bytes) == NULL && vd_utf8_valid(body, out->key_bytes) &&
           vd_utf8_valid(value, out->value_bytes);
}

vd_status vd_png_text_next(const uint8_t *data, size_t bytes, size_t *offset, vd_png_text *out) {
    *out = (vd_png_text){0};
    if (*offset == 0)
        *offset = sizeof png_signature;
    while (*offset < bytes) {
        const size_t left = bytes - *offset;
        const uint8_t *chunk = data + *offset;
        if (left < 12 || AV_RB32(chunk) > left - 12)
            return vd_fail(VD_ERR_INPUT, "PNG chunk at byte %zu is cut off", *offset);
        const size_t body = AV_RB32(chunk);
        *offset += body + 12;
        vd_png_text text;
        if (split_text(AV_RB32(chunk + 4), (const char *)chunk + 8, body, &text)) {
            *out = text;
            return VD_OK;
        }
        if (AV_RB32(chunk + 4) == IEND_TYPE)
            break;
    }
    return VD_OK;
}

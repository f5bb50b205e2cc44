/* SHA-256 (FIPS 180-4): identities of models and of decoded frames. */
#ifndef VD_CORE_SHA256_H
#define VD_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { VD_SHA256_BYTES = 32, VD_SHA256_HEX_BYTES = 65 };

/* A digest in the making:
 *
 *     vd_sha256_state sha;
 *     vd_sha256_begin(&sha);
 *     vd_sha256_add(&sha, frame, frame_bytes);   // as often as wanted
 *     vd_sha256_end(&sha, digest);
 */
typedef struct vd_sha256_state {
    uint32_t hash[8];
    uint64_t total_bytes;
    uint8_t pending[64];
} vd_sha256_state;

void vd_sha256_begin(vd_sha256_state *sha);
void vd_sha256_add(vd_sha256_state *sha, const void *data, size_t bytes);
void vd_sha256_end(vd_sha256_state *sha, uint8_t digest[VD_SHA256_BYTES]);

/* The digest of one buffer. */
void vd_sha256(const void *data, size_t bytes, uint8_t digest[VD_SHA256_BYTES]);

/* Lower-case hexadecimal, terminated. Returns hex. */
char *vd_sha256_hex(const uint8_t digest[VD_SHA256_BYTES], char hex[VD_SHA256_HEX_BYTES]);

#endif

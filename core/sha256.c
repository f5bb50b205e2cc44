#include "core/sha256.h"

#include <string.h>

static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotr(uint32_t v, int n) {
    return v >> n | v << (32 - n);
}

static void add_block(uint32_t hash[8], const uint8_t *block) {
    uint32_t w[64];
    for (size_t i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        const uint32_t s0 = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
        const uint32_t s1 = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = hash[0], b = hash[1], c = hash[2], d = hash[3];
    uint32_t e = hash[4], f = hash[5], g = hash[6], h = hash[7];
    for (int i = 0; i < 64; i++) {
        const uint32_t s1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
        const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + round_constant[i] + w[i];
        const uint32_t s0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
        const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    hash[0] += a;
    hash[1] += b;
    hash[2] += c;
    hash[3] += d;
    hash[4] += e;
    hash[5] += f;
    hash[6] += g;
    hash[7] += h;
}

void vd_sha256_begin(vd_sha256_state *sha) {
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(sha->hash, first, sizeof first);
    sha->total_bytes = 0;
}

void vd_sha256_add(vd_sha256_state *sha, const void *data, size_t bytes) {
    const uint8_t *p = data;
    size_t pending = sha->total_bytes % 64;
    sha->total_bytes += bytes;
    while (bytes > 0) {
        if (pending == 0 && bytes >= 64) {
            add_block(sha->hash, p);
            p += 64;
            bytes -= 64;
            continue;
        }
        const size_t n = bytes < 64 - pending ? bytes : 64 - pending;
        memcpy(sha->pending + pending, p, n);
        p += n;
        bytes -= n;
        pending += n;
        if (pending == 64) {
            add_block(sha->hash, sha->pending);
            pending = 0;
        }
    }
}

void vd_sha256_end(vd_sha256_state *sha, uint8_t digest[VD_SHA256_BYTES]) {
    const uint64_t total_bits = sha->total_bytes * 8;
    uint8_t tail[72] = {0x80};
    const size_t zeros_end = 64 - (sha->total_bytes + 8) % 64;
    for (size_t i = 0; i < 8; i++)
        tail[zeros_end + i] = (uint8_t)(total_bits >> (56 - 8 * i));
    vd_sha256_add(sha, tail, zeros_end + 8);
    for (size_t i = 0; i < VD_SHA256_BYTES; i++)
        digest[i] = (uint8_t)(sha->hash[i / 4] >> (24 - 8 * (i % 4)));
}

void vd_sha256(const void *data, size_t bytes, uint8_t digest[VD_SHA256_BYTES]) {
    vd_sha256_state sha;
    vd_sha256_begin(&sha);
    vd_sha256_add(&sha, data, bytes);
    vd_sha256_end(&sha, digest);
}

char *vd_sha256_hex(const uint8_t digest[VD_SHA256_BYTES], char hex[VD_SHA256_HEX_BYTES]) {
    for (size_t i = 0; i < VD_SHA256_BYTES; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[VD_SHA256_HEX_BYTES - 1] = '\0';
    return hex;
}

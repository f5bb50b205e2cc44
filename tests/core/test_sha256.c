#include <stdlib.h>

#include "core/sha256.h"
#include "tests/check.h"

static const char *hash(const void *data, size_t bytes) {
    static char hex[VD_SHA256_HEX_BYTES];
    uint8_t digest[VD_SHA256_BYTES];
    vd_sha256(data, bytes, digest);
    return vd_sha256_hex(digest, hex);
}

int main(void) {
    /* FIPS 180-4's examples (NIST CSRC, SHA256.pdf and SHA256 additional), and the empty message.
     */
    CHECK(strcmp(hash("", 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855") ==
          0);
    CHECK(strcmp(hash("abc", 3),
                 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    CHECK(strcmp(hash(two_blocks, strlen(two_blocks)),
                 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1") == 0);
    char *million = malloc(1000000);
    CHECK(million != NULL);
    if (million == NULL)
        return CHECK_DONE();
    memset(million, 'a', 1000000);
    CHECK(strcmp(hash(million, 1000000),
                 "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0);
    memset(million, 0, 64);
    CHECK(strcmp(hash(million, 55),
                 "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7") == 0);
    CHECK(strcmp(hash(million, 56),
                 "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb") == 0);
    CHECK(strcmp(hash(million, 57),
                 "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785") == 0);
    CHECK(strcmp(hash(million, 64),
                 "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b") == 0);

    /* Pieces of every size give the digest of the whole. */
    for (size_t i = 0; i < 5000; i++)
        million[i] = (char)(i * 131 >> 3);
    char whole[VD_SHA256_HEX_BYTES];
    snprintf(whole, sizeof whole, "%s", hash(million, 5000));
    for (size_t piece = 1; piece < 200; piece++) {
        vd_sha256_state sha;
        uint8_t digest[VD_SHA256_BYTES];
        char hex[VD_SHA256_HEX_BYTES];
        vd_sha256_begin(&sha);
        for (size_t at = 0; at < 5000; at += piece)
            vd_sha256_add(&sha, million + at, piece < 5000 - at ? piece : 5000 - at);
        vd_sha256_end(&sha, digest);
        CHECK_MSG(strcmp(vd_sha256_hex(digest, hex), whole) == 0, "pieces of %zu", piece);
    }
    free(million);
    return CHECK_DONE();
}

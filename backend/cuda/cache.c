#include "backend/cuda/cache.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/sha256.h"

enum { MOST_BYTES = 16 * 1024 * 1024, PATH_BYTES = PATH_MAX + VD_SHA256_HEX_BYTES + 32 };

struct vd_cuda_cache {
    char folder[PATH_MAX];
    char of[256]; /* device and version: part of every name */
    bool writable;
};

static bool make_folder(const char *path) {
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *at = part + 1; *at != '\0'; at++)
        if (*at == '/') {
            *at = '\0';
            (void)mkdir(part, 0777);
            *at = '/';
        }
    (void)mkdir(part, 0777);
    return access(path, W_OK | X_OK) == 0;
}

vd_status vd_cuda_cache_create(const char *device, int capability, size_t version,
                               vd_cuda_cache **out) {
    vd_cuda_cache *c = calloc(1, sizeof *c);
    *out = c;
    if (c == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the cache of plans");
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (base != NULL && base[0] == '/')
        length = snprintf(c->folder, sizeof c->folder, "%s/vidilate", base);
    else if (home != NULL && home[0] == '/')
        length = snprintf(c->folder, sizeof c->folder, "%s/.cache/vidilate", home);
    snprintf(c->of, sizeof c->of, "%.160s sm_%d cudnn %zu ", device, capability, version);
    c->writable = length > 0 && (size_t)length < sizeof c->folder && make_folder(c->folder);
    return VD_OK;
}

void vd_cuda_cache_destroy(vd_cuda_cache *cache) {
    free(cache);
}

bool vd_cuda_cache_is_writable(const vd_cuda_cache *cache) {
    return cache->writable;
}

static void path_of(const vd_cuda_cache *c, const char *name, char path[PATH_BYTES]) {
    uint8_t digest[VD_SHA256_BYTES];
    char hex[VD_SHA256_HEX_BYTES];
    vd_sha256_state sha;
    vd_sha256_begin(&sha);
    vd_sha256_add(&sha, c->of, strlen(c->of));
    vd_sha256_add(&sha, name, strlen(name));
    vd_sha256_end(&sha, digest);
    snprintf(path, PATH_BYTES, "%s/%s.plan", c->folder, vd_sha256_hex(digest, hex));
}

char *vd_cuda_cache_read(const vd_cuda_cache *cache, const char *name, size_t *bytes) {
    char path[PATH_BYTES];
    path_of(cache, name, path);
    *bytes = 0;
    FILE *f = cache->folder[0] == '\0' ? NULL : fopen(path, "rb");
    if (f == NULL)
        return NULL;
    struct stat info;
    char *data = NULL;
    if (fstat(fileno(f), &info) == 0 && info.st_size > 0 && info.st_size <= MOST_BYTES)
        data = malloc((size_t)info.st_size + 1);
    if (data != NULL && fread(data, 1, (size_t)info.st_size, f) == (size_t)info.st_size) {
        *bytes = (size_t)info.st_size;
        data[*bytes] = '\0';
    } else {
        free(data);
        data = NULL;
    }
    fclose(f);
    return data;
}

bool vd_cuda_cache_write(const vd_cuda_cache *cache, const char *name, const char *data,
                         size_t bytes) {
    char path[PATH_BYTES], part[PATH_BYTES + 16];
    if (!cache->writable)
        return false;
    path_of(cache, name, path);
    snprintf(part, sizeof part, "%s.XXXXXX", path);
    const int fd = mkstemp(part);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    if (f == NULL)
        return false;
    const bool written = fwrite(data, 1, bytes, f) == bytes;
    if (fclose(f) == 0 && written && rename(part, path) == 0)
        return true;
    (void)unlink(part);
    return false;
}

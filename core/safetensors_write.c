#include "core/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "core/text.h"

static vd_status check_tensors(const char *path, const char *const *names, const vd_tensor *tensors,
                               size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!vd_utf8_valid(names[i], strlen(names[i])) || strcmp(names[i], "__metadata__") == 0)
            return vd_fail(VD_ERR_USAGE, "%s: \"%s\" cannot name a tensor", path, names[i]);
        if (vd_tensor_elements(&tensors[i]) < 0)
            return vd_fail(VD_ERR_USAGE, "%s: tensor %s has an impossible shape", path, names[i]);
    }
    return VD_OK;
}

/* The header's JSON without its padding. */
static vd_status make_header(const char *path, const char *const *names, const vd_tensor *tensors,
                             size_t count, const char *const *metadata, char **out) {
    *out = NULL;
    vd_json_writer *w = NULL;
    vd_json *parsed = NULL;
    vd_status st = VD_OK;
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    if (metadata != NULL) {
        vd_json_begin_object(w, "__metadata__");
        for (size_t i = 0; metadata[i] != NULL; i += 2)
            vd_json_put_string(w, metadata[i], metadata[i + 1]);
        vd_json_end(w);
    }
    int64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        vd_json_begin_object(w, names[i]);
        vd_json_put_string(w, "dtype", vd_dtype_name(tensors[i].dtype));
        vd_json_begin_array(w, "shape");
        for (int d = 0; d < tensors[i].rank; d++)
            vd_json_put_int(w, NULL, tensors[i].dim[d]);
        vd_json_end(w);
        vd_json_begin_array(w, "data_offsets");
        vd_json_put_int(w, NULL, at);
        at += (int64_t)vd_tensor_bytes(&tensors[i]);
        vd_json_put_int(w, NULL, at);
        vd_json_end(w);
        vd_json_end(w);
    }
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, false, out));
    /* Reading it back is what finds a name given twice. */
    st = vd_json_parse(*out, strlen(*out), path, &parsed);
    if (st == VD_ERR_INPUT)
        st = vd_fail_in(VD_ERR_USAGE, "the tensors cannot be written");
done:
    if (st != VD_OK) {
        free(*out);
        *out = NULL;
    }
    vd_json_destroy(parsed);
    vd_json_writer_destroy(w);
    return st;
}

static bool write_all(int fd, const void *data, size_t bytes) {
    const char *p = data;
    while (bytes > 0) {
        const ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool write_content(int fd, const char *header, const vd_tensor *tensors, size_t count) {
    static const char spaces[8] = "        ";
    const size_t header_bytes = strlen(header);
    const size_t padding = (8 - header_bytes % 8) % 8;
    const uint64_t padded = header_bytes + padding;
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(padded >> (8 * i));
    if (!write_all(fd, length, sizeof length) || !write_all(fd, header, header_bytes) ||
        !write_all(fd, spaces, padding))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!write_all(fd, tensors[i].data, vd_tensor_bytes(&tensors[i])))
            return false;
    return true;
}

static vd_status write_file(const char *path, const char *temporary, const char *header,
                            const vd_tensor *tensors, size_t count) {
    const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return vd_fail(VD_ERR_OUTPUT, "%s: cannot be created: %s", temporary, strerror(errno));
    errno = 0;
    bool written = write_content(fd, header, tensors, count) && fsync(fd) == 0;
    int error = errno;
    if (close(fd) != 0 && written) {
        written = false;
        error = errno;
    }
    if (written && rename(temporary, path) != 0) {
        written = false;
        error = errno;
    }
    if (written)
        return VD_OK;
    unlink(temporary);
    return vd_fail(VD_ERR_OUTPUT, "%s: cannot be written: %s", path, strerror(error));
}

vd_status vd_safetensors_write(const char *path, const char *const *names, const vd_tensor *tensors,
                               size_t count, const char *const *metadata) {
    char *temporary = NULL;
    char *header = NULL;
    vd_status st = VD_OK;
    VD_TRY(check_tensors(path, names, tensors, count));
    VD_TRY(make_header(path, names, tensors, count, metadata, &header));
    temporary = vd_format("%s.tmp-%ld", path, (long)getpid());
    if (temporary == NULL)
        st = vd_fail(VD_ERR_MEMORY, "%s: no memory to write it", path);
    else
        st = write_file(path, temporary, header, tensors, count);
done:
    free(temporary);
    free(header);
    return st;
}

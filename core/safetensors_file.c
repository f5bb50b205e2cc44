#include "core/safetensors_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100000000 };

static const double max_exact_int = 0x1p53;

static vd_status map_file(const char *path, int fd, vd_mapped_file *file) {
    struct stat info;
    if (fstat(fd, &info) != 0)
        return vd_fail(VD_ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return vd_fail(VD_ERR_INPUT, "%s: is not a regular file", path);
    if (info.st_size < LENGTH_BYTES)
        return vd_fail(VD_ERR_INPUT,
                       "%s: holds %lld bytes, which is no safetensors file: download it again",
                       path, (long long)info.st_size);
    file->bytes = (size_t)info.st_size;
    void *map = mmap(NULL, file->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return vd_fail(VD_ERR_MEMORY, "%s: cannot be mapped: %s", path, strerror(errno));
    file->map = map;
    return VD_OK;
}

static vd_status check_header_length(const vd_mapped_file *file, size_t *header_bytes) {
    static const char lfs_pointer[] = "version https://git-lfs";
    const unsigned char *p = file->map;
    uint64_t length = 0;
    for (int i = 0; i < LENGTH_BYTES; i++)
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): vd_fail never returns VD_OK */
        length |= (uint64_t)p[i] << (8 * i);
    if (file->bytes >= sizeof lfs_pointer && memcmp(p, lfs_pointer, sizeof lfs_pointer - 1) == 0)
        return vd_fail(VD_ERR_INPUT,
                       "%s: is a Git LFS pointer, not the weights: run \"git lfs pull\"",
                       file->path);
    if (length > MAX_HEADER_BYTES)
        return vd_fail(
            VD_ERR_INPUT,
            "%s: its header would be %llu bytes long (at most %d): not a safetensors file",
            file->path, (unsigned long long)length, (int)MAX_HEADER_BYTES);
    if (length > file->bytes - LENGTH_BYTES)
        return vd_fail(
            VD_ERR_INPUT,
            "%s: truncated: its header needs %llu bytes and %zu are left: download it again",
            file->path, (unsigned long long)length, file->bytes - LENGTH_BYTES);
    if (length == 0 || p[LENGTH_BYTES] != '{')
        return vd_fail(VD_ERR_INPUT,
                       "%s: its header does not begin with '{': not a safetensors file",
                       file->path);
    *header_bytes = (size_t)length;
    return VD_OK;
}

/* A list of integers from 0 to 2^53. */
static vd_status read_integers(const vd_json *doc, const vd_json_value *list, size_t room,
                               int64_t *out, size_t *count) {
    *count = 0;
    for (const vd_json_value *v = vd_json_first(list); v != NULL; v = vd_json_next(v)) {
        const double number = vd_json_type_of(v) == VD_JSON_NUMBER ? vd_json_number(v) : -1;
        if (!(number >= 0 && number <= max_exact_int) || number != floor(number))
            return vd_json_fail(doc, v, "an integer from 0 to 2^53 is expected");
        if (*count == room)
            return vd_json_fail(doc, list, "at most %zu values are expected", room);
        out[(*count)++] = (int64_t)number;
    }
    return VD_OK;
}

static const vd_json_value *member_of_type(const vd_json_value *object, const char *key,
                                           vd_json_type type) {
    const vd_json_value *v = vd_json_get(object, key);
    return v != NULL && vd_json_type_of(v) == type ? v : NULL;
}

/* `data` and `data_bytes`: what follows the header. */
static vd_status read_entry(const vd_json *doc, const vd_json_value *member, unsigned char *data,
                            size_t data_bytes, vd_entry *out) {
    const vd_json_value *dtype = member_of_type(member, "dtype", VD_JSON_STRING);
    const vd_json_value *shape = member_of_type(member, "shape", VD_JSON_ARRAY);
    const vd_json_value *offsets = member_of_type(member, "data_offsets", VD_JSON_ARRAY);
    if (dtype == NULL || shape == NULL || offsets == NULL)
        return vd_json_fail(doc, member, "lacks a dtype, a shape or data_offsets");

    vd_dtype type;
    if (!vd_dtype_parse(vd_json_string(dtype), &type))
        return vd_json_fail(doc, member,
                            "dtype %.40s is not supported: convert the weights to F16, BF16 or F32",
                            vd_json_string(dtype));
    int64_t dim[VD_MAX_RANK];
    int64_t range[2];
    size_t rank;
    size_t ends;
    vd_status st = read_integers(doc, shape, VD_MAX_RANK, dim, &rank);
    if (st == VD_OK)
        st = read_integers(doc, offsets, 2, range, &ends);
    if (st != VD_OK)
        return st;
    if (ends != 2 || range[0] > range[1])
        return vd_json_fail(doc, offsets, "a begin and a not smaller end are expected");
    if ((uint64_t)range[1] > data_bytes)
        return vd_json_fail(doc, member,
                            "its data end at %lld and the file holds %zu bytes of data: truncated, "
                            "download it again",
                            (long long)range[1], data_bytes);
    const vd_tensor tensor = vd_tensor_view(data + range[0], type, (int)rank, dim);
    if (vd_tensor_elements(&tensor) < 0)
        return vd_json_fail(doc, shape, "the shape is too large");
    if (vd_tensor_bytes(&tensor) != (size_t)(range[1] - range[0]))
        return vd_json_fail(doc, member,
                            "its shape and dtype need %zu bytes, its data_offsets give %lld",
                            vd_tensor_bytes(&tensor), (long long)(range[1] - range[0]));
    out->tensor = tensor;
    out->name = strdup(vd_json_key(member));
    return out->name != NULL ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for the names of tensors");
}

static int compare_places(const void *a, const void *b) {
    const vd_entry *x = a;
    const vd_entry *y = b;
    const char *x_data = x->tensor.data;
    const char *y_data = y->tensor.data;
    if (x_data != y_data)
        return x_data < y_data ? -1 : 1;
    /* An empty tensor lies before the one that begins where it does. */
    const size_t x_bytes = vd_tensor_bytes(&x->tensor);
    const size_t y_bytes = vd_tensor_bytes(&y->tensor);
    return (x_bytes > y_bytes) - (x_bytes < y_bytes);
}

/* The tensors must fill the data without overlap, hole or rest. */
static vd_status check_places(const vd_mapped_file *file, const unsigned char *data,
                              size_t data_bytes) {
    size_t end = 0;
    for (size_t i = 0; i < file->count; i++) {
        const vd_entry *entry = &file->entries[i];
        const size_t begin = (size_t)((const unsigned char *)entry->tensor.data - data);
        if (begin < end)
            return vd_fail(VD_ERR_INPUT, "%s: tensor %.200s overlaps tensor %.200s", file->path,
                           entry->name, file->entries[i - 1].name);
        if (begin > end)
            return vd_fail(VD_ERR_INPUT, "%s: a hole of %zu bytes before tensor %.200s", file->path,
                           begin - end, entry->name);
        end += vd_tensor_bytes(&entry->tensor);
    }
    if (end != data_bytes)
        return vd_fail(VD_ERR_INPUT, "%s: %zu bytes after the last tensor", file->path,
                       data_bytes - end);
    return VD_OK;
}

static vd_status read_header(vd_mapped_file *file) {
    vd_json *doc = NULL;
    size_t header_bytes = 0;
    vd_status st = check_header_length(file, &header_bytes);
    if (st != VD_OK)
        return st;
    unsigned char *header = (unsigned char *)file->map + LENGTH_BYTES;
    unsigned char *data = header + header_bytes;
    const size_t data_bytes = file->bytes - LENGTH_BYTES - header_bytes;

    VD_TRY(vd_json_parse((const char *)header, header_bytes, file->path, &doc));
    const vd_json_value *root = vd_json_root(doc);
    file->entries = calloc(vd_json_size(root) + 1, sizeof *file->entries);
    if (file->entries == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "%s: no memory for its list of tensors", file->path);
        goto done;
    }
    for (const vd_json_value *m = vd_json_first(root); m != NULL; m = vd_json_next(m)) {
        if (strcmp(vd_json_key(m), "__metadata__") == 0)
            continue;
        VD_TRY(read_entry(doc, m, data, data_bytes, &file->entries[file->count]));
        file->count++;
    }
    qsort(file->entries, file->count, sizeof *file->entries, compare_places);
    st = check_places(file, data, data_bytes);
done:
    vd_json_destroy(doc);
    return st;
}

vd_status vd_mapped_file_open(const char *path, vd_mapped_file *out) {
    *out = (vd_mapped_file){0};
    vd_mapped_file file = {.path = strdup(path)};
    if (file.path == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: no memory to open it", path);
    /* Non-blocking, so that opening a pipe returns and can be refused. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    vd_status st = VD_OK;
    if (fd < 0) {
        st = vd_fail(VD_ERR_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    } else {
        st = map_file(path, fd, &file);
        close(fd);
    }
    if (st == VD_OK)
        st = read_header(&file);
    if (st == VD_OK)
        *out = file;
    else
        vd_mapped_file_close(&file);
    return st;
}

void vd_mapped_file_close(vd_mapped_file *file) {
    for (size_t i = 0; i < file->count; i++)
        free(file->entries[i].name);
    free(file->entries);
    if (file->map != NULL)
        munmap(file->map, file->bytes);
    free(file->path);
    *file = (vd_mapped_file){0};
}

void vd_mapped_file_drop(const vd_mapped_file *file) {
    if (file->map != NULL)
        (void)madvise(file->map, file->bytes, MADV_DONTNEED);
}

#include "core/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/safetensors_file.h"
#include "core/sha256.h"
#include "core/text.h"

enum { LISTED_NAMES = 8, REPORT_BYTES = 3600, DROP_BYTES = 64 << 20 };

typedef enum problem_kind {
    PROBLEM_MISSING,
    PROBLEM_SHAPE,
    PROBLEM_NOT_FLOAT,
    PROBLEM_TWICE,
    PROBLEM_UNUSED,
    PROBLEM_KINDS,
} problem_kind;

/* The first names of a kind and how many there are. */
typedef struct problem_list {
    size_t count;
    char *names[LISTED_NAMES];
} problem_list;

struct vd_checkpoint {
    vd_mapped_file *files;
    size_t file_count;
    vd_entry *entries; /* of all files, sorted by name; the names are owned here */
    size_t count;
    size_t read_bytes; /* of tensors taken since pages were let go of */
    problem_list problems[PROBLEM_KINDS];
    bool no_memory;
};

static int compare_names(const void *a, const void *b) {
    return strcmp(((const vd_entry *)a)->name, ((const vd_entry *)b)->name);
}

static vd_entry *find_entry(const vd_checkpoint *ck, const char *name) {
    if (ck->count == 0)
        return NULL;
    const vd_entry wanted = {.name = (char *)name};
    return bsearch(&wanted, ck->entries, ck->count, sizeof *ck->entries, compare_names);
}

/* Moves the entries of all files into one sorted table. */
static vd_status merge_entries(vd_checkpoint *ck) {
    size_t total = 0;
    for (size_t f = 0; f < ck->file_count; f++)
        total += ck->files[f].count;
    ck->entries = calloc(total + 1, sizeof *ck->entries);
    if (ck->entries == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: no memory for its list of tensors", ck->files[0].path);
    for (size_t f = 0; f < ck->file_count; f++) {
        vd_mapped_file *file = &ck->files[f];
        for (size_t i = 0; i < file->count; i++) {
            file->entries[i].file = f;
            ck->entries[ck->count++] = file->entries[i];
        }
        free(file->entries);
        file->entries = NULL;
        file->count = 0;
    }
    qsort(ck->entries, ck->count, sizeof *ck->entries, compare_names);
    for (size_t i = 1; i < ck->count; i++)
        if (compare_names(&ck->entries[i - 1], &ck->entries[i]) == 0)
            return vd_fail(VD_ERR_INPUT, "%s: tensor %.200s is also in %s",
                           ck->files[ck->entries[i].file].path, ck->entries[i].name,
                           ck->files[ck->entries[i - 1].file].path);
    return VD_OK;
}

vd_status vd_checkpoint_open_files(const char *const *paths, size_t count, vd_checkpoint **out) {
    *out = NULL;
    vd_status st = VD_OK;
    vd_checkpoint *ck = calloc(1, sizeof *ck);
    if (ck == NULL || (ck->files = calloc(count, sizeof *ck->files)) == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "%s: no memory to open it", paths[0]);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        VD_TRY(vd_mapped_file_open(paths[i], &ck->files[i]));
        ck->file_count++;
    }
    VD_TRY(merge_entries(ck));
    *out = ck;
    ck = NULL;
done:
    vd_checkpoint_destroy(ck);
    return st;
}

vd_status vd_checkpoint_open_file(const char *path, vd_checkpoint **out) {
    return vd_checkpoint_open_files(&path, 1, out);
}

const char *vd_checkpoint_file_of(const vd_checkpoint *ck, const char *name) {
    const vd_entry *entry = find_entry(ck, name);
    return entry == NULL ? NULL : ck->files[entry->file].path;
}

void vd_checkpoint_destroy(vd_checkpoint *ck) {
    if (ck == NULL)
        return;
    for (size_t i = 0; i < ck->count; i++)
        free(ck->entries[i].name);
    free(ck->entries);
    for (size_t i = 0; i < ck->file_count; i++)
        vd_mapped_file_close(&ck->files[i]);
    free(ck->files);
    for (int k = 0; k < PROBLEM_KINDS; k++)
        for (size_t i = 0; i < LISTED_NAMES; i++)
            free(ck->problems[k].names[i]);
    free(ck);
}

const char *vd_checkpoint_path(const vd_checkpoint *ck) {
    return ck->files[0].path;
}

size_t vd_checkpoint_count(const vd_checkpoint *ck) {
    return ck->count;
}

const char *vd_checkpoint_name(const vd_checkpoint *ck, size_t index) {
    return ck->entries[index].name;
}

size_t vd_checkpoint_packed_bytes(const vd_checkpoint *ck, vd_dtype dtype) {
    size_t bytes = 0;
    for (size_t i = 0; i < ck->count; i++)
        bytes += (size_t)vd_tensor_elements(&ck->entries[i].tensor) * vd_dtype_bytes(dtype);
    return bytes;
}

vd_status vd_checkpoint_check_memory(const vd_checkpoint *ck, vd_dtype dtype, const char *what) {
    const size_t bytes = vd_checkpoint_packed_bytes(ck, dtype);
    const size_t available = vd_memory_available();
    if (bytes <= available)
        return VD_OK;
    return vd_fail(VD_ERR_MEMORY,
                   "%s: the %s would take %.1f GB of memory in %s and %.1f GB are free: a smaller "
                   "model, or a machine with more memory",
                   ck->files[0].path, what, (double)bytes / 1e9, vd_dtype_name(dtype),
                   (double)available / 1e9);
}

bool vd_checkpoint_find(const vd_checkpoint *ck, const char *name, vd_tensor *out) {
    const vd_entry *entry = find_entry(ck, name);
    if (entry == NULL)
        return false;
    *out = entry->tensor;
    return true;
}

void vd_checkpoint_drop_pages(vd_checkpoint *ck) {
    for (size_t i = 0; i < ck->file_count; i++)
        vd_mapped_file_drop(&ck->files[i]);
    ck->read_bytes = 0;
}

/* Takes `shown` over; NULL stands for no memory. */
static void record(vd_checkpoint *ck, problem_kind kind, char *shown) {
    problem_list *list = &ck->problems[kind];
    if (shown == NULL)
        ck->no_memory = true;
    if (list->count < LISTED_NAMES)
        list->names[list->count] = shown;
    else
        free(shown);
    list->count++;
}

static char *show_misshapen(const char *name, const vd_tensor *found, const vd_tensor *expected) {
    char is[256];
    char should_be[256];
    vd_tensor_describe(found, is, sizeof is);
    vd_tensor_describe(expected, should_be, sizeof should_be);
    return vd_format("%.200s (%s, expected %s)", name, is, strchr(should_be, '['));
}

static bool is_float(vd_dtype dtype) {
    return dtype == VD_F64 || dtype == VD_F32 || dtype == VD_F16 || dtype == VD_BF16;
}

vd_tensor vd_checkpoint_take(vd_checkpoint *ck, const char *name, int rank, const int64_t *dim) {
    const vd_tensor expected = vd_tensor_view(NULL, VD_F32, rank, dim);
    vd_entry *entry = find_entry(ck, name);
    if (entry == NULL) {
        record(ck, PROBLEM_MISSING, vd_format("%.200s", name));
        return expected;
    }
    const bool twice = entry->state == VD_ENTRY_TAKEN;
    entry->state = VD_ENTRY_TAKEN;
    if (twice) {
        record(ck, PROBLEM_TWICE, vd_format("%.200s", name));
        return expected;
    }
    if (!is_float(entry->tensor.dtype)) {
        record(ck, PROBLEM_NOT_FLOAT,
               vd_format("%.200s (%s)", name, vd_dtype_name(entry->tensor.dtype)));
        return expected;
    }
    if (rank != 0 && !vd_tensor_same_shape(&entry->tensor, &expected)) {
        record(ck, PROBLEM_SHAPE, show_misshapen(name, &entry->tensor, &expected));
        return expected;
    }
    if (ck->read_bytes >= DROP_BYTES)
        vd_checkpoint_drop_pages(ck);
    ck->read_bytes += vd_tensor_bytes(&entry->tensor);
    return entry->tensor;
}

void vd_checkpoint_ignore(vd_checkpoint *ck, const char *name) {
    vd_entry *entry = find_entry(ck, name);
    if (entry != NULL && entry->state == VD_ENTRY_UNUSED)
        entry->state = VD_ENTRY_IGNORED;
}

/* "; 12 tensors missing: a, b and 10 more", appended at `used`; returns the new end. */
static size_t append_problems(char *report, size_t used, const problem_list *list,
                              const char *meaning, bool *first) {
    if (list->count == 0)
        return used;
    const char *noun = !*first ? "" : list->count == 1 ? "tensor " : "tensors ";
    int n = snprintf(report + used, REPORT_BYTES - used, "%s%zu %s%s: ", *first ? "" : "; ",
                     list->count, noun, meaning);
    used += (size_t)n;
    *first = false;
    size_t shown = 0;
    for (; shown < LISTED_NAMES && shown < list->count; shown++) {
        const char *name = list->names[shown] == NULL ? "?" : list->names[shown];
        if (used + strlen(name) + 64 > REPORT_BYTES)
            break;
        n = snprintf(report + used, REPORT_BYTES - used, "%s%s", shown == 0 ? "" : ", ", name);
        used += (size_t)n;
    }
    if (shown < list->count)
        used += (size_t)snprintf(report + used, REPORT_BYTES - used, "%s%zu more",
                                 shown == 0 ? "" : " and ", list->count - shown);
    return used;
}

vd_status vd_checkpoint_finish(vd_checkpoint *ck, const char *what) {
    static const char *const meanings[PROBLEM_KINDS] = {
        [PROBLEM_MISSING] = "missing",
        [PROBLEM_SHAPE] = "of another shape",
        [PROBLEM_NOT_FLOAT] = "not of a float type",
        [PROBLEM_TWICE] = "used twice",
        [PROBLEM_UNUSED] = "not used by this model",
    };
    for (size_t i = 0; i < ck->count; i++) {
        if (ck->entries[i].state != VD_ENTRY_UNUSED)
            continue;
        record(ck, PROBLEM_UNUSED, vd_format("%.200s", ck->entries[i].name));
        ck->entries[i].state = VD_ENTRY_IGNORED; /* a second call does not list it again */
    }
    vd_checkpoint_drop_pages(ck);
    char report[REPORT_BYTES] = "";
    size_t used = 0;
    bool first = true;
    for (int k = 0; k < PROBLEM_KINDS; k++)
        used = append_problems(report, used, &ck->problems[k], meanings[k], &first);
    if (!first)
        return vd_fail(VD_ERR_INPUT, "%s: %s (in %s)", what, report, ck->files[0].path);
    if (ck->no_memory)
        return vd_fail(VD_ERR_MEMORY, "%s: no memory for the names of its tensors", what);
    return VD_OK;
}

static int compare_paths(const void *a, const void *b) {
    return strcmp((*(const vd_mapped_file *const *)a)->path,
                  (*(const vd_mapped_file *const *)b)->path);
}

/* All of a small file; of a large one its size and 4 KiB of every 64, which reads and hashes a
 * checkpoint of several GB in a second. */
static void add_file(vd_sha256_state *sha, const vd_mapped_file *file) {
    enum { WHOLE_BYTES = 64 << 20, SAMPLE_BYTES = 4096, STRIDE_BYTES = 65536 };
    if (file->bytes <= WHOLE_BYTES) {
        vd_sha256_add(sha, file->map, file->bytes);
        return;
    }
    const uint64_t size = file->bytes;
    vd_sha256_add(sha, &size, sizeof size);
    for (size_t at = 0; at < file->bytes; at += STRIDE_BYTES) {
        const size_t left = file->bytes - at;
        vd_sha256_add(sha, (const char *)file->map + at, left < SAMPLE_BYTES ? left : SAMPLE_BYTES);
        if (at % DROP_BYTES == 0)
            vd_mapped_file_drop(file);
    }
}

vd_status vd_checkpoint_hash(const vd_checkpoint *ck, char buf[72]) {
    const vd_mapped_file **order = malloc(ck->file_count * sizeof(const vd_mapped_file *));
    if (order == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: no memory to hash it", ck->files[0].path);
    for (size_t i = 0; i < ck->file_count; i++)
        order[i] = &ck->files[i];
    qsort(order, ck->file_count, sizeof(const vd_mapped_file *), compare_paths);

    vd_sha256_state sha;
    vd_sha256_begin(&sha);
    for (size_t i = 0; i < ck->file_count; i++)
        add_file(&sha, order[i]);
    free(order);
    uint8_t digest[VD_SHA256_BYTES];
    char hex[VD_SHA256_HEX_BYTES];
    vd_sha256_end(&sha, digest);
    snprintf(buf, 72, "sha256:%s", vd_sha256_hex(digest, hex));
    return VD_OK;
}

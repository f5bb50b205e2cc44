/* Finds the weights of a component folder: one file, its fp16 variant, or shards. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "core/safetensors.h"
#include "core/safetensors_file.h"
#include "core/text.h"

static vd_status check_shard_name(const vd_json *index, const vd_json_value *shard) {
    if (vd_json_type_of(shard) != VD_JSON_STRING)
        return vd_json_fail(index, shard, "the name of a file is expected");
    const char *name = vd_json_string(shard);
    if (name[0] == '\0' || strchr(name, '/') != NULL || strstr(name, "..") != NULL)
        return vd_json_fail(index, shard, "\"%.200s\" must name a file in the index's own folder",
                            name);
    return VD_OK;
}

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different shard names of the map, sorted, borrowed from the index. */
static vd_status list_shards(const vd_json *index, const vd_json_value *weight_map,
                             const char ***out, size_t *count) {
    *out = NULL;
    *count = 0;
    const char **names = malloc((vd_json_size(weight_map) + 1) * sizeof *names);
    if (names == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the names of the shards");
    size_t n = 0;
    for (const vd_json_value *v = vd_json_first(weight_map); v != NULL; v = vd_json_next(v)) {
        const vd_status st = check_shard_name(index, v);
        if (st != VD_OK) {
            free(names);
            return st;
        }
        names[n++] = vd_json_string(v);
    }
    qsort(names, n, sizeof *names, compare_strings);
    size_t distinct = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(names[i], names[distinct - 1]) != 0)
            names[distinct++] = names[i];
    *out = names;
    *count = distinct;
    return VD_OK;
}

static vd_status check_indexed(const vd_json *index, const vd_json_value *weight_map,
                               const vd_checkpoint *ck) {
    for (const vd_json_value *v = vd_json_first(weight_map); v != NULL; v = vd_json_next(v)) {
        const char *path = vd_checkpoint_file_of(ck, vd_json_key(v));
        const char *slash = path == NULL ? NULL : strrchr(path, '/');
        if (slash == NULL || strcmp(slash + 1, vd_json_string(v)) != 0)
            return vd_json_fail(index, v, "%.200s holds no such tensor: download both again",
                                vd_json_string(v));
    }
    return VD_OK;
}

static vd_status open_sharded(const char *dir, const char *index_path, vd_checkpoint **out) {
    vd_json *index = NULL;
    const char **names = NULL;
    char **paths = NULL;
    vd_checkpoint *ck = NULL;
    size_t count = 0;
    vd_status st = VD_OK;
    VD_TRY(vd_json_read(index_path, "index of weights", &index));
    const vd_json_value *weight_map = vd_json_get(vd_json_root(index), "weight_map");
    if (weight_map == NULL || vd_json_type_of(weight_map) != VD_JSON_OBJECT ||
        vd_json_first(weight_map) == NULL) {
        st = vd_json_fail(index, vd_json_root(index),
                          "a weight_map with the file of each tensor is expected");
        goto done;
    }
    VD_TRY(list_shards(index, weight_map, &names, &count));
    paths = calloc(count + 1, sizeof *paths);
    for (size_t i = 0; i < count; i++) {
        if (paths == NULL || (paths[i] = vd_format("%s/%s", dir, names[i])) == NULL) {
            st = vd_fail(VD_ERR_MEMORY, "%s: no memory to open its shards", index_path);
            goto done;
        }
        if (access(paths[i], F_OK) != 0) {
            st = vd_fail(VD_ERR_INPUT, "%s: shard %.200s is missing beside it: download it",
                         index_path, names[i]);
            goto done;
        }
    }
    VD_TRY(vd_checkpoint_open_files((const char *const *)paths, count, &ck));
    VD_TRY(check_indexed(index, weight_map, ck));
    *out = ck;
    ck = NULL;
done:
    vd_checkpoint_destroy(ck);
    for (size_t i = 0; paths != NULL && i < count; i++)
        free(paths[i]);
    free(paths);
    free(names);
    vd_json_destroy(index);
    return st;
}

static bool ends_with(const char *s, const char *ending) {
    const size_t n = strlen(s);
    const size_t m = strlen(ending);
    return n >= m && strcmp(s + n - m, ending) == 0;
}

/* The first file in the folder, by name, with one of the endings; empty if there is none. */
static void find_ending(const char *dir, const char *const *endings, char found[256]) {
    found[0] = '\0';
    DIR *folder = opendir(dir);
    if (folder == NULL)
        return;
    for (const struct dirent *e = readdir(folder); e != NULL; e = readdir(folder))
        for (size_t i = 0; endings[i] != NULL; i++)
            if (ends_with(e->d_name, endings[i]) &&
                (found[0] == '\0' || strcmp(e->d_name, found) < 0))
                memcpy(found, e->d_name, strlen(e->d_name) + 1);
    closedir(folder);
}

static vd_status nothing_found(const char *dir, const char *stem) {
    static const char *const pickled[] = {".bin", ".ckpt", ".pt", ".pth", NULL};
    static const char *const safetensors[] = {".safetensors", NULL};
    struct stat info;
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))
        return vd_fail(VD_ERR_INPUT, "%s: no such folder, %s.safetensors is expected in it", dir,
                       stem);
    char other[256];
    find_ending(dir, pickled, other);
    if (other[0] != '\0')
        return vd_fail(
            VD_ERR_INPUT,
            "%s: no %s.safetensors; %s is a pickle, which is not read: load the model in "
            "Python and convert it with save_pretrained(folder, safe_serialization=True)",
            dir, stem, other);
    find_ending(dir, safetensors, other);
    if (other[0] != '\0')
        return vd_fail(VD_ERR_INPUT, "%s: no %s.safetensors; rename %s if that is what it is", dir,
                       stem, other);
    return vd_fail(VD_ERR_INPUT, "%s: no %s.safetensors in this folder: download the weights", dir,
                   stem);
}

vd_status vd_checkpoint_open(const char *dir, const char *stem, vd_checkpoint **out) {
    static const struct {
        const char *ending;
        bool is_index;
    } variants[] = {
        {".safetensors", false},
        {".safetensors.index.json", true},
        {".fp16.safetensors", false},
        {".safetensors.index.fp16.json", true},
    };
    *out = NULL;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        char *path = vd_format("%s/%s%s", dir, stem, variants[i].ending);
        if (path == NULL)
            return vd_fail(VD_ERR_MEMORY, "%s: no memory to open it", dir);
        if (access(path, F_OK) != 0) {
            free(path);
            continue;
        }
        const vd_status st = variants[i].is_index ? open_sharded(dir, path, out)
                                                  : vd_checkpoint_open_file(path, out);
        free(path);
        return st;
    }
    return nothing_found(dir, stem);
}

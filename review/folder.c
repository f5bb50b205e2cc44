/* The files of a folder, and which of them make a clip. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/text.h"
#include "encode/probe.h"
#include "review/parts.h"

static vd_status no_memory(const char *what) {
    return vd_fail(VD_ERR_MEMORY, "%s: not enough memory", what);
}

/* Room for one more at powers of two. */
static void *grow(void *list, size_t count, size_t size) {
    if (count > 0 && (count & (count - 1)) != 0)
        return list;
    return realloc(list, (count == 0 ? 1 : 2 * count) * size);
}

vd_status vd_review_leave_out(vd_review *r, const char *file, const char *reason) {
    vd_left_out *grown = grow(r->left_out, r->left_out_count, sizeof *grown);
    if (grown == NULL)
        return no_memory(file);
    r->left_out = grown;
    /* Messages begin with the path, which the file's name stands for here. */
    const size_t dir_bytes = strlen(r->dir), file_bytes = strlen(file);
    if (strncmp(reason, r->dir, dir_bytes) == 0 && reason[dir_bytes] == '/' &&
        strncmp(reason + dir_bytes + 1, file, file_bytes) == 0 &&
        strncmp(reason + dir_bytes + 1 + file_bytes, ": ", 2) == 0)
        reason += dir_bytes + file_bytes + 3;
    vd_left_out *entry = &r->left_out[r->left_out_count++];
    *entry = (vd_left_out){strdup(file), strdup(reason)};
    return entry->file != NULL && entry->reason != NULL ? VD_OK : no_memory(file);
}

static bool ends_in(const char *name, const char *end) {
    const size_t bytes = strlen(name), end_bytes = strlen(end);
    return bytes > end_bytes && strcasecmp(name + bytes - end_bytes, end) == 0;
}

/* What stands beside clips and is none. */
static bool is_companion(const char *name) {
    static const char *const ends[] = {".json", ".jsonl", ".html", ".safetensors"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends_in(name, ends[i]))
            return true;
    return name[0] == '.';
}

/* "f0012.png": 12, and 1 for where the digits begin; -1 without a number of at most nine digits. */
static long frame_number(const char *name, size_t *digits_at) {
    size_t end = strlen(name) - strlen(".png"), start = end;
    while (start > 0 && name[start - 1] >= '0' && name[start - 1] <= '9')
        start--;
    *digits_at = start;
    return end > start && end - start <= 9 ? strtol(name + start, NULL, 10) : -1;
}

/* Whether `name` is the frame after the last one of the clip. */
static bool continues(const vd_review_clip *clip, const char *name, const char *settings) {
    size_t start = 0, last_start = 0;
    if (strcmp(clip->codec, "png") != 0 || clip->settings == NULL || clip->paths == NULL ||
        strcmp(clip->settings, settings) != 0)
        return false;
    const char *last = strrchr(clip->paths[clip->path_count - 1], '/') + 1;
    const long number = frame_number(name, &start), before = frame_number(last, &last_start);
    return before >= 0 && number == before + 1 && start == last_start &&
           strncmp(name, last, start) == 0;
}

static vd_status add_path(vd_review_clip *clip, const char *path) {
    char **grown = grow(clip->paths, clip->path_count, sizeof *grown);
    if (grown == NULL)
        return no_memory(path);
    clip->paths = grown;
    clip->paths[clip->path_count] = strdup(path);
    return clip->paths[clip->path_count++] != NULL ? VD_OK : no_memory(path);
}

static vd_status add_clip(vd_review *r, const char *file, const char *path,
                          const vd_media_info *info, const char *settings) {
    vd_review_clip *grown = grow(r->clips, r->clip_count, sizeof *grown);
    if (grown == NULL)
        return no_memory(path);
    r->clips = grown;
    vd_review_clip *clip = &r->clips[r->clip_count++];
    *clip = (vd_review_clip){.file = strdup(file),
                             .settings = settings != NULL ? strdup(settings) : NULL,
                             .frames = info->frame_count,
                             .fps = info->fps_num > 0 ? (double)info->fps_num / info->fps_den : 0,
                             .scores = {.repetition = 0}};
    memcpy(clip->codec, info->codec, sizeof clip->codec);
    memcpy(clip->pix_fmt, info->pix_fmt, sizeof clip->pix_fmt);
    if (clip->file == NULL || (settings != NULL && clip->settings == NULL))
        return no_memory(path);
    return add_path(clip, path);
}

/* The recorded settings, or NULL if there are none that can be read. */
static const char *settings_of(const vd_media_info *info, const char *path) {
    vd_json *doc = NULL;
    const char *text = vd_media_info_get(info, "vidilate");
    if (text == NULL || vd_json_parse(text, strlen(text), path, &doc) != VD_OK)
        return NULL;
    const bool object = vd_json_type_of(vd_json_root(doc)) == VD_JSON_OBJECT;
    vd_json_destroy(doc);
    return object ? text : NULL;
}

static vd_status take_file(vd_review *r, const char *file, const char *path) {
    vd_media_info *info = NULL;
    vd_status st = vd_probe(path, VD_PROBE_HEADERS, 1, &info);
    if (st == VD_ERR_INPUT)
        return vd_review_leave_out(r, file, vd_error_message());
    if (st != VD_OK)
        return st;
    const char *settings = settings_of(info, path);
    const bool png = strcmp(info->container, "png") == 0;
    vd_review_clip *last = r->clip_count > 0 ? &r->clips[r->clip_count - 1] : NULL;
    if (vd_media_info_get(info, VD_SHEET_KEY) != NULL) {
        st = VD_OK;
    } else if (png && settings == NULL) {
        st = vd_review_leave_out(r, file, "is a picture without vidilate's settings, no clip");
    } else if (info->frame_count == 0) {
        st = vd_review_leave_out(r, file, "is damaged: holds no frame");
    } else if (png && last != NULL && continues(last, file, settings)) {
        st = add_path(last, path);
        last->frames++;
    } else {
        st = add_clip(r, file, path, info, settings);
    }
    vd_media_info_destroy(info);
    return st;
}

static int is_shown(const struct dirent *entry) {
    return !is_companion(entry->d_name);
}

static vd_status take_folder(vd_review *r) {
    struct dirent **entries = NULL;
    vd_status st = VD_OK;
    const int count = scandir(r->dir, &entries, is_shown, versionsort);
    if (count < 0)
        return vd_fail(VD_ERR_INPUT, "%s: %s", r->dir, strerror(errno));
    for (int i = 0; i < count && st == VD_OK; i++) {
        struct stat info;
        char *path = vd_format("%s/%s", r->dir, entries[i]->d_name);
        if (path == NULL)
            st = no_memory(r->dir);
        else if (stat(path, &info) != 0)
            st = vd_review_leave_out(r, entries[i]->d_name, strerror(errno));
        else if (S_ISREG(info.st_mode))
            st = take_file(r, entries[i]->d_name, path);
        free(path);
    }
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    return st;
}

vd_status vd_review_check(const vd_review *r) {
    if (r->clip_count > 0)
        return VD_OK;
    if (r->left_out_count > 0)
        return vd_fail(VD_ERR_INPUT, "%s: none of its files is a clip: %s: %s", r->dir,
                       r->left_out[0].file, r->left_out[0].reason);
    return vd_fail(VD_ERR_INPUT,
                   "%s: holds no clips; vidilate render and vidilate batch write some", r->dir);
}

vd_status vd_review_open(const char *dir, vd_review **out) {
    vd_status st = VD_OK;
    size_t bytes = strlen(dir);
    *out = NULL;
    vd_review *r = calloc(1, sizeof *r);
    if (r == NULL)
        return no_memory(dir);
    while (bytes > 1 && dir[bytes - 1] == '/')
        bytes--;
    r->dir = strndup(dir, bytes);
    if (r->dir == NULL) {
        st = no_memory(dir);
        goto done;
    }
    VD_TRY(take_folder(r));
    VD_TRY(vd_review_check(r));
    *out = r;
    r = NULL;
done:
    vd_review_close(r);
    return st;
}

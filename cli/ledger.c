#include "cli/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "core/text.h"

enum { MAX_BYTES = 1 << 30 };

/* Opens and locks; again if the file was replaced or removed between the two. A folder whose file
 * system has no locks is written without one. */
static vd_status open_locked(const char *path, int *out) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    for (;;) {
        struct stat opened, named;
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0)
            return vd_fail(VD_ERR_OUTPUT, "%s: cannot be opened: %s", path, strerror(errno));
        while (fcntl(fd, F_SETLKW, &whole) != 0)
            if (errno != EINTR)
                break;
        if (fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_ino == named.st_ino &&
            opened.st_dev == named.st_dev) {
            *out = fd;
            return VD_OK;
        }
        close(fd);
    }
}

static vd_status read_all(int fd, const char *path, char **out, size_t *bytes) {
    struct stat info;
    *out = NULL;
    if (fstat(fd, &info) != 0 || info.st_size > MAX_BYTES)
        return vd_fail(VD_ERR_INPUT, "%s: cannot be read", path);
    char *text = malloc((size_t)info.st_size + 1);
    if (!text)
        return vd_fail(VD_ERR_MEMORY, "%s: no memory to read it", path);
    size_t done = 0;
    while (done < (size_t)info.st_size) {
        ssize_t n = pread(fd, text + done, (size_t)info.st_size - done, (off_t)done);
        if (n <= 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    text[done] = '\0';
    *out = text;
    *bytes = done;
    return VD_OK;
}

static bool write_all(int fd, const char *text, size_t bytes) {
    while (bytes > 0) {
        ssize_t n = write(fd, text, bytes);
        if (n < 0 && errno != EINTR)
            return false;
        text += n > 0 ? n : 0;
        bytes -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Keeps the whole lines of other jobs, in place; returns their bytes. */
static size_t keep_others(char *text, size_t bytes, const char *head) {
    size_t kept = 0, head_bytes = strlen(head);
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        if (!end)
            break;
        size_t length = (size_t)(end - text) + 1 - at;
        if (length < head_bytes || memcmp(text + at, head, head_bytes) != 0) {
            memmove(text + kept, text + at, length);
            kept += length;
        }
        at += length;
    }
    return kept;
}

static vd_status replace(const char *path, const char *text, size_t bytes, const char *line) {
    vd_status st = VD_OK;
    /* One name for all: only who has the lock writes it, and a killed one's is written over. */
    char *temp = vd_format("%s.new", path);
    int fd = temp ? open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    bool good = fd >= 0 && write_all(fd, text, bytes) &&
                (!line || (write_all(fd, line, strlen(line)) && write_all(fd, "\n", 1))) &&
                fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0)
        good = false;
    if (!good || rename(temp, path) != 0) {
        st = vd_fail(VD_ERR_OUTPUT, "%s: cannot be written: %s", path, strerror(errno));
        if (temp)
            (void)unlink(temp);
    }
    free(temp);
    return st;
}

/* line NULL: only removes. */
static vd_status change(const char *path, const char *name, const char *line) {
    vd_status st = VD_OK;
    int fd = -1;
    size_t bytes = 0;
    char *text = NULL, *head = vd_format("{\"name\":\"%s\"", name), *whole = NULL;
    VD_TRY(open_locked(path, &fd));
    VD_TRY(read_all(fd, path, &text, &bytes));
    whole = line ? vd_format("%s\n", line) : NULL;
    if (!head || (line && !whole)) {
        st = vd_fail(VD_ERR_MEMORY, "%s: no memory for a line", path);
        goto done;
    }
    size_t kept = keep_others(text, bytes, head);
    if (!line && kept == 0) {
        (void)unlink(path);
    } else if (kept != bytes) {
        st = replace(path, text, kept, line);
    } else if (line) {
        /* In one write: a process that is killed writes all of it or nothing. */
        if (lseek(fd, 0, SEEK_END) < 0 || !write_all(fd, whole, strlen(whole)) || fsync(fd) != 0)
            st = vd_fail(VD_ERR_OUTPUT, "%s: cannot be written: %s", path, strerror(errno));
    }
done:
    if (fd >= 0)
        close(fd);
    free(text);
    free(head);
    free(whole);
    return st;
}

vd_status cli_ledger_put(const char *path, const char *name, const char *line) {
    return change(path, name, line);
}

vd_status cli_ledger_drop(const char *path, const char *name) {
    return access(path, F_OK) == 0 ? change(path, name, NULL) : VD_OK;
}

/* ---- reading ------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const cli_ledger_entry *)a)->name, ((const cli_ledger_entry *)b)->name);
}

static vd_status add_entry(cli_ledger *ledger, const vd_json *doc) {
    const char *name = NULL, *fingerprint = NULL;
    const vd_json_value *root = vd_json_root(doc);
    if (vd_json_type_of(root) != VD_JSON_OBJECT ||
        vd_json_text(doc, root, "name", NULL, &name) != VD_OK || !name ||
        vd_json_text(doc, root, "fingerprint", "", &fingerprint) != VD_OK)
        return VD_OK;
    if ((ledger->count & (ledger->count - 1)) == 0) {
        size_t room = ledger->count > 0 ? 2 * ledger->count : 1;
        cli_ledger_entry *list = realloc(ledger->list, room * sizeof *list);
        if (!list)
            return vd_fail(VD_ERR_MEMORY, "no memory for a list of jobs");
        ledger->list = list;
    }
    cli_ledger_entry *e = &ledger->list[ledger->count++];
    *e = (cli_ledger_entry){strdup(name), strdup(fingerprint)};
    return e->name && e->fingerprint ? VD_OK
                                     : vd_fail(VD_ERR_MEMORY, "no memory for a list of jobs");
}

vd_status cli_ledger_read(const char *path, cli_ledger *out) {
    vd_status st = VD_OK;
    char *text = NULL;
    size_t bytes = 0;
    *out = (cli_ledger){0};
    if (access(path, F_OK) != 0)
        return VD_OK;
    VD_TRY(vd_read_file(path, MAX_BYTES, &text, &bytes));
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        vd_json *doc = NULL;
        if (vd_json_parse(line, (size_t)(end - line), path, &doc) != VD_OK)
            continue;
        st = add_entry(out, doc);
        vd_json_destroy(doc);
        if (st != VD_OK)
            goto done;
    }
    if (out->count > 1)
        qsort(out->list, out->count, sizeof *out->list, by_name);
done:
    free(text);
    if (st != VD_OK)
        cli_ledger_free(out);
    return st;
}

void cli_ledger_free(cli_ledger *ledger) {
    for (size_t i = 0; i < ledger->count; i++) {
        free(ledger->list[i].name);
        free(ledger->list[i].fingerprint);
    }
    free(ledger->list);
    *ledger = (cli_ledger){0};
}

static int name_order(const void *name, const void *entry) {
    return strcmp(name, ((const cli_ledger_entry *)entry)->name);
}

bool cli_ledger_has(const cli_ledger *ledger, const char *name, const char *fingerprint) {
    const cli_ledger_entry *e = ledger->count > 0 ? bsearch(name, ledger->list, ledger->count,
                                                            sizeof *ledger->list, name_order)
                                                  : NULL;
    return e && strcmp(e->fingerprint, fingerprint) == 0;
}

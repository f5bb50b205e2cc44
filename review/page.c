/* The page: a template with the style, the script, the clips' facts as JSON, and the clips. */
#include "review/page_source.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/sha256.h"
#include "core/text.h"
#include "encode/part_file.h"
#include "review/parts.h"

typedef struct page {
    const vd_review *review;
    const char *path, *program;
    bool embed;
    char *clips_address; /* of the clips' folder, relative to the page's; "" where it is the same */
    char **src;          /* [clip_count], NULL: inside */
    FILE *file;
    char *data; /* JSON */
} page;

/* ---- base64 (RFC 4648) --------------------------------------------------------------------- */

static void encode_group(const uint8_t *in, size_t bytes, char out[4]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned v = (unsigned)in[0] << 16 | (bytes > 1 ? (unsigned)in[1] << 8 : 0) |
                       (bytes > 2 ? (unsigned)in[2] : 0);
    out[0] = digits[v >> 18];
    out[1] = digits[v >> 12 & 63];
    out[2] = '=';
    out[3] = '=';
    if (bytes > 1)
        out[2] = digits[v >> 6 & 63];
    if (bytes > 2)
        out[3] = digits[v & 63];
}

static void write_base64(FILE *to, const uint8_t *data, size_t bytes) {
    char group[4];
    for (size_t i = 0; i < bytes; i += 3) {
        encode_group(data + i, bytes - i < 3 ? bytes - i : 3, group);
        (void)fwrite(group, 1, sizeof group, to);
    }
}

/* ---- parts of the page ---------------------------------------------------------------------- */

/* Nothing of a text may end the element that it stands in: "<" is written as an escape that JSON
 * knows. */
static void write_json(FILE *to, const char *json) {
    for (const char *c = json; *c != '\0'; c++) {
        if (*c == '<')
            (void)fputs("\\u003c", to);
        else
            (void)fputc(*c, to);
    }
}

/* Whatever the escaping misses: only our script runs, and nothing is fetched from a network. */
static void write_policy(FILE *to) {
    uint8_t digest[VD_SHA256_BYTES];
    vd_sha256(vd_page_script, vd_page_script_bytes, digest);
    (void)fputs("default-src 'none'; script-src 'sha256-", to);
    write_base64(to, digest, sizeof digest);
    (void)fputs("'; style-src 'unsafe-inline'; img-src data: blob:; media-src 'self' file: blob:; "
                "base-uri 'none'; form-action 'none'",
                to);
}

static vd_status write_file_base64(FILE *to, const char *path) {
    uint8_t buffer[3 * 4096]; /* whole groups */
    FILE *from = fopen(path, "rbe");
    if (from == NULL)
        return vd_fail(VD_ERR_INPUT, "%s: %s", path, strerror(errno));
    for (size_t got; (got = fread(buffer, 1, sizeof buffer, from)) > 0;)
        write_base64(to, buffer, got);
    const bool failed = ferror(from) != 0;
    (void)fclose(from);
    return failed ? vd_fail(VD_ERR_INPUT, "%s: reading failed", path) : VD_OK;
}

static vd_status write_clips(const page *p) {
    for (size_t i = 0; i < p->review->clip_count; i++) {
        if (p->src[i] != NULL)
            continue;
        (void)fprintf(p->file, "<script type=\"text/plain\" id=\"clip-%zu\">", i);
        vd_status st = write_file_base64(p->file, p->review->clips[i].shown);
        if (st != VD_OK)
            return st;
        (void)fputs("</script>\n", p->file);
    }
    return VD_OK;
}

/* What stands for {{name}} in the template. */
static vd_status write_part(const page *p, const char *name, size_t bytes) {
    if (strncmp(name, "policy", bytes) == 0)
        write_policy(p->file);
    else if (strncmp(name, "style", bytes) == 0)
        (void)fwrite(vd_page_style, 1, vd_page_style_bytes, p->file);
    else if (strncmp(name, "script", bytes) == 0)
        (void)fwrite(vd_page_script, 1, vd_page_script_bytes, p->file);
    else if (strncmp(name, "data", bytes) == 0)
        write_json(p->file, p->data);
    else if (strncmp(name, "clips", bytes) == 0)
        return write_clips(p);
    return VD_OK;
}

static vd_status write_template(const page *p) {
    const char *at = (const char *)vd_page_template, *end = at + vd_page_template_bytes;
    vd_status st = VD_OK;
    while (st == VD_OK && at < end) {
        const char *open = memmem(at, (size_t)(end - at), "{{", 2);
        const char *close = open != NULL ? memmem(open, (size_t)(end - open), "}}", 2) : NULL;
        (void)fwrite(at, 1, (size_t)((close != NULL ? open : end) - at), p->file);
        if (close == NULL)
            break;
        st = write_part(p, open + 2, (size_t)(close - open - 2));
        at = close + 2;
    }
    return st;
}

/* ---- addresses of clips that stay outside -------------------------------------------------- */

static char *percent_encoded(const char *path) {
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    char *out = malloc(3 * strlen(path) + 1), *to = out;
    for (const char *c = path; out != NULL && *c != '\0'; c++) {
        if (strchr(plain, *c) != NULL)
            *to++ = *c;
        else
            to += snprintf(to, 4, "%%%02X", (unsigned char)*c);
    }
    if (out != NULL)
        *to = '\0';
    return out;
}

/* The way from one folder to another, both absolute and without links: "", or with a slash at its
 * end. */
static char *relative_folder(const char *from, const char *to) {
    size_t common = 0, ups = 0;
    for (size_t i = 0;; i++) {
        const bool from_ends = from[i] == '/' || from[i] == '\0';
        const bool to_ends = to[i] == '/' || to[i] == '\0';
        if (from_ends && to_ends)
            common = i;
        if (from[i] == '\0' || from[i] != to[i])
            break;
    }
    for (const char *c = from + common; *c != '\0'; c++)
        ups += *c == '/' && c[1] != '\0';
    const char *rest = to + common + (to[common] == '/');
    char *out = vd_format("%s%s", rest, *rest != '\0' ? "/" : "");
    while (out != NULL && ups-- > 0) {
        char *longer = vd_format("../%s", out);
        free(out);
        out = longer;
    }
    return out;
}

static vd_status find_clips_address(page *p) {
    char from[PATH_MAX], to[PATH_MAX];
    const char *slash = strrchr(p->path, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(p->path, (size_t)(slash - p->path + 1));
    if (folder == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory", p->path);
    const bool found = realpath(folder, from) != NULL;
    const int error = errno;
    free(folder);
    if (!found)
        return vd_fail(VD_ERR_OUTPUT, "%s: %s", p->path, strerror(error));
    if (realpath(p->review->dir, to) == NULL)
        return vd_fail(VD_ERR_INPUT, "%s: %s", p->review->dir, strerror(errno));
    p->clips_address = relative_folder(from, to);
    return p->clips_address != NULL ? VD_OK
                                    : vd_fail(VD_ERR_MEMORY, "%s: not enough memory", p->path);
}

static vd_status find_addresses(page *p) {
    vd_status st = VD_OK;
    p->src = calloc(p->review->clip_count, sizeof *p->src);
    if (p->src == NULL)
        return vd_fail(VD_ERR_MEMORY, "%s: not enough memory", p->path);
    if (p->embed)
        return VD_OK;
    VD_TRY(find_clips_address(p));
    for (size_t i = 0; i < p->review->clip_count && st == VD_OK; i++) {
        const vd_review_clip *clip = &p->review->clips[i];
        if (clip->is_copy)
            continue;
        char *address = vd_format("%s%s", p->clips_address, clip->file);
        p->src[i] = address != NULL ? percent_encoded(address) : NULL;
        free(address);
        if (p->src[i] == NULL)
            st = vd_fail(VD_ERR_MEMORY, "%s: not enough memory", p->path);
    }
done:
    return st;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static const char *src_of(void *user, size_t clip) {
    const page *p = user;
    return p->src[clip];
}

static vd_status make_data(page *p) {
    char resolved[PATH_MAX];
    vd_json_writer *w = NULL;
    vd_status st = VD_OK;
    const char *folder = realpath(p->review->dir, resolved) != NULL ? resolved : p->review->dir;
    VD_TRY(vd_json_writer_create(&w));
    vd_json_begin_object(w, NULL);
    vd_json_put_int(w, "version", 1);
    vd_json_put_string(w, "program", p->program);
    /* The folder's name keeps the picks of different folders apart in a browser. */
    vd_json_put_string(w, "folder", folder);
    VD_TRY(vd_review_put(p->review, w, src_of, p));
    vd_json_end(w);
    VD_TRY(vd_json_writer_finish(w, false, &p->data));
done:
    vd_json_writer_destroy(w);
    return st;
}

static int64_t bytes_with_clips(const vd_review *r) {
    int64_t sum = (int64_t)(vd_page_template_bytes + vd_page_style_bytes + vd_page_script_bytes);
    for (size_t i = 0; i < r->clip_count; i++) {
        struct stat info;
        if (stat(r->clips[i].shown, &info) == 0)
            sum += (int64_t)info.st_size / 3 * 4 + 2048;
    }
    return sum;
}

static vd_status write_page(page *p, const vd_part_file *part, int64_t *bytes) {
    p->file = fopen(part->temp, "wbe");
    if (p->file == NULL)
        return vd_fail(VD_ERR_OUTPUT, "%s: %s", p->path, strerror(errno));
    vd_status st = write_template(p);
    *bytes = ftello(p->file);
    const bool failed = ferror(p->file) != 0;
    const int error = errno;
    if ((fclose(p->file) != 0 || failed) && st == VD_OK)
        st = vd_fail(VD_ERR_OUTPUT, "%s: writing failed: %s", p->path,
                     strerror(failed ? error : errno));
    return st;
}

vd_status vd_page_check(const char *path) {
    vd_part_file part = {0};
    vd_status st = vd_part_file_create(&part, path);
    vd_part_file_discard(&part);
    return st;
}

vd_status vd_page_write(const vd_review *review, const char *path, const char *program,
                        vd_embed embed, vd_page_info *out) {
    page p = {.review = review, .path = path, .program = program};
    vd_part_file part = {0};
    vd_status st = VD_OK;
    out->embedded_bytes = bytes_with_clips(review);
    p.embed = embed == VD_EMBED_ALWAYS ||
              (embed == VD_EMBED_AUTO && out->embedded_bytes <= VD_PAGE_BYTES_MAX);
    out->embedded = p.embed;
    VD_TRY(find_addresses(&p));
    VD_TRY(make_data(&p));
    VD_TRY(vd_part_file_create(&part, path));
    VD_TRY(write_page(&p, &part, &out->bytes));
    VD_TRY(vd_part_file_commit(&part));
done:
    vd_part_file_discard(&part);
    for (size_t i = 0; p.src != NULL && i < review->clip_count; i++)
        free(p.src[i]);
    free(p.src);
    free(p.clips_address);
    free(p.data);
    return st;
}

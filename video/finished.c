/* Whether an output is there already: a finished one is neither rendered nor overwritten. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "encode/probe.h"
#include "encode/sink.h"
#include "video/model.h"
#include "video/request.h"

/* The value's JSON; NULL where memory ran out. */
static char *value_text(const vd_json_value *v) {
    vd_json_writer *w = NULL;
    char *text = NULL;
    if (vd_json_writer_create(&w) == VD_OK) {
        vd_json_put_value(w, NULL, v);
        (void)vd_json_writer_finish(w, false, &text);
    }
    vd_json_writer_destroy(w);
    return text;
}

static bool same_value(const vd_json_value *a, const vd_json_value *b) {
    char *x = a ? value_text(a) : NULL, *y = b ? value_text(b) : NULL;
    bool same = x && y && strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

static bool counts(const vd_model *m, const char *key) {
    return strcmp(key, "version") != 0 && strcmp(key, "model-size") != 0 &&
           !(m->auto_backend && strcmp(key, "backend") == 0) &&
           !(m->auto_dtype && strcmp(key, "dtype") == 0);
}

/* The first key of `a` with another value in `b`; NULL if there is none. */
static const char *first_difference(const vd_model *m, const vd_json *a, const vd_json *b) {
    for (const vd_json_value *v = vd_json_first(vd_json_root(a)); v; v = vd_json_next(v))
        if (counts(m, vd_json_key(v)) &&
            !same_value(v, vd_json_get(vd_json_root(b), vd_json_key(v))))
            return vd_json_key(v);
    return NULL;
}

static vd_status compare(const vd_model *m, const char *file, const char *recorded,
                         const char *wanted) {
    vd_status st = VD_OK;
    vd_json *a = NULL, *b = NULL;
    const char *key = NULL;
    VD_TRY(vd_json_parse(recorded, strlen(recorded), file, &a));
    VD_TRY(vd_json_parse(wanted, strlen(wanted), "request", &b));
    key = first_difference(m, a, b);
    if (!key)
        key = first_difference(m, b, a);
    if (key)
        st = vd_fail(VD_ERR_OUTPUT,
                     "%s: is there already, made with another %s; name another file, or replace it "
                     "with --force",
                     file, key);
done:
    vd_json_destroy(a);
    vd_json_destroy(b);
    return st;
}

vd_status vd_output_finished(vd_model *model, const vd_render_request *request,
                             const vd_output *output, bool *finished) {
    vd_status st = VD_OK;
    char *first = NULL, *last = NULL, *wanted = NULL;
    vd_media_info *info = NULL;
    *finished = false;
    VD_TRY(vd_sink_file(output->path, 1, &first));
    VD_TRY(vd_sink_file(output->path, request->frames, &last));
    if (!first || access(first, F_OK) != 0)
        goto done;
    const char *recorded = NULL;
    if (vd_probe(first, VD_PROBE_HEADERS, 1, &info) == VD_OK)
        recorded = vd_media_info_get(info, "vidilate");
    if (!recorded) {
        st = vd_fail(VD_ERR_OUTPUT,
                     "%s: is there already, and vidilate did not make it; name another file, or "
                     "replace it with --force",
                     first);
        goto done;
    }
    VD_TRY(vd_request_describe(model, request, output, &wanted));
    VD_TRY(compare(model, first, recorded, wanted));
    *finished = access(last, F_OK) == 0;
done:
    vd_media_info_destroy(info);
    free(first);
    free(last);
    free(wanted);
    return st;
}

/* ScaleCrafter's own lists: one "module.path:factor" a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "unet3d/settings.h"

static const double min_factor = 1;
static const double max_factor = 16;

static char *trim(char *text) {
    static const char blank[] = " \t\r";
    text += strspn(text, blank);
    for (size_t n = strlen(text); n > 0 && strchr(blank, text[n - 1]) != NULL; n--)
        text[n - 1] = '\0';
    return text;
}

static vd_status read_line(char *line, int number, vd_settings *s) {
    char *colon = strrchr(line, ':');
    vd_dilate_entry *entry = &s->dilate[s->dilate_count];
    double factor = 0;
    char shown[80];
    if (colon != NULL)
        *colon = '\0';
    if (colon == NULL || !vd_parse_double(trim(colon + 1), &factor)) {
        vd_escape_line(shown, sizeof shown, line);
        return vd_fail(VD_ERR_INPUT,
                       "%s: line %d: \"%s\" is neither the start of JSON nor module.path:factor",
                       s->origin, number, shown);
    }
    if (!(factor >= min_factor && factor <= max_factor))
        return vd_fail(VD_ERR_INPUT, "%s: line %d: the dilation %g is outside %g to %g", s->origin,
                       number, factor, min_factor, max_factor);
    entry->factor = (vd_redilation){factor, factor};
    entry->name = strdup(trim(line));
    if (entry->name == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for settings");
    s->dilate_count++;
    return VD_OK;
}

static size_t count_lines(const char *text) {
    size_t count = 1;
    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

vd_status vd_settings_parse_list(char *text, const char *origin, vd_settings **out) {
    vd_status st = VD_OK;
    vd_settings *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL || (s->origin = strdup(origin)) == NULL ||
        (s->dilate = calloc(count_lines(text), sizeof *s->dilate)) == NULL) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for settings");
        goto done;
    }
    s->is_list = true;
    s->dilate_tau = VD_ALL_STEPS;
    int number = 0;
    for (char *next = NULL, *line = text; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        number++;
        line = trim(line);
        if (*line != '\0')
            VD_TRY(read_line(line, number, s));
    }
    if (s->dilate_count == 0) {
        st = vd_fail(VD_ERR_INPUT, "%s: names no layer", origin);
        goto done;
    }
    *out = s;
    s = NULL;
done:
    vd_settings_destroy(s);
    return st;
}

static bool is_missing(const char *name, const char *const *paths) {
    for (; *paths != NULL; paths++)
        if (vd_settings_name_covers(name, *paths))
            return false;
    return vd_settings_why_never(name) == NULL;
}

vd_status vd_settings_drop_missing(vd_settings *s, const char *const *paths, char **warning) {
    size_t kept = 0, dropped = 0;
    char *first = NULL;
    *warning = NULL;
    for (size_t i = 0; i < s->dilate_count; i++) {
        if (!is_missing(s->dilate[i].name, paths)) {
            s->dilate[kept++] = s->dilate[i];
            continue;
        }
        if (first == NULL)
            first = s->dilate[i].name;
        else
            free(s->dilate[i].name);
        dropped++;
    }
    s->dilate_count = kept;
    if (dropped == 0)
        return VD_OK;
    *warning = dropped == 1
                   ? vd_format("%s: the model has no layer \"%s\": left out", s->origin, first)
                   : vd_format("%s: the model has no layer \"%s\" nor %zu more: left out",
                               s->origin, first, dropped - 1);
    free(first);
    if (*warning == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a warning");
    if (kept == 0) {
        const vd_status st = vd_fail(VD_ERR_INPUT, "%s: names no layer that the model has (%s)",
                                     s->origin, paths[0]);
        free(*warning);
        *warning = NULL;
        return st;
    }
    return VD_OK;
}

/* The names of settings: which layers they cover, and what is wrong with the others. */
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "temporal/path.h"
#include "unet3d/settings.h"

bool vd_settings_name_covers(const char *name, const char *path) {
    const size_t length = strlen(name);
    return length > 0 && strncmp(name, path, length) == 0 &&
           (path[length] == '\0' || path[length] == '.');
}

const char *vd_settings_why_never(const char *name) {
    static const struct {
        const char *part, *why;
    } never[] = {
        {"temp_convs", "is temporal"},
        {"temp_attentions", "is temporal"},
        {"motion_modules", "is temporal"},
        {"transformer_in", "is temporal"},
        {"conv_in", "is the first convolution"},
        {"conv_out", "is the last convolution"},
        {"conv_shortcut", "is a 1x1 convolution"},
        {"attentions", "is attention"},
        {"time_emb_proj", "is no convolution"},
        {"time_embedding", "is no convolution"},
        {"norm1", "is a norm"},
        {"norm2", "is a norm"},
        {"conv_norm_out", "is a norm"},
    };
    while (name != NULL) {
        const size_t length = strcspn(name, ".");
        for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
            if (strlen(never[i].part) == length && strncmp(name, never[i].part, length) == 0)
                return never[i].why;
        name = strchr(name, '.');
        if (name != NULL)
            name++;
    }
    return NULL;
}

/* The nearest layer or prefix of one, into `out`; false if none is near. */
static bool nearest_name(const char *name, const char *const *paths, vd_path *out) {
    size_t best = SIZE_MAX;
    for (; *paths != NULL; paths++) {
        vd_path prefix = vd_path_join("", "%s", *paths);
        for (char *end = prefix.text; end != NULL; end = strrchr(prefix.text, '.')) {
            if (end != prefix.text)
                *end = '\0';
            const char *const one[2] = {prefix.text, NULL};
            const size_t distance = vd_edit_distance(name, prefix.text);
            if (distance < best && vd_nearest(name, one) != NULL) {
                best = distance;
                *out = prefix;
            }
        }
    }
    return best != SIZE_MAX;
}

static vd_status unknown_name(const vd_settings *s, const char *key, const char *name,
                              const char *const *paths) {
    vd_path near;
    const char *why = vd_settings_why_never(name);
    if (why != NULL)
        return vd_fail(VD_ERR_INPUT,
                       "%s: %s: \"%s\" %s; only the spatial 3x3 convolutions of resnets, "
                       "downsamplers and upsamplers can be re-dilated",
                       s->origin, key, name, why);
    if (nearest_name(name, paths, &near))
        return vd_fail(VD_ERR_INPUT, "%s: %s: the model has no layer \"%s\"; did you mean \"%s\"?",
                       s->origin, key, name, near.text);
    return vd_fail(VD_ERR_INPUT,
                   "%s: %s: the model has no layer \"%s\"; names are such as \"%s\" or "
                   "\"mid_block\"",
                   s->origin, key, name, paths[0]);
}

/* Notes in named_by, which has an element for each path, what `name` covers. */
static vd_status add_name(const vd_settings *s, const char *key, const char *name,
                          const char *const *paths, const char **named_by) {
    bool found = false;
    for (size_t k = 0; paths[k] != NULL; k++) {
        if (!vd_settings_name_covers(name, paths[k]))
            continue;
        found = true;
        if (named_by[k] != NULL)
            return vd_fail(VD_ERR_INPUT,
                           "%s: %s: \"%s\" and \"%s\" both name layer \"%s\"; keep one", s->origin,
                           key, named_by[k], name, paths[k]);
        named_by[k] = name;
    }
    return found ? VD_OK : unknown_name(s, key, name, paths);
}

/* A kernel enlarged at the plain dilation would shrink the map (method.md, section 16). */
static vd_status check_contained(const vd_settings *s, const char *key, const char *const *paths,
                                 const char **dispersed, const char **dilated) {
    for (size_t k = 0; paths[k] != NULL; k++)
        if (dispersed[k] != NULL && dilated[k] == NULL)
            return vd_fail(VD_ERR_INPUT,
                           "%s: disperse: \"%s\" names layer \"%s\", which is not in %s; only "
                           "re-dilated layers can be dispersed",
                           s->origin, dispersed[k], paths[k], key);
    return VD_OK;
}

vd_status vd_settings_check_names(const vd_settings *s, const char *const *paths) {
    vd_status st = VD_OK;
    size_t layers = 0;
    while (paths[layers] != NULL)
        layers++;
    const char **dilated = calloc(3 * layers + 1, sizeof *dilated);
    if (dilated == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the names of settings");
    const char **damped = dilated + layers, **dispersed = damped + layers;
    for (size_t i = 0; i < s->dilate_count; i++)
        VD_TRY(add_name(s, "dilate", s->dilate[i].name, paths, dilated));
    for (size_t i = 0; i < s->ndcfg_count; i++)
        VD_TRY(add_name(s, "ndcfg_dilate", s->ndcfg_dilate[i].name, paths, damped));
    for (size_t i = 0; i < s->disperse_count; i++)
        VD_TRY(add_name(s, "disperse", s->disperse[i], paths, dispersed));
    if (s->inflate_tau > 0)
        VD_TRY(check_contained(s, "dilate", paths, dispersed, dilated));
    if (s->inflate_tau > 0 && s->ndcfg_tau > 0)
        VD_TRY(check_contained(s, "ndcfg_dilate", paths, dispersed, damped));
done:
    free(dilated);
    return st;
}

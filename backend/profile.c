#include "backend/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vd_profiler {
    vd_op_profile *line;
    size_t count, room;
};

vd_status vd_profiler_create(vd_profiler **out) {
    *out = calloc(1, sizeof **out);
    return *out != NULL ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for the profile");
}

void vd_profiler_destroy(vd_profiler *p) {
    if (p == NULL)
        return;
    free(p->line);
    free(p);
}

void vd_profiler_clear(vd_profiler *p) {
    p->count = 0;
}

static vd_op_profile *find_or_append(vd_profiler *p, const char *name) {
    for (size_t i = 0; i < p->count; i++)
        if (strncmp(p->line[i].name, name, sizeof p->line[i].name - 1) == 0)
            return &p->line[i];
    if (p->count == p->room) {
        size_t room = p->room == 0 ? 128 : 2 * p->room;
        vd_op_profile *line = realloc(p->line, room * sizeof *line);
        if (line == NULL)
            return NULL;
        p->line = line;
        p->room = room;
    }
    vd_op_profile *fresh = &p->line[p->count++];
    *fresh = (vd_op_profile){0};
    snprintf(fresh->name, sizeof fresh->name, "%s", name);
    return fresh;
}

vd_status vd_profiler_add(vd_profiler *p, const char *name, double seconds, double flop,
                          double bytes) {
    vd_op_profile *line = find_or_append(p, name);
    if (line == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the profile");
    line->calls++;
    line->seconds += seconds;
    line->flop += flop;
    line->bytes += bytes;
    return VD_OK;
}

static int longest_first(const void *a, const void *b) {
    const vd_op_profile *x = a, *y = b;
    if (x->seconds != y->seconds)
        return x->seconds > y->seconds ? -1 : 1;
    return strcmp(x->name, y->name);
}

const vd_op_profile *vd_profiler_lines(vd_profiler *p, size_t *count) {
    if (p->count > 0)
        qsort(p->line, p->count, sizeof *p->line, longest_first);
    *count = p->count;
    return p->line;
}

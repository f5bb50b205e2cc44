#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend_impl.h"
#include "backend/module.h"

/* In the order in which "auto" tries them. A NULL table: in a module, if anywhere. */
static const struct {
    const char *name;
    const vd_backend_table *table;
} backends[] = {
    {"cuda", NULL},
#ifdef VD_HAVE_CPU
    {"cpu", &vd_cpu_backend},
#endif
};

enum { BACKEND_COUNT = sizeof backends / sizeof backends[0], MAX_THREADS = 1024 };

static vd_status open_table(const vd_backend_table *table, int threads, vd_backend **out) {
    vd_backend *be = calloc(1, sizeof *be);
    if (be == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a backend");
    be->table = table;
    vd_status st = table->open(be, threads);
    if (st != VD_OK) {
        free(be);
        return st;
    }
    *out = be;
    return VD_OK;
}

static bool has_driver(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver != NULL)
        dlclose(driver);
    return driver != NULL;
}

/* *present: there may be a device, so that a failure is worth a word. Without a driver "auto" does
 * not load libraries of half a gigabyte to learn that there is none. */
static vd_status load_table(const char *name, bool any, const vd_backend_table **out,
                            bool *present) {
    const vd_module *module = NULL;
    *out = NULL;
    *present = !any || has_driver();
    if (!*present)
        return VD_OK;
    vd_status st = vd_module_load(name, &module, present);
    if (st != VD_OK)
        return st;
    *present = module->has_device();
    *out = module->table;
    return VD_OK;
}

vd_status vd_backend_open(const char *name, int threads, vd_backend **out) {
    *out = NULL;
    if (threads < 0 || threads > MAX_THREADS)
        return vd_fail(VD_ERR_USAGE, "threads is %d: give 1 to %d, or 0 for one per core", threads,
                       MAX_THREADS);
    const bool any = strcmp(name, "auto") == 0;
    vd_status st = VD_OK;
    for (int i = 0; i < BACKEND_COUNT; i++) {
        const vd_backend_table *table = backends[i].table;
        bool present = true;
        if (!any && strcmp(name, backends[i].name) != 0)
            continue;
        st = table == NULL ? load_table(backends[i].name, any, &table, &present) : VD_OK;
        if (st == VD_OK && any && !present)
            continue;
        if (st == VD_OK)
            st = open_table(table, threads, out);
        if (st == VD_OK || !any)
            return st;
        if (present && i + 1 < BACKEND_COUNT)
            vd_log(VD_LOG_WARNING, "%s", vd_error_message());
    }
    if (any)
        return st != VD_OK ? st : vd_fail(VD_ERR_BACKEND, "no backend of this build works here");
    return vd_fail(VD_ERR_USAGE, "no backend is named \"%s\": use auto, cpu or cuda", name);
}

void vd_backend_close(vd_backend *be) {
    if (be == NULL)
        return;
    be->table->close(be);
    free(be);
}

const char *vd_backend_name(const vd_backend *be) {
    return be->table->name;
}

const char *vd_backend_description(const vd_backend *be) {
    return be->description;
}

bool vd_backend_on_host(const vd_backend *be) {
    return strcmp(be->table->name, "cpu") == 0;
}

int vd_backend_threads(const vd_backend *be) {
    return be->threads;
}

vd_dtype vd_backend_auto_dtype(const vd_backend *be) {
    return be->table->auto_dtype(be);
}

bool vd_backend_has_dtype(const vd_backend *be, vd_dtype dtype) {
    return be->table->has_dtype(be, dtype);
}

vd_status vd_backend_parse_dtype(const vd_backend *be, const char *name, vd_dtype *out) {
    static const struct {
        const char *name;
        vd_dtype dtype;
    } known[] = {{"f32", VD_F32}, {"bf16", VD_BF16}, {"f16", VD_F16}};
    if (!name || strcmp(name, "auto") == 0) {
        *out = vd_backend_auto_dtype(be);
        return VD_OK;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i].name) != 0)
            continue;
        *out = known[i].dtype;
        if (!vd_backend_has_dtype(be, *out))
            return vd_fail(
                VD_ERR_BACKEND,
                "the %s backend on this machine does not compute in %s: use --dtype auto",
                vd_backend_name(be), name);
        return VD_OK;
    }
    return vd_fail(VD_ERR_USAGE, "unknown dtype \"%s\": auto, f32, bf16 or f16", name);
}

const char *vd_dtype_option(vd_dtype dtype) {
    return dtype == VD_BF16 ? "bf16" : dtype == VD_F16 ? "f16" : "f32";
}

vd_status vd_backend_alloc(vd_backend *be, size_t bytes, void **out) {
    *out = NULL;
    return be->table->alloc(be, bytes, out);
}

void vd_backend_free(vd_backend *be, void *ptr) {
    if (ptr != NULL)
        be->table->free(be, ptr);
}

vd_status vd_backend_upload(vd_backend *be, void *dst_device, const void *src_host, size_t bytes) {
    return be->table->upload(be, dst_device, src_host, bytes);
}

vd_status vd_backend_download(vd_backend *be, void *dst_host, const void *src_device,
                              size_t bytes) {
    return be->table->download(be, dst_host, src_device, bytes);
}

vd_status vd_backend_copy(vd_backend *be, void *dst, const void *src, size_t bytes) {
    return be->table->copy(be, dst, src, bytes);
}

vd_status vd_backend_synchronize(vd_backend *be) {
    return be->table->synchronize == NULL ? VD_OK : be->table->synchronize(be);
}

bool vd_backend_memory(const vd_backend *be, size_t *left, size_t *total) {
    *left = *total = 0;
    return be->table->memory != NULL && be->table->memory(be, left, total);
}

/* ---- weights ------------------------------------------------------------------------------- */

static bool is_float(vd_dtype dtype) {
    return dtype == VD_F64 || dtype == VD_F32 || dtype == VD_F16 || dtype == VD_BF16;
}

static vd_status check_part(const vd_backend *be, const vd_weight_part *part, int rank,
                            vd_dtype dtype) {
    const vd_tensor *t = &part->tensor;
    char shape[128];
    vd_tensor_describe(t, shape, sizeof shape);
    if (!vd_backend_has_dtype(be, dtype))
        return vd_fail(VD_ERR_BACKEND, "the %s backend cannot compute in %s here",
                       vd_backend_name(be), vd_dtype_name(dtype));
    if (t->data == NULL || t->rank != rank || !is_float(t->dtype) || vd_tensor_elements(t) <= 0)
        return vd_fail(VD_ERR_BACKEND, "weight: %s is not a float matrix of rank %d", shape, rank);
    if (part->first_column < 0 || part->columns < 1 || part->first_column > t->dim[1] ||
        part->columns > t->dim[1] - part->first_column)
        return vd_fail(VD_ERR_BACKEND, "weight: columns %lld+%lld are not in %s",
                       (long long)part->first_column, (long long)part->columns, shape);
    return VD_OK;
}

vd_status vd_weight_create_linear(vd_backend *be, const vd_weight_part *parts, int part_count,
                                  vd_dtype dtype, vd_weight **out) {
    *out = NULL;
    if (part_count < 1)
        return vd_fail(VD_ERR_BACKEND, "weight: a matrix of no parts");
    for (int i = 0; i < part_count; i++) {
        vd_status st = check_part(be, &parts[i], 2, dtype);
        if (st != VD_OK)
            return st;
        if (parts[i].columns != parts[0].columns)
            return vd_fail(VD_ERR_BACKEND, "weight: parts of %lld and %lld columns cannot be fused",
                           (long long)parts[0].columns, (long long)parts[i].columns);
    }
    return be->table->create_linear(be, parts, part_count, dtype, out);
}

vd_status vd_weight_create_conv(vd_backend *be, const vd_weight_part *part, vd_dtype dtype,
                                vd_weight **out) {
    enum { MOST = 64 };
    const int64_t *dim = part->tensor.dim;
    *out = NULL;
    vd_status st = check_part(be, part, 4, dtype);
    if (st != VD_OK)
        return st;
    if (dim[2] > MOST || dim[3] > MOST)
        return vd_fail(VD_ERR_BACKEND, "a kernel of %lldx%lld taps is larger than %dx%d",
                       (long long)dim[2], (long long)dim[3], MOST, MOST);
    return be->table->create_conv(be, part, dtype, out);
}

vd_status vd_weight_create_vector(vd_backend *be, const vd_tensor *parts, int part_count,
                                  vd_weight **out) {
    *out = NULL;
    if (part_count < 1)
        return vd_fail(VD_ERR_BACKEND, "weight: a vector of no parts");
    for (int i = 0; i < part_count; i++)
        if (parts[i].data == NULL || !is_float(parts[i].dtype) || vd_tensor_elements(&parts[i]) < 1)
            return vd_fail(VD_ERR_BACKEND, "weight: part %d of a vector has no float values", i);
    return be->table->create_vector(be, parts, part_count, out);
}

void vd_weight_destroy(vd_backend *be, vd_weight *w) {
    if (w == NULL)
        return;
    free(w->layer);
    be->table->destroy_weight(be, w);
}

vd_status vd_weight_set_layer(vd_weight *w, const char *layer) {
    free(w->layer);
    w->layer = strdup(layer);
    return w->layer != NULL ? VD_OK : vd_fail(VD_ERR_MEMORY, "no memory for a layer's name");
}

vd_status vd_backend_set_offload(vd_backend *be, bool on) {
    if (be->table->set_offload == NULL)
        return vd_fail(VD_ERR_USAGE,
                       "offload: the %s backend computes in the machine's own memory, where the "
                       "weights are already: leave the option out",
                       vd_backend_name(be));
    const vd_status st = be->table->set_offload(be, on);
    be->offload = on && st == VD_OK;
    return st;
}

bool vd_backend_offloads(const vd_backend *be) {
    return be->offload || be->offloaded_bytes > 0;
}

size_t vd_backend_weight_bytes(const vd_backend *be) {
    return be->weight_bytes;
}

size_t vd_backend_offloaded_bytes(const vd_backend *be) {
    return be->offloaded_bytes;
}

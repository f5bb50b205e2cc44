/* A backend in a shared object of its own, so that the program starts where its libraries are not.
 * The object is built with the program and speaks to it through the two structs of this file. */
#ifndef VD_BACKEND_MODULE_H
#define VD_BACKEND_MODULE_H

#include "backend/backend_impl.h"
#include "core/log.h"

/* What the object may call. Messages arrive formatted. */
typedef struct vd_module_host {
    vd_status (*fail)(vd_status code, const char *line);
    vd_status (*fail_in)(vd_status code, const char *context);
    void (*log)(vd_log_level level, const char *line);
    vd_status (*scratch)(vd_exec *x, size_t bytes, void **out);
    void (*scratch_free)(vd_exec *x, void *ptr);
} vd_module_host;

/* What the object exports, as vd_backend_module. A `layout` that is not VD_MODULE_LAYOUT is another
 * build's. */
typedef struct vd_module {
    size_t layout;
    const vd_backend_table *table;
    void (*start)(const vd_module_host *host);
    bool (*has_device)(void);
} vd_module;

#define VD_MODULE_LAYOUT                                                                           \
    (sizeof(vd_backend_table) * 1000003 + sizeof(vd_op_table) * 1009 + sizeof(vd_backend) * 31 +   \
     sizeof(vd_exec) * 7 + sizeof(vd_tensor) + sizeof(vd_attention_desc) + sizeof(vd_module_host))

/* Loads libvidilate_NAME.so: $VIDILATE_MODULE_DIR, else from where this code lies, else from
 * ../lib/vidilate beside it. It stays loaded. VD_ERR_BACKEND: not there (*found false), libraries
 * that it wants are not there, another build's. */
vd_status vd_module_load(const char *name, const vd_module **out, bool *found);

#endif

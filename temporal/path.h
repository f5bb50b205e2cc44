/* Module paths, as diffusers names them: "down_blocks.0.temp_convs.1". */
#ifndef VD_TEMPORAL_PATH_H
#define VD_TEMPORAL_PATH_H

/* Long enough for every path that the networks' size limits allow. */
enum { VD_PATH_BYTES = 160 };

typedef struct vd_path {
    char text[VD_PATH_BYTES];
} vd_path;

/* "PREFIX.rest", the rest in printf form; only the rest if prefix is "". Cut if too long. */
vd_path vd_path_join(const char *prefix, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif

/* Status codes and the one-line error message that goes with them.
 *
 *     vd_status st = vd_checkpoint_open(dir, "model", &ck);
 *     if (st != VD_OK) {
 *         fprintf(stderr, "vidilate: %s\n", vd_error_message());
 *         return vd_exit_code(st);
 *     }
 */
#ifndef VD_CORE_STATUS_H
#define VD_CORE_STATUS_H

/* Marks what libvidilate exports. */
#define VD_API __attribute__((visibility("default")))

typedef enum vd_status {
    VD_OK = 0,
    VD_ERR_USAGE = -1,       /* an argument that cannot be                  (exit 2) */
    VD_ERR_INPUT = -2,       /* a bad file, config or checkpoint            (exit 3) */
    VD_ERR_MEMORY = -3,      /* not enough memory                           (exit 4) */
    VD_ERR_BACKEND = -4,     /* a backend or device failed or is missing    (exit 5) */
    VD_ERR_OUTPUT = -5,      /* writing the output failed                   (exit 6) */
    VD_ERR_INTERRUPTED = -6, /* the caller asked to stop                    (exit 130) */
} vd_status;

/* Records a message for the calling thread and returns `code`, so that
 * `return vd_fail(VD_ERR_INPUT, "...")` is the usual form. The message is one line: what is wrong,
 * where (file, tensor, JSON path) and what would mend it. It replaces an earlier message.
 * Control characters and invalid UTF-8 in the arguments are shown escaped. */
vd_status vd_fail(vd_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the thread's current message; returns `code` unchanged. */
vd_status vd_fail_in(vd_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The last message of the calling thread; "" if there was none. Valid until its next vd_fail. */
VD_API const char *vd_error_message(void);

/* The process exit code for a status: 0, 2, 3, 4, 5, 6 or 130. */
VD_API int vd_exit_code(vd_status status);

/* `if (failed) goto done;` for functions with one cleanup label and a local `st`. */
#define VD_TRY(expr)                                                                               \
    do {                                                                                           \
        st = (expr);                                                                               \
        if (st != VD_OK)                                                                           \
            goto done;                                                                             \
    } while (0)

#endif

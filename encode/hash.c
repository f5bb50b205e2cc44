/* The sinks that write nothing: the digest is taken above, for every kind. */
#include "encode/sink_kind.h"

static vd_status none_check(const vd_sink_options *options) {
    (void)options;
    return VD_OK;
}

static vd_status none_open(const vd_sink_options *options, void **state) {
    (void)options;
    *state = NULL;
    return VD_OK;
}

static vd_status none_write(void *state, const uint8_t *rgb) {
    (void)state;
    (void)rgb;
    return VD_OK;
}

static vd_status none_finish(void *state) {
    (void)state;
    return VD_OK;
}

static void none_destroy(void *state) {
    (void)state;
}

const vd_sink_kind vd_sink_kind_none = {none_check, none_open, none_write, none_finish,
                                        none_destroy};

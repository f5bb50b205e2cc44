#include "unet3d/pass.h"

#include <stdarg.h>
#include <stdio.h>

#include "temporal/path.h"

const vd_step_method *vd_unet_method(const vd_unet_pass *pass) {
    static const vd_step_method plain = {0};
    const bool changed = pass->hooks != NULL && pass->hooks->method != NULL;
    return changed ? pass->hooks->method : &plain;
}

bool vd_unet_is_tapped(const vd_unet_pass *pass) {
    return pass->hooks != NULL && pass->hooks->tap != NULL;
}

vd_status vd_unet_tap(const vd_unet_pass *pass, const vd_tensor *output, const char *prefix,
                      const char *format, ...) {
    if (!vd_unet_is_tapped(pass) || vd_exec_dry(pass->x))
        return VD_OK;
    char rest[VD_PATH_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(rest, sizeof rest, format, args);
    va_end(args);
    const vd_path path = vd_path_join(prefix, "%s", rest);
    return pass->hooks->tap(pass->hooks->user, path.text, output);
}

#include "video/vidilate.h"

const char *vd_version(void) {
    return VD_VERSION;
}

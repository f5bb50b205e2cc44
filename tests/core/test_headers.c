/* The headers are tested by compiling the generated sources beside this file. */
#include "tests/check.h"

int main(void) {
    CHECK(VD_HEADER_COUNT >= 9); /* core/ alone has as many */
    return CHECK_DONE();
}

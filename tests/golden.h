/* Golden cases: inputs and expected outputs made by PyTorch and diffusers, listed in
 * tests/golden/manifest.json. A test walks the manifest, so a case of its group cannot be skipped
 * without a word:
 *
 *     golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
 *     golden_case *c;
 *     while ((c = golden_next(g, "unet", "t2v-ms")) != NULL) {      // NULL, NULL: every case
 *         float *x = golden_input(c, "sample", VD_F32, NULL, &shape); // free() it
 *         ... run the code under test on x with c->settings ...
 *         CHECK(golden_compare(c, "sample", VD_F32, y, count, GOLDEN_F32)); // prints the errors
 *     }
 *     CHECK(golden_close(g) == 0);  // no case at all, a missing file, an output never compared
 *
 * Link tests/golden.c into the test: vd_test(area name SOURCES test_x.c ../golden.c LINK vd_core).
 * Expected values stay inside golden.c: only their shapes can be asked for. */
#ifndef VD_TESTS_GOLDEN_H
#define VD_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>

#include "core/json.h"
#include "core/tensor.h"

typedef struct golden golden;

/* Borrowed; valid until the next golden_next, golden_find or golden_close. */
typedef struct golden_case {
    const char *name;
    const char *group;
    const char *model;  /* "" if none */
    const char *module; /* "" if none */
    const vd_json *doc; /* the manifest, for vd_json_* calls on settings */
    const vd_json_value *settings;
    struct golden_case_state *state;
} golden_case;

typedef enum golden_bound {
    /* |got - expected| <= the manifest's atol: ten times the library's own float32 error. Outputs
     * marked exact must be equal, but for a pipeline's bytes: those may differ by 1, and at most
     * in 2 of 1000 (ten times what the library's own float32 run does). */
    GOLDEN_F32,
    /* For a run in bfloat16: no worse than twice the errors of the library's own bfloat16 run,
     * largest and rms; the factor is for another order of roundings. Fails if the manifest has
     * none. */
    GOLDEN_BF16,
    /* Equal, bit for bit but for the sign of 0. */
    GOLDEN_EXACT,
} golden_bound;

/* NULL after saying why on stderr; the other calls accept NULL and find nothing. */
golden *golden_open(const char *manifest_path);

/* Checks that each output of each case visited was compared or skipped, prints how many cases were
 * visited and frees. Returns the number of problems; no case visited is one. */
int golden_close(golden *g);

/* The next case with this group and model (NULL: any), with its file opened. A case whose file is
 * missing is counted as a problem and passed over. NULL at the end. */
golden_case *golden_next(golden *g, const char *group, const char *model);

/* Visits one case by name; NULL, and a problem, if it is not there. */
golden_case *golden_find(golden *g, const char *name);

/* "<folder of the manifest>/<relative>"; returns buf. */
char *golden_path(const golden *g, const char *relative, char *buf, size_t buf_bytes);

/* The folder of a component ("unet", "vae", "text_encoder", ...) of a model of the manifest, or
 * NULL if it has none. Returns buf. */
char *golden_component(const golden *g, const char *model, const char *component, char *buf,
                       size_t buf_bytes);

bool golden_has_input(const golden_case *c, const char *name);

/* A malloc'ed copy of input `name` converted to `dtype`, NULL (and a problem) if it is not there.
 * `count` and `shape` (its data is NULL) may be NULL. */
void *golden_input(const golden_case *c, const char *name, vd_dtype dtype, size_t *count,
                   vd_tensor *shape);

/* Outputs as the manifest lists them. NULL past the end; false if there is no such output. */
const char *golden_output_name(const golden_case *c, size_t index);
bool golden_output_shape(const golden_case *c, const char *name, vd_tensor *shape);

/* Compares `count` values with the expected output and prints one line: worst error, allowed error,
 * the library's own error. A NaN, a wrong count or an unknown name fails. */
bool golden_compare(const golden_case *c, const char *name, vd_dtype dtype, const void *values,
                    size_t count, golden_bound bound);

/* Says on stdout that this output is left out, and why, so that golden_close does not complain. */
void golden_skip(const golden_case *c, const char *name, const char *why);

#endif

/* Golden cases through the program itself: vidilate forward reads a copy of the case from which the
 * expected values are removed, and what it writes is compared here. On the backend that
 * VD_TEST_BACKEND names; VD_TEST_GROUPS ("guidance,freeu") leaves others out where it is emulated.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/backend.h"
#include "core/safetensors.h"
#include "core/text.h"
#include "tests/backend_name.h"
#include "tests/check.h"
#include "tests/golden.h"

enum { MAX_TENSORS = 64 };

static const char *const groups[] = {"tokenizer", "text_encoder", "unet",           "vae",
                                     "guidance",  "scheduler",    "pipeline",       "redilate",
                                     "disperse",  "freeu",        "attention_scale"};

static const char *reason_to_leave_out(const golden_case *c) {
    if (strcmp(c->model, "t2v-animatediff") == 0 || strcmp(c->model, "t2v-motion") == 0)
        return "motion modules are not there yet";
    return NULL;
}

static void leave_out(const golden_case *c, const char *why) {
    const char *name;
    for (size_t i = 0; (name = golden_output_name(c, i)) != NULL; i++)
        golden_skip(c, name, why);
}

/* DST gets the in.* tensors of SRC. */
static vd_status strip(const char *src, const char *dst) {
    vd_status st = VD_OK;
    vd_checkpoint *ck = NULL;
    const char *name[MAX_TENSORS];
    vd_tensor tensor[MAX_TENSORS];
    size_t count = 0;
    VD_TRY(vd_checkpoint_open_file(src, &ck));
    for (size_t i = 0; i < vd_checkpoint_count(ck) && count < MAX_TENSORS; i++) {
        name[count] = vd_checkpoint_name(ck, i);
        if (strncmp(name[count], "in.", 3) == 0 &&
            vd_checkpoint_find(ck, name[count], &tensor[count]))
            count++;
    }
    VD_TRY(vd_safetensors_write(dst, name, tensor, count, NULL));
done:
    vd_checkpoint_destroy(ck);
    return st;
}

/* The program's view of the data: the manifest and models, and a cases/ folder without outputs. */
static void make_folder(golden *g, char *folder, size_t bytes) {
    static const char *const shared[] = {"manifest.json", "t2v-ms", "i-sd15", "i-sdxl", "i-sd21"};
    char from[1024], to[1024];
    snprintf(folder, bytes, "%s/golden-inputs-%ld", VD_BINARY_DIR, (long)getpid());
    CHECK(mkdir(folder, 0700) == 0);
    snprintf(to, sizeof to, "%s/cases", folder);
    CHECK(mkdir(to, 0700) == 0);
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++) {
        golden_path(g, shared[i], from, sizeof from);
        snprintf(to, sizeof to, "%s/%s", folder, shared[i]);
        CHECK(symlink(from, to) == 0);
    }
    golden_path(g, "cases/prompts.json", from, sizeof from);
    snprintf(to, sizeof to, "%s/cases/prompts.json", folder);
    CHECK(symlink(from, to) == 0);
}

/* What all cases run with. */
typedef struct runner {
    const char *program, *backend;
    char folder[512]; /* of the inputs */
} runner;

static void run_case(golden *g, const golden_case *c, const runner *r, const char *dtype,
                     golden_bound bound) {
    const char *folder = r->folder;
    char from[1024], to[1024], out[1024], command[4096], file[256];
    snprintf(file, sizeof file, "cases/%s.safetensors", c->name);
    golden_path(g, file, from, sizeof from);
    snprintf(to, sizeof to, "%s/%s", folder, file);
    snprintf(out, sizeof out, "%s/out.safetensors", folder);
    CHECK_OK(strip(from, to));
    snprintf(
        command, sizeof command,
        "'%s' forward --manifest '%s/manifest.json' --case '%s' --backend %s --dtype %s -o '%s'",
        r->program, folder, c->name, r->backend, dtype, out);
    CHECK_MSG(system(command) == 0, "%s", command); // NOLINT(cert-env33-c)
    vd_checkpoint *ck = NULL;
    CHECK_OK(vd_checkpoint_open_file(out, &ck));
    const char *name;
    for (size_t i = 0; ck && (name = golden_output_name(c, i)) != NULL; i++) {
        vd_tensor t;
        bool found = vd_checkpoint_find(ck, name, &t);
        CHECK_MSG(found, "%s: no output %s", c->name, name);
        if (!found)
            continue;
        CHECK(t.dtype == (strcmp(name, "R") == 0 ? VD_F64 : VD_F32));
        CHECK(golden_compare(c, name, t.dtype, t.data, (size_t)vd_tensor_elements(&t), bound));
    }
    vd_checkpoint_destroy(ck);
    unlink(to);
    unlink(out);
}

/* Whether the manifest has the errors of the library's own bfloat16 run. */
static bool has_bf16(const golden_case *c) {
    const vd_json_value *v = vd_json_get(vd_json_root(c->doc), "cases");
    for (v = vd_json_first(v); v; v = vd_json_next(v)) {
        if (strcmp(vd_json_string(vd_json_get(v, "name")), c->name) != 0)
            continue;
        const vd_json_value *output = vd_json_first(vd_json_get(v, "outputs"));
        return output && vd_json_get(output, "err_bf16_max") != NULL;
    }
    return false;
}

static bool computes_bf16(const char *backend) {
    vd_backend *be = NULL;
    bool has = vd_backend_open(backend, 1, &be) == VD_OK && vd_backend_has_dtype(be, VD_BF16);
    vd_backend_close(be);
    return has;
}

static void remove_folder(const char *folder) {
    char command[1200];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    CHECK(system(command) == 0); // NOLINT(cert-env33-c)
}

static bool is_wanted(const char *group, const char *list) {
    const size_t length = strlen(group);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, group, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return list == NULL;
}

int main(int argc, char **argv) {
    runner r = {.backend = check_backend()};
    const char *list = getenv("VD_TEST_GROUPS");
    golden_case *c = NULL;
    int run_count = 0, bf16_count = 0;
    if (argc != 2) {
        fprintf(stderr, "usage: test_cli_golden PROGRAM\n");
        return 2;
    }
    r.program = argv[1];
    bool bf16_here = computes_bf16(r.backend);
    if (!bf16_here)
        printf("SKIPPED: bfloat16, which this machine does not compute\n");
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        if (!is_wanted(groups[i], list))
            continue;
        golden *g = golden_open(VD_BINARY_DIR "/golden/manifest.json");
        if (!r.folder[0])
            make_folder(g, r.folder, sizeof r.folder);
        while ((c = golden_next(g, groups[i], NULL)) != NULL) {
            const char *why = reason_to_leave_out(c);
            if (why) {
                leave_out(c, why);
                continue;
            }
            run_case(g, c, &r, "f32", GOLDEN_F32);
            run_count++;
            if (has_bf16(c) && bf16_here) {
                run_case(g, c, &r, "bf16", GOLDEN_BF16);
                bf16_count++;
            }
        }
        CHECK(golden_close(g) == 0);
    }
    remove_folder(r.folder);
    /* 1 tokenizer, 3 text encoders, 18 of the UNet, 11 of the autoencoder, 1 guidance, 30
     * schedulers, 5 plain pipelines, 23 re-dilated (one of them a pipeline), 7 dispersion matrices,
     * 1 of their kernels, 1 of layers, 6 UNets and 2 pipelines with them, 5 of FreeU, 2 of
     * attention scaling: a case that stops being found must be noticed. */
    CHECK_MSG(run_count >= 116 || list != NULL, "%d cases run", run_count);
    CHECK_MSG(bf16_count == 10 || !bf16_here || list != NULL, "%d cases run in bfloat16",
              bf16_count);
    return CHECK_DONE();
}

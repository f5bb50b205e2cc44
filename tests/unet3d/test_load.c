/* Checkpoints that do not fit: every problem is named at once, nothing leaks, nothing crashes. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/rng.h"
#include "core/text.h"
#include "tests/check.h"
#include "unet3d/unet3d.h"

static const char source[] = VD_BINARY_DIR "/golden/t2v-ms/unet";
static char folder[] = "/tmp/vidilate-test-load-XXXXXX";

enum { MAX_TENSORS = 2048 };

typedef struct file {
    vd_checkpoint *ck;
    const char *names[MAX_TENSORS];
    vd_tensor tensors[MAX_TENSORS];
    size_t count;
} file;

static char *in_folder(const char *name) {
    return vd_format("%s/%s", folder, name);
}

static bool copy_bytes(const char *from, const char *to_name, size_t most, size_t flip_at) {
    char *to = in_folder(to_name);
    FILE *in = fopen(from, "rb");
    FILE *out = to == NULL ? NULL : fopen(to, "wb");
    static char block[1 << 16];
    size_t done = 0;
    size_t count;
    while (in != NULL && out != NULL && done < most &&
           (count = fread(block, 1, sizeof block, in)) > 0) {
        if (count > most - done)
            count = most - done;
        if (flip_at >= done && flip_at - done < count)
            block[flip_at - done] ^= 0x21;
        (void)fwrite(block, 1, count, out);
        done += count;
    }
    const bool good = in != NULL && out != NULL;
    if (in != NULL)
        (void)fclose(in);
    if (out != NULL)
        (void)fclose(out);
    free(to);
    return good;
}

static void write_config(const char *text) {
    char *path = in_folder("config.json");
    FILE *f = path == NULL ? NULL : fopen(path, "wb");
    CHECK(f != NULL);
    if (f != NULL) {
        (void)fputs(text, f);
        (void)fclose(f);
    }
    free(path);
}

static void file_open(file *f) {
    f->count = 0;
    CHECK_OK(vd_checkpoint_open(source, "diffusion_pytorch_model", &f->ck));
    for (size_t i = 0; f->ck != NULL && i < vd_checkpoint_count(f->ck) && i < MAX_TENSORS; i++) {
        f->names[i] = vd_checkpoint_name(f->ck, i);
        CHECK(vd_checkpoint_find(f->ck, f->names[i], &f->tensors[i]));
        f->count++;
    }
}

static size_t file_index(const file *f, const char *name) {
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->names[i], name) == 0)
            return i;
    CHECK_MSG(false, "no tensor %s", name);
    return 0;
}

static void file_write(const file *f) {
    char *path = in_folder("diffusion_pytorch_model.safetensors");
    CHECK_OK(vd_safetensors_write(path, f->names, f->tensors, f->count, NULL));
    free(path);
}

static vd_status open_and_close(vd_backend *be) {
    vd_unet *u = NULL;
    const size_t before = vd_backend_weight_bytes(be);
    const vd_status st = vd_unet_open(be, folder, VD_F32, &u);
    CHECK((st == VD_OK) == (u != NULL));
    vd_unet_destroy(u);
    CHECK(vd_backend_weight_bytes(be) == before);
    return st;
}

static void test_tensors(vd_backend *be) {
    static file good;
    static file bad;
    file_open(&good);
    CHECK(copy_bytes(VD_BINARY_DIR "/golden/t2v-ms/unet/config.json", "config.json", SIZE_MAX,
                     SIZE_MAX));
    file_write(&good);
    CHECK_OK(open_and_close(be));

    bad = good;
    bad.names[file_index(&good, "conv_in.bias")] = "conv_in.bios";
    bad.names[file_index(&good, "up_blocks.3.temp_convs.2.conv4.3.weight")] = "another.weight";
    vd_tensor *narrow = &bad.tensors[file_index(&good, "mid_block.resnets.1.conv2.weight")];
    narrow->dim[0] = 31;
    file_write(&bad);
    static const char *const said[] = {"conv_in.bias",
                                       "conv_in.bios",
                                       "up_blocks.3.temp_convs.2.conv4.3.weight",
                                       "another.weight",
                                       "mid_block.resnets.1.conv2.weight",
                                       "[31, 32, 3, 3]",
                                       "[32, 32, 3, 3]"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        CHECK_FAILS(open_and_close(be), VD_ERR_INPUT, said[i]);

    /* A 1x1 kernel where a matrix is stored elsewhere is the same thing; a temporal kernel without
     * its last axes is not. */
    bad = good;
    vd_tensor *flat = &bad.tensors[file_index(&good, "mid_block.temp_convs.0.conv1.2.weight")];
    flat->rank = 3;
    file_write(&bad);
    CHECK_FAILS(open_and_close(be), VD_ERR_INPUT, "mid_block.temp_convs.0.conv1.2.weight");
    bad = good;
    vd_tensor *kernel = &bad.tensors[file_index(&good, "mid_block.attentions.0.proj_in.weight")];
    kernel->rank = 4;
    kernel->dim[2] = kernel->dim[3] = 1;
    file_write(&bad);
    CHECK_OK(open_and_close(be));
    vd_checkpoint_destroy(good.ck);
}

static void test_configs(vd_backend *be) {
    write_config("{\"_class_name\": \"UNetMotionModel\"}");
    CHECK_FAILS(open_and_close(be), VD_ERR_INPUT, "UNetMotionModel");
    write_config("{\"_class_name\": \"UNet2DConditionModel\"}");
    CHECK_FAILS(open_and_close(be), VD_ERR_INPUT, "down_blocks.0.temp_attentions");
    /* The weights are another, much larger network's: an error, and at once. */
    write_config("{\"_class_name\": \"UNet3DConditionModel\"}");
    CHECK_FAILS(open_and_close(be), VD_ERR_INPUT, "conv_in.weight");
    write_config("{\"_class_name\": \"UNet3DConditionModel\", \"layers_per_block\": 16, "
                 "\"block_out_channels\": [16384, 16384, 16384, 16384]}");
    CHECK_FAILS(open_and_close(be), VD_ERR_INPUT, "conv_in.weight");
    write_config("{\"_class_name\": ");
    CHECK_FAILS(open_and_close(be), VD_ERR_INPUT, "config.json");
    char *path = in_folder("config.json");
    CHECK(path != NULL && unlink(path) == 0);
    free(path);
    CHECK_FAILS(open_and_close(be), VD_ERR_INPUT, "config.json");
}

/* Numbers of a good config replaced by others: refused, or loaded if it does not matter. */
static void test_other_numbers(vd_backend *be) {
    static const char *const keys[] = {"attention_head_dim", "cross_attention_dim", "in_channels",
                                       "layers_per_block",   "norm_num_groups",     "out_channels"};
    static const int numbers[] = {1, 2, 3, 4, 8, 16, 1000};
    int loaded = 0;
    int refused = 0;
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
            char text[1024];
            (void)snprintf(text, sizeof text,
                           "{\"%s\": %d, \"_class_name\": \"UNet3DConditionModel\", "
                           "\"block_out_channels\": [16, 24, 32, 32]%s%s%s}",
                           keys[k], numbers[n], k == 0 ? "" : ", \"attention_head_dim\": 8",
                           k == 1 ? "" : ", \"cross_attention_dim\": 16",
                           k == 4 ? "" : ", \"norm_num_groups\": 8");
            write_config(text);
            const vd_status st = open_and_close(be);
            CHECK(st == VD_OK || st == VD_ERR_INPUT);
            loaded += st == VD_OK;
            refused += st == VD_ERR_INPUT;
        }
    /* Loaded: the file's own 8, 16, 4, 2, 8, 4, and the group counts 1, 2 and 4, which leave no
     * trace in the weights. */
    CHECK_MSG(loaded == 9, "%d loaded, %d refused", loaded, refused);
}

static void test_damaged(vd_backend *be) {
    static const char weights[] = "/diffusion_pytorch_model.safetensors";
    char *from = vd_format("%s%s", source, weights);
    CHECK(copy_bytes(VD_BINARY_DIR "/golden/t2v-ms/unet/config.json", "config.json", SIZE_MAX,
                     SIZE_MAX));
    struct stat info = {0};
    CHECK(from != NULL && stat(from, &info) == 0);
    const size_t bytes = (size_t)info.st_size;
    const size_t cuts[] = {0, 4, 8, 100, 60000, bytes / 2, bytes - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        CHECK(copy_bytes(from, weights + 1, cuts[i], SIZE_MAX));
        CHECK_FAILS(open_and_close(be), VD_ERR_INPUT, "diffusion_pytorch_model.safetensors");
    }
    /* One byte of the header changed: refused, or harmless (white space, a digit of an unused
     * metadata value); never a crash. */
    vd_rng rng;
    vd_rng_seed(&rng, 2);
    int refused = 0;
    for (int i = 0; i < 12; i++) {
        CHECK(copy_bytes(from, weights + 1, SIZE_MAX, vd_rng_u32(&rng) % 60000));
        refused += open_and_close(be) == VD_ERR_INPUT;
    }
    CHECK_MSG(refused >= 6, "%d of 12 damaged headers refused", refused);
    free(from);
}

int main(void) {
    vd_backend *be = NULL;
    CHECK(mkdtemp(folder) != NULL);
    CHECK_OK(vd_backend_open("cpu", 1, &be));
    if (be != NULL) {
        vd_unet *u = NULL;
        test_tensors(be);
        test_other_numbers(be);
        test_configs(be);
        test_damaged(be);
        if (!vd_backend_has_dtype(be, VD_F16))
            CHECK_FAILS(vd_unet_open(be, source, VD_F16, &u), VD_ERR_BACKEND, "F16");
        CHECK_FAILS(vd_unet_open(be, source, VD_I64, &u), VD_ERR_BACKEND, "I64");
        vd_backend_close(be);
    }
    static const char *const made[] = {"config.json", "diffusion_pytorch_model.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        char *path = in_folder(made[i]);
        if (path != NULL)
            (void)unlink(path);
        free(path);
    }
    CHECK(rmdir(folder) == 0);
    return CHECK_DONE();
}

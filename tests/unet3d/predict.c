/* Runs a UNet on inputs from a file, for comparisons with other implementations
 * (tools/check_unet.py): predict UNET_DIR IN.safetensors OUT.safetensors f32|bf16|f16 THREADS
 * IN: sample [B, C, F, H, W], context [B, T, D], timestep [B], and for SD XL text_embeds [B, W] and
 * time_ids [B, N]. OUT: sample. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unet3d/run.h"

/* malloc'ed, NULL after a failure. */
static void *read_tensor(const vd_checkpoint *ck, const char *name, vd_dtype dtype, int rank,
                         vd_tensor *shape) {
    if (!vd_checkpoint_find(ck, name, shape) || shape->rank != rank) {
        fprintf(stderr, "%s: no tensor %s of rank %d\n", vd_checkpoint_path(ck), name, rank);
        return NULL;
    }
    const size_t count = (size_t)vd_tensor_elements(shape);
    void *values = malloc(count * vd_dtype_bytes(dtype));
    if (values != NULL)
        vd_convert_values(values, dtype, shape->data, shape->dtype, count);
    shape->data = NULL;
    shape->dtype = dtype;
    return values;
}

/* The inputs of SD XL's added embedding, if the file has them. */
static bool set_added(const unet_run *run, const vd_checkpoint *ck) {
    vd_tensor pooled_shape, ids_shape;
    if (!vd_checkpoint_find(ck, "text_embeds", &pooled_shape))
        return true;
    float *pooled = read_tensor(ck, "text_embeds", VD_F32, 2, &pooled_shape);
    double *ids = read_tensor(ck, "time_ids", VD_F64, 2, &ids_shape);
    bool good =
        pooled != NULL && ids != NULL &&
        vd_unet_set_added(run->u, ids_shape.dim[0], pooled, (int)ids_shape.dim[1], ids) == VD_OK;
    free(pooled);
    free(ids);
    return good;
}

static bool predict(unet_run *run, const char *in_path, const char *out_path) {
    vd_checkpoint *ck = NULL;
    if (vd_checkpoint_open_file(in_path, &ck) != VD_OK) {
        fprintf(stderr, "%s\n", vd_error_message());
        return false;
    }
    vd_tensor shape[3];
    float *sample = read_tensor(ck, "sample", VD_F32, 5, &shape[0]);
    float *text = read_tensor(ck, "context", VD_F32, 3, &shape[1]);
    double *timestep = read_tensor(ck, "timestep", VD_F64, 1, &shape[2]);
    float *y = NULL;
    bool good = sample != NULL && text != NULL && timestep != NULL &&
                shape[2].dim[0] == shape[0].dim[0] && set_added(run, ck);
    if (good) {
        size_t peak = 0;
        struct timespec from;
        struct timespec to;
        (void)clock_gettime(CLOCK_MONOTONIC, &from);
        y = run_forward(run, &shape[0], sample, &shape[1], text, timestep, NULL, &peak);
        (void)clock_gettime(CLOCK_MONOTONIC, &to);
        printf("%.3f s with plans, arena %.1f MiB, weights %.1f MiB\n",
               (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec),
               (double)peak / 1048576.0, (double)vd_backend_weight_bytes(run->be) / 1048576.0);
        vd_tensor out = shape[0];
        out.dim[1] = run->u->config.out_channels;
        out.data = y;
        const char *name = "sample";
        good = y != NULL && vd_safetensors_write(out_path, &name, &out, 1, NULL) == VD_OK;
        if (!good)
            fprintf(stderr, "%s\n", vd_error_message());
    }
    free(sample);
    free(text);
    free(timestep);
    free(y);
    vd_checkpoint_destroy(ck);
    return good;
}

int main(int argc, char **argv) {
    unet_run run;
    if (argc != 6) {
        fprintf(stderr, "usage: %s UNET_DIR IN OUT f32|bf16|f16 THREADS\n", argv[0]);
        return 2;
    }
    const vd_dtype dtype = strcmp(argv[4], "bf16") == 0  ? VD_BF16
                           : strcmp(argv[4], "f16") == 0 ? VD_F16
                                                         : VD_F32;
    if (!run_open(&run, argv[1], dtype, (int)strtol(argv[5], NULL, 10)))
        return 1;
    const bool good = predict(&run, argv[2], argv[3]);
    run_close(&run);
    return good ? 0 : 1;
}

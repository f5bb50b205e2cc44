/* Weights: converted row by row in pinned memory, and copied to the device while the next rows are
 * being converted; or kept in pinned memory (offload.h). */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/offload.h"

static vd_status make_staging(vd_cuda_device *cuda) {
    vd_status st = VD_OK;
    for (int i = 0; i < VD_CUDA_STAGINGS; i++) {
        vd_cuda_staging *s = &cuda->staging[i];
        if (s->memory == NULL)
            VD_TRY(vd_cuda_status(cudaMallocHost(&s->memory, VD_CUDA_STAGING_BYTES),
                                  "taking pinned memory"));
        if (s->done == NULL)
            VD_TRY(vd_cuda_status(cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming),
                                  "making an event"));
    }
done:
    return st;
}

/* ---- a stream of bytes through the two buffers ----------------------------------------------- */

typedef struct sender {
    vd_cuda_device *cuda;
    unsigned char *to; /* device, */
    bool on_host;      /* or the host's own memory */
    size_t filled;
} sender;

static vd_status flush(sender *s) {
    vd_cuda_staging *staging = &s->cuda->staging[s->cuda->turn];
    vd_status st;
    VD_TRY(vd_cuda_status(
        cudaMemcpyAsync(s->to, staging->memory, s->filled, cudaMemcpyHostToDevice, s->cuda->stream),
        "copying to the device"));
    VD_TRY(
        vd_cuda_status(cudaEventRecord(staging->done, s->cuda->stream), "copying to the device"));
    s->to += s->filled;
    s->filled = 0;
    s->cuda->turn = (s->cuda->turn + 1) % VD_CUDA_STAGINGS;
done:
    return st;
}

static vd_status send(sender *s, const void *data, size_t bytes) {
    const unsigned char *from = data;
    vd_status st = VD_OK;
    while (bytes > 0) {
        const vd_cuda_staging *staging = &s->cuda->staging[s->cuda->turn];
        const size_t left = VD_CUDA_STAGING_BYTES - s->filled;
        const size_t count = bytes < left ? bytes : left;
        /* An empty buffer may still be on its way, also for somebody before. */
        if (s->filled == 0)
            VD_TRY(vd_cuda_status(cudaEventSynchronize(staging->done), "copying to the device"));
        memcpy((unsigned char *)staging->memory + s->filled, from, count);
        s->filled += count;
        from += count;
        bytes -= count;
        if (s->filled == VD_CUDA_STAGING_BYTES)
            VD_TRY(flush(s));
    }
done:
    return st;
}

static vd_status put(sender *s, const void *data, size_t bytes) {
    if (!s->on_host)
        return send(s, data, bytes);
    memcpy(s->to, data, bytes);
    s->to += bytes;
    return VD_OK;
}

static vd_status end(sender *s) {
    vd_status st = s->filled > 0 ? flush(s) : VD_OK;
    return st == VD_OK
               ? vd_cuda_status(cudaStreamSynchronize(s->cuda->stream), "copying to the device")
               : st;
}

vd_status vd_cuda_send(vd_cuda_device *cuda, void *to, const void *data, size_t bytes) {
    sender s = {.cuda = cuda, .to = to};
    vd_status st;
    VD_TRY(make_staging(cuda));
    VD_TRY(send(&s, data, bytes));
    if (s.filled > 0)
        VD_TRY(flush(&s));
done:
    return st;
}

/* ---- matrices and kernels ------------------------------------------------------------------- */

static vd_status create(vd_backend *be, size_t bytes, bool offload, vd_cuda_weight **out) {
    *out = NULL;
    vd_status st = make_staging(be->device);
    if (st != VD_OK)
        return st;
    vd_cuda_weight *w = calloc(1, sizeof *w);
    if (w == NULL) {
        (void)vd_fail(VD_ERR_MEMORY, "no memory for a weight");
        return VD_ERR_MEMORY;
    }
    if (offload) {
        st = vd_cuda_offload_weight(be, w, bytes);
        if (st == VD_OK)
            *out = w;
        else
            free(w);
        return st;
    }
    st = vd_cuda_take(bytes, &w->memory);
    if (st != VD_OK) {
        free(w);
        return vd_fail_in(st, "a weight, behind %.2f GB of weights",
                          (double)be->weight_bytes / 1e9);
    }
    w->bytes = bytes;
    be->weight_bytes += bytes;
    *out = w;
    return VD_OK;
}

static vd_status send_part(sender *s, const vd_weight_part *part, int64_t taps, vd_dtype dtype) {
    const vd_tensor *t = &part->tensor;
    const size_t size = vd_dtype_bytes(dtype), row = (size_t)(part->columns * taps);
    unsigned char *flat = malloc(2 * row * size);
    vd_status st = VD_OK;
    if (flat == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory to convert weights");
    for (int64_t r = 0; r < t->dim[0]; r++) {
        const int64_t at = (r * t->dim[1] + part->first_column) * taps;
        vd_convert_values(flat, dtype,
                          (const unsigned char *)t->data + (size_t)at * vd_dtype_bytes(t->dtype),
                          t->dtype, row);
        if (taps > 1)
            vd_turn_taps(flat + row * size, flat, part->columns, taps, size);
        VD_TRY(put(s, flat + (taps > 1 ? row * size : 0), row * size));
    }
done:
    free(flat);
    return st;
}

static vd_status create_matrix(vd_backend *be, const vd_weight_part *parts, int part_count,
                               vd_dtype dtype, const vd_weight *head, vd_weight **out) {
    const int64_t taps = (int64_t)head->kernel_h * head->kernel_w;
    vd_cuda_weight *w;
    vd_status st =
        create(be, (size_t)(head->out * head->in * taps) * vd_dtype_bytes(dtype), be->offload, &w);
    if (st != VD_OK || w == NULL)
        return st;
    w->head = *head;
    sender s = {.cuda = be->device,
                .to = w->host != NULL ? w->host : w->memory,
                .on_host = w->host != NULL};
    for (int i = 0; i < part_count; i++)
        VD_TRY(send_part(&s, &parts[i], taps, dtype));
    VD_TRY(end(&s));
    *out = &w->head;
done:
    if (st != VD_OK)
        vd_cuda_destroy_weight(be, &w->head);
    return st;
}

vd_status vd_cuda_create_linear(vd_backend *be, const vd_weight_part *parts, int part_count,
                                vd_dtype dtype, vd_weight **out) {
    vd_weight head = {.kind = VD_WEIGHT_LINEAR,
                      .dtype = dtype,
                      .in = parts[0].columns,
                      .kernel_h = 1,
                      .kernel_w = 1};
    for (int i = 0; i < part_count; i++)
        head.out += parts[i].tensor.dim[0];
    return create_matrix(be, parts, part_count, dtype, &head, out);
}

vd_status vd_cuda_create_conv(vd_backend *be, const vd_weight_part *part, vd_dtype dtype,
                              vd_weight **out) {
    const int64_t *dim = part->tensor.dim;
    const vd_weight head = {.kind = VD_WEIGHT_CONV,
                            .dtype = dtype,
                            .out = dim[0],
                            .in = part->columns,
                            .kernel_h = (int)dim[2],
                            .kernel_w = (int)dim[3]};
    return create_matrix(be, part, 1, dtype, &head, out);
}

/* ---- vectors -------------------------------------------------------------------------------- */

vd_status vd_cuda_create_vector(vd_backend *be, const vd_tensor *parts, int part_count,
                                vd_weight **out) {
    int64_t length = 0;
    for (int i = 0; i < part_count; i++)
        length += vd_tensor_elements(&parts[i]);
    vd_cuda_weight *w;
    vd_status st = create(be, (size_t)length * sizeof(float), false, &w);
    if (st != VD_OK || w == NULL)
        return st;
    w->head = (vd_weight){.kind = VD_WEIGHT_VECTOR,
                          .dtype = VD_F32,
                          .out = length,
                          .in = 1,
                          .kernel_h = 1,
                          .kernel_w = 1};
    sender s = {.cuda = be->device, .to = w->memory};
    for (int i = 0; i < part_count; i++) {
        const vd_weight_part all = {.tensor = parts[i], .columns = vd_tensor_elements(&parts[i])};
        vd_weight_part row = all;
        row.tensor.rank = 2;
        row.tensor.dim[0] = 1;
        row.tensor.dim[1] = all.columns;
        VD_TRY(send_part(&s, &row, 1, VD_F32));
    }
    VD_TRY(end(&s));
    *out = &w->head;
done:
    if (st != VD_OK)
        vd_cuda_destroy_weight(be, &w->head);
    return st;
}

vd_status vd_cuda_round_vector(vd_backend *be, const vd_weight *weight, vd_dtype dtype,
                               const void **out) {
    vd_cuda_weight *w = vd_cuda_weight_of(weight);
    const vd_cuda_device *cuda = be->device;
    const size_t count = (size_t)w->head.out, size = vd_dtype_bytes(dtype);
    void *host = NULL;
    vd_status st = VD_OK;
    if (dtype == VD_F32 || w->rounded != NULL) {
        *out = dtype == VD_F32 ? w->memory : w->rounded;
        if (dtype == VD_F32 || w->rounded_dtype == dtype)
            return VD_OK;
        return vd_fail(VD_ERR_BACKEND, "a bias in two 16-bit types");
    }
    *out = NULL;
    host = malloc(count * (sizeof(float) + size));
    if (host == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory to convert a bias");
    float *values = host;
    VD_TRY(vd_cuda_take(count * size, &w->rounded));
    w->rounded_dtype = dtype;
    VD_TRY(vd_cuda_status(cudaMemcpyAsync(values, w->memory, count * sizeof(float),
                                          cudaMemcpyDeviceToHost, cuda->stream),
                          "reading a bias"));
    VD_TRY(vd_cuda_status(cudaStreamSynchronize(cuda->stream), "reading a bias"));
    vd_convert_values(values + count, dtype, values, VD_F32, count);
    VD_TRY(vd_cuda_status(cudaMemcpyAsync(w->rounded, values + count, count * size,
                                          cudaMemcpyHostToDevice, cuda->stream),
                          "copying a bias"));
    VD_TRY(vd_cuda_status(cudaStreamSynchronize(cuda->stream), "copying a bias"));
    *out = w->rounded;
done:
    if (st != VD_OK) {
        (void)cudaFree(w->rounded);
        w->rounded = NULL;
    }
    free(host);
    return st;
}

/* cudaFree waits for what still uses the memory. */
void vd_cuda_destroy_weight(vd_backend *be, vd_weight *weight) {
    vd_cuda_weight *w = vd_cuda_weight_of(weight);
    if (w->host != NULL)
        vd_cuda_offload_forget(be, w);
    else
        be->weight_bytes -= w->bytes;
    (void)cudaFree(w->memory);
    (void)cudaFree(w->rounded);
    free(w);
}

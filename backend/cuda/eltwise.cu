/* Activations and conversions, transposition, sums, and what follows a product. */
#include <type_traits>

#include "backend/cuda/device.cuh"

/* ---- activate ------------------------------------------------------------------------------- */

template <int V, typename D, typename S>
__global__ void activate(D *dst, const S *src, vd_activation act, int64_t packs) {
    for (int64_t i = vd_first(); i < packs; i += vd_stride()) {
        float v[V];
        vd_load<V>(v, src, i * V);
        for (int k = 0; k < V; k++)
            v[k] = vd_act(v[k], act);
        vd_store<V>(dst, i * V, v);
    }
}

cudaError_t vd_launch_activate(cudaStream_t stream, void *dst, vd_dtype dst_dtype, const void *src,
                               vd_dtype src_dtype, vd_activation act, int64_t count) {
    const bool wide = count % VD_VECTOR == 0 && vd_is_aligned(dst) && vd_is_aligned(src);
    return vd_for_types(dst_dtype, src_dtype, [&](auto *d, auto *s) {
        typedef VD_TYPE(d) D;
        typedef VD_TYPE(s) S;
        if (wide)
            VD_LAUNCH((activate<VD_VECTOR, D, S>), vd_blocks(count / VD_VECTOR), VD_BLOCK, stream,
                      (D *)dst, (const S *)src, act, count / VD_VECTOR);
        else
            VD_LAUNCH((activate<1, D, S>), vd_blocks(count), VD_BLOCK, stream, (D *)dst,
                      (const S *)src, act, count);
        return cudaGetLastError();
    });
}

/* ---- transpose ------------------------------------------------------------------------------ */

enum { TILE = 32, TILE_LINES = 8 };

/* Tiles of one matrix after the other; a column of padding keeps a tile's columns in different
 * banks. */
template <typename D, typename S>
__global__ void transpose(D *dst, const S *src, int64_t batch, int64_t rows, int64_t columns) {
    VD_SHARED(float, tile, TILE *(TILE + 1));
    const int64_t down = (rows + TILE - 1) / TILE, across = (columns + TILE - 1) / TILE;
    for (int64_t t = blockIdx.x; t < batch * down * across; t += gridDim.x) {
        const int64_t matrix = t / (down * across) * rows * columns;
        const int64_t row = t / across % down * TILE, column = t % across * TILE;
        for (int64_t y = threadIdx.y; y < TILE; y += TILE_LINES)
            if (row + y < rows && column + threadIdx.x < columns)
                tile[y * (TILE + 1) + threadIdx.x] =
                    vd_to_float(src[matrix + (row + y) * columns + column + threadIdx.x]);
        VD_SYNC();
        for (int64_t y = threadIdx.y; y < TILE; y += TILE_LINES)
            if (column + y < columns && row + threadIdx.x < rows)
                dst[matrix + (column + y) * rows + row + threadIdx.x] =
                    vd_from_float<D>(tile[threadIdx.x * (TILE + 1) + y]);
        VD_SYNC();
    }
}

cudaError_t vd_launch_transpose(cudaStream_t stream, void *dst, vd_dtype dst_dtype, const void *src,
                                vd_dtype src_dtype, int64_t batch, int64_t rows, int64_t columns) {
    const int64_t tiles = batch * ((rows + TILE - 1) / TILE) * ((columns + TILE - 1) / TILE);
    const int64_t most = VD_MOST_BLOCKS;
    const unsigned blocks = (unsigned)(tiles < most ? tiles : most);
    return vd_for_types(dst_dtype, src_dtype, [&](auto *d, auto *s) {
        typedef VD_TYPE(d) D;
        typedef VD_TYPE(s) S;
        VD_LAUNCH_TOGETHER((transpose<D, S>), blocks, dim3(TILE, TILE_LINES), 0, stream, (D *)dst,
                           (const S *)src, batch, rows, columns);
        return cudaGetLastError();
    });
}

/* ---- combine -------------------------------------------------------------------------------- */

__global__ void combine(float *dst, vd_cuda_sum sum, int64_t count) {
    for (int64_t i = vd_first(); i < count; i += vd_stride()) {
        double v = 0;
        for (int k = 0; k < sum.terms; k++)
            v += sum.coefficient[k] * (double)sum.src[k][i];
        dst[i] = (float)v;
    }
}

cudaError_t vd_launch_combine(cudaStream_t stream, float *dst, const vd_cuda_sum *sum,
                              int64_t count) {
    VD_LAUNCH(combine, vd_blocks(count), VD_BLOCK, stream, dst, *sum, count);
    return cudaGetLastError();
}

/* ---- channels ------------------------------------------------------------------------------- */

template <typename T>
__global__ void scale_channels(T *t, int64_t rows, int64_t columns, int64_t scaled, double factor) {
    for (int64_t i = vd_first(); i < rows * scaled; i += vd_stride()) {
        const int64_t at = i / scaled * columns + i % scaled;
        t[at] = vd_from_float<T>((float)((double)vd_to_float(t[at]) * factor));
    }
}

cudaError_t vd_launch_scale_channels(cudaStream_t stream, void *t, vd_dtype dtype, int64_t rows,
                                     int64_t columns, int64_t scaled, double factor) {
    return vd_for_type(dtype, [&](auto *type) {
        typedef VD_TYPE(type) T;
        VD_LAUNCH((scale_channels<T>), vd_blocks(rows * scaled), VD_BLOCK, stream, (T *)t, rows,
                  columns, scaled, factor);
        return cudaGetLastError();
    });
}

/* ---- paste ---------------------------------------------------------------------------------- */

__global__ void paste(vd_cuda_rectangle job) {
    const vd_paste_desc d = job.desc;
    for (int64_t i = vd_first(); i < job.n * d.rows * d.columns * job.channels; i += vd_stride()) {
        const int64_t c = i % job.channels, x = i / job.channels % d.columns;
        const int64_t y = i / job.channels / d.columns % d.rows;
        const int64_t item = i / job.channels / d.columns / d.rows;
        const int64_t to = (item * job.dst_h + d.dst_y + y) * job.dst_w + d.dst_x + x;
        const int64_t from = (item * job.src_h + d.src_y + y) * job.src_w + d.src_x + x;
        float v = job.src[from * job.channels + c];
        if (d.fade != VD_FADE_NONE) {
            const bool down = d.fade == VD_FADE_DOWN;
            const float part = (float)(down ? y : x) / (float)(down ? d.rows : d.columns);
            v = v * (1 - part) + job.dst[to * job.channels + c] * part;
        }
        job.dst[to * job.channels + c] = v;
    }
}

cudaError_t vd_launch_paste(cudaStream_t stream, const vd_cuda_rectangle *job) {
    const int64_t count = job->n * job->desc.rows * job->desc.columns * job->channels;
    VD_LAUNCH(paste, vd_blocks(count), VD_BLOCK, stream, *job);
    return cudaGetLastError();
}

/* ---- what follows a product ----------------------------------------------------------------- */

template <int V> __device__ inline void add_bias(float *v, const float *bias, int64_t at) {
    if (bias == NULL)
        return;
    float b[V];
    vd_load<V>(b, bias, at);
    for (int k = 0; k < V; k++)
        v[k] += b[k];
}

template <int V>
__device__ inline void load_any(float *to, const void *from, vd_dtype dtype, int64_t at) {
    if (dtype == VD_BF16)
        vd_load<V>(to, (const __nv_bfloat16 *)from, at);
    else if (dtype == VD_F16)
        vd_load<V>(to, (const __half *)from, at);
    else
        vd_load<V>(to, (const float *)from, at);
}

template <int V, typename D, typename S> __global__ void finish(vd_cuda_finish job) {
    const int64_t packs = job.columns / V;
    const int64_t width = job.act == VD_ACT_GEGLU ? 2 * job.columns : job.columns;
    const S *src = (const S *)job.src;
    for (int64_t i = vd_first(); i < job.rows * packs; i += vd_stride()) {
        const int64_t row = i / packs, c = i % packs * V;
        const int64_t bias = (job.first_row + row) / job.run_rows * width;
        float v[V];
        vd_load<V>(v, src, row * width + c);
        add_bias<V>(v, job.bias, bias + c);
        if (job.act == VD_ACT_GEGLU) {
            float gate[V];
            vd_load<V>(gate, src, row * width + job.columns + c);
            add_bias<V>(gate, job.bias, bias + job.columns + c);
            for (int k = 0; k < V; k++)
                v[k] *= vd_act(gate[k], VD_ACT_GELU);
        } else {
            for (int k = 0; k < V; k++)
                v[k] = vd_act(v[k], job.act);
        }
        if (job.residual != NULL) {
            float other[V];
            load_any<V>(other, job.residual, job.residual_dtype, row * job.columns + c);
            for (int k = 0; k < V; k++)
                v[k] += other[k];
        }
        vd_store<V>((D *)job.dst, row * job.columns + c, v);
    }
}

cudaError_t vd_launch_finish(cudaStream_t stream, const vd_cuda_finish *job) {
    const bool wide = job->columns % VD_VECTOR == 0 && vd_is_aligned(job->dst) &&
                      vd_is_aligned(job->src) && vd_is_aligned(job->residual) &&
                      vd_is_aligned(job->bias);
    const int64_t packs = job->rows * job->columns / (wide ? VD_VECTOR : 1);
    return vd_for_types(job->dst_dtype, job->src_dtype, [&](auto *d, auto *s) {
        typedef VD_TYPE(d) D;
        typedef VD_TYPE(s) S;
        if (wide)
            VD_LAUNCH((finish<VD_VECTOR, D, S>), vd_blocks(packs), VD_BLOCK, stream, *job);
        else
            VD_LAUNCH((finish<1, D, S>), vd_blocks(packs), VD_BLOCK, stream, *job);
        return cudaGetLastError();
    });
}

__global__ void bias_rows(float *dst, const float *add, const float *bias, int64_t rows,
                          int64_t run, int64_t columns) {
    for (int64_t i = vd_first(); i < rows * columns; i += vd_stride()) {
        const int64_t c = i % columns;
        dst[i] = add[i / columns / run * columns + c] + (bias == NULL ? 0.0F : bias[c]);
    }
}

cudaError_t vd_launch_bias_rows(cudaStream_t stream, float *dst, const float *add,
                                const float *bias, int64_t rows, int64_t add_rows,
                                int64_t columns) {
    VD_LAUNCH(bias_rows, vd_blocks(rows * columns), VD_BLOCK, stream, dst, add, bias, rows,
              rows / add_rows, columns);
    return cudaGetLastError();
}

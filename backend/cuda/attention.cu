/* Attention of our own: for what cuDNN does not take, and for short sequences. Online softmax: no
 * scores leave the chip. Sums are float32 and in a fixed order. */
#include <type_traits>

#include "backend/cuda/device.cuh"

enum { THREADS = 128, SHARED_BYTES = 48 * 1024, MOST_SIDE = 32, SHORT = 64 };

/* First element of a head of one of the four tensors. */
__device__ inline int64_t head_at(const vd_attention_strides &s, int64_t outer, int64_t inner,
                                  int64_t head, int dim) {
    return outer * s.outer + inner * s.inner + head * dim;
}

/* ---- any shape ------------------------------------------------------------------------------ */

/* A block is `side` queries of one head. It keeps in shared memory those queries, `side` keys and
 * then as many values, their scores, the sums of the results, and of each query the largest score,
 * the sum of the weights and the factor for what was summed with a smaller largest score. */
__host__ __device__ inline int64_t shared_floats(int side, int dim) {
    return (int64_t)side * (3 * (dim + 1) + side + 1 + 3);
}

static int side_of(int dim) {
    int side = MOST_SIDE;
    while (side > 1 && shared_floats(side, dim) * (int64_t)sizeof(float) > SHARED_BYTES)
        side /= 2;
    return side;
}

template <typename T>
__device__ inline void load_rows(float *to, const T *from, int64_t stride, int64_t first,
                                 int64_t count, int side, int dim) {
    for (int i = threadIdx.x; i < side * dim; i += THREADS) {
        const int row = i / dim, e = i % dim;
        to[row * (dim + 1) + e] =
            row < count ? vd_to_float(from[(first + row) * stride + e]) : 0.0F;
    }
}

template <typename T>
__global__ void attend(vd_cuda_attention_args args, vd_attention_desc d, int side, int64_t blocks) {
    VD_SHARED_FLOATS(shared);
    const int dim = d.head_dim, wide = dim + 1, scores = side + 1;
    float *q = shared, *kv = q + side * wide, *out = kv + side * wide, *s = out + side * wide;
    float *top = s + side * scores, *sum = top + side, *factor = sum + side;
    const int64_t block = blockIdx.x % blocks, head = blockIdx.x / blocks % d.heads;
    const int64_t batch = blockIdx.x / blocks / d.heads;
    const int64_t o = batch / d.inner, i = batch % d.inner, first = block * side;
    const int64_t queries = d.q_tokens - first < side ? d.q_tokens - first : side;
    const T *k_at = (const T *)args.k + head_at(d.k, o, i, head, dim);
    const T *v_at = (const T *)args.v + head_at(d.v, o, i, head, dim);
    load_rows(q, (const T *)args.q + head_at(d.q, o, i, head, dim), d.q.token, first, queries, side,
              dim);
    for (int e = threadIdx.x; e < side * wide; e += THREADS)
        out[e] = 0;
    for (int r = threadIdx.x; r < side; r += THREADS) {
        top[r] = -INFINITY;
        sum[r] = 0;
    }
    const int64_t last = d.causal && first + queries < d.kv_tokens ? first + queries : d.kv_tokens;
    for (int64_t key = 0; key < last; key += side) {
        const int keys = (int)(last - key < side ? last - key : side);
        VD_SYNC();
        load_rows(kv, k_at, d.k.token, key, keys, side, dim);
        VD_SYNC();
        for (int e = threadIdx.x; e < side * side; e += THREADS) {
            const int r = e / side, c = e % side;
            float dot = 0;
            for (int j = 0; j < dim; j++)
                dot += q[r * wide + j] * kv[c * wide + j];
            const bool seen = c < keys && (!d.causal || key + c <= first + r);
            s[r * scores + c] = seen ? dot * d.scale : -INFINITY;
        }
        VD_SYNC();
        load_rows(kv, v_at, d.v.token, key, keys, side, dim);
        for (int r = threadIdx.x; r < side; r += THREADS) {
            float most = top[r], all = 0;
            for (int c = 0; c < keys; c++)
                most = fmaxf(most, s[r * scores + c]);
            const float about = most == -INFINITY ? 0 : most;
            for (int c = 0; c < side; c++) {
                const float w = c < keys ? expf(s[r * scores + c] - about) : 0;
                s[r * scores + c] = w;
                all += w;
            }
            factor[r] = expf(top[r] - about);
            sum[r] = sum[r] * factor[r] + all;
            top[r] = most;
        }
        VD_SYNC();
        for (int e = threadIdx.x; e < side * dim; e += THREADS) {
            const int r = e / dim, j = e % dim;
            float v = out[r * wide + j] * factor[r];
            for (int c = 0; c < keys; c++)
                v += s[r * scores + c] * kv[c * wide + j];
            out[r * wide + j] = v;
        }
    }
    VD_SYNC();
    T *to = (T *)args.out + head_at(d.out, o, i, head, dim);
    for (int e = threadIdx.x; e < queries * dim; e += THREADS)
        to[(first + e / dim) * d.out.token + e % dim] =
            vd_from_float<T>(out[e / dim * wide + e % dim] / sum[e / dim]);
}

cudaError_t vd_launch_attention(cudaStream_t stream, const vd_cuda_attention_args *args,
                                const vd_attention_desc *d) {
    const int side = side_of(d->head_dim);
    const int64_t bytes = shared_floats(side, d->head_dim) * (int64_t)sizeof(float);
    const int64_t blocks = (d->q_tokens + side - 1) / side;
    const int64_t all = d->outer * d->inner * d->heads * blocks;
    if (bytes > SHARED_BYTES || all > INT32_MAX)
        return cudaErrorInvalidConfiguration;
    return vd_for_type(args->dtype, [&](auto *t) {
        typedef VD_TYPE(t) T;
        VD_LAUNCH_TOGETHER((attend<T>), (unsigned)all, THREADS, (size_t)bytes, stream, *args, *d,
                           side, blocks);
        return cudaGetLastError();
    });
}

/* ---- short sequences ------------------------------------------------------------------------ */

/* A block is one head of `pixels` neighbours along `inner`: all their queries, keys, values and
 * scores are in shared memory at once. */
static int64_t floats_of_pixel(const vd_attention_desc *d) {
    return (d->q_tokens + 2 * d->kv_tokens) * (d->head_dim + 1) + d->q_tokens * (d->kv_tokens + 1);
}

bool vd_attention_is_short(const vd_attention_desc *d) {
    return d->q_tokens <= SHORT && d->kv_tokens <= SHORT && d->inner > 1 && !d->causal &&
           floats_of_pixel(d) * (int64_t)sizeof(float) <= SHARED_BYTES;
}

template <typename T>
__device__ inline void load_pixel(float *to, const T *from, int64_t token, int tokens, int dim) {
    for (int e = threadIdx.x; e < tokens * dim; e += THREADS)
        to[e / dim * (dim + 1) + e % dim] = vd_to_float(from[e / dim * token + e % dim]);
}

template <typename T>
__global__ void attend_short(vd_cuda_attention_args args, vd_attention_desc d, int pixels,
                             int64_t runs, int floats) {
    VD_SHARED_FLOATS(shared);
    const int dim = d.head_dim, wide = dim + 1;
    const int tq = (int)d.q_tokens, tk = (int)d.kv_tokens, scores = tk + 1;
    const int64_t head = blockIdx.x % d.heads, run = blockIdx.x / d.heads % runs;
    const int64_t o = blockIdx.x / d.heads / runs, first = run * pixels;
    const int count = (int)(d.inner - first < pixels ? d.inner - first : pixels);
    for (int p = 0; p < count; p++) {
        float *q = shared + p * floats, *k = q + tq * wide, *v = k + tk * wide;
        load_pixel(q, (const T *)args.q + head_at(d.q, o, first + p, head, dim), d.q.token, tq,
                   dim);
        load_pixel(k, (const T *)args.k + head_at(d.k, o, first + p, head, dim), d.k.token, tk,
                   dim);
        load_pixel(v, (const T *)args.v + head_at(d.v, o, first + p, head, dim), d.v.token, tk,
                   dim);
    }
    VD_SYNC();
    for (int e = threadIdx.x; e < count * tq * tk; e += THREADS) {
        const int p = e / (tq * tk), r = e / tk % tq, c = e % tk;
        float *q = shared + p * floats, *k = q + tq * wide, *s = k + 2 * tk * wide;
        float dot = 0;
        for (int j = 0; j < dim; j++)
            dot += q[r * wide + j] * k[c * wide + j];
        s[r * scores + c] = dot * d.scale;
    }
    VD_SYNC();
    for (int e = threadIdx.x; e < count * tq; e += THREADS) {
        float *s = shared + e / tq * floats + (tq + 2 * tk) * wide + e % tq * scores;
        float most = -INFINITY, all = 0;
        for (int c = 0; c < tk; c++)
            most = fmaxf(most, s[c]);
        for (int c = 0; c < tk; c++) {
            s[c] = expf(s[c] - most);
            all += s[c];
        }
        for (int c = 0; c < tk; c++)
            s[c] /= all;
    }
    VD_SYNC();
    for (int e = threadIdx.x; e < count * tq * dim; e += THREADS) {
        const int p = e / (tq * dim), r = e / dim % tq, j = e % dim;
        const float *v = shared + p * floats + (tq + tk) * wide;
        const float *s = v + tk * wide + r * scores;
        float sum = 0;
        for (int c = 0; c < tk; c++)
            sum += s[c] * v[c * wide + j];
        ((T *)args.out)[head_at(d.out, o, first + p, head, dim) + r * d.out.token + j] =
            vd_from_float<T>(sum);
    }
}

cudaError_t vd_launch_short_attention(cudaStream_t stream, const vd_cuda_attention_args *args,
                                      const vd_attention_desc *d) {
    const int64_t enough = 4;
    const int64_t floats = floats_of_pixel(d);
    int64_t pixels = SHARED_BYTES / (floats * (int64_t)sizeof(float));
    pixels = pixels < enough ? pixels : enough;
    const int64_t runs = (d->inner + pixels - 1) / pixels, all = d->outer * runs * d->heads;
    if (all > INT32_MAX)
        return cudaErrorInvalidConfiguration;
    return vd_for_type(args->dtype, [&](auto *t) {
        typedef VD_TYPE(t) T;
        VD_LAUNCH_TOGETHER((attend_short<T>), (unsigned)all, THREADS,
                           (size_t)(pixels * floats) * sizeof(float), stream, *args, *d,
                           (int)pixels, runs, (int)floats);
        return cudaGetLastError();
    });
}

/* The part of cuBLASLt that the backend uses, on the host, with cuBLASLt's own conventions:
 * matrices are stored column by column, and what an attribute says is obeyed. */
#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

#include "core/tensor.h"
#include "queue.h"

typedef struct layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld;
} layout;

typedef struct product {
    cublasOperation_t turn[2];
    cublasLtEpilogue_t epilogue;
    const void *bias;
    cudaDataType_t bias_type;
} product;

static vd_dtype dtype_of(cudaDataType_t type) {
    return type == CUDA_R_16BF ? VD_BF16 : type == CUDA_R_16F ? VD_F16 : VD_F32;
}

static float get(const void *memory, cudaDataType_t type, size_t at) {
    const vd_dtype dtype = dtype_of(type);
    float v;
    vd_convert_values(&v, VD_F32, (const char *)memory + at * vd_dtype_bytes(dtype), dtype, 1);
    return v;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    *out = malloc(1);
    return *out == NULL ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "an emulated error";
}

size_t cublasLtGetVersion(void) {
    return 0;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    product *p = calloc(1, sizeof *p);
    if (p == NULL || compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) {
        free(p);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    p->turn[0] = p->turn[1] = CUBLAS_OP_N;
    p->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    *out = (cublasLtMatmulDesc_t)(void *)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    free(desc);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes) {
    product *p = (product *)(void *)desc;
    void *to = name == CUBLASLT_MATMUL_DESC_TRANSA           ? (void *)&p->turn[0]
               : name == CUBLASLT_MATMUL_DESC_TRANSB         ? (void *)&p->turn[1]
               : name == CUBLASLT_MATMUL_DESC_EPILOGUE       ? (void *)&p->epilogue
               : name == CUBLASLT_MATMUL_DESC_BIAS_POINTER   ? (void *)&p->bias
               : name == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE ? (void *)&p->bias_type
                                                             : NULL;
    const size_t wanted = name == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void *) : 4;
    if (to == NULL || bytes != wanted)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
    layout *l = malloc(sizeof *l);
    if (l == NULL || ld < (int64_t)rows) {
        free(l);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    *l = (layout){type, rows, columns, ld};
    *out = (cublasLtMatrixLayout_t)(void *)l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
    free(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = malloc(1);
    return *out == NULL ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wish) {
    free(wish);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wish,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t bytes) {
    (void)wish;
    (void)value;
    const size_t wanted = name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4;
    return bytes == wanted ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

/* Refuses a bias in another type than the result's, as the real one may. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int most,
                                              cublasLtMatmulHeuristicResult_t result[],
                                              int *count) {
    const product *p = (const product *)(const void *)desc;
    const layout *to = (const layout *)(const void *)d;
    (void)handle, (void)a, (void)b, (void)c, (void)wish, (void)most;
    *count = 0;
    if (p->epilogue == CUBLASLT_EPILOGUE_BIAS && p->bias_type != to->type)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    memset(&result[0], 0, sizeof result[0]);
    result[0].workspaceSize = 256;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static float *as_floats(const void *memory, const layout *l, bool turned) {
    float *to = calloc((size_t)(l->rows * l->columns), sizeof *to);
    const size_t ld = (size_t)l->ld;
    for (size_t c = 0; to != NULL && c < l->columns; c++)
        for (size_t r = 0; r < l->rows; r++)
            to[turned ? c * l->rows + r : r * l->columns + c] = get(memory, l->type, c * ld + r);
    return to;
}

/* All that a call takes, with copies of what it points to on the host. */
typedef struct matmul {
    product p;
    layout a_layout, b_layout, d_layout;
    float alpha, beta;
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;
} matmul;

static void run_matmul(const void *data) {
    const matmul *job = data;
    const layout *to = &job->d_layout;
    const bool turned = job->p.turn[0] == CUBLAS_OP_T;
    const size_t m = (size_t)to->rows, k = (size_t)job->b_layout.rows;
    memset(job->workspace, 0xFF, job->workspace_bytes);
    float *x = as_floats(job->a, &job->a_layout, turned),
          *y = as_floats(job->b, &job->b_layout, true);
    for (size_t j = 0; j < to->columns; j++)
        for (size_t i = 0; i < m; i++) {
            double sum = 0;
            for (size_t e = 0; e < k; e++)
                sum += (double)x[i * k + e] * (double)y[j * k + e];
            float v = job->alpha * (float)sum;
            const size_t at = j * (size_t)to->ld + i;
            if (job->beta != 0)
                v += job->beta * get(job->c, to->type, at);
            if (job->p.epilogue == CUBLASLT_EPILOGUE_BIAS)
                v += get(job->p.bias, job->p.bias_type, i);
            const vd_dtype dtype = dtype_of(to->type);
            vd_convert_values((char *)job->d + at * vd_dtype_bytes(dtype), dtype, &v, VD_F32, 1);
        }
    free(x);
    free(y);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    const matmul job = {.p = *(const product *)(const void *)desc,
                        .a_layout = *(const layout *)(const void *)a_layout,
                        .b_layout = *(const layout *)(const void *)b_layout,
                        .d_layout = *(const layout *)(const void *)d_layout,
                        .alpha = *(const float *)alpha,
                        .beta = *(const float *)beta,
                        .a = a,
                        .b = b,
                        .c = c,
                        .d = d,
                        .workspace = workspace,
                        .workspace_bytes = workspace_bytes};
    const bool turned = job.p.turn[0] == CUBLAS_OP_T;
    const uint64_t m = turned ? job.a_layout.columns : job.a_layout.rows;
    const uint64_t k = turned ? job.a_layout.rows : job.a_layout.columns;
    (void)handle, (void)c_layout, (void)algo, (void)stream;
    if ((uintptr_t)workspace % 256 != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (job.p.turn[1] != CUBLAS_OP_N || job.b_layout.rows != k || job.d_layout.rows != m ||
        job.d_layout.columns != job.b_layout.columns)
        return CUBLAS_STATUS_INVALID_VALUE;
    vd_emulate_work(run_matmul, &job, sizeof job);
    return CUBLAS_STATUS_SUCCESS;
}

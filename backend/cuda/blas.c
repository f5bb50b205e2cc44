#include "backend/cuda/blas.h"

#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

enum { WORKSPACE_BYTES = 32 * 1024 * 1024 };

struct vd_blas_plan {
    vd_blas_product key;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algo;
    size_t workspace_bytes;
    vd_blas_plan *next;
};

struct vd_blas {
    cublasLtHandle_t handle;
    cudaStream_t stream;
    vd_blas_plan *plans;
};

static vd_status blas_status(cublasStatus_t status, const char *doing) {
    if (status == CUBLAS_STATUS_SUCCESS)
        return VD_OK;
    return vd_fail(status == CUBLAS_STATUS_ALLOC_FAILED ? VD_ERR_MEMORY : VD_ERR_BACKEND,
                   "cuBLASLt %s: %s", doing, cublasLtGetStatusString(status));
}

static cudaDataType_t blas_dtype(vd_dtype dtype) {
    return dtype == VD_BF16 ? CUDA_R_16BF : dtype == VD_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static void plan_destroy(vd_blas_plan *p) {
    if (p->desc != NULL)
        cublasLtMatmulDescDestroy(p->desc);
    cublasLtMatrixLayout_t layout[] = {p->a, p->b, p->d};
    for (int i = 0; i < 3; i++)
        if (layout[i] != NULL)
            cublasLtMatrixLayoutDestroy(layout[i]);
    free(p);
}

/* cuBLASLt counts columns first: our [rows, out] is its out x rows, so the weight comes first and
 * is turned, and the bias goes along its rows. */
static vd_status describe(vd_blas_plan *p) {
    const vd_blas_product *key = &p->key;
    const uint64_t rows = (uint64_t)key->rows, out = (uint64_t)key->out, k = (uint64_t)key->k;
    const cudaDataType_t in = blas_dtype(key->dtype), result = blas_dtype(key->d_dtype);
    const cublasOperation_t turn = CUBLAS_OP_T;
    vd_status st;
    VD_TRY(blas_status(cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                       "describing a product"));
    VD_TRY(blas_status(
        cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn),
        "describing a product"));
    VD_TRY(
        blas_status(cublasLtMatrixLayoutCreate(&p->a, in, k, out, key->k), "describing a weight"));
    VD_TRY(
        blas_status(cublasLtMatrixLayoutCreate(&p->b, in, k, rows, key->k), "describing a matrix"));
    VD_TRY(blas_status(cublasLtMatrixLayoutCreate(&p->d, result, out, rows, key->out),
                       "describing a result"));
done:
    return st;
}

static vd_status set_bias(cublasLtMatmulDesc_t desc, const void *bias) {
    return blas_status(
        cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
        "taking a bias");
}

static vd_status describe_bias(const vd_blas_plan *p) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t type = blas_dtype(p->key.d_dtype);
    vd_status st;
    VD_TRY(blas_status(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                      &epilogue, sizeof epilogue),
                       "describing a bias"));
    VD_TRY(blas_status(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                                      &type, sizeof type),
                       "describing a bias"));
done:
    return st;
}

static vd_status propose(const vd_blas *b, const vd_blas_plan *p,
                         cublasLtMatmulHeuristicResult_t *result, int *count) {
    static const cublasLtMatmulPreferenceAttributes_t sides[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t most = WORKSPACE_BYTES;
    const uint32_t align = (uint32_t)p->key.align_bytes;
    /* Parts of a sum would be rounded to the result's type else. */
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasLtMatmulPreference_t wish = NULL;
    vd_status st;
    *count = 0;
    VD_TRY(blas_status(cublasLtMatmulPreferenceCreate(&wish), "planning a product"));
    VD_TRY(blas_status(cublasLtMatmulPreferenceSetAttribute(
                           wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most),
                       "planning a product"));
    VD_TRY(
        blas_status(cublasLtMatmulPreferenceSetAttribute(
                        wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes),
                    "planning a product"));
    for (int i = 0; i < 4; i++)
        VD_TRY(
            blas_status(cublasLtMatmulPreferenceSetAttribute(wish, sides[i], &align, sizeof align),
                        "planning a product"));
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        b->handle, p->desc, p->a, p->b, p->d, p->d, wish, 1, result, count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED)
        st = blas_status(status, "planning a product");
    else
        *count = 0;
done:
    if (wish != NULL)
        cublasLtMatmulPreferenceDestroy(wish);
    return st;
}

static vd_status choose(const vd_blas *b, vd_blas_plan *p) {
    cublasLtMatmulHeuristicResult_t result;
    int count = 0;
    vd_status st = VD_OK;
    memset(&result, 0, sizeof result);
    if (p->key.bias)
        VD_TRY(describe_bias(p));
    VD_TRY(propose(b, p, &result, &count));
    if (count == 0 || result.state != CUBLAS_STATUS_SUCCESS)
        st = vd_fail(VD_ERR_BACKEND, "cuBLASLt cannot multiply [%lld, %lld] by [%lld, %lld] in %s",
                     (long long)p->key.rows, (long long)p->key.k, (long long)p->key.k,
                     (long long)p->key.out, vd_dtype_name(p->key.dtype));
    p->algo = result.algo;
    p->workspace_bytes = result.workspaceSize;
done:
    return st;
}

static bool same_key(const vd_blas_product *a, const vd_blas_product *b) {
    return a->rows == b->rows && a->out == b->out && a->k == b->k && a->dtype == b->dtype &&
           a->d_dtype == b->d_dtype && a->bias == b->bias && a->residual == b->residual &&
           a->align_bytes == b->align_bytes;
}

vd_status vd_blas_plan_product(vd_blas *b, const vd_blas_product *key, vd_blas_plan **out) {
    for (vd_blas_plan *p = b->plans; p != NULL; p = p->next)
        if (same_key(&p->key, key)) {
            *out = p;
            return VD_OK;
        }
    *out = NULL;
    vd_blas_plan *p = calloc(1, sizeof *p);
    if (p == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for a plan of cuBLASLt");
    p->key = *key;
    vd_status st;
    VD_TRY(describe(p));
    VD_TRY(choose(b, p));
    p->next = b->plans;
    b->plans = p;
    *out = p;
    p = NULL;
done:
    if (p != NULL)
        plan_destroy(p);
    return st;
}

size_t vd_blas_workspace_bytes(const vd_blas_plan *plan) {
    return plan->workspace_bytes;
}

vd_status vd_blas_run(vd_blas *b, const vd_blas_plan *p, const vd_blas_args *args) {
    const float one = 1, beta = p->key.residual ? 1.0F : 0.0F;
    vd_status st = p->key.bias ? set_bias(p->desc, args->bias) : VD_OK;
    if (st != VD_OK)
        return st;
    const void *c = p->key.residual ? args->c : args->d;
    return blas_status(cublasLtMatmul(b->handle, p->desc, &one, args->w, p->a, args->a, p->b, &beta,
                                      c, p->d, args->d, p->d, &p->algo, args->workspace,
                                      p->workspace_bytes, b->stream),
                       "multiplying");
}

vd_status vd_blas_create(void *stream, vd_blas **out) {
    vd_blas *b = calloc(1, sizeof *b);
    *out = NULL;
    if (b == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for cuBLASLt");
    vd_status st = blas_status(cublasLtCreate(&b->handle), "starting");
    if (st != VD_OK) {
        free(b);
        return st;
    }
    b->stream = stream;
    *out = b;
    return VD_OK;
}

void vd_blas_destroy(vd_blas *b) {
    if (b == NULL)
        return;
    for (vd_blas_plan *p = b->plans, *next; p != NULL; p = next) {
        next = p->next;
        plan_destroy(p);
    }
    cublasLtDestroy(b->handle);
    free(b);
}

/* Makes the full text encoder files out of the trimmed ones (tools/trim_golden.py):
 *     expand_golden TRIMMED.safetensors OUTPUT.safetensors
 * The table's rows that no case looks up are zero. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/safetensors.h"

enum { MAX_TENSORS = 1024, TABLE_ROWS = 49408 };

static vd_status expand_table(const vd_tensor *rows, const vd_tensor *ids, vd_tensor *table) {
    int64_t count = ids->dim[0], width = rows->dim[1];
    size_t row_bytes = (size_t)width * vd_dtype_bytes(rows->dtype);
    char *data = calloc(TABLE_ROWS, row_bytes);
    if (!data)
        return vd_fail(VD_ERR_MEMORY, "no memory for a table");
    for (int64_t i = 0; i < count; i++) {
        int64_t id;
        memcpy(&id, (const char *)ids->data + (size_t)i * sizeof id, sizeof id);
        if (id < 0 || id >= TABLE_ROWS) {
            free(data);
            return vd_fail(VD_ERR_INPUT, "token id %lld is not in a CLIP table", (long long)id);
        }
        memcpy(data + (size_t)id * row_bytes, (const char *)rows->data + (size_t)i * row_bytes,
               row_bytes);
    }
    *table = VD_VIEW(data, rows->dtype, TABLE_ROWS, width);
    return VD_OK;
}

int main(int argc, char **argv) {
    vd_status st = VD_OK;
    vd_checkpoint *ck = NULL;
    const char *name[MAX_TENSORS];
    vd_tensor tensor[MAX_TENSORS], rows, ids, table = {0};
    size_t count = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: expand_golden TRIMMED.safetensors OUTPUT.safetensors\n");
        return 2;
    }
    VD_TRY(vd_checkpoint_open_file(argv[1], &ck));
    if (!vd_checkpoint_find(ck, "token_rows", &rows) ||
        !vd_checkpoint_find(ck, "token_ids", &ids) || rows.rank != 2 || ids.rank != 1 ||
        ids.dtype != VD_I64 || ids.dim[0] != rows.dim[0]) {
        st = vd_fail(VD_ERR_INPUT, "%s: no token_rows and token_ids", argv[1]);
        goto done;
    }
    VD_TRY(expand_table(&rows, &ids, &table));
    /* Both spellings of the names occur among checkpoints; the others tell which this one has. */
    vd_tensor probe;
    bool prefixed = vd_checkpoint_find(ck, "text_model.final_layer_norm.weight", &probe);
    name[count] = prefixed ? "text_model.embeddings.token_embedding.weight"
                           : "embeddings.token_embedding.weight";
    tensor[count++] = table;
    for (size_t i = 0; i < vd_checkpoint_count(ck) && count < MAX_TENSORS; i++) {
        const char *n = vd_checkpoint_name(ck, i);
        if (strcmp(n, "token_rows") == 0 || strcmp(n, "token_ids") == 0)
            continue;
        name[count] = n;
        vd_checkpoint_find(ck, n, &tensor[count++]);
    }
    VD_TRY(vd_safetensors_write(argv[2], name, tensor, count, NULL));
done:
    if (st != VD_OK)
        fprintf(stderr, "expand_golden: %s\n", vd_error_message());
    free(table.data);
    vd_checkpoint_destroy(ck);
    return st == VD_OK ? 0 : 1;
}

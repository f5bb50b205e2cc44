#include "cli/shard.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

static vd_status parse_shard(const char *text, cli_shard *out) {
    char index[24] = "";
    const char *slash = strchr(text, '/');
    int64_t i = 0, n = 0;
    size_t length = slash ? (size_t)(slash - text) : sizeof index;
    if (length < sizeof index)
        memcpy(index, text, length);
    if (!vd_parse_int(index, &i) || !vd_parse_int(slash + 1, &n) || n < 1 || n > 1000000 || i < 0 ||
        i > n)
        return vd_fail(VD_ERR_USAGE,
                       "batch: --shard \"%s\": must be I/N, shard I of N, counted from 0 or from 1",
                       text);
    out->index = (size_t)(i % n);
    out->count = (size_t)n;
    return VD_OK;
}

/* A whole number of the environment; `fallback` if the variable is missing. */
static vd_status read_variable(const char *name, int64_t fallback, int64_t *out) {
    const char *text = getenv(name);
    *out = fallback;
    if (text && text[0] && !vd_parse_int(text, out))
        return vd_fail(VD_ERR_USAGE, "batch: %s=%s is not a whole number: give --shard I/N", name,
                       text);
    return VD_OK;
}

vd_status cli_shard_read(const char *text, cli_shard *out) {
    vd_status st = VD_OK;
    int64_t id = -1, low = 0, step = 1, count = 1;
    *out = (cli_shard){.count = 1};
    if (text)
        return parse_shard(text, out);
    VD_TRY(read_variable("SLURM_ARRAY_TASK_ID", -1, &id));
    if (id >= 0) {
        VD_TRY(read_variable("SLURM_ARRAY_TASK_COUNT", 1, &count));
        VD_TRY(read_variable("SLURM_ARRAY_TASK_MIN", 0, &low));
        VD_TRY(read_variable("SLURM_ARRAY_TASK_STEP", 1, &step));
    } else {
        VD_TRY(read_variable("JOB_COMPLETION_INDEX", -1, &id));
        VD_TRY(read_variable("VIDILATE_SHARDS", 1, &count));
    }
    if (id < 0)
        goto done;
    out->helps = true;
    if (count >= 1 && step >= 1 && id >= low) {
        out->count = (size_t)count;
        out->index = (size_t)((id - low) / step % count);
    }
done:
    return st;
}

bool cli_shard_has(const cli_shard *shard, size_t job) {
    return job % shard->count == shard->index;
}

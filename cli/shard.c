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
    if (text && text[0] && (!vd_parse_int(text, out) || *out < 0 || *out > INT32_MAX))
        return vd_fail(VD_ERR_USAGE,
                       "batch: %s=%s is not a whole number from 0 on: give --shard I/N", name,
                       text);
    return VD_OK;
}

/* The task of an array "LOW-HIGH:STEP". A list with gaps ("1,2,5") does not say which of its
 * members a task is. */
static vd_status read_array(int64_t id, cli_shard *out) {
    vd_status st = VD_OK;
    int64_t low = 0, high = 0, step = 1, count = 1;
    VD_TRY(read_variable("SLURM_ARRAY_TASK_COUNT", 1, &count));
    VD_TRY(read_variable("SLURM_ARRAY_TASK_MIN", 0, &low));
    VD_TRY(read_variable("SLURM_ARRAY_TASK_STEP", 1, &step));
    VD_TRY(read_variable("SLURM_ARRAY_TASK_MAX", low + (count - 1) * step, &high));
    out->unknown = !(low <= id && id <= high && step >= 1 && count == (high - low) / step + 1);
    if (!out->unknown) {
        out->index = (size_t)((id - low) / step);
        out->count = (size_t)count;
    }
done:
    return st;
}

/* A pod of an indexed Job, which is not told how many there are. */
static vd_status read_pod(int64_t id, cli_shard *out) {
    vd_status st = VD_OK;
    int64_t count = 0;
    VD_TRY(read_variable("VIDILATE_SHARDS", 0, &count));
    out->unknown = count < 1 || id >= count;
    if (!out->unknown) {
        out->index = (size_t)id;
        out->count = (size_t)count;
    }
done:
    return st;
}

vd_status cli_shard_read(const char *text, cli_shard *out) {
    vd_status st = VD_OK;
    int64_t task = -1, pod = -1;
    *out = (cli_shard){.count = 1};
    if (text)
        return parse_shard(text, out);
    VD_TRY(read_variable("SLURM_ARRAY_TASK_ID", -1, &task));
    VD_TRY(read_variable("JOB_COMPLETION_INDEX", -1, &pod));
    out->helps = task >= 0 || pod >= 0;
    if (task >= 0)
        VD_TRY(read_array(task, out));
    else if (pod >= 0)
        VD_TRY(read_pod(pod, out));
done:
    return st;
}

bool cli_shard_has(const cli_shard *shard, size_t job) {
    return job % shard->count == shard->index;
}

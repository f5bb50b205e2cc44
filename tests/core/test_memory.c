/* What can be had, from trees like those of /proc and /sys, and what the process has. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/safetensors.h"
#include "core/text.h"
#include "tests/check.h"

static char root[] = "/tmp/vd-memory-XXXXXX";

/* Writes a file of the tree, with the folders above it. */
static void put(const char *name, const char *text) {
    char *path = vd_format("%s/%s", root, name);
    for (char *slash = strchr(path + sizeof root, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "we");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
    free(path);
}

static void check_groups(void) {
    CHECK(vd_memory_available_in(root) == SIZE_MAX);
    put("proc/meminfo", "MemTotal:       100 kB\nMemFree:         10 kB\nMemAvailable:    90 kB\n");
    CHECK(vd_memory_available_in(root) == 92160);

    /* Version 2: the process' group has no limit, that around it has. */
    put("proc/self/cgroup", "0::/job/step\n");
    put("sys/fs/cgroup/job/step/memory.max", "max\n");
    put("sys/fs/cgroup/job/step/memory.current", "5000\n");
    CHECK(vd_memory_available_in(root) == 92160);
    put("sys/fs/cgroup/job/memory.max", "50000\n");
    put("sys/fs/cgroup/job/memory.current", "20000\n");
    CHECK(vd_memory_available_in(root) == 30000);
    put("sys/fs/cgroup/job/memory.stat", "anon 12000\ninactive_file 8000\nactive_file 1\n");
    CHECK(vd_memory_available_in(root) == 38000);
    put("sys/fs/cgroup/job/memory.current", "60000\n");
    CHECK(vd_memory_available_in(root) == 0);

    /* A container that sees a path of the host and only its own root. */
    put("proc/self/cgroup", "0::/machine/abc\n");
    put("sys/fs/cgroup/memory.max", "4096\n");
    put("sys/fs/cgroup/memory.current", "96\n");
    CHECK(vd_memory_available_in(root) == 4000);
    put("sys/fs/cgroup/memory.max", "max\n");

    /* Version 1, whose "no limit" is a very large number. */
    put("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/a\n3:memoryless:/b\nnonsense\n0::/\n");
    put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
    put("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1000\n");
    CHECK(vd_memory_available_in(root) == 92160);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "3000\n");
    put("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n");
    CHECK(vd_memory_available_in(root) == 4500);
}

static void check_process(void) {
    enum { BYTES = 32 << 20, SLACK = 8 << 20 };
    const size_t before = vd_memory_resident();
    char *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED && before > 0);
    memset(memory, 1, BYTES);
    CHECK(vd_memory_resident() > before + BYTES - SLACK);
    CHECK(munmap(memory, BYTES) == 0);
    CHECK(vd_memory_resident() < before + SLACK && vd_memory_peak() > before + BYTES - SLACK);
}

/* A file of 160 MB is read and is not in memory at any time as a whole; its values come back. */
static void check_checkpoint(void) {
    enum { TENSORS = 10, VALUES = 4 << 20, SLACK = 120 << 20 };
    char *path = vd_format("%s/big.safetensors", root), name[16];
    vd_tensor tensors[TENSORS];
    char names[TENSORS][16];
    const char *list[TENSORS];
    float *values = malloc(VALUES * sizeof *values);
    vd_checkpoint *ck = NULL;
    CHECK(values != NULL);
    for (int i = 0; i < VALUES && values; i++)
        values[i] = (float)i;
    for (int i = 0; i < TENSORS; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i);
        list[i] = names[i];
        tensors[i] = VD_VIEW(values, VD_F32, VALUES);
    }
    CHECK(vd_safetensors_write(path, list, tensors, TENSORS, NULL) == VD_OK);
    free(values);
    CHECK(vd_checkpoint_open_file(path, &ck) == VD_OK);
    const size_t before = vd_memory_resident();
    size_t most = 0;
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "t%d", i);
        vd_tensor t = vd_checkpoint_take(ck, name, 1, (int64_t[]){VALUES});
        double sum = 0;
        for (int64_t k = 0; k < VALUES; k++)
            sum += ((const float *)t.data)[k];
        CHECK(sum == 0.5 * VALUES * (VALUES - 1.0));
        most = vd_memory_resident() > most ? vd_memory_resident() : most;
        tensors[i] = t;
    }
    CHECK(most < before + SLACK);
    char hash[72];
    CHECK(vd_checkpoint_hash(ck, hash) == VD_OK && vd_memory_resident() < before + SLACK);
    CHECK(vd_checkpoint_finish(ck, "test") == VD_OK);
    CHECK(vd_memory_resident() < before + (8 << 20));
    CHECK(((const float *)tensors[3].data)[VALUES - 1] == VALUES - 1);
    vd_checkpoint_destroy(ck);
    CHECK(unlink(path) == 0);
    free(path);
}

/* Weights larger than any machine: a file without blocks. */
static void check_large_checkpoint(void) {
    const long long values = 1LL << 40;
    char *path = vd_format("%s/huge.safetensors", root);
    char header[160];
    vd_checkpoint *ck = NULL;
    int length = snprintf(header + 8, sizeof header - 8,
                          "{\"t\":{\"dtype\":\"F32\",\"shape\":[%lld],\"data_offsets\":[0,%lld]}}",
                          values, 4 * values);
    memcpy(header, &(uint64_t){(uint64_t)length}, 8);
    FILE *file = fopen(path, "we");
    CHECK(file && fwrite(header, 1, (size_t)length + 8, file) == (size_t)length + 8);
    CHECK(file && fclose(file) == 0 && truncate(path, length + 8 + 4 * values) == 0);
    CHECK_OK(vd_checkpoint_open_file(path, &ck));
    if (ck)
        CHECK_FAILS(vd_checkpoint_check_memory(ck, VD_BF16, "UNet"), VD_ERR_MEMORY,
                    "huge.safetensors: the UNet would take 2199.0 GB of memory in BF16 and ");
    vd_checkpoint_destroy(ck);
    CHECK(unlink(path) == 0);
    free(path);
}

int main(void) {
    char *remove = NULL;
    CHECK(mkdtemp(root) != NULL);
    check_groups();
    check_process();
    check_checkpoint();
    check_large_checkpoint();
    CHECK(vd_memory_available() > 0);
    remove = vd_format("rm -rf %s", root);
    CHECK(remove && system(remove) == 0); // NOLINT(cert-env33-c): a folder of our own
    free(remove);
    return CHECK_DONE();
}

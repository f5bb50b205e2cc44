#include "cli/claim_owner.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void first_line(const char *path, char *buf, size_t bytes) {
    FILE *f = fopen(path, "re");
    buf[0] = '\0';
    if (f && fgets(buf, (int)bytes, f))
        buf[strcspn(buf, "\n")] = '\0';
    if (f)
        (void)fclose(f);
}

/* The time at which a process began, in ticks since the boot; 0 if there is none. */
static unsigned long long process_start(long pid) {
    char path[64], stat[1024];
    unsigned long long start = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    first_line(path, stat, sizeof stat);
    /* The name, in brackets, may hold anything. */
    const char *rest = strrchr(stat, ')');
    if (!rest || sscanf(rest,
                        ") %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                        "%*s %*s %*s %llu",
                        &start) != 1)
        return 0;
    /* A zombie has ended. */
    return rest[1] == ' ' && (rest[2] == 'Z' || rest[2] == 'X') ? 0 : start;
}

/* "BOOT PIDNS": processes with the same see each other's ids. */
static void place_of_process(char buf[96]) {
    char boot[48], space[40] = "";
    first_line("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    space[n > 0 ? n : 0] = '\0';
    snprintf(buf, 96, "%.40s %.39s", boot[0] ? boot : "?", space[0] ? space : "?");
}

void cli_owner_describe(char out[CLI_OWNER_BYTES]) {
    char place[96], host[64] = "", text[CLI_OWNER_BYTES];
    unsigned long long token = 0;
    (void)!getrandom(&token, sizeof token, 0);
    (void)gethostname(host, sizeof host - 1);
    place_of_process(place);
    snprintf(text, sizeof text, "%s %ld %llu %016llx %s", place, (long)getpid(),
             process_start(getpid()), token, host);
    snprintf(out, CLI_OWNER_BYTES, "%-*s", CLI_OWNER_BYTES - 1, text);
    out[CLI_OWNER_BYTES - 1] = '\n';
}

int cli_owner_lives(const char content[CLI_OWNER_BYTES]) {
    char place[96], text[CLI_OWNER_BYTES];
    long pid = 0;
    unsigned long long start = 0;
    snprintf(text, sizeof text, "%.*s", CLI_OWNER_BYTES - 1, content);
    place_of_process(place);
    size_t n = strlen(place);
    if (place[0] == '?' || strncmp(text, place, n) != 0 ||
        sscanf(text + n, " %ld %llu", &pid, &start) != 2 || start == 0)
        return -1;
    return process_start(pid) == start;
}

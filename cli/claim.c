#include "cli/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/claim_owner.h"
#include "core/clock.h"
#include "core/text.h"

enum { BEATS = 6 }; /* in the stale time */

/* A claim of somebody else, as it was first seen. */
typedef struct sighting {
    double since_s; /* 0: never seen */
    struct timespec touched;
    char content[CLI_OWNER_BYTES];
} sighting;

struct cli_claims {
    char *folder;
    double stale_s;
    char identity[CLI_OWNER_BYTES]; /* content of our claims, padded with spaces */
    sighting *seen;                 /* [jobs] */
    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t lock; /* of path and stop */
    pthread_cond_t wake;
    char *path; /* of the present claim; NULL: none */
    bool stop;
    atomic_bool lost;
};

/* ---- claim files --------------------------------------------------------------------------- */

/* Opening brings the attributes up to date on NFS. *content is all zeros for an empty file. */
static int open_claim(const char *path, char content[CLI_OWNER_BYTES], struct stat *info) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    memset(content, 0, CLI_OWNER_BYTES);
    if (fd >= 0 && (fstat(fd, info) != 0 || pread(fd, content, CLI_OWNER_BYTES, 0) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool write_identity(const cli_claims *c, int fd) {
    return pwrite(fd, c->identity, CLI_OWNER_BYTES, 0) == CLI_OWNER_BYTES;
}

/* *made is false if there is one already. */
static vd_status create(const cli_claims *c, const char *path, bool *made) {
    int fd = -1;
    /* Another process that finished may have removed the empty folder. */
    for (int tries = 0; tries < 10 && fd < 0; tries++) {
        (void)mkdir(c->folder, 0777);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != ENOENT)
            break;
    }
    *made = fd >= 0;
    if (fd < 0)
        return errno == EEXIST
                   ? VD_OK
                   : vd_fail(VD_ERR_OUTPUT, "%s: cannot be made: %s", path, strerror(errno));
    bool written = write_identity(c, fd);
    if (close(fd) != 0 || !written) {
        (void)unlink(path);
        return vd_fail(VD_ERR_OUTPUT, "%s: cannot be written: %s", path, strerror(errno));
    }
    return VD_OK;
}

/* Puts our name in a dead claim, unless somebody is quicker. */
static bool take_over(const cli_claims *c, const char *path, int fd,
                      const char dead[CLI_OWNER_BYTES]) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat opened, named;
    char now[CLI_OWNER_BYTES] = {0};
    /* A file system without locks: the reading back below is all there is. */
    if (fcntl(fd, F_SETLK, &whole) != 0 && (errno == EAGAIN || errno == EACCES))
        return false;
    if (fstat(fd, &opened) != 0 || stat(path, &named) != 0 || opened.st_ino != named.st_ino ||
        pread(fd, now, sizeof now, 0) < 0 || memcmp(now, dead, sizeof now) != 0 ||
        !write_identity(c, fd) || fsync(fd) != 0)
        return false;
    return pread(fd, now, sizeof now, 0) == CLI_OWNER_BYTES &&
           memcmp(now, c->identity, sizeof now) == 0;
}

/* Whether a claim that we look at now is dead, alive, or neither. */
static cli_claim_result judge(const cli_claims *c, sighting *seen,
                              const char content[CLI_OWNER_BYTES], const struct stat *info) {
    int lives = cli_owner_lives(content);
    double now_s = vd_now_s();
    if (lives >= 0)
        return lives ? CLI_CLAIM_BUSY : CLI_CLAIM_TAKEN_OVER;
    if (seen->since_s == 0 || memcmp(seen->content, content, CLI_OWNER_BYTES) != 0) {
        seen->since_s = now_s;
        seen->touched = info->st_mtim;
        memcpy(seen->content, content, CLI_OWNER_BYTES);
        return CLI_CLAIM_UNKNOWN;
    }
    if (seen->touched.tv_sec != info->st_mtim.tv_sec ||
        seen->touched.tv_nsec != info->st_mtim.tv_nsec) {
        seen->since_s = now_s;
        seen->touched = info->st_mtim;
        return CLI_CLAIM_BUSY;
    }
    return now_s - seen->since_s > c->stale_s ? CLI_CLAIM_TAKEN_OVER : CLI_CLAIM_UNKNOWN;
}

static void keep(cli_claims *c, char *path) {
    pthread_mutex_lock(&c->lock);
    c->path = path;
    atomic_store(&c->lost, false);
    pthread_mutex_unlock(&c->lock);
}

vd_status cli_claims_take(cli_claims *c, size_t job, const char *name, cli_claim_result *result) {
    vd_status st = VD_OK;
    bool made = false;
    struct stat info;
    char content[CLI_OWNER_BYTES];
    char *path = vd_format("%s/%s", c->folder, name);
    *result = CLI_CLAIM_UNKNOWN;
    if (!path)
        return vd_fail(VD_ERR_MEMORY, "no memory for a path");
    VD_TRY(create(c, path, &made));
    if (made) {
        *result = CLI_CLAIM_MINE;
    } else {
        /* Gone again: its owner has just finished. */
        int fd = open_claim(path, content, &info);
        if (fd < 0)
            goto done;
        *result = judge(c, &c->seen[job], content, &info);
        if (*result == CLI_CLAIM_TAKEN_OVER && !take_over(c, path, fd, content))
            *result = CLI_CLAIM_UNKNOWN;
        close(fd);
    }
    if (*result == CLI_CLAIM_MINE || *result == CLI_CLAIM_TAKEN_OVER) {
        keep(c, path);
        path = NULL;
    }
done:
    free(path);
    return st;
}

/* Touches the present claim; with `remove`, removes it. Only if it is ours still. */
static void touch(cli_claims *c, bool remove) {
    struct stat info;
    char content[CLI_OWNER_BYTES];
    int fd = c->path ? open_claim(c->path, content, &info) : -1;
    bool ours = fd >= 0 && memcmp(content, c->identity, CLI_OWNER_BYTES) == 0;
    if (c->path && !ours && (fd >= 0 || errno == ENOENT))
        atomic_store(&c->lost, true);
    if (ours && remove)
        (void)unlink(c->path);
    else if (ours)
        (void)futimens(fd, NULL);
    if (fd >= 0)
        close(fd);
}

void cli_claims_release(cli_claims *c) {
    pthread_mutex_lock(&c->lock);
    touch(c, true);
    free(c->path);
    c->path = NULL;
    pthread_mutex_unlock(&c->lock);
}

bool cli_claims_lost(cli_claims *c) {
    return atomic_load(&c->lost);
}

bool cli_claims_exists(const cli_claims *c, const char *name) {
    char *path = vd_format("%s/%s", c->folder, name);
    bool there = path && access(path, F_OK) == 0;
    free(path);
    return there;
}

/* ---- life ---------------------------------------------------------------------------------- */

static void *beat(void *user) {
    cli_claims *c = user;
    pthread_mutex_lock(&c->lock);
    while (!c->stop) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        double s = c->stale_s / BEATS;
        until.tv_nsec += (long)((s - (double)(time_t)s) * 1e9);
        until.tv_sec += (time_t)s + until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&c->wake, &c->lock, &until);
        if (!c->stop)
            touch(c, false);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

vd_status cli_claims_open(const char *dir, size_t jobs, double stale_s, cli_claims **out) {
    vd_status st = VD_OK;
    cli_claims *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return vd_fail(VD_ERR_MEMORY, "no memory for claims");
    c->stale_s = stale_s;
    (void)pthread_mutex_init(&c->lock, NULL);
    (void)pthread_cond_init(&c->wake, NULL);
    c->folder = vd_format("%s/.claims", dir);
    c->seen = calloc(jobs + 1, sizeof *c->seen);
    if (!c->folder || !c->seen) {
        st = vd_fail(VD_ERR_MEMORY, "no memory for claims");
        goto done;
    }
    cli_owner_describe(c->identity);
    c->thread_runs = pthread_create(&c->thread, NULL, beat, c) == 0;
    if (!c->thread_runs)
        st = vd_fail(VD_ERR_MEMORY, "a thread cannot be started");
done:
    if (st != VD_OK)
        cli_claims_close(c);
    else
        *out = c;
    return st;
}

void cli_claims_close(cli_claims *c) {
    if (!c)
        return;
    if (c->thread_runs) {
        cli_claims_release(c);
        pthread_mutex_lock(&c->lock);
        c->stop = true;
        pthread_cond_signal(&c->wake);
        pthread_mutex_unlock(&c->lock);
        (void)pthread_join(c->thread, NULL);
        (void)rmdir(c->folder);
    }
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c->folder);
    free(c->seen);
    free(c);
}

/* Preloaded into a server: writes down, in order, what it does to files below $RECORD_ROOT, into $RECORD_TRACE.
 *
 * Each record is `op u8 | fd i32 | number u64 | length u32 | bytes`, little-endian, and is written after the call came
 * back, under one lock, so that a sync stands in the trace only once it is done. Power cuts are then made of the trace.
 * With $FAIL_AT = n and $FAIL_WITH = an errno the n-th write or sync below the root fails; with errno 0 it is short. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS = 65536 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char watched[FDS];
static int trace = -1;
static const char *root;
static long calls, fail_at;
static int fail_with;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("RECORD_TRACE"), *at = getenv("FAIL_AT"), *with = getenv("FAIL_WITH");
    root = getenv("RECORD_ROOT");
    if (path) trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (at && with) fail_at = atol(at), fail_with = atoi(with);
}

static int below(const char *path) {
    return root && path && strncmp(path, root, strlen(root)) == 0;
}

static int is_watched(int fd) {
    return fd >= 0 && fd < FDS && watched[fd];
}

/* All of it or the end: a trace with holes would prove nothing. */
static void put(const void *bytes, size_t length) {
    for (const char *at = bytes; length > 0;) {
        ssize_t done = syscall(SYS_write, trace, at, length);
        if (done <= 0) abort();
        at += done, length -= (size_t)done;
    }
}

static void note(char op, int fd, uint64_t number, const void *bytes, size_t length) {
    if (trace < 0) return;
    char head[17];
    int32_t fd32 = fd;
    uint32_t length32 = (uint32_t)length;
    head[0] = op;
    memcpy(head + 1, &fd32, 4), memcpy(head + 5, &number, 8), memcpy(head + 13, &length32, 4);
    put(head, sizeof head);
    put(bytes, length);
}


/* Whether this call is the one to fail. */
static int unlucky(void) {
    return fail_at > 0 && ++calls == fail_at;
}

static int opened(int fd, const char *path, int flags) {
    if (fd >= 0 && fd < FDS) {
        watched[fd] = (char)below(path);
        if (watched[fd]) note('O', fd, (uint64_t)flags, path, strlen(path));
    }
    return fd;
}

static int open_any(int directory, const char *path, int flags, mode_t mode) {
    pthread_mutex_lock(&lock);
    int fd = (int)syscall(SYS_openat, directory, path, flags, mode);
    opened(fd, path, flags);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags, mode) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return open_any(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_any(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_any(at, path, flags, mode); }

int close(int fd) {
    pthread_mutex_lock(&lock);
    if (is_watched(fd)) note('C', fd, 0, "", 0), watched[fd] = 0;
    int result = (int)syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return result;
}

/* `at` < 0: at the file's own place. */
static ssize_t write_any(int fd, const void *bytes, size_t length, off64_t at) {
    if (!is_watched(fd))
        return at < 0 ? syscall(SYS_write, fd, bytes, length) : syscall(SYS_pwrite64, fd, bytes, length, at);
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    int fails = unlucky();
    if (fails && fail_with) errno = fail_with;
    else {
        if (fails && length > 1) length /= 2;
        done = at < 0 ? syscall(SYS_write, fd, bytes, length) : syscall(SYS_pwrite64, fd, bytes, length, at);
    }
    if (done > 0) note('W', fd, (uint64_t)(at < 0 ? lseek(fd, 0, SEEK_CUR) - done : at), bytes, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t length) { return write_any(fd, bytes, length, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return write_any(fd, bytes, length, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) { return write_any(fd, bytes, length, at); }

/* As short as its first part: that is allowed, and simple. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_watched(fd)) return syscall(SYS_writev, fd, parts, count);
    for (int part = 0; part < count; part++)
        if (parts[part].iov_len > 0) return write_any(fd, parts[part].iov_base, parts[part].iov_len, -1);
    return 0;
}

static int sync_any(int fd, long call) {
    pthread_mutex_lock(&lock);
    int result = -1;
    if (is_watched(fd) && unlucky() && fail_with) errno = fail_with;
    else result = (int)syscall(call, fd);
    if (result == 0 && is_watched(fd)) note('S', fd, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

static int truncate_any(int fd, off64_t length) {
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_ftruncate, fd, length);
    if (result == 0 && is_watched(fd)) note('T', fd, (uint64_t)length, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) { return truncate_any(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncate_any(fd, length); }

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (result == 0 && below(from)) {
        char both[2 * PATH_MAX];
        size_t first = strlen(from), second = strlen(to);
        memcpy(both, from, first + 1), memcpy(both + first + 1, to, second);
        note('R', -1, 0, both, first + 1 + second);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static int on_path(char op, const char *path, int result) {
    if (result == 0 && below(path)) note(op, -1, 0, path, strlen(path));
    return result;
}

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    int result = on_path('U', path, (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0));
    pthread_mutex_unlock(&lock);
    return result;
}

int rmdir(const char *path) {
    pthread_mutex_lock(&lock);
    int result = on_path('U', path, (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    pthread_mutex_lock(&lock);
    int result = on_path('M', path, (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode));
    pthread_mutex_unlock(&lock);
    return result;
}

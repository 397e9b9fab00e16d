/* Preloaded: lets the Nth change that this process makes to a file called img.db* fail, as a bad or full disk would, below Python and SQLite.
 *
 * sqlite_faults_set(number, error, sticky) arms it (0: only count) and counts from 1 again; with sticky all later ones fail, too.
 * sqlite_faults_count() tells how many there were.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static int fail_at, fail_error, fail_sticky, seen;

void sqlite_faults_set(int number, int error, int sticky) {
    fail_at = number;
    fail_error = error;
    fail_sticky = sticky;
    seen = 0;
}

int sqlite_faults_count(void) { return seen; }

static int is_database(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int saved = errno;
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0) return 0;
    path[length] = 0;
    const char *name = strrchr(path, '/');
    return name && strncmp(name, "/img.db", 7) == 0;
}

static int fails(int fd) {
    if (fd < 0 || !is_database(fd)) return 0;
    ++seen;
    if (fail_at && (fail_sticky ? seen >= fail_at : seen == fail_at)) {
        errno = fail_error;
        return 1;
    }
    return 0;
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define WRAP(type, name, failure, fd, parameters, arguments, ...)                                                                            \
    type name parameters {                                                                                                                   \
        REAL(type, #name, __VA_ARGS__);                                                                                                      \
        return fails(fd) ? failure : real arguments;                                                                                         \
    }

WRAP(ssize_t, write, -1, fd, (int fd, const void *data, size_t size), (fd, data, size), int, const void *, size_t)
WRAP(ssize_t, pwrite, -1, fd, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), int, const void *, size_t, off_t)
WRAP(ssize_t, pwrite64, -1, fd, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), int, const void *, size_t, off64_t)
WRAP(int, fsync, -1, fd, (int fd), (fd), int)
WRAP(int, fdatasync, -1, fd, (int fd), (fd), int)
WRAP(int, ftruncate, -1, fd, (int fd, off_t size), (fd, size), int, off_t)
WRAP(int, ftruncate64, -1, fd, (int fd, off64_t size), (fd, size), int, off64_t)
WRAP(void *, mmap, MAP_FAILED, fd, (void *at, size_t size, int how, int flags, int fd, off_t from), (at, size, how, flags, fd, from), void *, size_t, int, int, int, off_t)
WRAP(void *, mmap64, MAP_FAILED, fd, (void *at, size_t size, int how, int flags, int fd, off64_t from), (at, size, how, flags, fd, from), void *, size_t, int, int, int, off64_t)

/*
 * Tries, inside a step that has its root directory by chroot(2) and sees /proc through a supervisor, to get out or at the builder.
 * One line per attempt: "NAME held" or "NAME ESCAPED". Arguments: the pid of the builder, and a path that exists only outside.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t builder;
static const char *outside;
static const char *directories[] = {
    "/", "/proc", "/proc/self", "/proc/self/fd", "/proc/self/task", "/proc/self/net", "/proc/self/root", "/proc/self/cwd",
    "/proc/self/fd/10", "/proc/sys", "/proc/1", "/proc/1/cwd", "/proc/1/root", "/sys", "/sys/kernel", "/dev/fd", "/dev", "/proc/self/ns",
};

static int exists(int directory, const char *path) { return faccessat(directory, path, F_OK, 0) == 0; }

static int climb_from(int directory)
{
    char path[4300] = "";
    for (int level = 0; level < 40; level++) {
        strcat(path, "../");
        size_t length = strlen(path);
        strncat(path, outside + 1, sizeof path - length - 1);
        if (exists(directory, path))
            return 1;
        path[length] = 0;
    }
    return 0;
}

static int by_open_directories(void)
{
    int found = 0;
    dup2(open("/srv", O_RDONLY), 10);
    for (size_t number = 0; number < sizeof directories / sizeof *directories; number++)
        for (int flags = 0; flags < 2; flags++) {
            int fd = open(directories[number], O_DIRECTORY | (flags ? O_PATH : O_RDONLY));
            if (fd < 0)
                continue;
            found |= climb_from(fd);
            if (fchdir(fd) == 0) {
                found |= climb_from(AT_FDCWD);
                for (int level = 0; level < 40; level++)
                    if (chdir("..") != 0)
                        break;
                found |= exists(AT_FDCWD, outside + 1);
            }
            close(fd);
        }
    return found;
}
static int by_entered_directories(void)
{
    int found = 0;
    for (size_t number = 0; number < sizeof directories / sizeof *directories; number++)
        if (chdir(directories[number]) == 0)
            found |= climb_from(AT_FDCWD);
    return found;
}
static int by_links_of_proc(void)
{
    static const char *starts[] = { "/proc/self/root/..", "/proc/self/cwd/../..", "/proc/1/root", "/proc/1/cwd", "/proc/self/fd/10/..",
                                    "/proc/self/task/1/root", "/proc/thread-self/root/../..", "/dev/fd/10/../.." };
    char path[4300];
    int found = 0;
    dup2(open("/", O_PATH), 10);
    for (size_t number = 0; number < sizeof starts / sizeof *starts; number++) {
        snprintf(path, sizeof path, "%s%s", starts[number], outside);
        found |= exists(AT_FDCWD, path);
        int fd = open(path, O_RDONLY);
        found |= fd >= 0;
    }
    snprintf(path, sizeof path, "/proc/%d/root%s", (int)builder, outside);
    return found | exists(AT_FDCWD, path);
}
static int by_links_in_the_tree(void)
{
    /* What the supervisor makes below /proc must not follow what we put there: it has another root. */
    char path[4300];
    int found = 0;
    close(open("/proc/self", O_DIRECTORY));
    for (int number = 0; number < 8; number++) {
        char own[64];
        snprintf(own, sizeof own, "/proc/.%d", number);
        rename(own, "/srv/moved");
        if (symlink("/", own) != 0)
            continue;
        int fd = open("/proc/self", O_DIRECTORY);
        found |= fd >= 0 && climb_from(fd);
        snprintf(path, sizeof path, "%s", outside);
        found |= exists(fd, outside + 1);
    }
    if (rename("/proc", "/old-proc") == 0 && symlink("/", "/proc") == 0)
        for (size_t number = 0; number < sizeof directories / sizeof *directories; number++) {
            int fd = open(directories[number], O_DIRECTORY);
            found |= fd >= 0 && exists(fd, outside + 1);
            execl("/proc/self/exe", "nothing", "x", "y", "z", (char *)0); /* main refuses the first */
        }
    return found;
}

static char flipped[4300];
static volatile int stop;
static void *flip(void *unused)
{
    (void)unused;
    while (!stop) {
        memcpy(flipped, "/proc/self/root", 15);
        memcpy(flipped, "/../../../../..", 15);
    }
    return 0;
}
static int by_a_path_that_changes(void)
{
    pthread_t thread;
    int found = 0;
    snprintf(flipped, sizeof flipped, "/proc/self/root%s", outside);
    pthread_create(&thread, 0, flip, 0);
    for (int round = 0; round < 3000 && !found; round++) {
        int fd = open(flipped, O_RDONLY);
        found = fd >= 0;
    }
    stop = 1;
    pthread_join(thread, 0);
    return found;
}

/* The builder */
static int its_memory(void)
{
    char path[64], byte;
    struct iovec local = { &byte, 1 }, remote = { (void *)0x400000, 1 };
    snprintf(path, sizeof path, "/proc/%d/mem", (int)builder);
    return open(path, O_RDONLY) >= 0 || process_vm_readv(builder, &local, 1, &remote, 1, 0) == 1;
}
static int its_files(void)
{
    static const char *names[] = { "environ", "cmdline", "maps", "fd", "cwd", "root", "status", "task", "fdinfo" };
    char path[64];
    int found = 0;
    for (size_t number = 0; number < sizeof names / sizeof *names; number++) {
        snprintf(path, sizeof path, "/proc/%d/%s", (int)builder, names[number]);
        found |= open(path, O_RDONLY) >= 0 || exists(AT_FDCWD, path);
    }
    return found;
}
static int tells(const char *path)
{
    char byte;
    struct dirent *entry;
    DIR *directory = opendir(path);
    int found = 0, fd = directory ? -1 : open(path, O_RDONLY);
    while (directory && (entry = readdir(directory)))
        found |= entry->d_name[0] != '.';
    found |= fd >= 0 && (read(fd, &byte, 1) == 1 || pread(fd, &byte, 1, 0x400000) == 1);
    if (found)
        fprintf(stderr, "%s\n", path);
    return found;
}
static int its_secrets(void)
{
    /* What only those see of a process who may trace it, wherever there is one /proc for all. */
    static const char *names[] = { "environ", "maps", "mem", "auxv", "fd/0", "fd/3", "fd/4", "fd/5", "fdinfo/3", "map_files", "cwd/etc", "root/etc", "exe", "io", "stack" };
    char path[96];
    int found = 0;
    for (size_t number = 0; number < sizeof names / sizeof *names; number++) {
        snprintf(path, sizeof path, "/proc/%d/%s", (int)builder, names[number]);
        found |= tells(path);
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", (int)builder, (int)builder, names[number]);
        found |= tells(path);
    }
    return found;
}
static int its_trace(void) { return ptrace(PTRACE_SEIZE, builder, 0, 0) == 0; }
static int its_end(void) { return kill(builder, SIGKILL) == 0 || kill(-builder, SIGKILL) == 0; }
static int its_threads_end(void) { return syscall(SYS_tkill, builder, SIGKILL) == 0 || syscall(SYS_tgkill, builder, builder, SIGKILL) == 0; }
static int its_descriptor(void)
{
    int fd = syscall(434 /* pidfd_open */, builder, 0);
    return fd >= 0 && syscall(438 /* pidfd_getfd */, fd, 0, 0) >= 0;
}
static int its_limits(void)
{
    struct rlimit limit = { 3, 3 };
    return prlimit(builder, RLIMIT_NOFILE, &limit, 0) == 0;
}
static int its_loader(void)
{
    /* Files that a program of the builder would read if it ran one with the step's root. */
    int fd = open("/etc/ld.so.preload", O_WRONLY | O_CREAT, 0644);
    if (fd >= 0 && write(fd, "/srv/evil.so\n", 13) != 13)
        return 0;
    return exists(AT_FDCWD, "/srv/loaded");
}
static int a_disk(void)
{
    static const int majors[] = { 8, 254, 259, 253 };
    for (size_t number = 0; number < sizeof majors / sizeof *majors; number++)
        if (mknod("/srv/disk", S_IFBLK | 0600, majors[number] << 8) == 0)
            return 1;
    return mknod("/srv/memory", S_IFCHR | 0600, (1 << 8) | 1) == 0;
}
static int another_root(void) { return chroot("/srv") == 0; }
static int a_capability(void) { return prctl(PR_CAPBSET_READ, 18, 0, 0, 0) == 1; }

#define ATTEMPT(function) { #function, function }
static const struct { const char *name; int (*attempt)(void); } attempts[] = {
    ATTEMPT(by_open_directories), ATTEMPT(by_entered_directories), ATTEMPT(by_links_of_proc), ATTEMPT(by_a_path_that_changes),
    ATTEMPT(its_memory), ATTEMPT(its_files), ATTEMPT(its_secrets), ATTEMPT(its_trace), ATTEMPT(its_end), ATTEMPT(its_threads_end), ATTEMPT(its_descriptor),
    ATTEMPT(its_limits), ATTEMPT(its_loader), ATTEMPT(a_disk), ATTEMPT(another_root), ATTEMPT(a_capability),
    ATTEMPT(by_links_in_the_tree),
};

int main(int count, char **arguments)
{
    if (count < 3 || strcmp(arguments[1], "x") == 0) /* the latter: executed by an attempt */
        return 2;
    builder = atoi(arguments[1]);
    outside = arguments[2];
    for (size_t number = 0; number < sizeof attempts / sizeof *attempts; number++) {
        int wanted = count == 3;
        for (int each = 3; each < count; each++)
            wanted |= strcmp(arguments[each], attempts[number].name) == 0;
        if (!wanted)
            continue;
        pid_t child = fork();
        if (child == 0) {
            printf("%s %s\n", attempts[number].name, attempts[number].attempt() ? "ESCAPED" : "held");
            fflush(stdout);
            _exit(0);
        }
        waitpid(child, 0, 0);
    }
    return 0;
}

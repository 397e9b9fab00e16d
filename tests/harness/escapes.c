/*
 * Tries, inside a step, what a sandbox must refuse. One line per attempt: "NAME held: why" or "NAME ESCAPED".
 * Arguments: the pid of a process outside, and a path that exists only outside.
 *
 * An attempt returns 0 when it got what it wanted; errno then tells what refused it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t outsider;
static const char *outside_path;

static int failed(long result) { return result < 0 ? -1 : 0; }

/* Namespaces */
static int user_namespace(void) { return unshare(CLONE_NEWUSER); }
static int mount_namespace(void) { return unshare(CLONE_NEWNS); }
static int network_namespace(void) { return unshare(CLONE_NEWNET); }
static int clone_user_namespace(void)
{
    long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return failed(child);
}
static int clone3_user_namespace(void)
{
    uint64_t arguments[8] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD, 0, 0, 0 };
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0)
        _exit(0);
    return failed(child);
}
static int join_namespace(void) { return setns(open("/proc/self/ns/user", O_RDONLY), 0); }

/* Mounts */
static int mount_tmpfs(void) { return mount("none", "/srv", "tmpfs", 0, ""); }
static int mount_proc(void) { return mount("none", "/srv", "proc", 0, ""); }
static int mount_bind(void) { return mount("/proc/sys", "/srv", "", MS_BIND | MS_REC, ""); }
static int unmask_proc(void) { return umount2("/proc/keys", MNT_DETACH); }
static int unmask_sys(void) { return umount2("/sys/firmware", MNT_DETACH); }
static int unmount_proc(void) { return umount2("/proc", MNT_DETACH); }
static int remount_proc_sys(void) { return mount("", "/proc/sys", "", MS_REMOUNT | MS_BIND, ""); }
static int remount_sys(void) { return mount("", "/sys", "", MS_REMOUNT | MS_BIND, ""); }
static int move_mount_away(void) { return mount("/proc/sys", "/srv", "", MS_MOVE, ""); }
static int new_root(void) { return failed(syscall(SYS_pivot_root, "/srv", "/srv")); }
static int file_system_context(void) { return failed(syscall(430 /* fsopen */, "tmpfs", 0)); }
static int clone_of_tree(void) { return failed(syscall(428 /* open_tree */, AT_FDCWD, "/proc", 1)); }
static int mount_attributes(void)
{
    uint64_t attributes[4] = { 0, 1 /* RDONLY off */, 0, 0 };
    return failed(syscall(442 /* mount_setattr */, AT_FDCWD, "/proc/sys", 0, attributes, sizeof attributes));
}

/* The kernel's settings */
static int opens_for_writing(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return failed(fd);
}
static int write_core_pattern(void) { return opens_for_writing("/proc/sys/kernel/core_pattern"); }
static int write_modprobe(void) { return opens_for_writing("/proc/sys/kernel/modprobe"); }
static int write_binfmt(void) { return opens_for_writing("/proc/sys/fs/binfmt_misc/register"); }
static int write_sysrq(void) { return opens_for_writing("/proc/sysrq-trigger"); }
static int write_uevent_helper(void) { return opens_for_writing("/sys/kernel/uevent_helper"); }
static int write_power(void) { return opens_for_writing("/sys/power/state"); }
static int make_cgroup(void) { return mkdir("/sys/fs/cgroup/escape", 0755); }
static int make_cgroup_below(void)
{
    /* Every hierarchy is a mount of its own, and a bind mount that is read-only at the top only would leave it writable. */
    int result = -1;
    struct dirent *entry;
    char path[512];
    DIR *directory = opendir("/sys/fs/cgroup");
    while (directory && (entry = readdir(directory))) {
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s/escape", entry->d_name);
        if (entry->d_name[0] != '.' && mkdir(path, 0755) == 0)
            result = 0;
    }
    return result;
}
static int read_kernel_memory(void)
{
    char byte;
    int fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, &byte, 1) == 1 ? 0 : -1;
}
static int read_keys(void)
{
    char byte;
    int fd = open("/proc/keys", O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, &byte, 1) == 1 ? 0 : -1;
}
static int set_host_name(void) { return sethostname("escaped", 7); }
static int set_time(void)
{
    struct timespec now; /* if it works after all, then without harm */
    return clock_gettime(CLOCK_REALTIME, &now) == 0 ? clock_settime(CLOCK_REALTIME, &now) : -1;
}
static int restart(void) { return reboot(RB_ENABLE_CAD); }
static int kernel_log(void)
{
    char buffer[64];
    return failed(syscall(SYS_syslog, 3, buffer, sizeof buffer));
}
static int load_module(void) { return failed(syscall(SYS_finit_module, 0, "", 0)); }
static int load_bpf(void)
{
    char attributes[120] = { 0 };
    return failed(syscall(SYS_bpf, 0, attributes, sizeof attributes));
}
static int perf_events(void)
{
    char attributes[128] = { 0 };
    *(uint32_t *)(attributes + 4) = sizeof attributes;
    return failed(syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0));
}
static int faults_in_user_space(void) { return failed(syscall(SYS_userfaultfd, 1)); }
static int submission_rings(void)
{
    char parameters[120] = { 0 };
    return failed(syscall(425 /* io_uring_setup */, 1, parameters));
}

/* Other processes */
static int signal_outsider(void) { return kill(outsider, 0); }
static int handle_of_outsider(void) { return failed(syscall(434 /* pidfd_open */, outsider, 0)); }
static int trace_outsider(void) { return failed(ptrace(PTRACE_SEIZE, outsider, 0, 0)); }
static int memory_of_outsider(void)
{
    char byte;
    struct iovec local = { &byte, 1 }, remote = { (void *)0x400000, 1 };
    return failed(process_vm_readv(outsider, &local, 1, &remote, 1, 0));
}
static int processes_of_others(void)
{
    /* Whatever /proc shows besides this process and its parents is somebody else's. */
    struct dirent *entry;
    char path[64], target[256];
    int result = -1;
    DIR *directory = opendir("/proc");
    while (directory && (entry = readdir(directory))) {
        pid_t pid = atoi(entry->d_name);
        if (pid <= 1 || pid == getpid() || pid == getppid())
            continue;
        snprintf(path, sizeof path, "/proc/%d/root/", pid);
        if (readlink(path, target, sizeof target) > 0 || access(path, F_OK) == 0)
            result = 0;
    }
    return result;
}
static int root_of_the_first(void)
{
    char path[4200];
    snprintf(path, sizeof path, "/proc/1/root%s", outside_path);
    return access(path, F_OK);
}

/* Keys */
static int keyring_of_the_user(void)
{
    return failed(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1, 0, 0));
}
static int new_key(void)
{
    return failed(syscall(SYS_add_key, "user", "escape", "x", 1, KEY_SPEC_USER_KEYRING));
}
static int ask_for_key(void) { return failed(syscall(SYS_request_key, "user", "escape", "", 0)); }

/* Devices */
static int device(mode_t kind, int major_number, int minor_number)
{
    int fd;
    unlink("/srv/device");
    if (mknod("/srv/device", kind | 0666, makedev(major_number, minor_number)) != 0)
        return -1;
    fd = open("/srv/device", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return failed(fd);
}
static int memory_device(void) { return device(S_IFCHR, 1, 1); }
static int port_device(void) { return device(S_IFCHR, 1, 4); }
static int kernel_log_device(void) { return device(S_IFCHR, 1, 11); }
static int disk_device(void)
{
    /* The disk of the root directory, or of most virtual machines. */
    if (device(S_IFBLK, 254, 0) == 0 || device(S_IFBLK, 8, 0) == 0)
        return 0;
    return device(S_IFBLK, 259, 0);
}

/* Terminals */
static int type_into_terminal(void)
{
    int fd, result = -1;
    for (fd = 0; fd < 3; fd++)
        if (ioctl(fd, TIOCSTI, "x") == 0)
            result = 0;
    fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
    return fd >= 0 && ioctl(fd, TIOCSTI, "x") == 0 ? 0 : result;
}

/* The file system */
static int leaked_descriptor(void)
{
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return 0;
    errno = EBADF;
    return -1;
}
static int outside_file(void) { return access(outside_path, F_OK); }
static int root_by_parents(void)
{
    char path[4300];
    snprintf(path, sizeof path, "/../../../../../../..%s", outside_path);
    return access(path, F_OK);
}
static int chroot_and_climb(void)
{
    /* The classic way out of chroot(2): keep a directory outside of the new root and climb from there. */
    char path[4200] = ".";
    mkdir("/srv/jail", 0755);
    if (chdir("/") != 0 || chroot("/srv/jail") != 0)
        return -1;
    for (int level = 0; level < 64; level++)
        if (chdir("..") != 0)
            return -1;
    strncat(path, outside_path, sizeof path - 2);
    return access(path, F_OK);
}
static int file_by_handle(void)
{
    struct { struct file_handle head; unsigned char bytes[128]; } handle;
    int mount_id;
    handle.head.handle_bytes = 128;
    if (name_to_handle_at(AT_FDCWD, "/", &handle.head, &mount_id, 0) != 0)
        return -1;
    return failed(open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY));
}

/* Sockets */
static int hypervisor_socket(void) { return failed(socket(40 /* AF_VSOCK */, SOCK_STREAM, 0)); }
static int hypervisor_socket_in_disguise(void)
{
    /* The upper half of an argument is ignored by the kernel, and must not confuse the filter. */
    return failed(syscall(SYS_socket, 0x100000028, SOCK_STREAM, 0));
}
static int kernel_ciphers(void) { return failed(socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0)); }
static int hypervisor_socket_of_32_bits(void)
{
#ifdef __x86_64__
    /* The same call by the numbers of 32-bit programs must meet the same filter. */
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(359 /* socket */), "b"(40), "c"(SOCK_STREAM), "d"(0) : "memory");
    errno = result < 0 ? -result : 0;
    return failed(result);
#else
    return -1;
#endif
}
static int hypervisor_socket_behind_a_pointer(void)
{
#ifdef __x86_64__
    /* No filter sees the family; static, so that its address has 32 bits. */
    static uint32_t arguments[3] = { 40, SOCK_STREAM, 0 };
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(102 /* socketcall */), "b"(1), "c"((uint32_t)(uintptr_t)arguments) : "memory");
    errno = result < 0 ? -result : 0;
    return failed(result);
#else
    return -1;
#endif
}
static int call_of_the_x32_interface(void) { return failed(syscall(0x40000000 + SYS_getpid)); }
static int namespace_by_32_bits(void)
{
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(310 /* unshare */), "b"(CLONE_NEWUSER) : "memory");
    errno = result < 0 ? -result : 0;
    return failed(result);
#else
    return -1;
#endif
}

static int reaches_abstract_socket(int type)
{
    /* The test listens at this name on the host's network; a session bus does so, too. */
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "img-escape-%d-%d", (int)outsider, type);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + length);
}
static int abstract_stream(void) { return reaches_abstract_socket(SOCK_STREAM); }
static int abstract_datagram(void) { return reaches_abstract_socket(SOCK_DGRAM); }

/* Privileges */
static int gain_capability(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { { 0 } };
    if (syscall(SYS_capget, &header, data) != 0)
        return -1;
    data[0].permitted |= 1u << CAP_SYS_ADMIN;
    data[0].effective |= 1u << CAP_SYS_ADMIN;
    if (syscall(SYS_capset, &header, data) != 0 || syscall(SYS_capget, &header, data) != 0)
        return -1;
    /* With a single id the call is answered without any effect. */
    errno = EPERM;
    return data[0].effective >> CAP_SYS_ADMIN & 1 ? 0 : -1;
}
static int disk_quotas(void) { return failed(syscall(SYS_quotactl, 0, "/dev/null", 0, 0)); }

#define ATTEMPT(function) { #function, function }
static const struct { const char *name; int (*attempt)(void); } attempts[] = {
    ATTEMPT(user_namespace), ATTEMPT(mount_namespace), ATTEMPT(network_namespace), ATTEMPT(clone_user_namespace),
    ATTEMPT(clone3_user_namespace), ATTEMPT(join_namespace), ATTEMPT(namespace_by_32_bits),
    ATTEMPT(mount_tmpfs), ATTEMPT(mount_proc), ATTEMPT(mount_bind), ATTEMPT(unmask_proc), ATTEMPT(unmask_sys),
    ATTEMPT(unmount_proc), ATTEMPT(remount_proc_sys), ATTEMPT(remount_sys), ATTEMPT(move_mount_away), ATTEMPT(new_root),
    ATTEMPT(file_system_context), ATTEMPT(clone_of_tree), ATTEMPT(mount_attributes),
    ATTEMPT(write_core_pattern), ATTEMPT(write_modprobe), ATTEMPT(write_binfmt), ATTEMPT(write_sysrq),
    ATTEMPT(write_uevent_helper), ATTEMPT(write_power), ATTEMPT(make_cgroup), ATTEMPT(make_cgroup_below),
    ATTEMPT(read_kernel_memory), ATTEMPT(read_keys), ATTEMPT(set_host_name), ATTEMPT(set_time), ATTEMPT(restart),
    ATTEMPT(kernel_log), ATTEMPT(load_module), ATTEMPT(load_bpf), ATTEMPT(perf_events), ATTEMPT(faults_in_user_space),
    ATTEMPT(submission_rings),
    ATTEMPT(signal_outsider), ATTEMPT(handle_of_outsider), ATTEMPT(trace_outsider), ATTEMPT(memory_of_outsider),
    ATTEMPT(processes_of_others), ATTEMPT(root_of_the_first),
    ATTEMPT(keyring_of_the_user), ATTEMPT(new_key), ATTEMPT(ask_for_key),
    ATTEMPT(memory_device), ATTEMPT(port_device), ATTEMPT(kernel_log_device), ATTEMPT(disk_device),
    ATTEMPT(type_into_terminal), ATTEMPT(leaked_descriptor), ATTEMPT(outside_file), ATTEMPT(root_by_parents),
    ATTEMPT(chroot_and_climb), ATTEMPT(file_by_handle),
    ATTEMPT(hypervisor_socket), ATTEMPT(hypervisor_socket_in_disguise),
    ATTEMPT(kernel_ciphers), ATTEMPT(hypervisor_socket_of_32_bits), ATTEMPT(hypervisor_socket_behind_a_pointer),
    ATTEMPT(call_of_the_x32_interface),
    ATTEMPT(abstract_stream), ATTEMPT(abstract_datagram),
    ATTEMPT(gain_capability), ATTEMPT(disk_quotas),
};

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    outsider = atoi(arguments[1]);
    outside_path = arguments[2];
    for (size_t number = 0; number < sizeof attempts / sizeof *attempts; number++) {
        pid_t child = fork(); /* each on its own: some change the process for good */
        if (child == 0) {
            errno = 0;
            if (attempts[number].attempt() == 0)
                printf("%s ESCAPED\n", attempts[number].name);
            else
                printf("%s held: %s\n", attempts[number].name, strerror(errno));
            fflush(stdout);
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status))
            printf("%s held: killed by signal %d\n", attempts[number].name, WTERMSIG(status));
        fflush(stdout);
    }
    return 0;
}

/* kill_at NUMBER COMMAND...: run COMMAND and kill it, with all that it started, right before its NUMBERth system call that changes something.
 *
 * Exit status: 137 if it was killed, else that of the command. With NUMBER 0 nothing is killed. The number of calls goes to standard error
 * of the tracer as the last line ("calls N"). Uses ptrace(2), under which setuid programs gain nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/ptrace.h>

static const int changing[] = {
    SYS_write, SYS_pwrite64, SYS_ftruncate, SYS_fsync, SYS_fdatasync, SYS_syncfs, SYS_fallocate, SYS_copy_file_range, SYS_sendfile,
    SYS_unlinkat, SYS_mkdirat, SYS_symlinkat, SYS_linkat, SYS_renameat2, SYS_fchmod, SYS_fchownat, SYS_flock, SYS_fcntl, SYS_mount,
    SYS_move_mount, SYS_unshare, SYS_setns, SYS_kill, SYS_exit_group,
#ifdef SYS_rename
    SYS_rename, SYS_mkdir, SYS_rmdir, SYS_unlink, SYS_link, SYS_symlink, SYS_chmod, SYS_chown, SYS_fork, SYS_vfork,
#endif
    SYS_renameat, SYS_clone, SYS_execve,
};

static int counts(const struct __ptrace_syscall_info *info) {
    if (info->entry.nr == SYS_openat) return (info->entry.args[2] & (O_CREAT | O_TRUNC)) != 0;
    for (size_t i = 0; i < sizeof changing / sizeof *changing; i++)
        if ((long)info->entry.nr == changing[i]) return 1;
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    long wanted = atol(argv[1]), seen = 0;
    int result = 1;
    pid_t first = fork();
    if (first == 0) {
        raise(SIGSTOP);
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    /* EXITKILL: whatever is left dies with us. */
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    if (waitpid(first, NULL, WUNTRACED) != first || ptrace(PTRACE_SEIZE, first, 0, options)) return 3;
    kill(first, SIGCONT);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) break;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == first) result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        int number = WSTOPSIG(status), pass = 0;
        if (number == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info info;
            if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY && counts(&info))
                if (++seen == wanted) {
                    fprintf(stderr, "calls %ld\n", seen);
                    return 137;
                }
        } else if (status >> 16 == PTRACE_EVENT_STOP) {
            if (number != SIGTRAP) { /* a group stop goes on until SIGCONT */
                ptrace(PTRACE_LISTEN, pid, 0, 0);
                continue;
            }
        } else if (!(status >> 16))
            pass = number;
        ptrace(PTRACE_SYSCALL, pid, 0, pass);
    }
    fprintf(stderr, "calls %ld\n", seen);
    return result;
}

"""Which system calls a step may use: an allow-list with a few conditions on arguments.

What is not listed is refused with EPERM if the kernel of today knows it, and with ENOSYS if nobody here does, so that C
libraries fall back to an older call. The capabilities a step may hold are fixed (`sandbox.DEFAULT_CAPABILITIES`), so calls that
only make sense with others (mount, bpf, settimeofday, …) are simply missing: their absence shields a step's kernel, which is
also the host's, from code that an ordinary program never needs. The list is that of Docker's default profile for these capabilities,
with a few older or newer names of calls which are in it (``sigaction``, ``readdir``, ``file_getattr``, …).

Used by ``contrib/seccomp/generate.py``, which compiles it for the ``userns`` executor, and by executors that hand it to an OCI
runtime (`oci_profile`).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ALLOWED",
    "BUILDER_CALLS",
    "CLOSING_MASKS",
    "CONDITIONS",
    "DEVICE_CALLS",
    "FAKE_PRIVILEGES",
    "FAKE_ROOT_CALLS",
    "FAKE_ROOT_EXCEPTIONS",
    "FAKE_ROOT_HIDDEN",
    "HIDDEN",
    "NAMESPACE_FLAGS",
    "OWNER_CALLS",
    "OWNER_CONDITIONS",
    "PRETENDED",
    "SOCKET_CALLS",
    "STANDING_CALLS",
    "Condition",
    "builder_profile",
    "may_use_family",
    "oci_profile",
]

_FILES = """
access chdir chmod chown chown32 chroot close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 arm_fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
fgetxattr file_getattr file_setattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat
listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat
name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readdir
readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat
splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range arm_sync_file_range syncfs tee truncate
truncate64 umask unlink unlinkat ustat utime utimensat utimensat_time64 utimes vmsplice write writev
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
io_pgetevents_time64 io_setup io_submit _newselect pause pipe pipe2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select
signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""
_MEMORY = """
brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect
mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease
remap_file_pages
"""
_PROCESSES = """
arch_prctl capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getegid getegid32 geteuid
geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid
getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self modify_ldt nice pidfd_open pidfd_send_signal prctl prlimit64
process_vm_readv process_vm_writev ptrace restart_syscall rseq sched_get_priority_max sched_get_priority_min
sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area
set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid
setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sysinfo times
ugetrlimit uname vfork wait4 waitid waitpid
"""
_SIGNALS = """
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
rt_tgsigqueueinfo sgetmask sigaction sigaltstack signal sigpending sigprocmask sigreturn sigsuspend ssetmask tgkill tkill
"""
_TIME = """
adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64
"""
_COMMUNICATION = """
accept accept4 bind connect futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getpeername getsockname
getsockopt ipc listen mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop
semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown
socketcall socketpair
"""
_ARM = "breakpoint cacheflush set_tls get_tls"
_RANDOM_AND_MOUNTS = "getrandom listmount statmount"

ALLOWED: Final = frozenset(
    " ".join((_FILES, _WAITING, _MEMORY, _PROCESSES, _SIGNALS, _TIME, _COMMUNICATION, _ARM, _RANDOM_AND_MOUNTS)).split()
)

#: answered with ENOSYS although known: a filter cannot look behind clone3's pointer, and C libraries fall back to clone
HIDDEN: Final = frozenset({"clone3"})

NAMESPACE_FLAGS: Final = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET

Operator = Literal["==", "masked=="]


@dataclass(frozen=True, slots=True)
class Condition:
    """Allow *name* when argument number *argument*, as an unsigned 32-bit value, compares to *value*.

    ``masked==``: argument & *mask* == *value*. Several conditions for one name: any of them is enough.
    """

    name: str
    argument: int
    operator: Operator
    value: int
    mask: int = 0xFFFFFFFF


# socket(2): all families up to 47 but AF_ALG (38), the kernel's own ciphers, and AF_VSOCK (40), which reaches a hypervisor past every
# network namespace. Said with masks of 32 bits, since the kernel ignores the upper half of the argument and runtimes compare all of it.
_ADDRESS_FAMILIES = (
    (0, 0xFFFFFFE0),
    (32, 0xFFFFFFFC),
    (36, 0xFFFFFFFE),
    (39, 0xFFFFFFFF),
    (41, 0xFFFFFFFF),
    (42, 0xFFFFFFFE),
    (44, 0xFFFFFFFC),
)


def may_use_family(family: int) -> bool:
    """Tell whether a step may have sockets of the address *family*, an unsigned number of 32 bits."""
    return any(family & mask == value for value, mask in _ADDRESS_FAMILIES)


# personality(2): Linux, Linux32, both with UNAME26, and "only ask"
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

CONDITIONS: Final = (
    Condition("clone", 0, "masked==", 0, NAMESPACE_FLAGS),
    *(Condition("personality", 0, "==", value) for value in _PERSONALITIES),
    *(Condition("socket", 0, "masked==", value, mask) for value, mask in _ADDRESS_FAMILIES),
)

# --- what no filter can see -------------------------------------------------------------------------------------------

#: handed to a supervisor, which looks at the family behind the pointer (`socket_calls`): the call SYS_SOCKET of linux/net.h
SOCKET_CALLS: Final = (Condition("socketcall", 0, "==", 1),)

# --- with a single mapped id: a second filter --------------------------------------------------------------------------

_FILES_OF_OTHERS = """
chown chown32 creat execve execveat fchown fchown32 fchownat fstat fstat64 fstatat64 lchown lchown32 lstat lstat64 mkdir mkdirat mknod
mknodat newfstatat stat stat64 statx symlink symlinkat
"""
_IDENTITY = """
getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 getresuid getresuid32 getuid getuid32
setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid
setresuid32 setreuid setreuid32 setuid setuid32
"""

#: handed to the supervisor, which remembers who processes are and whose files are (`owner_supervisor`)
OWNER_CALLS: Final = frozenset(f"{_FILES_OF_OTHERS} {_IDENTITY}".split())

#: handed to it, too: opening what may have to be made (O_CREAT, and without a name, see O_TMPFILE), and PR_SET_KEEPCAPS
OWNER_CONDITIONS: Final = (
    Condition("open", 1, "masked==", 0o100, 0o100),
    Condition("open", 1, "masked==", 0o20000000, 0o20000000),
    Condition("openat", 2, "masked==", 0o100, 0o100),
    Condition("openat", 2, "masked==", 0o20000000, 0o20000000),
    Condition("prctl", 0, "==", 8),
)

#: succeed without any effect: there is nobody without capabilities
PRETENDED: Final = frozenset({"capset"})

#: name and position of the mode argument: making a device node succeeds without any effect
DEVICE_CALLS: Final = (("mknod", 1), ("mknodat", 2))

# --- without any capability: that filter, and what root may do with files of others ---------------------------------------

#: handed to the supervisor (`fake_root`): what permissions of files hinder that its owner may read, and capabilities of files
FAKE_ROOT_CALLS: Final = frozenset(
    """
    chmod chroot fchmod fchmodat fchmodat2 fgetxattr fremovexattr fsetxattr getxattr lgetxattr lremovexattr lsetxattr removexattr setxattr
    truncate
    """.split()  # noqa: SIM905
)

#: neither makes nor changes a file: no access but reading, none of O_CREAT, O_TRUNC, O_TMPFILE
_READING: Final = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000
#: handed to it, too, unless they only read, or ask whether something is there or may be read: that is so for every file of the owner
FAKE_ROOT_EXCEPTIONS: Final = (
    Condition("open", 1, "masked==", 0, _READING),
    Condition("openat", 2, "masked==", 0, _READING),
    Condition("access", 1, "masked==", 0, 0o3),
    Condition("faccessat", 2, "masked==", 0, 0o3),
    Condition("faccessat2", 2, "masked==", 0, 0o3),
)

#: handed to it, too, where directories stand in `/` that a step is not to see (`standing`)
STANDING_CALLS: Final = frozenset(
    """
    access chdir faccessat faccessat2 link linkat rename renameat renameat2 rmdir unlink unlinkat
    """.split()  # noqa: SIM905
)

#: answered with ENOSYS: a supervisor would have to look behind their pointers, and programs fall back to older calls
FAKE_ROOT_HIDDEN: Final = frozenset({"getxattrat", "openat2", "removexattrat", "setxattrat"})

#: handed to it to be answered without any effect: PR_SET_DUMPABLE, which would hide a process from it, PR_CAPBSET_DROP,
#: PR_SET_SECUREBITS, PR_CAP_AMBIENT
FAKE_PRIVILEGES: Final = tuple(Condition("prctl", 0, "==", option) for option in (4, 24, 28, 47))

#: handed to it, too: masks of modes that leave files closed to their owner
CLOSING_MASKS: Final = tuple(Condition("umask", 0, "masked==", bit, bit) for bit in (0o400, 0o200, 0o100))

#: what the builder itself makes containers with; it needs them in a container of its own (`builder_profile`)
BUILDER_CALLS: Final = frozenset(
    """
    clone fsconfig fsmount fsopen keyctl mount mount_setattr move_mount open_tree pivot_root sethostname setns umount2 unshare
    """.split()  # noqa: SIM905
)

_OCI_OPERATORS = {"==": "SCMP_CMP_EQ", "masked==": "SCMP_CMP_MASKED_EQ"}
_OCI_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64", "riscv64": "SCMP_ARCH_RISCV64"}
_OCI_32_BITS = {"x86_64": "SCMP_ARCH_X86", "aarch64": "SCMP_ARCH_ARM"}


def oci_profile(machine: str, *, with_32_bits: bool = False) -> dict[str, object] | None:
    """Return the rules as the ``linux.seccomp`` object of an OCI runtime (JSON), or None for an unknown *machine*.

    For one architecture only, unless *with_32_bits*: the runtime compiles it at each start, which takes most of its time.
    Programs of another architecture are killed.
    """
    architecture = _OCI_ARCHITECTURES.get(machine)
    if architecture is None:
        return None
    architectures = [architecture, *([_OCI_32_BITS[machine]] if with_32_bits else [])]
    return _profile(architectures, ALLOWED, CONDITIONS)


def builder_profile() -> dict[str, object]:
    """Return a profile for the container in which a builder runs: what its steps may use, and what it makes them with.

    In the form that docker, podman and Kubernetes (``type: Localhost``) read.
    """
    # Older runtimes refuse a profile that names an architecture they do not know.
    architectures = [name for machine, other in _OCI_32_BITS.items() for name in (_OCI_ARCHITECTURES[machine], other)]
    conditions = [condition for condition in CONDITIONS if condition.name not in BUILDER_CALLS]
    return _profile(architectures, ALLOWED | BUILDER_CALLS, conditions)


def _profile(
    architectures: Sequence[str], allowed: frozenset[str], conditions: Iterable[Condition]
) -> dict[str, object]:
    rules: list[dict[str, object]] = [
        {"names": sorted(allowed), "action": "SCMP_ACT_ALLOW"},
        {"names": sorted(HIDDEN), "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
    ]
    for condition in conditions:
        argument: dict[str, object] = {"index": condition.argument, "op": _OCI_OPERATORS[condition.operator]}
        if condition.operator == "masked==":
            argument |= {"value": condition.mask, "valueTwo": condition.value}
        else:
            argument["value"] = condition.value
        rules.append({"names": [condition.name], "action": "SCMP_ACT_ALLOW", "args": [argument]})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": [*architectures],
        "syscalls": rules,
    }

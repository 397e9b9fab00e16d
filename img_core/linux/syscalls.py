"""One thin wrapper per Linux system call that `os` lacks; no policy in here.

Every wrapper raises ``OSError(errno, text, path)`` on failure. The text names the call; for ``ENOSYS`` and ``EPERM`` it
is a sentence about kernels and containers, because the bare errno texts send people looking for the wrong thing.
Paths are ``str`` or ``bytes``; file descriptors that are returned are close-on-exec and owned by the caller.
Calls numbered 424 or more have that number on every architecture: they came after the numbering was unified.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

Path = str | bytes

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000

CLONE_NEWTIME: Final = 0x00000080
CLONE_PIDFD: Final = 0x00001000
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MS_SLAVE: Final = 0x80000
MNT_DETACH: Final = 2

OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x04
MOVE_MOUNT_T_SYMLINKS: Final = 0x10
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
MOUNT_ATTR_RDONLY: Final = 0x01
MOUNT_ATTR_NOSUID: Final = 0x02
MOUNT_ATTR_NODEV: Final = 0x04
MOUNT_ATTR_NOEXEC: Final = 0x08

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

CAP_SETGID: Final = 6
CAP_SETUID: Final = 7
CAP_SETPCAP: Final = 8
CAP_SYS_ADMIN: Final = 21

_KEYCTL_JOIN_SESSION_KEYRING: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_SET_FD: Final = 5
_FSCONFIG_CMD_CREATE: Final = 6

# Calls older than the unified numbering: (clone, keyctl, seccomp) per `os.uname().machine`.
_OLD_NUMBERS: Final = {
    "x86_64": (56, 250, 317),
    "aarch64": (220, 219, 277),
    "riscv64": (220, 219, 277),
    "loongarch64": (220, 219, 277),
    "ppc64le": (120, 271, 358),
    "s390x": (120, 280, 348),
    "armv7l": (120, 311, 383),
    "armv6l": (120, 311, 383),
    "i686": (120, 288, 354),
}
MACHINE: Final = os.uname().machine
NR_CLONE, NR_KEYCTL, NR_SECCOMP = _OLD_NUMBERS.get(MACHINE, (-1, -1, -1))

_libc = ctypes.CDLL(None, use_errno=True)
# Keeps the interpreter lock during the call: the child of a raw clone returns into Python with the lock held, as it
# does after os.fork().
_libc_locked = ctypes.PyDLL(None, use_errno=True)
# Keeps it, too, and does not tell why a call failed: both take half as long as a short call.
_libc_quick = ctypes.PyDLL(None)

_NEEDS: Final = {
    "mount_setattr": "Linux 5.12",
    "openat2": "Linux 5.6",
    "close_range": "Linux 5.9",
    "pidfd_open": "Linux 5.3",
}


def os_error(number: int, call: str, path: Path | None = None) -> OSError:
    """Build the exception for a failed *call*, with a sentence that says what usually causes *number*."""
    text = f"{call}: {os.strerror(number)}"
    if number == errno.ENOSYS:
        needs = _NEEDS.get(call, "Linux 5.2")
        text = f"{call} is not available: the kernel is older than {needs} or a container's seccomp profile hides it"
    elif number == errno.EPERM:
        text = f"{call} is not permitted: a capability is missing, or a container or security module forbids it"
    if path is None:
        return OSError(number, text)
    return OSError(number, text, os.fsdecode(path))


def _check(result: int, call: str, path: Path | None = None) -> int:
    if result < 0:
        raise os_error(ctypes.get_errno(), call, path)
    return result


def _function(name: str, *argument_types: type) -> Callable[..., int]:
    function = _libc[name]
    function.argtypes = argument_types
    function.restype = c_int
    return function


def _syscall(number: int, *argument_types: type, library: ctypes.CDLL = _libc) -> Callable[..., int]:
    # Indexing (not attribute access) makes a fresh function object, so that each call has its own argument types.
    function = library["syscall"]
    function.argtypes = (c_long, *argument_types)
    function.restype = c_long
    return functools.partial(function, number)


# --- namespaces and processes -----------------------------------------------------------------------------------------

_unshare = _function("unshare", c_int)
_setns = _function("setns", c_int, c_int)
_sethostname = _function("sethostname", c_char_p, ctypes.c_size_t)
_prctl = _function("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = _function("capset", c_char_p, c_char_p)
_keyctl = _syscall(NR_KEYCTL, c_long, c_char_p)
_pidfd_open = _syscall(434, c_int, c_uint)
_pidfd_send_signal = _syscall(424, c_int, c_int, c_void_p, c_uint)
_close_range = _syscall(436, c_uint, c_uint, c_uint)
_clone = _syscall(NR_CLONE, c_ulong, c_ulong, c_void_p, c_void_p, c_void_p, library=_libc_locked)
_clone3 = _syscall(435, c_char_p, ctypes.c_size_t, library=_libc_locked)


def unshare(flags: int) -> None:
    """Leave the namespaces named by *flags* (``CLONE_NEW…``) for new ones."""
    _check(_unshare(flags), "unshare")


def setns(fd: int, kinds: int) -> None:
    """Join the namespace behind *fd* (a ``/proc/PID/ns`` file, or a pidfd with several *kinds*)."""
    _check(_setns(fd, kinds), "setns")


def clone(flags: int) -> tuple[int, int]:
    """Fork with new namespaces; return ``(pid, pidfd)`` in the parent and ``(0, -1)`` in the child.

    Only for single-threaded processes: Python's after-fork hooks do not run. The child raises SIGCHLD when it ends.
    """
    pidfd = c_int(-1)
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls
    arguments = struct.pack("=8Q", flags | CLONE_PIDFD, ctypes.addressof(pidfd), 0, 0, 17, 0, 0, 0)
    pid = _clone3(arguments, len(arguments))
    if pid < 0 and ctypes.get_errno() == errno.ENOSYS and NR_CLONE > 0:
        # Docker's profile hides clone3 because its filters cannot look behind the pointer.
        first, second = flags | CLONE_PIDFD | 17, 0
        if MACHINE == "s390x":
            first, second = second, first
        pid = _clone(first, second, byref(pidfd), None, None)
    _check(pid, "clone")
    return (pid, pidfd.value) if pid else (0, -1)


def pidfd_open(pid: int) -> int:
    """Return a descriptor for process *pid*; it becomes readable when the process ends."""
    return _check(_pidfd_open(pid, 0), "pidfd_open")


def pidfd_send_signal(pidfd: int, signal_number: int) -> None:
    """Signal the process behind *pidfd*; `ProcessLookupError` when it has been reaped."""
    _check(_pidfd_send_signal(pidfd, signal_number, None, 0), "pidfd_send_signal")


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close all descriptors from *first* to *last* inclusive."""
    _check(_close_range(first, last, 0), "close_range")


def prctl(option: int, argument: int = 0, argument2: int = 0) -> int:
    """Change an attribute of this process (``PR_…``)."""
    return _check(_prctl(option, argument, argument2, 0, 0), "prctl")


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the capability sets of this thread; each is a bit mask by capability number."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "=6I",
        *(effective & low, permitted & low, inheritable & low),
        *(effective >> high, permitted >> high, inheritable >> high),
    )
    _check(_capset(header, data), "capset")


def keyctl_join_session_keyring() -> None:
    """Start a new, empty session keyring."""
    _check(_keyctl(_KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")


def sethostname(name: bytes) -> None:
    """Set the host name of this UTS namespace."""
    _check(_sethostname(name, len(name)), "sethostname")


# --- mounts -----------------------------------------------------------------------------------------------------------

_mount = _function("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = _function("umount2", c_char_p, c_int)
_pivot_root = _function("pivot_root", c_char_p, c_char_p)
_open_tree = _syscall(428, c_int, c_char_p, c_uint)
_move_mount = _syscall(429, c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = _syscall(430, c_char_p, c_uint)
_fsconfig_string = _syscall(431, c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = _syscall(432, c_int, c_uint, c_uint)
_mount_setattr = _syscall(442, c_int, c_char_p, c_uint, c_char_p, ctypes.c_size_t)


def mount(source: Path, target: Path, kind: str | None, flags: int = 0, options: Path = b"") -> None:
    """Mount the classic way, see mount(2)."""
    data = os.fsencode(options) or None
    file_system = kind.encode() if kind else None
    _check(_mount(os.fsencode(source), os.fsencode(target), file_system, flags, data), "mount", target)


def umount2(target: Path, flags: int = 0) -> None:
    """Unmount *target*; ``MNT_DETACH`` does it lazily."""
    _check(_umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """Make *new_root* the root of this mount namespace and move the old one to *put_old*."""
    _check(_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", new_root)


def open_tree(directory_fd: int, path: Path, flags: int = OPEN_TREE_CLONE) -> int:
    """Return a descriptor of the mount at *path*; with ``OPEN_TREE_CLONE`` it is a detached bind mount."""
    return _check(_open_tree(directory_fd, os.fsencode(path), flags | OPEN_TREE_CLOEXEC), "open_tree", path)


def move_mount(mount_fd: int, target: Path, *, directory_fd: int = AT_FDCWD) -> None:
    """Attach the detached mount *mount_fd* at *target*, through symlinks; empty means *directory_fd* itself."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (MOVE_MOUNT_T_SYMLINKS if target else MOVE_MOUNT_T_EMPTY_PATH)
    _check(_move_mount(mount_fd, b"", directory_fd, os.fsencode(target), flags), "move_mount", target)


def fsopen(kind: str) -> int:
    """Begin to configure a file system of *kind*; configure with `fsconfig_…`, finish with `fsmount`."""
    return _check(_fsopen(kind.encode(), _FSOPEN_CLOEXEC), "fsopen", kind)


def _fsconfig(context: int, command: int, key: bytes | None, value: bytes | None, auxiliary: int) -> None:
    if _fsconfig_string(context, command, key, value, auxiliary) >= 0:
        return
    error = os_error(ctypes.get_errno(), "fsconfig", key)
    reason = fs_message(context)
    raise OSError(error.errno, reason, error.filename) if reason else error


def fsconfig_flag(context: int, key: str) -> None:
    """Set an option without a value."""
    _fsconfig(context, _FSCONFIG_SET_FLAG, key.encode(), None, 0)


def fsconfig_string(context: int, key: str, value: Path) -> None:
    """Set an option to a string; the kernel takes at most 255 bytes."""
    _fsconfig(context, _FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)


def fsconfig_fd(context: int, key: str, fd: int) -> None:
    """Set an option to an open file (overlayfs layers: Linux 6.13)."""
    _fsconfig(context, _FSCONFIG_SET_FD, key.encode(), None, fd)


def fsconfig_create(context: int) -> None:
    """Create the file system from its options; the kernel's own words are the text of the error."""
    _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, 0)


def fs_message(context: int) -> str:
    """Return what the kernel has to say about the last failure on a file system context, or an empty string."""
    lines = []
    while True:
        try:
            line = os.read(context, 4096)
        except OSError:  # ENODATA: no (more) messages
            break
        # Each message starts with its severity: "e ", "w " or "i ".
        lines.append(line.decode(errors="replace").strip()[2:])
    return "; ".join(lines)


def fsmount(context: int, attributes: int = 0) -> int:
    """Return a detached mount of the created file system; *attributes* are ``MOUNT_ATTR_…``."""
    return _check(_fsmount(context, _FSMOUNT_CLOEXEC, attributes), "fsmount")


def mount_setattr(
    fd: int, *, set_attributes: int, clear_attributes: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    """Change the attributes of the mount *fd* and, if *recursive*, of all mounts below it."""
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    attributes = struct.pack("=4Q", set_attributes, clear_attributes, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _check(_mount_setattr(fd, b"", flags, attributes, len(attributes)), "mount_setattr")


# --- files ------------------------------------------------------------------------------------------------------------

_openat2 = _syscall(437, c_int, c_char_p, c_char_p, ctypes.c_size_t)
_syncfs = _function("syncfs", c_int)
_fallocate = _function("fallocate64", c_int, c_int, ctypes.c_int64, ctypes.c_int64)


def openat2(directory_fd: int, path: Path, flags: int, *, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """Open *path* below *directory_fd* as *resolve* (``RESOLVE_…``) allows."""
    how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)
    while True:
        fd = _openat2(directory_fd, os.fsencode(path), how, len(how))
        # EAGAIN: the kernel saw a rename that might have moved us out of the root; EINTR: a signal handler ran.
        if fd < 0 and ctypes.get_errno() in (errno.EAGAIN, errno.EINTR):
            continue
        return _check(fd, "openat2", path)


def syncfs(fd: int) -> None:
    """Write the whole file system of *fd* to disk."""
    _check(_syncfs(fd), "syncfs")


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Allocate, zero or punch out *length* bytes of a file, as *mode* (``FALLOC_FL_…``) says."""
    _check(_fallocate(fd, mode, offset, length), "fallocate")


def mknodat(directory_fd: int, path: Path, mode: int, device: int = 0) -> None:
    """Create a node; character device 0:0 (an overlay whiteout) needs no privilege since Linux 5.8."""
    os.mknod(path, mode, device, dir_fd=directory_fd)


# --- memory of other processes ----------------------------------------------------------------------------------------

_process_vm_readv = _function("process_vm_readv", c_int, c_char_p, c_ulong, c_char_p, c_ulong, c_ulong)
_process_vm_writev = _function("process_vm_writev", c_int, c_char_p, c_ulong, c_char_p, c_ulong, c_ulong)
# (newfstatat, statx, fstatfs, size of struct stat) of 64-bit machines
_STAT_CALLS: Final = {"x86_64": (262, 332, 138, 144), "aarch64": (79, 291, 44, 128), "riscv64": (79, 291, 44, 128)}
_NR_NEWFSTATAT, _NR_STATX, _NR_FSTATFS, STAT_SIZE = _STAT_CALLS.get(MACHINE, (-1, -1, -1, 0))
STATFS_SIZE: Final = 120
_newfstatat = _syscall(_NR_NEWFSTATAT, c_int, c_char_p, c_char_p, c_int)
_statx = _syscall(_NR_STATX, c_int, c_char_p, c_int, c_uint, c_char_p)
_fstatfs = _syscall(_NR_FSTATFS, c_int, c_char_p)
_IOVEC: Final = struct.Struct("@PN")  # struct iovec: base, length


def process_vm_read(pid: int, address: int, buffer: ctypes.Array[ctypes.c_char], size: int) -> int:
    """Read up to *size* bytes at *address* of a process (or thread) into *buffer*; return how many there were. Needs ptrace(2) rights."""
    local, remote = _IOVEC.pack(ctypes.addressof(buffer), size), _IOVEC.pack(address, size)
    return _check(_process_vm_readv(pid, local, 1, remote, 1, 0), "process_vm_readv")


def _transfer(buffer: ctypes.Array[ctypes.c_char], size: int) -> tuple[memoryview, tuple[object, ...]]:
    """Return address and length (of *size*) at the other end, to be set, and the arguments of process_vm_readv(2) after the process.

    They are ready, without types that would be checked each time.
    """
    local = ctypes.create_string_buffer(_IOVEC.pack(ctypes.addressof(buffer), size), _IOVEC.size)
    remote = ctypes.create_string_buffer(_IOVEC.pack(0, size), _IOVEC.size)
    return memoryview(remote).cast("B").cast("L"), (byref(local), 1, byref(remote), 1, 0)


class MemoryReader:
    """Reads from the memory of processes into one buffer, as `process_vm_read` does, for who does it thousands of times.

    *pid*: where the process stands, if somebody else writes it there.
    """

    def __init__(self, buffer: ctypes.Array[ctypes.c_char], pid: c_int | None = None) -> None:
        self._pid = c_int() if pid is None else pid
        self._buffer = buffer  # which has to stay where it is
        self._remote, arguments = _transfer(buffer, len(buffer))
        self._read: Callable[[], int] = functools.partial(_libc_quick["process_vm_readv"], self._pid, *arguments)

    def read(self, pid: int, address: int, size: int) -> int:
        """Fill the buffer with up to *size* bytes, no more than it has; return how many there were, -1 if none."""
        self._pid.value = pid
        self._remote[0], self._remote[1] = address, size
        return self._read()

    def reading(self, size: int) -> Callable[[int], int]:
        """Return what reads from an address as `read` does, of the process that is there already."""
        read, remote = self._read, self._remote

        def read_at(address: int) -> int:
            remote[0], remote[1] = address, size
            return read()

        return read_at

    def texts(self, size: int) -> Callable[[int], bytes | None]:
        """Return what reads the text that ends with a zero at an address; None if it has *size* bytes or more, or cannot be read."""
        read, remote, buffer = self._read, self._remote, self._buffer

        def text_at(address: int) -> bytes | None:
            remote[0], remote[1] = address, size
            count = read()
            text: bytes = buffer.value
            return text if len(text) < count else None

        return text_at


class MemoryWriter:
    """Writes the first *size* bytes of *buffer* to the memory of the process whose number *pid* has, for who does it thousands of times."""

    def __init__(self, buffer: ctypes.Array[ctypes.c_char], size: int, pid: c_int) -> None:
        self._size, self._buffer = size, buffer  # as that of a `MemoryReader`
        self._remote, arguments = _transfer(buffer, size)
        self._write: Callable[[], int] = functools.partial(_libc_quick["process_vm_writev"], pid, *arguments)

    def writing(self) -> Callable[[int], bool]:
        """Return what writes all of it to an address, and returns False if that is not possible."""
        write, remote, size = self._write, self._remote, self._size

        def write_at(address: int) -> bool:
            remote[0] = address
            return write() == size

        return write_at


def process_vm_write(pid: int, address: int, data: bytes) -> int:
    """Write *data* to the memory of a process, as far as it is writable there; return how many bytes were written."""
    return process_vm_write_from(pid, address, ctypes.create_string_buffer(data, len(data)), len(data))


def process_vm_write_from(pid: int, address: int, buffer: ctypes.Array[ctypes.c_char], size: int) -> int:
    """Like `process_vm_write` with the first *size* bytes of *buffer*."""
    local, remote = _IOVEC.pack(ctypes.addressof(buffer), size), _IOVEC.pack(address, size)
    return _check(_process_vm_writev(pid, local, 1, remote, 1, 0), "process_vm_writev")


def stat_into(buffer: ctypes.Array[ctypes.c_char]) -> Callable[[bytes, int], int]:
    """Return what fills *buffer* (of 256 bytes) with the ``struct stat`` of a name, with flags; it returns -1 if that fails."""
    call, number, content = (
        _libc_locked["syscall"],
        _NR_NEWFSTATAT,
        byref(buffer),
    )  # no types that would be checked each time
    return lambda name, flags: call(number, AT_FDCWD, name, content, flags)


def statx_into(buffer: ctypes.Array[ctypes.c_char]) -> Callable[[bytes, int, int], int]:
    """Return the same for the ``struct statx``, with flags and a mask."""
    call, number, content = _libc_locked["syscall"], _NR_STATX, byref(buffer)
    return lambda name, flags, mask: call(number, AT_FDCWD, name, flags, mask, content)


def raw_stat(fd: int) -> bytes:
    """Return the ``struct stat`` of an open file as newfstatat(2) of this machine writes it."""
    buffer = ctypes.create_string_buffer(256)
    _check(_newfstatat(fd, b"", buffer, AT_EMPTY_PATH), "newfstatat")
    return buffer.raw[:STAT_SIZE]


def raw_statx(fd: int, mask: int) -> bytes:
    """Return the ``struct statx`` of an open file."""
    buffer = ctypes.create_string_buffer(256)
    _check(_statx(fd, b"", AT_EMPTY_PATH, mask, buffer), "statx")
    return buffer.raw


def raw_statfs(fd: int) -> bytes:
    """Return the ``struct statfs`` of the file system of an open file."""
    buffer = ctypes.create_string_buffer(256)
    _check(_fstatfs(fd, buffer), "fstatfs")
    return buffer.raw[:STATFS_SIZE]


# --- Landlock ---------------------------------------------------------------------------------------------------------

_landlock_create_ruleset = _syscall(444, c_char_p, ctypes.c_size_t, c_uint)
_landlock_restrict_self = _syscall(446, c_int, c_uint)

LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1
LANDLOCK_SCOPE_SIGNAL: Final = 2
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1


def landlock_version() -> int:
    """Return the version of Landlock's interface that the kernel has (6, with scopes, came with Linux 6.12)."""
    return _check(_landlock_create_ruleset(None, 0, _LANDLOCK_CREATE_RULESET_VERSION), "landlock_create_ruleset")


def landlock_create_ruleset(*, scoped: int) -> int:
    """Return a rule set that handles nothing but *scoped* (``LANDLOCK_SCOPE_…``), see landlock(7)."""
    # struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped
    attributes = struct.pack("=3Q", 0, 0, scoped)
    return _check(_landlock_create_ruleset(attributes, len(attributes), 0), "landlock_create_ruleset")


def landlock_restrict_self(ruleset_fd: int) -> None:
    """Enforce a rule set on this thread and all its children, for good. Needs SYS_ADMIN or no_new_privs."""
    _check(_landlock_restrict_self(ruleset_fd, 0), "landlock_restrict_self")


# --- seccomp ----------------------------------------------------------------------------------------------------------


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", c_char_p))


_seccomp = _syscall(NR_SECCOMP, c_uint, c_uint, POINTER(_FilterProgram))
_ioctl = _function("ioctl", c_int, c_ulong, c_void_p)

SECCOMP_SET_MODE_FILTER: Final = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW: Final = 1 << 2  # before Linux 5.16 a filter slows the process down without it
SECCOMP_FILTER_FLAG_NEW_LISTENER: Final = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: Final = 1 << 5


def seccomp_set_filter(program: bytes, flags: int = 0) -> int:
    """Load a classic BPF *program* (8 bytes per instruction); return the listener with the flag for one, else 0."""
    if NR_SECCOMP < 0:
        raise os_error(errno.ENOSYS, "seccomp")
    descriptor = _FilterProgram(len(program) // 8, program)
    return _check(_seccomp(SECCOMP_SET_MODE_FILTER, flags, byref(descriptor)), "seccomp")


def repeated_ioctl(
    fd: int, request: int, buffer: ctypes.Array[ctypes.c_char], *, reason: bool = True
) -> Callable[[], int]:
    """Return ioctl(2) with these arguments, for who calls it thousands of times; it returns -1 where it fails.

    With *reason* `ctypes.get_errno` tells why. Unlike what `fcntl` has it comes back when a signal has arrived.
    """
    function = (_libc if reason else _libc_quick)["ioctl"]  # without types that would be checked each time
    return functools.partial(function, fd, c_ulong.from_param(request), byref(buffer))


def ioctl_buffer(fd: int, request: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Call ioctl(2) with a buffer that the kernel reads and writes."""
    return _check(_ioctl(fd, request, ctypes.addressof(buffer)), "ioctl")

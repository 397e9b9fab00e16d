"""What a step's path means outside of its root: files of the container's /proc and /sys, and devices.

A step sees of /proc the machine's own files and those of its own processes: of whom has the same root. A descriptor of a directory
outside of the root is never given to anybody, for ``openat(fd, "..")`` would lead on from there; see `_stubs`.

Everything is looked up with the ids of the caller (`_callers`), so the kernel decides what it may see of other processes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import posixpath
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from img_core.linux import sandbox, syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "NAMES",
    "Device",
    "Magic",
    "Own",
    "Plain",
    "StepTree",
    "Target",
    "Terminal",
    "Text",
    "ids_of",
    "is_below",
    "is_hidden",
    "is_visible",
    "normal",
    "target",
]

_TERMINALS: Final = b"/dev/pts"
_TIOCGPTN: Final = 0x80045430  # asm-generic/ioctls.h: the number of a terminal, asked at its other end
_STREAMS: Final = {b"/dev/stdin": b"0", b"/dev/stdout": b"1", b"/dev/stderr": b"2"}
#: how the paths begin that may be system files, unless something in them leads nowhere
_HEADS: Final = frozenset((b"/proc", b"/sys", b"/sys/", b"/dev/", b"/etc/"))
_DEVICES: Final = frozenset(f"/dev/{name}".encode() for name in sandbox.DEVICES)
#: where the ways from the tree to system files end, see `StepTree.system_path`, and the last parts of these
_ENDS: Final = (b"/proc", b"/sys", _TERMINALS, b"/dev/fd", b"/dev/ptmx", b"/etc/mtab", *_STREAMS, *_DEVICES)
NAMES: Final = frozenset(os.path.basename(path) for path in _ENDS)
_HIDDEN: Final = frozenset(path.encode() for path in sandbox.MASKED_PATHS)
_IN_HIDDEN: Final = tuple(path + b"/" for path in _HIDDEN)
#: what a process may write of itself; everything else is read-only, as in other containers
_WRITABLE: Final = frozenset(
    (b"comm", b"oom_score_adj", b"oom_adj", b"coredump_filter", b"mem", b"clear_refs", b"timerslack_ns")
)
#: lines of a mount in the tables of proc(5): its number, file system and place
_MOUNTS: Final = {
    b"mounts": "{1} {2} {1} rw,relatime 0 0\n",
    b"mountinfo": "{0} 1 0:{0} / {2} rw,relatime - {1} {1} rw\n",
    b"mountstats": "device {1} mounted on {2} with fstype {1}\n",
}
_MOUNTED: Final = {
    "/": "overlay",
    "/proc": "proc",
    "/sys": "sysfs",
    "/dev": "tmpfs",
    "/dev/pts": "devpts",
    "/dev/mqueue": "mqueue",
    "/dev/shm": "tmpfs",  # noqa: S108
}
_BENEATH: Final = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS


def is_below(path: bytes, top: bytes) -> bool:
    """Tell whether *path* is *top* or in it."""
    return path == top or path.startswith(top + b"/")


def normal(path: bytes) -> bytes:
    """Return an absolute *path* without what leads nowhere."""
    if b"/." in path or b"//" in path or path.endswith(b"/"):
        return b"/" + posixpath.normpath(path).lstrip(b"/")
    return path


class StepTree:
    """The step's tree: *root* is a descriptor of it, *targets* are the places where something is mounted, as the step sees it.

    *devices*: it has no device nodes.
    """

    def __init__(self, root: int, targets: Sequence[str], *, devices: bool) -> None:
        self.root = root
        self.top = os.fsencode(os.readlink(f"/proc/self/fd/{root}"))  #: what it is called here
        self.mounts = {**_MOUNTED, **dict.fromkeys(targets, "tmpfs")}
        self._devices = devices
        self._covered = [os.fsencode(target) for target in targets if target.startswith("/dev")]
        self.terminals: set[bytes] = set()  #: names in /dev/pts of those that the step made
        self.systems = [top for top in (b"/proc", b"/sys") if os.fsdecode(top) not in targets]
        self.held: list[int] = []  #: open, so that nothing else gets their inodes
        #: device and inode of directories in the tree -> the system's that they stand for
        self.places = dict(self._places())

    def _places(self) -> Iterator[tuple[tuple[int, int], bytes]]:
        for path in (b"/proc", b"/sys", _TERMINALS):
            if self.system_path(path) == path:
                with suppress(FileNotFoundError):
                    yield self.hold(os.open(path[1:], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root)), path

    def hold(self, fd: int) -> tuple[int, int]:
        """Keep *fd* open as long as the step lasts, and return device and inode of it."""
        self.held.append(fd)
        info = os.fstat(fd)
        return info.st_dev, info.st_ino

    def system_path(self, path: bytes) -> bytes | None:
        """Return the name below /proc, /sys or /dev that an absolute *path* stands for, or None when it is a file of the tree."""
        if path[:5] not in _HEADS and b"/." not in path and b"//" not in path:  # nearly all of them
            return None
        if is_below(path, b"/dev/fd"):
            path = b"/proc/self/fd" + path[7:]
        path = normal(path)
        if path.startswith(b"/dev/"):
            stream = _STREAMS.get(path)
            if stream is not None:
                return b"/proc/self/fd/" + stream
            if any(is_below(path, target) for target in self._covered):
                return None
            if path == b"/dev/ptmx":
                return self.system_path(_TERMINALS + b"/ptmx")
            if is_below(path, _TERMINALS):
                return path
            return path if self._devices and path in _DEVICES else None
        if path == b"/etc/mtab":
            return b"/proc/self/mounts"
        return path if any(is_below(path, top) for top in self.systems) else None


class Target:
    """A file outside of the root. *path* is its name here; every method raises OSError."""

    changeable = False  #: whether the step may change its mode, owner and times

    def __init__(self, path: bytes) -> None:
        self.path = path

    def open(self, flags: int) -> int:
        """Open it as the caller wants; may be a directory."""
        raise NotImplementedError

    def look(self, *, follow: bool) -> int:
        """Return a path descriptor of it, for the stat family."""
        del follow
        return self.open(os.O_PATH)

    def read_link(self) -> bytes:
        """Return its text if it is a link."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


class Plain(Target):
    """A file of /proc or /sys that is what it says."""

    def open(self, flags: int) -> int:
        """Open it beneath its file system; for writing only what is the caller's own."""
        parts = self.path.split(b"/")
        if flags & (os.O_WRONLY | os.O_RDWR) and not (parts[2:] and parts[2].isdigit() and parts[-1] in _WRITABLE):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        top, _, rest = self.path[1:].partition(b"/")
        base = os.open(b"/" + top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return syscalls.openat2(base, rest or b".", flags & ~(os.O_CREAT | os.O_EXCL), resolve=_BENEATH)
        finally:
            os.close(base)

    def look(self, *, follow: bool) -> int:
        """Return a path descriptor of it."""
        return self.open(os.O_PATH | (0 if follow else os.O_NOFOLLOW))

    def read_link(self) -> bytes:
        """Return where a link of /sys points to."""
        fd = self.look(follow=False)
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                return super().read_link()
            return os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)


class Device(Target):
    """A device node of the container, for the thread *tid*."""

    def __init__(self, path: bytes, tid: int) -> None:
        super().__init__(path)
        self._tid = tid

    def open(self, flags: int) -> int:
        """Open it; ``/dev/tty`` is the terminal of the caller, not ours."""
        if self.path == b"/dev/tty" and not flags & os.O_PATH:
            for number in range(3):
                name = f"/proc/{self._tid}/fd/{number}"
                if os.readlink(name).startswith("/dev/pts/"):
                    return os.open(name, flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC) | os.O_CLOEXEC | os.O_NOCTTY)
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return os.open(self.path, flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC) | os.O_CLOEXEC | os.O_NOCTTY)


class Terminal(Target):
    """A terminal of the container, for the thread *tid*: one that the step itself has made or is given, never that of its builder."""

    changeable = True

    def __init__(self, path: bytes, tid: int, tree: StepTree) -> None:
        super().__init__(path)
        self._tree = tree
        name = path.rpartition(b"/")[2]
        if name != b"ptmx" and name not in tree.terminals and not _has_terminal(tid, path):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def open(self, flags: int) -> int:
        """Open it; ``ptmx`` makes a new one."""
        flags = flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC) | os.O_CLOEXEC | os.O_NOCTTY
        fd = os.open(self.path, flags)
        if self.path.endswith(b"/ptmx") and not flags & os.O_PATH:
            number = struct.unpack("=I", fcntl.ioctl(fd, _TIOCGPTN, bytes(4)))[0]
            self._tree.terminals.add(b"%d" % number)
        return fd


def _has_terminal(tid: int, path: bytes) -> bool:
    """Tell whether a thread has the terminal *path* as one of its first three descriptors."""
    for number in range(3):
        try:
            if os.readlink(b"/proc/%d/fd/%d" % (tid, number)) == path:
                return True
        except OSError:
            continue
    return False


class Text(Target):
    """A link of /proc with this *text*: ``/proc/self``."""

    def __init__(self, path: bytes, text: bytes, where: Target) -> None:
        super().__init__(path)
        self._text = text
        self._where = where

    def open(self, flags: int) -> int:
        """Open what it points to."""
        return self._where.open(flags)

    def look(self, *, follow: bool) -> int:
        """Return a path descriptor of it, or of what it points to."""
        if follow:
            return self._where.look(follow=True)
        return os.open(b"/proc/self", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)

    def read_link(self) -> bytes:
        """Return the text."""
        return self._text


class Magic(Target):
    """A link of /proc to something open: ``/proc/PID/fd/N``, ``exe``, ``cwd``, ``root``; *top* is the step's root seen from here."""

    changeable = True

    def __init__(self, path: bytes, top: bytes) -> None:
        super().__init__(path)
        self._top = top

    def open(self, flags: int) -> int:
        """Open the file behind it: what the process itself has open leads to nothing that is not the step's."""
        name = self.path.rpartition(b"/")[2]
        if name == b"exe" and not is_below(os.readlink(self.path), self._top):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if flags & os.O_PATH and flags & os.O_NOFOLLOW:
            return self.look(follow=False)
        return os.open(self.path, flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW) | os.O_CLOEXEC | os.O_NOCTTY)

    def look(self, *, follow: bool) -> int:
        """Return a path descriptor of the link, or of the file behind it."""
        return os.open(self.path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))

    def read_link(self) -> bytes:
        """Return the text as the step would see it."""
        text = os.readlink(self.path)
        return text[len(self._top) :] or b"/" if is_below(text, self._top) else text


class Own(Target):
    """A file of the step's tree that a path through /proc leads to (``/proc/self/root/etc``); *root* is a descriptor of the tree."""

    changeable = True

    def __init__(self, path: bytes, root: int) -> None:
        super().__init__(path)
        self._root = root

    def open(self, flags: int) -> int:
        """Open it beneath the root."""
        return syscalls.openat2(self._root, self.path, flags & ~(os.O_CREAT | os.O_EXCL))

    def look(self, *, follow: bool) -> int:
        """Return a path descriptor of it."""
        return syscalls.openat2(self._root, self.path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))

    def read_link(self) -> bytes:
        """Return the text of a link."""
        fd = self.look(follow=False)
        try:
            return os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)


class _Mounts(Plain):
    """The table of mounts, which would tell of the container's; a step sees its own."""

    def __init__(self, path: bytes, mounts: Mapping[str, str]) -> None:
        super().__init__(path)
        self._mounts = mounts

    def open(self, flags: int) -> int:
        if flags & os.O_PATH:
            return super().open(flags)
        line = _MOUNTS[self.path.rpartition(b"/")[2]]
        lines = [line.format(number, kind, place) for number, (place, kind) in enumerate(self._mounts.items(), 1)]
        fd = os.memfd_create("mounts", os.MFD_CLOEXEC)
        os.write(fd, "".join(lines).encode(errors="surrogateescape"))
        os.lseek(fd, 0, os.SEEK_SET)
        return fd


def ids_of(tid: int) -> tuple[int, int, int]:
    """Return the process that a thread belongs to, and its real user and group."""
    found = {}
    with open(f"/proc/{tid}/status", "rb") as file:
        for line in file:
            name, _, value = line.partition(b":")
            if name in (b"Tgid", b"Uid", b"Gid"):
                found[name] = int(value.split()[0])
            if len(found) == 3:
                break
    return found[b"Tgid"], found[b"Uid"], found[b"Gid"]


def _process_of(tid: int) -> int:
    """Return the process that a thread belongs to; only one that begins a process has a pidfd, see pidfd_open(2)."""
    try:
        os.close(os.pidfd_open(tid))
    except OSError:
        return ids_of(tid)[0]
    return tid


def target(path: bytes, tid: int, tree: StepTree) -> Target:
    """Return what the `StepTree.system_path` *path* is for the thread *tid*. Raises OSError."""
    if path == _TERMINALS:
        return Plain(path)
    if is_below(path, _TERMINALS):
        return Terminal(path, tid, tree)
    if path.startswith(b"/dev/"):
        return Device(path, tid)
    if is_hidden(path):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if is_below(path, b"/sys"):
        return Plain(path)
    parts = path.split(b"/")[2:]
    if not parts:
        return Plain(path)
    if parts[0] in (b"mounts", b"net"):
        parts.insert(0, b"self")
    if parts[0] in (b"self", b"thread-self"):
        process = b"%d" % (tid if parts[0] == b"thread-self" else _process_of(tid))
        if len(parts) == 1:
            return Text(path, process, target(b"/proc/" + process, tid, tree))
        parts[0] = process
    if not parts[0].isdigit():
        return Plain(path)
    _require_visible(parts[0], tree.root)
    return _of_process(parts, tree)


def _of_process(parts: list[bytes], tree: StepTree) -> Target:
    if len(parts) > 2 and parts[1] == b"task":
        _require_visible(parts[2], tree.root)
        if len(parts) > 3:
            parts = [parts[2], *parts[3:]]
    path = b"/proc/" + b"/".join(parts)
    name = parts[1] if len(parts) > 1 else b""
    links = 2 if name in (b"exe", b"cwd", b"root") else 3 if name in (b"fd", b"ns") else 0
    if links and len(parts) == links:
        return Magic(path, tree.top)
    if links and len(parts) > links:  # through a link: only what is in the tree
        text = os.readlink(b"/proc/" + b"/".join(parts[:links]))
        if name in (b"exe", b"ns") or not is_below(text, tree.top):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return Own(b"/".join([text[len(tree.top) :], *parts[links:]]), tree.root)
    if name == b"map_files":
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return _Mounts(path, tree.mounts) if name in _MOUNTS else Plain(path)


def is_visible(process: bytes, root: int) -> bool:
    """Tell whether *process* has the root of the step."""
    try:
        return process.isdigit() and os.path.samestat(os.stat(b"/proc/" + process + b"/root"), os.fstat(root))
    except OSError:
        return False


def is_hidden(path: bytes) -> bool:
    """Tell whether *path* is one of those that containers hide."""
    return path in _HIDDEN or path.startswith(_IN_HIDDEN) or path.endswith(b"/map_files")


def _require_visible(process: bytes, root: int) -> None:
    if not is_visible(process, root):
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

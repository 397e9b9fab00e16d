"""What a step asked for when a filter stopped one of its system calls: the arguments, and the files they mean.

Everything here is hostile but what the kernel says about the caller. A path is resolved with the root and the working directory of
the calling process, so it never leaves the container's tree, and magic links (``/proc/self/fd/…`` would be our own) are not followed.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from img_core.linux import mounts, syscalls

__all__ = ["Caller", "Refusal", "Viewpoint", "open_proc"]

_LONGEST_PATH: Final = 4096
_PAGE: Final = 4096
_SHORT: Final = 256  # what is read at first, since hardly any path is longer
_AT_FDCWD: Final = syscalls.AT_FDCWD & 0xFFFFFFFF


def open_proc() -> int | None:
    """Return a /proc in which our own number is ours, so that the kernel's numbers of the callers are theirs; or None."""
    try:
        proc = mounts.create("proc")
    except OSError:  # not in a pid namespace of our own, or masked
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        matches = os.readlink("self", dir_fd=proc) == str(os.getpid())
    except OSError:
        matches = False
    return proc if matches else None


class Refusal(Exception):
    """The call fails with *number*, as the kernel would have it."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class Viewpoint:
    """Where a supervisor looks at callers from: its working directory is *proc*, its root that of the last caller who named a path."""

    def __init__(self, proc: int) -> None:
        self.proc = proc
        self.stand_in = ""  #: a path of the directory that the root directory stands for, if that cannot be changed
        self.buffer = ctypes.create_string_buffer(_PAGE)
        self._memory = syscalls.MemoryReader(self.buffer)
        top = os.stat("/")
        self._root = top.st_dev, top.st_ino
        os.chdir(proc)

    def read_path(self, pid: int, pointer: int) -> bytes:
        """Read a string from the memory of a process. Raises `Refusal`."""
        room = _PAGE - pointer % _PAGE
        count = self._memory.read(pid, pointer, room if room < _SHORT else _SHORT)
        text = self.buffer.value
        return text if len(text) < count else self._read_long_path(pid, pointer)

    def _read_long_path(self, pid: int, pointer: int) -> bytes:
        text = b""
        while len(text) < _LONGEST_PATH:
            # Up to the next page border: the page after the string may not exist.
            at = pointer + len(text)
            count = self._memory.read(pid, at, _PAGE - at % _PAGE)
            if count < 0:
                raise Refusal(errno.EFAULT)
            head = self.buffer.value
            if len(head) < count:
                return text + head if text else head
            text += self.buffer.raw[:count]
        raise Refusal(errno.ENAMETOOLONG)

    def enter(self, pid: int) -> None:
        """Take over the root directory of a process."""
        root = os.stat(f"{pid}/root")
        if (root.st_dev, root.st_ino) == self._root:
            return
        os.chdir(f"{pid}/root")
        try:
            os.chroot(".")
            self._root = root.st_dev, root.st_ino
        finally:
            os.chdir(self.proc)


class Caller:
    """The process (or thread) that waits for us. Use as a context manager, which closes what its methods return."""

    def __init__(self, view: Viewpoint, pid: int) -> None:
        self._view = view
        self.pid = pid
        self._opened: list[int] = []

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_exception: object) -> None:
        for fd in self._opened:
            os.close(fd)

    def descriptor(self, number: int) -> str:
        """Return a path for the file behind one of its descriptors, or behind its working directory (AT_FDCWD).

        It is a magic link: who opens it, or changes what is there, has the file itself. It starts at our working directory.
        """
        number &= 0xFFFFFFFF
        if number == _AT_FDCWD:
            return f"{self.pid}/cwd"
        if number & 0x80000000:
            raise Refusal(errno.EBADF)
        return f"{self.pid}/fd/{number}"

    def read_path(self, pointer: int) -> bytes:
        """Read a string from its memory."""
        return self._view.read_path(self.pid, pointer)

    def read_memory(self, pointer: int, size: int) -> bytes:
        """Read *size* bytes from its memory."""
        buffer = ctypes.create_string_buffer(max(size, 1))
        try:
            count = syscalls.process_vm_read(self.pid, pointer, buffer, size)
        except OSError as err:
            raise Refusal(errno.EFAULT) from err
        if count < size:
            raise Refusal(errno.EFAULT)
        return buffer.raw[:size]

    def write_memory(self, pointer: int, data: bytes) -> None:
        """Write *data* to its memory."""
        try:
            count = syscalls.process_vm_write(self.pid, pointer, data)
        except OSError as err:
            raise Refusal(errno.EFAULT) from err
        if count < len(data):
            raise Refusal(errno.EFAULT)

    def network(self) -> int:
        """Return a descriptor of its network namespace."""
        return self._open(f"{self.pid}/ns/net", errno.EPERM, os.O_RDONLY)

    def status(self) -> dict[str, str]:
        """Return the lines of ``/proc/PID/status`` by their names."""
        fd = self._open(f"{self.pid}/status", errno.EPERM, os.O_RDONLY)
        with open(fd, encoding="utf-8", errors="replace", closefd=False) as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}

    @property
    def root(self) -> str:
        """A path for its root directory if that is not the one that is meant, see `Viewpoint.stand_in`."""
        return self._view.stand_in

    def enter_root(self) -> None:
        """Make absolute paths mean for us what they mean for it. Raises OSError."""
        self._view.enter(self.pid)

    def resolve(self, directory: int, path: bytes, *, follow: bool) -> int:
        """Open *path* as the caller would: its root, its working directory or *directory*, its mounts. Raises OSError, `Refusal`.

        ELOOP also stands for a magic link.
        """
        if not path:
            raise Refusal(errno.ENOENT)
        self.enter_root()
        base = syscalls.AT_FDCWD
        if not path.startswith(b"/"):
            base = self.open(directory)
        flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
        fd = syscalls.openat2(base, path, flags, resolve=syscalls.RESOLVE_NO_MAGICLINKS)
        self._opened.append(fd)
        return fd

    def open(self, number: int) -> int:
        """Open the file behind one of its descriptors, or its working directory, as a path."""
        return self._open(self.descriptor(number), errno.EBADF, os.O_PATH)

    def _open(self, name: str, error: int, flags: int) -> int:
        try:
            fd = os.open(name, flags | os.O_CLOEXEC)
        except OSError as err:
            raise Refusal(error) from err
        self._opened.append(fd)
        return fd

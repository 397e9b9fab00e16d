"""What a step asked for when a filter stopped one of its system calls: the arguments, and the files they mean.

Everything here is hostile but what the kernel says about the caller. A path is resolved with the root and the working directory of
the calling process, so it never leaves the container's tree, and magic links (``/proc/self/fd/…`` would be our own) are not followed.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Final

from img_core.linux import mounts, syscalls

__all__ = ["CALLS", "RENAMES", "Caller", "OwnerCall", "Refusal", "Rename", "open_proc"]

_LONGEST_PATH: Final = 4096
_OWN_FILES: Final = (b"/proc/self/", b"/proc/thread-self/", b"/dev/fd/")
_LONGEST_CHAIN: Final = 8  # of symlinks


@dataclass(frozen=True, slots=True)
class OwnerCall:
    """How a call of the chown family passes its arguments: positions, and the bits of an id."""

    kind: str  #: "path", "link" (does not follow), "descriptor" or "at"
    bits: int = 32


_I386_AND_ARM: Final = {
    16: OwnerCall("link", 16),
    95: OwnerCall("descriptor", 16),
    182: OwnerCall("path", 16),
    198: OwnerCall("link"),
    207: OwnerCall("descriptor"),
    212: OwnerCall("path"),
}
#: AUDIT_ARCH_… -> number -> call
CALLS: Final[dict[int, dict[int, OwnerCall]]] = {
    0xC000003E: {92: OwnerCall("path"), 93: OwnerCall("descriptor"), 94: OwnerCall("link"), 260: OwnerCall("at")},
    0xC00000B7: {55: OwnerCall("descriptor"), 54: OwnerCall("at")},
    0x40000003: {**_I386_AND_ARM, 298: OwnerCall("at")},
    0x40000028: {**_I386_AND_ARM, 325: OwnerCall("at")},
}


@dataclass(frozen=True, slots=True)
class Rename:
    """Where the arguments of a call of the rename family are: a directory is -1 if the call has none."""

    old: int
    new: int
    old_directory: int = -1
    new_directory: int = -1
    flags: int = -1


_RENAME: Final = Rename(0, 1)
_RENAMEAT: Final = Rename(1, 3, 0, 2)
_RENAMEAT2: Final = Rename(1, 3, 0, 2, 4)
#: AUDIT_ARCH_… -> number -> call
RENAMES: Final[dict[int, dict[int, Rename]]] = {
    0xC000003E: {82: _RENAME, 264: _RENAMEAT, 316: _RENAMEAT2},
    0xC00000B7: {38: _RENAMEAT, 276: _RENAMEAT2},
    0x40000003: {38: _RENAME, 302: _RENAMEAT, 353: _RENAMEAT2},
    0x40000028: {38: _RENAME, 329: _RENAMEAT, 382: _RENAMEAT2},
}


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


@dataclass(frozen=True, slots=True)
class Caller:
    """The process (or thread) that waits for us, as seen in */proc* (a descriptor)."""

    proc: int
    pid: int
    opened: list[int]

    def descriptor(self, number: int) -> int:
        """Return the file behind one of its descriptors."""
        if number & 0x80000000:
            raise Refusal(errno.EBADF)
        return self._open(f"fd/{number & 0x7FFFFFFF}", errno.EBADF)

    def directory(self, number: int) -> int:
        """Like `descriptor`, but AT_FDCWD is its working directory."""
        if number & 0xFFFFFFFF == syscalls.AT_FDCWD & 0xFFFFFFFF:
            return self._open("cwd", errno.ENOENT)
        return self.descriptor(number)

    def read_path(self, pointer: int) -> bytes:
        """Read a string from its memory."""
        memory = self._open("mem", errno.EFAULT, os.O_RDONLY)
        text = b""
        while len(text) < _LONGEST_PATH:
            # Up to the next page border: the page after the string may not exist.
            size = min(4096 - (pointer + len(text)) % 4096, _LONGEST_PATH - len(text))
            try:
                chunk = os.pread(memory, size, pointer + len(text))
            except OSError:
                chunk = b""
            if not chunk:
                raise Refusal(errno.EFAULT)
            head, end, _ = chunk.partition(b"\0")
            text += head
            if end:
                return text
        raise Refusal(errno.ENAMETOOLONG)

    def read_memory(self, pointer: int, size: int) -> bytes:
        """Read *size* bytes from its memory."""
        try:
            content = os.pread(self._open("mem", errno.EFAULT, os.O_RDONLY), size, pointer)
        except OSError as err:
            raise Refusal(errno.EFAULT) from err
        if len(content) < size:
            raise Refusal(errno.EFAULT)
        return content

    def network(self) -> int:
        """Return a descriptor of its network namespace."""
        return self._open("ns/net", errno.EPERM, os.O_RDONLY)

    def status(self) -> dict[str, str]:
        """Return the lines of ``/proc/PID/status`` by their names."""
        with open(
            self._open("status", errno.EPERM, os.O_RDONLY), encoding="utf-8", errors="replace", closefd=False
        ) as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}

    def resolve(self, directory: int, path: bytes, *, follow: bool) -> int:
        """Open *path* as the caller would: its root, its working directory or *directory*, its mounts."""
        if not path:
            raise Refusal(errno.ENOENT)
        root = self._open("root", errno.ENOENT)
        base = root if path.startswith(b"/") else self.directory(directory)
        os.chdir(root)
        os.chroot(".")
        try:
            flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
            fd = syscalls.openat2(base, path, flags, resolve=syscalls.RESOLVE_NO_MAGICLINKS)
        except OSError as err:
            # ELOOP: most likely a magic link.
            harmless = err.errno == errno.ELOOP or (err.errno == errno.ENOENT and _means_own_files(path, base))
            raise Refusal(0 if harmless else err.errno or errno.EIO) from err
        self.opened.append(fd)
        return fd

    def _open(self, name: str, error: int, flags: int = os.O_PATH) -> int:
        try:
            fd = os.open(f"{self.pid}/{name}", flags | os.O_CLOEXEC, dir_fd=self.proc)
        except OSError as err:
            raise Refusal(error) from err
        self.opened.append(fd)
        return fd


def _means_own_files(path: bytes, base: int) -> bool:
    """Tell whether *path* ends in the caller's own descriptors, as /dev/stdout does; no layer has such files.

    We do not find them: in the container's /proc we are nobody.
    """
    for _ in range(_LONGEST_CHAIN):
        if path.startswith(_OWN_FILES):
            return True
        try:
            target = os.readlink(path, dir_fd=base)
        except OSError:
            return False
        path = target if target.startswith(b"/") else path[: path.rfind(b"/") + 1] + target
    return False

"""Opening paths beneath a root that hostile content controls; the public names are in `img_core.files.fs`.

``openat2`` (Linux 5.6) lets the kernel keep a resolution inside a root. Where it is missing or filtered
(``ENOSYS``; ``EPERM`` from old container seccomp profiles) the same rules are applied component by component.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from types import ModuleType

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_LINK_LIMIT = 40  # the kernel's own limit, see path_resolution(7)

_available = True


@functools.cache
def kernel() -> ModuleType:
    """Return `img_core.linux.syscalls`; it loads ctypes (4 ms), which commands that only read text never need."""
    from img_core.linux import syscalls

    return syscalls


def _openat2(directory: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Call openat2(2). Raises `OSError`; ``ENOSYS`` when this host has no usable openat2."""
    global _available
    if not _available:
        raise _fail(errno.ENOSYS, path)
    if b"\0" in path:  # a C string would silently end there
        raise _fail(errno.EINVAL, path)
    if not flags & os.O_CREAT:
        mode = 0  # EINVAL otherwise
    try:
        fd: int = kernel().openat2(directory, path or b".", flags, mode=mode, resolve=resolve)
    except OSError as err:
        if err.errno == errno.ENOSYS or (err.errno == errno.EPERM and not _works()):
            _available = False
            raise _fail(errno.ENOSYS, path) from err
        raise
    return fd


def _works() -> bool:
    """Tell a filtered system call from a real EPERM by opening the current directory."""
    try:
        os.close(kernel().openat2(-100, b".", os.O_PATH, resolve=0))
    except OSError:
        return False
    return True


def open_rooted(root: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Open *path* by openat2(2), or by `walk` where that does not exist."""
    try:
        return _openat2(root, path, flags, mode, resolve)
    except OSError as err:
        if err.errno != errno.ENOSYS:
            raise
    return walk(root, path, flags, mode, resolve)


class _Walk:
    """A position beneath *root*: open descriptors of every directory on the way, so that `..` cannot be raced."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.fds: list[int] = []

    @property
    def here(self) -> int:
        return self.fds[-1] if self.fds else self.root

    def up(self) -> bool:
        """Go to the parent; False when already at the root."""
        if not self.fds:
            return False
        os.close(self.fds.pop())
        return True

    def close(self) -> None:
        while self.up():
            pass


def walk(root: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Resolve *path* beneath *root* component by component, with the meaning of the ``RESOLVE_*`` bits.

    `RESOLVE_NO_XDEV` is honoured by comparing device numbers only.
    """
    position = _Walk(root)
    try:
        return _walk(position, path, flags | os.O_CLOEXEC, mode, resolve)
    finally:
        position.close()


def _fail(code: int, path: bytes) -> OSError:
    return OSError(code, os.strerror(code), path)


def _walk(position: _Walk, path: bytes, flags: int, mode: int, resolve: int) -> int:
    if b"\0" in path:
        raise _fail(errno.EINVAL, path)
    clamp = bool(resolve & RESOLVE_IN_ROOT)
    if path.startswith(b"/") and not clamp:
        raise _fail(errno.EXDEV, path)
    todo = [part for part in path.split(b"/") if part not in (b"", b".")][::-1]
    device = os.fstat(position.root).st_dev
    links = 0
    must_be_directory = path.endswith((b"/", b"/."))
    while todo:
        part = todo.pop()
        last = not todo
        if part == b"..":
            if not position.up() and not clamp:
                raise _fail(errno.EXDEV, path)
            continue
        fd = -1
        try:
            fd = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=position.here)
        except FileNotFoundError:
            if not (last and flags & os.O_CREAT):
                raise
        try:
            if fd < 0:
                return os.open(part, flags | os.O_NOFOLLOW, mode, dir_fd=position.here)
            info = os.fstat(fd)
            if resolve & RESOLVE_NO_XDEV and info.st_dev != device:
                raise _fail(errno.EXDEV, path)
            if stat.S_ISLNK(info.st_mode) and not (last and flags & os.O_NOFOLLOW and not must_be_directory):
                links += 1
                if resolve & RESOLVE_NO_SYMLINKS or links > _LINK_LIMIT:
                    raise _fail(errno.ELOOP, path)
                if last and flags & os.O_CREAT and flags & os.O_EXCL:
                    raise _fail(errno.EEXIST, path)
                target = os.readlink(b"", dir_fd=fd)
                if target.startswith(b"/"):
                    if not clamp:
                        raise _fail(errno.EXDEV, path)
                    position.close()
                todo.extend(item for item in reversed(target.split(b"/")) if item not in (b"", b"."))
                continue
            if last:
                extra = os.O_DIRECTORY if must_be_directory else 0
                return os.open(part, flags | os.O_NOFOLLOW | extra, mode, dir_fd=position.here)
            if not stat.S_ISDIR(info.st_mode):
                raise _fail(errno.ENOTDIR, path)
            position.fds.append(fd)
            fd = -1
        finally:
            if fd >= 0:
                os.close(fd)
    return os.open(b".", flags & ~(os.O_CREAT | os.O_EXCL), dir_fd=position.here)

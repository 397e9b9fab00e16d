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

from img_core.files.walker import Walk

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

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


def walk(root: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Resolve *path* beneath *root* component by component, with the meaning of the ``RESOLVE_*`` bits.

    `RESOLVE_NO_XDEV` is honoured by comparing device numbers only.
    """
    flags |= os.O_CLOEXEC
    device = os.fstat(root).st_dev
    must_be_directory = path.endswith((b"/", b"/."))
    with Walk(root, path, clamped=bool(resolve & RESOLVE_IN_ROOT)) as position:
        while (part := position.next()) is not None:
            last = not position.left
            try:
                fd = position.look(part)
            except FileNotFoundError:
                if not (last and flags & os.O_CREAT):
                    raise
                return os.open(part, flags | os.O_NOFOLLOW, mode, dir_fd=position.here)
            try:
                info = os.fstat(fd)
                if resolve & RESOLVE_NO_XDEV and info.st_dev != device:
                    raise _fail(errno.EXDEV, path)
                if stat.S_ISLNK(info.st_mode) and not (last and flags & os.O_NOFOLLOW and not must_be_directory):
                    if resolve & RESOLVE_NO_SYMLINKS:
                        raise _fail(errno.ELOOP, path)
                    if last and flags & os.O_CREAT and flags & os.O_EXCL:
                        raise _fail(errno.EEXIST, path)
                elif last:
                    extra = os.O_DIRECTORY if must_be_directory else 0
                    return os.open(part, flags | os.O_NOFOLLOW | extra, mode, dir_fd=position.here)
                going, fd = fd, -1
                position.go(part, going)
            finally:
                if fd >= 0:
                    os.close(fd)
        return os.open(b".", flags & ~(os.O_CREAT | os.O_EXCL), dir_fd=position.here)


def _fail(code: int, path: bytes) -> OSError:
    return OSError(code, os.strerror(code), path)


def read_up_to(fd: int, size: int) -> bytes:
    """Return what is left of a file, but no more than *size* bytes."""
    parts: list[bytes] = []
    while size and (part := os.read(fd, min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)

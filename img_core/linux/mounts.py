"""Detached mounts: made, configured and handed around as file descriptors, attached (or not) later.

Nothing here appears in the builder's own mount namespace, so there is nothing to unmount and nothing to leak: when the last
descriptor is closed the mount is gone. A container attaches its mounts in its own namespace with `syscalls.move_mount`.
All functions return a close-on-exec descriptor that the caller owns, and raise OSError.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["SAFE", "bind", "bind_fd", "create", "overlay", "set_readonly", "tmpfs"]

#: attributes of file systems that hold no programs
SAFE: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC

_LONGEST_OPTION: Final = 255


def create(kind: str, options: Iterable[tuple[str, str]] = (), *, attributes: int = 0) -> int:
    """Create a new file system of *kind*, which lists of mounts show as its source unless *options* have another.

    An option with an empty value is a flag; one that is there twice is given twice.
    """
    settings = list(options)
    if all(key != "source" for key, _ in settings):
        settings.insert(0, ("source", kind))
    context = syscalls.fsopen(kind)
    try:
        for key, value in settings:
            if value:
                syscalls.fsconfig_string(context, key, value)
            else:
                syscalls.fsconfig_flag(context, key)
        syscalls.fsconfig_create(context)
        return syscalls.fsmount(context, attributes)
    finally:
        os.close(context)


def tmpfs(*, size: int = 0, mode: int = 0o755, attributes: int = 0) -> int:
    """Create an empty tmpfs of at most *size* bytes (0: the kernel's default, half of the memory)."""
    options = [("mode", f"{mode:o}")]
    if size:
        options.append(("size", str(size)))
    return create("tmpfs", options, attributes=attributes)


def bind(path: syscalls.Path, *, directory_fd: int = syscalls.AT_FDCWD, attributes: int = 0) -> int:
    """Clone what is visible at *path*, submounts included, and set *attributes* on all of it.

    Always recursive: the kernel refuses to uncover what submounts of a more privileged namespace hide.
    An empty *path* means *directory_fd* itself, which may be a file, a directory or a mount of this namespace.
    """
    flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE | (0 if path else syscalls.AT_EMPTY_PATH)
    return _configured(syscalls.open_tree(directory_fd, path, flags), attributes)


def bind_fd(fd: int, *, attributes: int = 0) -> int:
    """Return a detached mount of the file or directory *fd*; a detached mount is cloned where the kernel can (6.15)."""
    try:
        return bind(b"", directory_fd=fd, attributes=attributes)
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise
    # An older kernel: *fd* is a detached mount already and can be attached once, by whoever gets it.
    return _configured(os.dup(fd), attributes) if attributes else os.dup(fd)


def _configured(fd: int, attributes: int) -> int:
    try:
        # Private: what the host mounts below it later must not appear in a container.
        _change(fd, attributes, syscalls.MS_PRIVATE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def set_readonly(fd: int, *, attributes: int = 0) -> None:
    """Make the mount *fd* and all below it read-only."""
    _change(fd, syscalls.MOUNT_ATTR_RDONLY | attributes, 0)


def _change(fd: int, attributes: int, propagation: int) -> None:
    try:
        syscalls.mount_setattr(fd, set_attributes=attributes, propagation=propagation, recursive=True)
    except OSError as err:
        if err.errno != errno.ENOSYS:
            raise
    else:
        return
    from img_core.linux._remount import copy_with_attributes  # only on kernels before 5.12

    copy = copy_with_attributes(fd, attributes)
    os.dup2(copy, fd, inheritable=False)
    os.close(copy)


def overlay(
    lowers: Sequence[str],
    *,
    upper: str = "",
    work: str = "",
    options: Iterable[tuple[str, str]] = (),
    staging: str = "",
) -> int:
    """Create an overlay of the directories *lowers* (topmost first), writable if *upper* and *work* are given.

    Paths may be of any length; the kernel takes 500 layers. *options* are further overlay options, for instance
    ``("volatile", "")`` or ``("userxattr", "")``. Before Linux 6.8 the mount passes through the directory *staging*, if given.
    """
    with ExitStack() as stack:
        settings = [("lowerdir+", _short(path, stack)) for path in lowers]
        if upper:
            settings += [("upperdir", _short(upper, stack)), ("workdir", _short(work, stack))]
        settings += options
        try:
            return create("overlay", settings)
        except OSError as err:
            # EINVAL "unknown parameter" comes from the first key already
            if err.errno != errno.EINVAL or err.filename != "lowerdir+" or not staging:
                raise
        return _overlay_classic(lowers, upper, work, options, staging)


def _short(path: str, stack: ExitStack) -> str:
    """Return *path*, or another name of it that fits into one option."""
    if (
        len(path) <= _LONGEST_OPTION // 4 or len(os.fsencode(path)) <= _LONGEST_OPTION
    ):  # a character has four bytes at most
        return path
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return f"/proc/self/fd/{fd}"


def _overlay_classic(
    lowers: Sequence[str], upper: str, work: str, options: Iterable[tuple[str, str]], staging: str
) -> int:
    """Mount at *staging*, take the mount away from there again. At most 200 layers fit into the one page of options."""
    with ExitStack() as stack:

        def name(path: str) -> str:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            return f"/proc/self/fd/{fd}"  # short, and free of the separators `:` and `,`

        settings = ["lowerdir=" + ":".join(map(name, lowers))]
        if upper:
            settings += [f"upperdir={name(upper)}", f"workdir={name(work)}"]
        settings += [f"{key}={value}" if value else key for key, value in options]
        text = ",".join(settings)
        if len(text) >= os.sysconf("SC_PAGE_SIZE"):
            raise syscalls.os_error(errno.E2BIG, "mount", staging)
        syscalls.mount("overlay", staging, "overlay", 0, text)
    try:
        return syscalls.open_tree(syscalls.AT_FDCWD, staging, syscalls.OPEN_TREE_CLONE)
    finally:
        syscalls.umount2(staging, syscalls.MNT_DETACH)

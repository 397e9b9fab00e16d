"""Paths that lead out of the step's tree by a link in it: an image's ``/var/log/error.log`` to ``/dev/stderr``, say.

The kernel does not know what they mean. But the names in the tree's own /proc and /sys (`_stubs`), and the devices that it lacks, are links
to themselves: every lookup that comes by one of them ends with ELOOP, so one call tells whether there is anything to find out. Processes
have no such links: what leads nowhere by a link may be one, if there is a number in it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from img_core.linux import syscalls
from img_executor_chroot._outside import is_below, normal

if TYPE_CHECKING:
    from img_executor_chroot._outside import StepTree

__all__ = ["MOST_LINKS", "Inode", "leads_to", "text_of"]

Inode = tuple[int, int]  # device and number

MOST_LINKS: Final = 40  # of the kernel, see path_resolution(7)


def leads_to(tree: StepTree, path: bytes, *, follow: bool, inode: bool = False) -> bytes | Inode | None:
    """Return the system file that the absolute *path* leads to in *tree*, or None if it leads to none.

    *follow*: a link at its end, too. With *inode* return that of a file in the tree instead of None.
    """
    # Nearly all are files, or not there: where no inode is wanted, they are not even opened.
    kind = 0 if inode else os.O_DIRECTORY
    try:
        fd = syscalls.openat2(tree.root, path, os.O_PATH | kind | (0 if follow else os.O_NOFOLLOW))
    except OSError as err:
        if err.errno == errno.ELOOP:
            return _walk(tree, path, follow=follow)
        # The tree's /proc has no names of processes, which come and go.
        missed = err.errno == errno.ENOENT and _meets_link(tree, path)
        found = _walk(tree, path, follow=follow) if missed else None
        return found if found is not None and any(map(bytes.isdigit, (path + found).split(b"/"))) else None
    try:
        info = os.fstat(fd)
    finally:
        os.close(fd)
    place = info.st_dev, info.st_ino
    return tree.places.get(place) or (place if inode else None)


def _meets_link(tree: StepTree, path: bytes) -> bool:
    """Tell whether *path*, which leads nowhere, comes by a link."""
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
    try:
        os.close(syscalls.openat2(tree.root, path, os.O_PATH, resolve=resolve))
    except OSError as err:
        return err.errno == errno.ELOOP
    return False


def _walk(tree: StepTree, path: bytes, *, follow: bool) -> bytes | None:
    """Return the first system file on the way along *path*, with the rest of the way."""
    parts = path.split(b"/")[::-1]  # the next one last
    done = b""
    links = 0
    while parts:
        name = parts.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            done = done.rpartition(b"/")[0]
            continue
        place = done + b"/" + name
        meant = tree.system_path(place)
        if meant is not None:
            whole = normal(b"/".join([meant, *parts[::-1]]))
            found = tree.system_path(whole)
            if found is not None or is_below(whole, meant):
                return found
            done, parts = b"", whole.split(b"/")[::-1]  # it leads out again by ``..``
            continue
        text = text_of(tree.root, place) if any(parts) or follow else None
        if text is None:
            done = place
            continue
        links += 1
        if links > MOST_LINKS:
            return None
        parts += text.split(b"/")[::-1]
        done = b"" if text.startswith(b"/") else done
    return None


def text_of(root: int, place: bytes) -> bytes | None:
    """Return what the link *place* says; None if it is no link."""
    try:
        fd = syscalls.openat2(root, place, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return os.readlink(b"", dir_fd=fd)
    except OSError:
        return None
    finally:
        os.close(fd)

"""The archive that the kernel unpacks into its first root: cpio in the form ``newc`` (Linux, Documentation/driver-api/early-userspace)."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from img_core.files import xattrs
from img_core.files.treewalk import look_of, walk
from img_core.spec import ImgError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.files.treewalk import Entry
    from img_core.spec import Tree

__all__ = ["CpioWriter", "write_archive"]

_MAGIC: Final = b"070701"
_TRAILER: Final = b"TRAILER!!!"
_LARGEST: Final = (1 << 32) - 1  #: what eight hexadecimal digits hold
_CHUNK: Final = 1 << 20
_BLOCK: Final = 512  # of the whole archive; several archives may follow each other
_FIRST_INODE: Final = 1


class CpioWriter:
    """Writes members to *write* and counts their bytes in `size`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.size = 0

    def begin(self, name: bytes, *, inode: int = 0, mode: int = 0, owner: tuple[int, int] = (0, 0), links: int = 1, mtime: int = 0,
              size: int = 0, device: int = 0) -> None:  # fmt: skip
        """Write the header of the member *name*, of which *size* bytes follow by `put`. Raises ImgError for what the form cannot hold."""
        if size > _LARGEST:
            raise ImgError(
                f"`{show(name)}` is too large for an initial RAM file system: it has {size} bytes, 4 GiB are the limit"
            )
        numbers = (
            inode, mode, *owner, links, max(0, min(mtime, _LARGEST)), size, 0, 0, os.major(device), os.minor(device), len(name) + 1, 0,
        )  # fmt: skip
        self.put(_MAGIC + b"".join(b"%08x" % number for number in numbers) + name + b"\0")
        self.align(4)

    def put(self, data: bytes) -> None:
        """Write *data* of a member."""
        self._write(data)
        self.size += len(data)

    def align(self, boundary: int) -> None:
        """Fill up to a multiple of *boundary* bytes."""
        self.put(bytes(-self.size % boundary))

    def finish(self) -> None:
        """Write the end."""
        self.begin(_TRAILER)
        self.align(_BLOCK)


def write_archive(tree: Tree, writer: CpioWriter, *, epoch: int | None, init: str = "", tick: Callable[[int], None]) -> int:  # fmt: skip
    """Write all of *tree*; return how many files have extended attributes, which the form has no place for.

    *init*: the program that `/init` shall be a link to, unless the tree has one. Inodes are numbered as they come: nothing of this disk is
    in the archive. *tick* gets its size now and then. Raises ImgError for what cannot be read or held.
    """
    last = _last_of_links(tree)
    numbers: dict[tuple[int, int], int] = {}
    lost, found_init = 0, False
    for entry in walk(tree.fd):
        if entry.leaving or stat.S_ISSOCK(entry.info.st_mode):
            continue
        if entry.path == _TRAILER:
            raise ImgError(
                f"a file in an initial RAM file system cannot be called `{show(_TRAILER)}`: the name means its end"
            )
        found_init = found_init or entry.path == b"init"
        identity = (entry.info.st_dev, entry.info.st_ino)
        number = numbers.setdefault(identity, len(numbers) + _FIRST_INODE)
        lost += _member(tree, entry, writer, number, epoch, whole=last.get(identity, entry.path) == entry.path)
        tick(writer.size)
    if init and not found_init:
        target = os.fsencode(init)
        writer.begin(
            b"init", inode=len(numbers) + _FIRST_INODE, mode=stat.S_IFLNK | 0o777, size=len(target), mtime=epoch or 0
        )
        writer.put(target)
        writer.align(4)
    writer.finish()
    return lost


def _last_of_links(tree: Tree) -> dict[tuple[int, int], bytes]:
    """Return the last path of each file with several: that member has the content, as every program that reads such archives expects."""
    return {
        (entry.info.st_dev, entry.info.st_ino): entry.path
        for entry in walk(tree.fd)
        if entry.info.st_nlink > 1 and not stat.S_ISDIR(entry.info.st_mode)
    }


def _member(tree: Tree, entry: Entry, writer: CpioWriter, number: int, epoch: int | None, *, whole: bool) -> bool:
    """Write one member, with its content if it is to be the *whole* file; tell whether attributes are lost."""
    info = entry.info
    is_device = stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)
    # Where one user owns all files, lstat(2) tells neither whose they should be nor always their mode.
    look = look_of(entry, tree.owner(entry.path))
    owner = look.uid, look.gid
    links = 2 if stat.S_ISDIR(info.st_mode) else info.st_nlink
    common = {
        "inode": number, "mode": look.mode, "links": links, "mtime": int(info.st_mtime) if epoch is None else epoch,
        "device": info.st_rdev if is_device else 0,
    }  # fmt: skip
    if stat.S_ISLNK(info.st_mode):
        target = os.readlink(entry.name, dir_fd=entry.parent_fd)
        writer.begin(entry.path, owner=owner, size=len(target), **common)
        writer.put(target)
    elif stat.S_ISREG(info.st_mode):
        fd = entry.open()
        try:
            writer.begin(entry.path, owner=owner, size=info.st_size if whole else 0, **common)
            if whole:
                _content(fd, entry, writer)
            writer.align(4)
            return xattrs.read_all(fd).attributes is not None
        finally:
            os.close(fd)
    else:
        writer.begin(entry.path, owner=owner, **common)
    writer.align(4)
    return False


def _content(fd: int, entry: Entry, writer: CpioWriter) -> None:
    left = entry.info.st_size
    while left:
        data = os.read(fd, min(left, _CHUNK))
        if not data:
            raise ImgError(f"file changed while it was read: `{show(entry.path)}`")
        writer.put(data)
        left -= len(data)

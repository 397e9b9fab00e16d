"""A list of changes becomes the compressed blob of a layer, with both digests in one pass; `unpacked` is the way back."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from img_core.archives import codecs
from img_core.archives.tar.member import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMLINK,
)
from img_core.archives.tar.pipeline import Worker
from img_core.archives.tar.tree import Directory
from img_core.archives.tar.whiteouts import PREFIX
from img_core.archives.tar.writer import TarWriter, changed_while_reading
from img_core.files import fs, xattrs
from img_core.images.digests import Hasher
from img_core.spec._lazy import names_from
from img_core.spec.errors import ImgError
from img_core.spec.text import why

if TYPE_CHECKING:
    from img_core.archives.tar.unpacked import unpack_stream

__all__ = ["LayerInfo", "OwnerOf", "Packer", "content_digest", "unpack_stream", "write_layer"]

#: Who packs does not load what unpacks.
__getattr__ = names_from(__name__, {"img_core.archives.tar.unpacked": ("unpack_stream",)})

OwnerOf = Callable[[bytes, os.stat_result], tuple[int, int] | None]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
_UNMARKED = xattrs.Marks()
_DECIMAL = 10**9


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """A finished layer: *diff_id* is the digest of the tar stream of *uncompressed_size* bytes, *digest* and *size*
    describe the blob as stored. *sockets* were left out, tar cannot hold them."""

    diff_id: str
    digest: str
    size: int
    uncompressed_size: int
    entries: int = 0
    sockets: int = 0


class _Blob:
    """Hashes, compresses, hashes again and stores: the parts that run beside the directory walk, and beside each other.

    Leaving the ``with`` block without an error finishes the blob.
    """

    def __init__(self, sink: Callable[[bytes], object], compressor: codecs.Compressor, same: bool) -> None:
        self._sink = sink
        self._compressor = compressor
        self._inner = Hasher()
        self._outer = self._inner if same else Hasher()
        self.uncompressed_size = 0
        self.size = 0
        self._exit = ExitStack()
        storing, compressing, hashing = self._store, self._compress, self._inner.update
        self._storing = self._exit.enter_context(Worker(storing, name="img-store"))
        self._compressing = self._exit.enter_context(Worker(compressing, name="img-layer"))
        self._hashing = self._exit.enter_context(Worker(hashing, name="img-hash"))

    def put(self, block: bytes) -> None:
        """Take one block of the tar stream."""
        self.uncompressed_size += len(block)
        self._hashing.put(block)
        self._compressing.put(block)

    def _compress(self, block: bytes) -> None:
        if data := self._compressor.compress(block):
            self._storing.put(data)

    def _store(self, data: bytes) -> None:
        if self._outer is not self._inner:
            self._outer.update(data)
        self.size += len(data)
        self._sink(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._exit.__exit__(kind, error, trace)
            return
        with self._exit:
            self._hashing.close()
            self._compressing.close()
            if data := self._compressor.flush():
                self._storing.put(data)

    def info(self, entries: int, sockets: int) -> LayerInfo:
        """Describe the finished blob."""
        return LayerInfo(
            self._inner.digest,
            self._outer.digest,
            self.size,
            self.uncompressed_size,
            entries,
            sockets,
        )


def write_layer(
    changes: Iterable[tuple[bytes, os.stat_result | None]],
    root_fd: int,
    sink: Callable[[bytes], object],
    *,
    compression: str = "gzip",
    level: int | None = None,
    owner_of: OwnerOf | None = None,
    clamp_mtime: int | None = None,
) -> LayerInfo:
    """Write the layer that *changes* describe to *sink*, which is called with bytes, by one thread at a time.

    A change is a path relative to *root_fd* and its lstat result, or None for a deletion; directories come before their
    content. *owner_of* may override the owner of a path, else that of `xattrs.Marks` counts, as its mode does. *clamp_mtime*
    is the latest time in seconds that an entry may have. Raises `ImgError` for a file that changes meanwhile or cannot be
    read, and whatever *sink* raises.
    """
    blob = _Blob(sink, codecs.compressor(compression, level), compression == "uncompressed")
    with blob:
        writer = TarWriter(blob.put)
        packer = Packer(writer, root_fd, owner_of, clamp_mtime)
        for path, info in changes:
            packer.add(path, info)
        writer.finish()
    return blob.info(packer.entries, packer.sockets)


def content_digest(
    changes: Iterable[tuple[bytes, os.stat_result | None]],
    root_fd: int,
    owner_of: Callable[[bytes], tuple[int, int] | None],
    check: Callable[[], None],
) -> str:
    """Return a digest of what *changes* describe: paths, kinds, modes, owners, links, attributes, deletions and bytes, but no times.

    It is the diff id of `write_layer` with all times at 1970. *owner_of* is asked with paths alone; *check* is called often and may raise.
    """
    return write_layer(
        changes,
        root_fd,
        lambda _data: check(),
        compression="uncompressed",
        owner_of=lambda path, _status: owner_of(path),
        clamp_mtime=0,
    ).diff_id


class Packer:
    """Turns (path, stat) into tar entries, opening everything beneath the root without following links.

    *prefix* goes before each name; *epoch* is the time of all entries, in seconds since 1970 UTC (None: their own); the other arguments
    are those of `write_layer`.
    """

    def __init__(
        self,
        writer: TarWriter,
        root_fd: int,
        owner_of: OwnerOf | None,
        clamp_mtime: int | None,
        *,
        prefix: bytes = b"",
        epoch: int | None = None,
    ) -> None:
        self._prefix = prefix
        self._writer = writer
        self._root_fd = root_fd
        self._owner_of = owner_of
        self._latest = None if clamp_mtime is None else clamp_mtime * _DECIMAL
        self._links: dict[tuple[int, int], bytes] = {}
        self._marks: dict[
            tuple[int, int], xattrs.Marks
        ] = {}  # of files with several names: whoever unpacks obeys each entry
        self._head: bytes | None = None
        self._parent: Directory | None = None
        self.entries = 0
        self.sockets = 0
        self._epoch = epoch

    def add(self, path: bytes, info: os.stat_result | None) -> None:
        """Add one change."""
        if not path:
            return  # the root directory itself is no entry of a layer
        try:
            self._add(path, info)
        except OSError as err:
            if err.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                raise changed_while_reading(path) from err
            raise ImgError(f"cannot read `{fs.show(path)}`: {why(err)}") from err

    def _add(self, path: bytes, info: os.stat_result | None) -> None:
        if info is None:
            head, slash, name = path.rpartition(b"/")
            self._writer.add(head + slash + PREFIX + name, mode=0, mtime_ns=self._latest or 0)
            self.entries += 1
            return
        kind = _KINDS.get(stat.S_IFMT(info.st_mode))
        if kind is None:
            self.sockets += 1
            return
        if path.rpartition(b"/")[2].startswith(PREFIX):
            raise ImgError(f"a file in a layer cannot be called `{fs.show(path)}`: the name means a deletion")
        self.entries += 1
        if info.st_nlink > 1 and kind != DIRECTORY:
            first = self._links.setdefault((info.st_dev, info.st_ino), path)
            if first is not path:
                marks = self._marks.get((info.st_dev, info.st_ino), _UNMARKED)._replace(attributes=None)
                self._emit(path, info, HARD_LINK, linkname=first, marks=marks)
                return
        if kind in (REGULAR, DIRECTORY):
            self._add_open(path, info, kind)
        elif kind == SYMLINK:
            name = path.rpartition(b"/")[2]
            self._emit(path, info, kind, linkname=os.readlink(name, dir_fd=self._directory(path)))
        else:
            self._emit(path, info, kind)

    def _directory(self, path: bytes) -> int:
        """Return a descriptor of the directory of *path*; consecutive files share one."""
        head = path.rpartition(b"/")[0]
        if head != self._head or self._parent is None:
            flags = os.O_PATH | os.O_DIRECTORY
            self._parent = Directory(fs.open_beneath(self._root_fd, head or b".", flags))
            self._head = head
        return self._parent.fd

    def _add_open(self, path: bytes, info: os.stat_result, kind: bytes) -> None:
        fd = os.open(path.rpartition(b"/")[2], _OPEN, dir_fd=self._directory(path))
        try:
            now = os.fstat(fd)
            if now.st_ino != info.st_ino or stat.S_IFMT(now.st_mode) != stat.S_IFMT(info.st_mode):
                raise changed_while_reading(path)
            marks = xattrs.read_all(fd)
            if info.st_nlink > 1 and kind == REGULAR:
                self._marks[info.st_dev, info.st_ino] = marks
            self._emit(path, info, kind, marks=marks, data=fd if kind == REGULAR else None)
        finally:
            os.close(fd)

    def _emit(
        self,
        path: bytes,
        info: os.stat_result,
        kind: bytes,
        *,
        linkname: bytes = b"",
        marks: xattrs.Marks = _UNMARKED,
        data: int | None = None,
    ) -> None:
        chosen = self._owner_of(path, info) if self._owner_of is not None else None
        uid, gid = chosen or marks.owner_of(info.st_uid, info.st_gid)
        mtime = info.st_mtime_ns if self._epoch is None else self._epoch * _DECIMAL
        is_device = kind in (CHARACTER, BLOCK_DEVICE)
        self._writer.add(
            self._prefix + path,
            kind=kind,
            mode=marks.mode_of(info.st_mode),
            uid=uid,
            gid=gid,
            size=info.st_size if data is not None else 0,
            mtime_ns=mtime if self._latest is None else min(mtime, self._latest),
            linkname=self._prefix + linkname if kind == HARD_LINK else linkname,
            devmajor=os.major(info.st_rdev) if is_device else 0,
            devminor=os.minor(info.st_rdev) if is_device else 0,
            xattrs=marks.attributes,
            data=data,
        )

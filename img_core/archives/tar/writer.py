"""A fast, deterministic tar writer: ustar where an entry fits, pax records where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from img_core.archives.tar import header, pax
from img_core.archives.tar.header import BLOCK, ZERO_BLOCK
from img_core.archives.tar.member import DIRECTORY, MAX_ID, REGULAR
from img_core.files import fs
from img_core.spec.errors import ImgError

__all__ = ["TarWriter", "changed_while_reading"]

_BATCH = 1 << 20  # headers and small files are handed on in blocks of about this size
_OCTAL_7 = 0o7777777
_OCTAL_11 = 0o77777777777
_PAX_NAME = b"PaxHeaders.0/"


def changed_while_reading(name: bytes) -> ImgError:
    """The error for a file that is not what its stat result promised."""
    return ImgError(f"file changed while it was being read: `{fs.show(name)}`")


class TarWriter:
    """Writes entries to *write*, which gets blocks of about 1 MiB. Call `finish` at the end.

    The same calls give the same bytes: no names of owners, no access times, whole seconds unless *mtime_ns* says more
    and *fractions* is set.
    """

    def __init__(self, write: Callable[[bytes], object], *, fractions: bool = False) -> None:
        self._write = write
        self._fractions = fractions
        self._pending: list[bytes] = []
        self._pending_size = 0
        self.size = 0  #: bytes of the archive so far

    def add(
        self,
        name: bytes,
        *,
        kind: bytes = REGULAR,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime_ns: int = 0,
        linkname: bytes = b"",
        devmajor: int = 0,
        devminor: int = 0,
        xattrs: Mapping[bytes, bytes] | None = None,
        data: int | bytes | Iterable[bytes] | None = None,
    ) -> None:
        """Add one entry. *data* is the content of a regular file: bytes, chunks, or a descriptor that is read from its position.

        Chunks and a descriptor must give exactly *size* bytes, or `ImgError` says that the file changed.
        """
        if kind == DIRECTORY:
            name = name.rstrip(b"/") + b"/"
        if isinstance(data, bytes):
            size = len(data)
        self._check(name, uid, gid)
        records = self._records(name, linkname, uid, gid, size, mtime_ns, xattrs)
        if records:
            self._put_pax(name, records)
        path, prefix = self._split(name)
        seconds = mtime_ns // 10**9
        self._put(
            header.build(
                path,
                prefix,
                kind,
                mode=mode & 0o7777,
                uid=uid if uid <= _OCTAL_7 else 0,
                gid=gid if gid <= _OCTAL_7 else 0,
                size=size if size <= _OCTAL_11 else 0,
                mtime=seconds if 0 <= seconds <= _OCTAL_11 else 0,
                linkname=linkname[:100],
                devmajor=devmajor,
                devminor=devminor,
            )
        )
        if size or data is not None:  # an empty file may have grown, and chunks are verified at their end
            self._put_data(name, size, data)

    def finish(self) -> None:
        """Write the end of the archive and everything that is still pending.

        There is no padding to tape records, so that an empty layer is the one that every builder makes.
        """
        self._put(ZERO_BLOCK * 2)
        self._flush()

    # -- headers

    def _check(self, name: bytes, uid: int, gid: int) -> None:
        if not name or b"\0" in name:
            raise ImgError(f"impossible file name: `{fs.show(name)}`")
        if not (0 <= uid <= MAX_ID and 0 <= gid <= MAX_ID):
            raise ImgError(f"impossible owner of `{fs.show(name)}`: {uid}:{gid}")

    def _records(
        self,
        name: bytes,
        linkname: bytes,
        uid: int,
        gid: int,
        size: int,
        mtime_ns: int,
        xattrs: Mapping[bytes, bytes] | None,
    ) -> list[tuple[bytes, bytes]]:
        """Return the pax records that the entry needs, in a fixed order."""
        records: list[tuple[bytes, bytes]] = []
        if (len(name) > 100 and self._split(name)[1] == b"") or not _is_portable(name):
            records.append((b"path", name))
        if len(linkname) > 100 or not _is_portable(linkname):
            records.append((b"linkpath", linkname))
        if uid > _OCTAL_7:
            records.append((b"uid", b"%d" % uid))
        if gid > _OCTAL_7:
            records.append((b"gid", b"%d" % gid))
        if size > _OCTAL_11:
            records.append((b"size", b"%d" % size))
        seconds, fraction = divmod(mtime_ns, 10**9)
        if self._fractions and fraction:
            records.append((b"mtime", _decimal(mtime_ns)))
        elif not 0 <= seconds <= _OCTAL_11:
            records.append((b"mtime", b"%d" % seconds))
        if xattrs:
            records += [(b"SCHILY.xattr." + key, xattrs[key]) for key in sorted(xattrs)]
        return records

    def _put_pax(self, name: bytes, records: list[tuple[bytes, bytes]]) -> None:
        body = pax.build(records)
        label = _PAX_NAME + name.rstrip(b"/").rpartition(b"/")[2][:80]
        self._put(header.build(label, b"", b"x", mode=0o644, uid=0, gid=0, size=len(body), mtime=0))
        self._put(body + bytes(-len(body) % BLOCK))

    def _split(self, name: bytes) -> tuple[bytes, bytes]:
        """Return name and prefix fields; a name that does not fit is cut, its pax record counts."""
        if len(name) <= 100:
            return name, b""
        cut = name.rfind(b"/", 0, min(len(name) - 1, 156))
        if cut > 0 and len(name) - cut - 1 <= 100:
            return name[cut + 1 :], name[:cut]
        return name[:100], b""

    # -- data

    def _put(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        self.size += len(data)
        if self._pending_size >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            block = b"".join(self._pending)
            self._pending = []
            self._pending_size = 0
            self._write(block)

    def _put_data(self, name: bytes, size: int, data: int | bytes | Iterable[bytes] | None) -> None:
        if data is None:
            raise ValueError(f"no data for {name!r}")
        if isinstance(data, bytes):
            self._put(data)
        elif isinstance(data, int):
            self._copy(name, size, data)
        else:
            self._put_chunks(name, size, data)
        padding = -size % BLOCK
        if padding:
            self._put(bytes(padding))

    def _put_chunks(self, name: bytes, size: int, chunks: Iterable[bytes]) -> None:
        left = size
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break
            self._put(chunk)
        if left:
            raise changed_while_reading(name)

    def _copy(self, name: bytes, size: int, fd: int) -> None:
        """Read one byte more than promised: that is how growth is seen without another system call."""
        left = size
        while True:
            asked = min(left + 1, _BATCH)
            piece = os.read(fd, asked)
            if not piece or len(piece) > left:
                break
            self._put(piece)
            left -= len(piece)
            if not left and len(piece) < asked:
                return  # a regular file gives less only at its end
        if left or piece:
            raise changed_while_reading(name)


def _is_portable(name: bytes) -> bool:
    """Raw fields hold ASCII; other valid UTF-8 goes into a pax record, and other bytes stay raw if they fit.

    A pax path that is not UTF-8 is understood by the readers that matter only in part, a raw one by all of them.
    """
    if name.isascii():
        return True
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _decimal(nanoseconds: int) -> bytes:
    """Write a time in seconds, without trailing zeros."""
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    return sign + (b"%d.%09d" % (seconds, fraction)).rstrip(b"0").rstrip(b".")

"""What a file system entry like ADD unpacks: whether a file is a tar archive, and its content below a directory."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from img_core.archives import codecs
from img_core.archives.tar import OwnerPolicy, TarReader, extract
from img_core.archives.tar.header import BLOCK, ZERO_BLOCK, checksum, parse_number
from img_core.files import fs
from img_core.spec.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.files.ownership import Owners

__all__ = ["archive_digest", "content_digest", "is_archive", "unpack"]

_LITTLE = 4096  #: bytes in which a compressed header nearly always is


class _File:
    """Reads a descriptor from its start, whatever its position is, and at most *most* bytes at a time."""

    def __init__(self, fd: int, most: int = codecs.BLOCK) -> None:
        self._fd = fd
        self._most = most
        self._offset = 0

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._most), self._offset)
        self._offset += len(data)
        return data


def is_archive(fd: int) -> bool:
    """Tell whether the file *fd* starts like a tar archive, compressed or not; its name does not matter."""
    source = codecs.open_decompressed(_File(fd, _LITTLE))  # whatever a codec asks for
    header = b""
    try:
        while len(header) < BLOCK and (piece := source.read(BLOCK - len(header))):
            header += piece
        # The checksum is the only thing that v7, ustar and GNU archives have in common.
        return len(header) == BLOCK and header != ZERO_BLOCK and parse_number(header[148:156]) == checksum(header)
    except (ArchiveError, ValueError):
        return False


def content_digest(fd: int) -> str:
    """Return the sha256 of the archive *fd* as it is without its compression, in hexadecimal digits. Raises `ArchiveError`."""
    source, found = codecs.open_decompressed(_File(fd)), hashlib.sha256()
    while piece := source.read(codecs.BLOCK):
        found.update(piece)
    return found.hexdigest()


def archive_digest(root_fd: int, path: bytes) -> str | None:
    """Return the `content_digest` of the file *path* beneath *root_fd*; None unless that is an archive, and not a damaged one."""
    fd = fs.open_beneath(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return content_digest(fd) if is_archive(fd) else None
    except ArchiveError:
        return None
    finally:
        os.close(fd)


def unpack(
    fd: int, target_fd: int, path: bytes, owners: Owners, ids: tuple[int, int] | None, warn: Callable[[str], None]
) -> None:
    """Unpack the archive *fd* into the directory *target_fd*, which is *path* in the root; *ids* replace the owners in the archive.

    Nothing leaves *target_fd*: links of the archive and of the directory are resolved as if that were the root.
    Raises `ArchiveError`, `HostError` or `ImgError`.
    """
    policy = OwnerPolicy("record" if owners.records else "set", ids, open_to_owner=owners.opens)
    reader = TarReader(codecs.open_decompressed(_File(fd)))
    stats = extract(reader, target_fd, mode="plain", owners=policy)
    prefix = path + b"/" if path else b""
    for name, uid, gid in stats.owners:
        owners.recorded[prefix + name] = (uid, gid)
    for name in stats.skipped:
        warn(f"`/{fs.show(prefix + name)}` of an archive was left out: only real root may make it")

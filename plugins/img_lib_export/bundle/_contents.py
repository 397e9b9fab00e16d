"""The files of a bundle, whether it comes as a tar stream or as a directory.

Small files and JSON stay in memory until somebody says what they are; everything else goes straight into the store.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, Protocol

from img_core.archives.codecs import detect
from img_core.archives.tar.member import DIRECTORY, HARD_LINK, KINDS, REGULAR, SYMLINK
from img_core.archives.tar.reader import TarReader
from img_core.archives.tar.tree import clean_name
from img_core.files import fs
from img_core.images import oci
from img_core.images.digests import ALGORITHMS, digest_at
from img_core.images.layer_types import layer_type
from img_core.spec.errors import ArchiveError, IntegrityError
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.archives.codecs import Readable
    from img_core.archives.tar.member import Member
    from img_core.spec.exporter import ImageStore
    from img_core.spec.values import Descriptor, Digest

__all__ = ["BundleFiles", "DirectoryContents", "TarContents"]

_SMALL = 64 * 1024
_MEMORY_LIMIT = 64 * 1024 * 1024  # for all small files and JSON of one bundle together
_CHUNK = 1024 * 1024
_MEDIA_TYPES: dict[str | None, str] = {
    None: oci.OCI_LAYER,
    **{name: layer_type(name, docker=False) for name in oci.LEVELS},
}
_UNKNOWN = "application/octet-stream"
_BLOBS = tuple(f"blobs/{algorithm}/" for algorithm in ALGORITHMS)


class BundleFiles(Protocol):
    """Looks up files of a bundle by path (as text: paths that are not UTF-8 are never looked up)."""

    def document(self, path: str) -> bytes | None:
        """Return a JSON file of at most 4 MiB, or None when it is not there. Raises ArchiveError when it is something else."""

    def blob(self, path: str) -> Descriptor | None:
        """Return a file, which is in the store afterwards, with a layer type guessed from its first bytes; None when it is missing."""


def _media_type(first_bytes: bytes) -> str:
    return _MEDIA_TYPES.get(detect(first_bytes), _UNKNOWN)


class TarContents:
    """The members of a tar stream. Reads it to its end at once; blobs are verified against the names they have."""

    def __init__(self, stream: Readable, store: ImageStore) -> None:
        self._store = store
        self._memory: dict[str, bytes] = {}
        self._held = 0
        self._stored: dict[str, Descriptor] = {}
        self._links: dict[str, str] = {}
        reader = TarReader(stream)
        for member in reader:
            self._take(member, reader)

    def document(self, path: str) -> bytes | None:
        """See `BundleFiles`."""
        path = self._resolve(path)
        if path in self._stored:
            raise ArchiveError(f"`{fs.show(path)}` in the bundle is not a JSON document")
        return self._memory.get(path)

    def blob(self, path: str) -> Descriptor | None:
        """See `BundleFiles`."""
        path = self._resolve(path)
        if path in self._memory:
            data = self._memory[path]
            self._stored[path] = self._store.ingest([data], _media_type(data), digest=_promised_digest(path))
        return self._stored.get(path)

    def _resolve(self, path: str) -> str:
        return self._links.get(path, path)

    def _take(self, member: Member, reader: TarReader) -> None:
        if member.type == DIRECTORY:
            return
        path = _text(member.name)
        if path in self._memory or path in self._stored or path in self._links:
            raise ArchiveError(f"`{fs.show(path)}` appears twice in the bundle")
        if member.type in (SYMLINK, HARD_LINK):
            self._links[path] = _link_target(path, member)
        elif member.type != REGULAR or member.sparse is not None:
            kind = KINDS[member.type] if member.type != REGULAR else "sparse file"
            raise ArchiveError(f"`{fs.show(path)}` in the bundle is a {kind}")
        else:
            self._take_file(path, member.size, reader)

    def _take_file(self, path: str, size: int, reader: TarReader) -> None:
        first = reader.read(_CHUNK)
        is_json = size <= oci.DOCUMENT_LIMIT and first.lstrip()[:1] in (b"{", b"[")
        expected = _promised_digest(path)
        if is_json or size <= _SMALL:
            data = first + b"".join(reader.chunks())
            if expected and (found := oci.digest(data, expected)) != expected:
                raise IntegrityError(f"`{path}` in the bundle does not match its digest: got {found}")
            self._hold(path, data)
            return
        self._stored[path] = self._store.ingest(
            _chained(first, reader.chunks()), _media_type(first), digest=expected, size=size
        )

    def _hold(self, path: str, data: bytes) -> None:
        self._held += len(data) + len(path)
        if self._held > _MEMORY_LIMIT:
            raise ArchiveError("the bundle has too many small files")
        self._memory[path] = data


def _text(name: bytes) -> str:
    """Return a member's clean path; what is not UTF-8 keeps its bytes as surrogates and can never be asked for."""
    return os.fsdecode(clean_name(name))


def _promised_digest(path: str) -> Digest | None:
    digest = digest_at(path)
    if digest is None and path.startswith(_BLOBS):
        raise ArchiveError(f"`{fs.show(path)}` in the bundle is not named by a {path.split('/')[1]} digest")
    return digest


def _link_target(path: str, member: Member) -> str:
    """Return the member that a link names.

    Old ``docker save`` writes ``<id>/layer.tar`` as a link to an equal layer. It is looked up among the members, never on
    a disk; any other link is refused.
    """
    target = os.fsdecode(member.linkname)
    if member.type == SYMLINK:
        target = posixpath.join(posixpath.dirname(path), target)
    target = posixpath.normpath(target)
    if not path.endswith("/layer.tar") or target.startswith(("/", "../")) or not target.endswith(".tar"):
        raise ArchiveError(f"`{fs.show(path)}` in the bundle is a {KINDS[member.type]}")
    return target


def _chained(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


class DirectoryContents:
    """The files of an image layout in a directory. Symlinks in it are refused: they could point anywhere on this machine."""

    def __init__(self, root_fd: int, store: ImageStore) -> None:
        self._root = root_fd
        self._store = store

    def document(self, path: str) -> bytes | None:
        """See `BundleFiles`."""
        fd = self._open(path)
        if fd is None:
            return None
        with open(fd, "rb", buffering=0) as file:
            data = b"".join(_read(file, oci.DOCUMENT_LIMIT + 1))
        if len(data) > oci.DOCUMENT_LIMIT:
            raise ArchiveError(f"`{fs.show(path)}` is larger than {oci.DOCUMENT_LIMIT} bytes")
        return data

    def blob(self, path: str) -> Descriptor | None:
        """See `BundleFiles`."""
        fd = self._open(path)
        if fd is None:
            return None
        with open(fd, "rb", buffering=0) as file:
            first = file.read(_CHUNK)
            return self._store.ingest(_chained(first, _read(file)), _media_type(first), digest=_promised_digest(path))

    def _open(self, path: str) -> int | None:
        try:
            fd = fs.open_beneath(self._root, os.fsencode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            raise ArchiveError(f"cannot read `{fs.show(path)}`: {why(err)}") from err
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ArchiveError(f"`{fs.show(path)}` is not a regular file")
        return fd


def _read(file: Readable, limit: int | None = None) -> Iterator[bytes]:
    """Yield the rest of *file*, or its next *limit* bytes."""
    while limit is None or limit > 0:
        data = file.read(_CHUNK if limit is None else min(limit, _CHUNK))
        if not data:
            return
        limit = None if limit is None else limit - len(data)
        yield data

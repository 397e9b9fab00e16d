"""The blob of a layer becomes files, and is what it was promised to be: both digests in the same pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.archives import codecs
from img_core.archives.tar.extraction import Directories, Mode, OwnerPolicy, Stats, extract
from img_core.archives.tar.layer import LayerInfo
from img_core.archives.tar.pipeline import Prefetch, Serial
from img_core.archives.tar.reader import TarReader
from img_core.images.digests import Hasher
from img_core.linux.spans import span
from img_core.spec.errors import ArchiveError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from img_core.archives.tar.member import Limits

__all__ = ["unpack_stream"]

_SMALL_STREAM = 512 * 1024  # compressed bytes; a thread does not pay off below


class _Verified:
    """The uncompressed blocks of a layer, with both digests and sizes checked at their end."""

    def __init__(
        self,
        chunks: Iterable[bytes],
        compression: str | None,
        expected_digest: str | None,
        expected_size: int | None,
        expected_diff_id: str | None,
        size_limit: int | None,
    ) -> None:
        self._chunks = iter(chunks)
        self._decompressor = codecs.decompressor(compression) if compression else None
        self._expected_digest = expected_digest
        self._expected_size = expected_size
        self._expected_diff_id = expected_diff_id
        self._size_limit = size_limit
        self._outer = Hasher(expected_digest or "")
        self._inner = Hasher(expected_diff_id or "")
        self.size = 0
        self.uncompressed_size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._take(chunk)
            pieces = (chunk,) if self._decompressor is None else self._decompressor.feed(chunk)
            for piece in pieces:
                if piece:
                    self._count(piece)
                    yield piece
        self._verify()

    def _take(self, chunk: bytes) -> None:
        self._outer.update(chunk)
        self.size += len(chunk)
        if self._expected_size is not None and self.size > self._expected_size:
            raise IntegrityError(f"the layer is larger than its {self._expected_size} bytes")

    def check_rest(self) -> None:
        """After a bad archive: find out whether the blob is what was promised, or was damaged on the way to us.

        The difference matters, damage may be gone at the next try. Without a promised size there is no end to wait for.
        """
        if self._expected_digest is None or self._expected_size is None:
            return
        for chunk in self._chunks:
            self._take(chunk)
        self._verify_blob()

    def _count(self, piece: bytes) -> None:
        self._inner.update(piece)
        self.uncompressed_size += len(piece)
        if self._size_limit is not None and self.uncompressed_size > self._size_limit:
            raise IntegrityError(f"the unpacked layer is larger than the {self._size_limit} bytes it may have")

    def _verify(self) -> None:
        """Check the blob first: a cut download should be called one, not a damaged gzip stream."""
        self._verify_blob()
        if self._decompressor is not None:
            self._decompressor.finish()
        diff_id = self.info().diff_id
        if self._expected_diff_id is not None and diff_id != self._expected_diff_id:
            raise IntegrityError(f"the layer's diff id is {diff_id} instead of {self._expected_diff_id}")

    def _verify_blob(self) -> None:
        if self._expected_size is not None and self.size != self._expected_size:
            raise IntegrityError(f"the layer has {self.size} bytes instead of {self._expected_size}")
        digest = self.info().digest
        if self._expected_digest is not None and digest != self._expected_digest:
            raise IntegrityError(f"the layer's digest is {digest} instead of {self._expected_digest}")

    def info(self, entries: int = 0) -> LayerInfo:
        """Describe what was read so far."""
        return LayerInfo(self._inner.digest, self._outer.digest, self.size, self.uncompressed_size, entries)


def unpack_stream(
    chunks: Iterable[bytes],
    root_fd: int,
    mode: Mode,
    owners: OwnerPolicy | None = None,
    *,
    compression: str | None,
    expected_digest: str | None = None,
    expected_size: int | None = None,
    expected_diff_id: str | None = None,
    size_limit: int | None = None,
    limits: Limits | None = None,
    directories: Directories | None = None,
) -> tuple[LayerInfo, Stats]:
    """Unpack a layer blob that arrives in *chunks* below *root_fd*, verifying it on the way.

    *compression* is ``gzip``, ``zstd``, … or None; *directories* is that of `extract`. *chunks* is iterated in another thread unless the
    blob is small.
    Raises `IntegrityError` when a digest or size differs and `ArchiveError` for a bad archive; the files unpacked until
    then are the caller's to remove, and nothing may be published before this returns.
    """
    stream = _Verified(chunks, compression, expected_digest, expected_size, expected_diff_id, size_limit)
    small = expected_size is not None and expected_size < _SMALL_STREAM
    source: AbstractContextManager[Prefetch | Serial]
    source = Serial(stream) if small else Prefetch(stream, name="img-unpack")
    try:
        with source as readable, span("files", "extract"):
            stats = extract(
                TarReader(readable, limits=limits), root_fd, mode=mode, owners=owners, directories=directories
            )
    except ArchiveError:
        stream.check_rest()
        raise
    return stream.info(stats.members), stats

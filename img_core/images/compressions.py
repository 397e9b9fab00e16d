"""How layers and build contexts may be compressed: each way is declared once, here.

Media types (`img_core.images.oci`, `img_core.images.layer_types`), options of outputs and caches, and what packs and unpacks
(`img_core.archives.codecs`) read these declarations. Nothing of what they use is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Member(Protocol):
        """One gzip member, zstd frame, … being decompressed."""

        @property
        def eof(self) -> bool: ...

        @property
        def unused_data(self) -> bytes: ...

        def decompress(self, data: Any, max_length: int) -> bytes: ...  # Any: every library names its buffer type


__all__ = ["COMPRESSIONS", "Compression"]

_MEMORY = 128 << 20  # what a stream's dictionary or window may cost us


@dataclass(frozen=True, slots=True, eq=False)
class Compression:
    """One way to compress. Whoever adds one adds it to `COMPRESSIONS`, and nothing elsewhere.

    *magics* are what streams may begin with, 6 bytes at most. *reader* makes what decompresses one member of a stream. Layers may be
    compressed with *levels*, the lowest and the highest, of which *level* is ours; without them it is only read, in build contexts and
    archives. *writer* makes a compressor of the library for a level: it gets blocks of `img_core.archives.codecs.BLOCK` bytes, and has to
    make the same bytes of the same blocks wherever it runs. The name is that of the media types, behind ``+`` for OCI and ``.`` for Docker.
    """

    magics: tuple[bytes, ...]
    reader: Callable[[], Member]
    levels: tuple[int, int] | None = None
    level: int = 0
    writer: Callable[[int], Any] | None = None  # Any: every library has its own compressor class


# -------------------------------------------------------------------------------------------------------------- gzip


def _read_gzip() -> Member:
    try:
        from isal import isal_zlib  # the leaf module: isal's package costs ten times as much

        return isal_zlib.decompressobj(31)  # isal ships loose stubs
    except ImportError:
        import zlib

        return zlib.decompressobj(31)


def _write_gzip(level: int) -> Any:
    """Levels 0 to 2 use isal where it exists; 3 to 9, or no isal, use zlib."""
    if level <= 2:
        try:
            from isal import isal_zlib

            inner = isal_zlib.compressobj(level, isal_zlib.DEFLATED, 31)
            return inner if level == 0 else _Begun(inner, isal_zlib.Z_SYNC_FLUSH)
        except ImportError:
            pass
    import zlib

    return zlib.compressobj(level, zlib.DEFLATED, 31)


class _Begun:
    """Begins a stream of isal, levels 1 and 2, so that its bytes do not depend on the address of *inner*.

    The fast loop of ISA-L 2.x for x86 (``igzip_icf_body_h1_gr_bt.asm``) computes the hash of a stream's third byte from a register that
    holds an address; in one layer of some thousand this hides a match. The loop for the last bytes before a flush has no such fault and
    is what takes the first ones here. It costs about eight bytes.
    """

    _FIRST = 8  # more than the three that get no hash, and no more than the sixteen that the fast loop leaves

    def __init__(self, inner: Any, flush_mode: int) -> None:
        self._inner = inner
        self._flush_mode: int | None = flush_mode

    def compress(self, data: memoryview | bytes, /) -> bytes:
        if self._flush_mode is None:
            return self._inner.compress(data)  # type: ignore[no-any-return]
        head: bytes = self._inner.compress(data[: self._FIRST]) + self._inner.flush(self._flush_mode)
        self._flush_mode = None
        return head + self._inner.compress(data[self._FIRST :])  # type: ignore[no-any-return]

    def flush(self) -> bytes:
        return self._inner.flush()  # type: ignore[no-any-return]


# -------------------------------------------------------------------------------------------------------------- zstd


def _zstd() -> Any:  # Any: one of two modules with the same interface
    try:
        from compression import zstd
    except ImportError:
        try:
            from backports import zstd
        except ImportError as err:
            raise ImgError("zstd is not available", hint="install the Python package `backports.zstd`") from err
    return zstd


def _read_zstd() -> Member:
    return _zstd().ZstdDecompressor()  # type: ignore[no-any-return]  # see _zstd


def _write_zstd(level: int) -> Any:
    # Single-threaded on purpose: the multi-threaded mode gives other bytes, one mode must be kept for good.
    return _zstd().ZstdCompressor(level)


# ---------------------------------------------------------------------------------------------------- those only read


def _read_bzip2() -> Member:
    import bz2

    return bz2.BZ2Decompressor()


def _read_xz() -> Member:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)


#: By name, in the order in which people read of them.
COMPRESSIONS: dict[str, Compression] = {
    "gzip": Compression((b"\x1f\x8b",), _read_gzip, (0, 9), 1, _write_gzip),
    "zstd": Compression(
        # Frames, and those that are skipped: 0x184D2A50 to 0x184D2A5F (RFC 8878, section 3.1.2).
        (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))),
        _read_zstd,
        (0, 22),
        3,
        _write_zstd,
    ),
    "bzip2": Compression((b"BZh",), _read_bzip2),
    "xz": Compression((b"\xfd7zXZ\x00",), _read_xz),
}

"""Compression as it appears around layers and build contexts: strict when reading, reproducible when writing.

Reading never trusts the stream: output comes in bounded pieces, a stream that ends early is an error, and so is anything
but further members or zero padding behind it (zlib itself is silent about both).

Writing feeds the compressor blocks of exactly `BLOCK` bytes, because the bytes that isal makes depend on how its input is
cut (and, unless prevented, on where its memory is: `_Begun`); isal levels 0 to 2 give the same bytes on every processor,
level 3 does not. A compressed digest is still never a cache key: another version of a library may compress differently.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Protocol

from img_core.images.layer_types import codec_of_media_type
from img_core.images.oci import LEVELS
from img_core.spec.errors import ArchiveError, ImgError

__all__ = [
    "BLOCK",
    "Compressor",
    "Decompressor",
    "Readable",
    "Watched",
    "codec_of_media_type",
    "compressed",
    "compressor",
    "decompressed",
    "decompressor",
    "detect",
    "looked_at",
    "open_decompressed",
]

BLOCK = 1 << 20  #: bytes per block that a compressor gets, and at most that a decompressor gives
_MEMORY = 128 << 20  # what a stream's dictionary or window may cost us

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_MAGIC_BYTES = 6  # the longest of them


class Readable(Protocol):
    """Anything with ``read(n)`` that returns up to n bytes, and nothing at the end."""

    def read(self, size: int, /) -> bytes:
        """Return between 1 and *size* bytes, or nothing at the end."""


class Compressor(Protocol):
    """What `compressor` returns."""

    def compress(self, data: bytes, /) -> bytes:
        """Take *data*; return what is ready to be written, often nothing."""

    def flush(self) -> bytes:
        """End the stream and return the rest of it."""


def detect(first_bytes: bytes) -> str | None:
    """Name the compression that *first_bytes* (at least 6, if there are as many) announce; None for anything else."""
    for magic, name in _MAGIC:
        if first_bytes.startswith(magic):
            return name
    if _is_zstd_skippable(first_bytes):
        return "zstd"
    return None


def _is_zstd_skippable(data: bytes) -> bool:
    """Skippable frames have the magic 0x184D2A50 to 0x184D2A5F (RFC 8878, section 3.1.2)."""
    return len(data) >= 4 and data[0] & 0xF0 == 0x50 and data[1:4] == b"\x2a\x4d\x18"


# ----------------------------------------------------------------------------------------------------------- reading


class _Member(Protocol):
    """One gzip member, zstd frame, … being decompressed."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: Any, max_length: int) -> bytes: ...  # Any: every library names its buffer type


def _new_gzip() -> _Member:
    try:
        from isal import isal_zlib  # the leaf module: isal's package costs ten times as much

        return isal_zlib.decompressobj(31)  # isal ships loose stubs
    except ImportError:
        import zlib

        return zlib.decompressobj(31)


def _zstd() -> Any:  # Any: one of two modules with the same interface
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd


def _new_zstd() -> _Member:
    try:
        zstd = _zstd()
    except ImportError as err:
        raise ImgError("zstd is not available", hint="install the Python package `backports.zstd`") from err
    return zstd.ZstdDecompressor()  # type: ignore[no-any-return]  # see _zstd


def _new_bzip2() -> _Member:
    import bz2

    return bz2.BZ2Decompressor()


def _new_xz() -> _Member:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)


_MEMBERS: dict[str, Callable[[], _Member]] = {
    "gzip": _new_gzip,
    "zstd": _new_zstd,
    "bzip2": _new_bzip2,
    "xz": _new_xz,
}
_STEP = 256 * 1024  # bytes given to a member at once
_SMALL_STEP = 4 * 1024  # after a member ended: many tiny members would copy the rest again and again


class Decompressor:
    """Push-style strict decompression: `feed` pieces, then `finish`. Both raise `ArchiveError` for a bad stream."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self._new = _MEMBERS[codec]
        self._member: _Member | None = self._new()
        self._started = False  # the current member has been given input
        self._padding = False
        self._step = _STEP

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data* decompresses to, at most `BLOCK` bytes at a time. Exhaust it before the next call."""
        position = 0
        while position < len(data):
            if self._member is None:
                position = self._begin(data, position)
                continue
            piece = data[position : position + self._step]
            position += len(piece)
            member = self._member
            yield from self._decompress(member, piece)
            if member.eof:
                position -= len(member.unused_data)
                self._member = None
                self._step = _SMALL_STEP
            else:
                self._step = min(self._step * 2, _STEP)

    def _decompress(self, member: _Member, piece: bytes) -> Iterator[bytes]:
        """Run *piece* through *member* until it asks for more, or ends."""
        self._started = True
        while True:
            try:
                out = member.decompress(piece, BLOCK)
            except MemoryError as err:
                raise ArchiveError(f"{self.codec} data needs too much memory") from err
            except Exception as err:  # every library has its own class, zlib's and isal's included
                raise ArchiveError(f"damaged {self.codec} data: {err}") from err
            if out:
                yield out
            if member.eof:
                return
            # zlib hands back what it did not take; the others keep it and say whether they want more.
            tail = getattr(member, "unconsumed_tail", None)
            if tail is None:
                if member.needs_input:  # type: ignore[attr-defined]  # not in zlib's interface
                    return
                piece = b""
            else:
                if not tail and len(out) < BLOCK:
                    return
                piece = tail

    def _begin(self, data: bytes, position: int) -> int:
        """Decide what follows a finished member: zero padding up to the end of the stream, or another member."""
        if self._padding or data[position] == 0:
            if data.count(0, position) != len(data) - position:
                raise ArchiveError(f"garbage after the end of {self.codec} data")
            self._padding = True
            return len(data)
        # A magic number may be cut by the end of *data*: then its start must do, the member checks the rest.
        rest = data[position : position + 6]
        magics = [magic for magic, name in _MAGIC if name == self.codec]
        if not any(magic.startswith(rest[: len(magic)]) for magic in magics) and detect(rest) != self.codec:
            raise ArchiveError(f"garbage after the end of {self.codec} data")
        self._member = self._new()
        self._started = False
        return position

    def finish(self) -> None:
        """Check that the stream was complete."""
        if self._member is not None:
            raise ArchiveError(f"{self.codec} data ends early" if self._started else f"empty {self.codec} data")


class _Decompressed:
    """Pull side of `Decompressor`."""

    def __init__(self, source: Readable, codec: str) -> None:
        self._source = source
        self._decompressor = Decompressor(codec)
        self._pieces = self._decompressor.feed(b"")
        self._rest = b""
        self._done = False

    def read(self, size: int, /) -> bytes:
        """Return between 1 and *size* bytes, or nothing at the verified end of the stream."""
        if not self._rest:
            self._rest = self._next_piece()
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def _next_piece(self) -> bytes:
        while not self._done:
            piece = next(self._pieces, None)
            if piece is not None:
                return piece
            data = self._source.read(_STEP)
            if not data:
                self._decompressor.finish()
                self._done = True
            self._pieces = self._decompressor.feed(data)
        return b""


class _Prefixed:
    """A stream with the bytes that were taken from it put back."""

    def __init__(self, first: bytes, source: Readable) -> None:
        self._first = first
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._first:
            piece, self._first = self._first[:size], self._first[size:]
            return piece
        return self._source.read(size)


def looked_at(source: Readable, size: int) -> tuple[bytes, Readable]:
    """Return the first *size* bytes of *source* (fewer if there are no more), and a stream that gives all of it nevertheless."""
    first = b""
    while len(first) < size and (piece := source.read(max(size - len(first), _STEP))):
        first += piece
    return first[:size], _Prefixed(first, source)


class Watched:
    """Reads *source* and tells *tick* how much was read."""

    def __init__(self, source: Readable, tick: Callable[[int], None]) -> None:
        self._source = source
        self._tick = tick
        self._done = 0

    def read(self, size: int, /) -> bytes:
        """Read at most *size* bytes."""
        data = self._source.read(size)
        self._done += len(data)
        self._tick(self._done)
        return data


def decompressor(codec: str) -> Decompressor:
    """Return a new decompressor for *codec*: ``gzip``, ``zstd``, ``bzip2`` or ``xz``. Raises `ImgError` for others."""
    if codec not in _MEMBERS:
        raise ImgError(f"unknown compression: `{codec}`")
    return Decompressor(codec)


def decompressed(chunks: Iterable[bytes], codec: str) -> Generator[bytes, None, None]:
    """Give what *chunks* are by *codec* (``uncompressed``: they are it). Raises `ArchiveError`, at the latest at their end, for damage."""
    if codec == "uncompressed":
        yield from chunks
        return
    member = decompressor(codec)
    for chunk in chunks:
        yield from member.feed(chunk)
    member.finish()


def open_decompressed(source: Readable, codec: str | None = "auto") -> Readable:
    """Wrap *source* so that reading gives decompressed bytes; ``auto`` looks at its first bytes.

    ``read`` raises `ArchiveError` for damaged or truncated data. Not compressed data passes unchanged.
    """
    if codec == "auto":
        first, source = looked_at(source, _MAGIC_BYTES)
        codec = detect(first)
    return source if codec is None else _Decompressed(source, decompressor(codec).codec)


# ----------------------------------------------------------------------------------------------------------- writing


class _Blocks:
    """Hands exactly `BLOCK` bytes at a time to *inner*, so that the result does not depend on how callers cut."""

    def __init__(self, inner: Any) -> None:  # Any: every library has its own compressor class
        self._inner = inner
        self._pending: list[bytes] = []
        self._size = 0

    def compress(self, data: bytes, /) -> bytes:
        self._pending.append(data)
        self._size += len(data)
        if self._size < BLOCK:
            return b""
        joined = b"".join(self._pending) if len(self._pending) > 1 else data
        full = len(joined) - len(joined) % BLOCK
        self._pending = [joined[full:]] if full < len(joined) else []
        self._size = len(joined) - full
        view = memoryview(joined)
        return b"".join([self._inner.compress(view[at : at + BLOCK]) for at in range(0, full, BLOCK)])

    def flush(self) -> bytes:
        rest = b"".join(self._pending)
        self._pending = []
        head: bytes = self._inner.compress(rest) if rest else b""
        tail: bytes = self._inner.flush()
        return head + tail


class _Begun:
    """Begins a stream of isal, levels 1 and 2, so that its bytes do not depend on the address of *inner*.

    The fast loop of ISA-L 2.x for x86 (``igzip_icf_body_h1_gr_bt.asm``) computes the hash of a stream's third byte from a register that
    holds an address; in one layer of some thousand this hides a match. The loop for the last bytes before a flush has no such fault and
    is what takes the first ones here. It costs about eight bytes.
    """

    _FIRST = 8  # more than the three that get no hash, and no more than the sixteen that the fast loop leaves

    def __init__(self, inner: Any, flush_mode: int) -> None:  # Any: as above
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


class _Plain:
    """The compressor that does not compress."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _gzip_compressor(level: int | None) -> Compressor:
    """Levels 0 to 2 (default 1) use isal where it exists; 3 to 9, or no isal, use zlib."""
    if level is None or level <= 2:
        try:
            from isal import isal_zlib

            inner = isal_zlib.compressobj(1 if level is None else level, isal_zlib.DEFLATED, 31)
            return _Blocks(inner if level == 0 else _Begun(inner, isal_zlib.Z_SYNC_FLUSH))
        except ImportError:
            pass
    import zlib

    return _Blocks(zlib.compressobj(1 if level is None else level, zlib.DEFLATED, 31))


def _zstd_compressor(level: int | None) -> Compressor:
    try:
        zstd = _zstd()
    except ImportError as err:
        raise ImgError("zstd is not available", hint="install the Python package `backports.zstd`") from err
    # Single-threaded on purpose: the multi-threaded mode gives other bytes, one mode must be kept for good.
    return _Blocks(zstd.ZstdCompressor(3 if level is None else level))


def compressor(name: str, level: int | None = None) -> Compressor:
    """Return a reproducible compressor: ``gzip``, ``zstd`` or ``uncompressed``; *level* None means our default.

    Raises `ImgError` for an unknown name or a level out of range.
    """
    if name == "uncompressed":
        return _Plain()
    makers = {"gzip": _gzip_compressor, "zstd": _zstd_compressor}
    if name not in makers:
        known = ", ".join(f"`{each}`" for each in LEVELS)
        raise ImgError(f"unknown compression: `{name}`", hint=f"use {known} or `uncompressed`")
    lowest, highest = LEVELS[name]
    if level is not None and not lowest <= level <= highest:
        raise ImgError(f"compression level {level} is not between {lowest} and {highest} for {name}")
    return makers[name](level)


def compressed(chunks: Iterable[bytes], codec: str, level: int | None = None) -> Generator[bytes, None, None]:
    """Give *chunks* compressed, see `compressor`."""
    packer = compressor(codec, level)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()

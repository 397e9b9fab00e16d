"""Compression as it appears around layers and build contexts: strict when reading, reproducible when writing.

Reading never trusts the stream: output comes in bounded pieces, a stream that ends early is an error, and so is anything
but further members or zero padding behind it (zlib itself is silent about both).

Writing feeds the compressor blocks of exactly `BLOCK` bytes, because the bytes that isal makes depend on how its input is cut (and on
where its memory is, unless `img_core.images.compressions` prevents it); isal levels 0 to 2 give the same bytes on every processor, level 3
does not. A compressed digest is still never a cache key: another version of a library may compress differently.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from img_core.images.compressions import COMPRESSIONS
from img_core.images.layer_types import codec_of_media_type
from img_core.images.oci import LEVELS
from img_core.spec.errors import ArchiveError, ImgError

if TYPE_CHECKING:
    from img_core.images.compressions import Member

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
_MAGIC_BYTES = 6  # the longest of those that streams begin with


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
    return next((name for name, known in COMPRESSIONS.items() if first_bytes.startswith(known.magics)), None)


# ----------------------------------------------------------------------------------------------------------- reading


_STEP = 256 * 1024  # bytes given to a member at once
_SMALL_STEP = 4 * 1024  # after a member ended: many tiny members would copy the rest again and again


class Decompressor:
    """Push-style strict decompression: `feed` pieces, then `finish`. Both raise `ArchiveError` for a bad stream."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self._new = COMPRESSIONS[codec].reader
        self._member: Member | None = self._new()
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

    def _decompress(self, member: Member, piece: bytes) -> Iterator[bytes]:
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
        if not any(magic.startswith(rest[: len(magic)]) for magic in COMPRESSIONS[self.codec].magics):
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
    if codec not in COMPRESSIONS:
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


class _Plain:
    """The compressor that does not compress."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(name: str, level: int | None = None) -> Compressor:
    """Return a reproducible compressor: ``gzip``, ``zstd`` or ``uncompressed``; *level* None means our default.

    Raises `ImgError` for an unknown name or a level out of range.
    """
    if name == "uncompressed":
        return _Plain()
    known = COMPRESSIONS.get(name)
    if known is None or known.writer is None or known.levels is None:
        words = ", ".join(f"`{each}`" for each in LEVELS)
        raise ImgError(f"unknown compression: `{name}`", hint=f"use {words} or `uncompressed`")
    lowest, highest = known.levels
    if level is not None and not lowest <= level <= highest:
        raise ImgError(f"compression level {level} is not between {lowest} and {highest} for {name}")
    return _Blocks(known.writer(known.level if level is None else level))


def compressed(chunks: Iterable[bytes], codec: str, level: int | None = None) -> Generator[bytes, None, None]:
    """Give *chunks* compressed, see `compressor`."""
    packer = compressor(codec, level)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()

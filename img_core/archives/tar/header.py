"""The 512-byte header of tar: numbers, checksum, field layout (POSIX.1-1988 ustar and its GNU variant)."""

from __future__ import annotations

import struct
from zlib import adler32

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)

#: name mode uid gid size mtime checksum type linkname magic(6) version(2) uname gname devmajor devminor prefix
FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")

_memo: dict[bytes, int] = {}  # modes, owners and times repeat all the time
_MEMO_LIMIT = 20_000


def checksum(header: bytes) -> int:
    """Sum the bytes of *header* with the checksum field taken as spaces.

    `adler32` started from 0 keeps the plain sum in its low half, modulo 65521, which 256 bytes cannot reach:
    five times as fast as `sum`.
    """
    return (
        (adler32(header[:148], 0) & 0xFFFF)
        + (adler32(header[156:356], 0) & 0xFFFF)
        + (adler32(header[356:], 0) & 0xFFFF)
        + 256
    )


def signed_checksum(header: bytes) -> int:
    """Sum with signed bytes, as some historic writers did; GNU tar takes both."""
    return checksum(header) - 256 * sum(byte > 127 for byte in header[:148] + header[156:])


def is_header(block: bytes) -> bool:
    """Tell whether *block*, of `BLOCK` bytes, has the checksum of a header: hardly anything else does."""
    try:
        stored = parse_number(block[148:156])
    except ValueError:
        return False
    return stored in (checksum(block), signed_checksum(block))


def parse_number(field: bytes) -> int:
    """Read an octal or base-256 *field*; empty means 0. Raises ValueError for anything else."""
    number = _memo.get(field)
    if number is None:
        number = _parse_number(field)
        if len(_memo) >= _MEMO_LIMIT:
            _memo.clear()
        _memo[field] = number
    return number


def _parse_number(field: bytes) -> int:
    if field[0] >= 0x80:
        return _parse_base256(field)
    text = field.partition(b"\0")[0].strip(b" ")
    if not text:
        return 0
    if not text.isdigit():  # int() alone would take signs, underscores and 0o
        raise ValueError("not an octal number")
    return int(text, 8)


def _parse_base256(field: bytes) -> int:
    """GNU: the first byte is 0x80 for a positive, 0xFF for a negative two's complement number."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF:
        return int.from_bytes(field, "big", signed=True)
    raise ValueError("not a base-256 number")


def text(field: bytes) -> bytes:
    """Return *field* up to its first NUL."""
    return field.partition(b"\0")[0]


def build(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    *,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    linkname: bytes = b"",
    devmajor: int = 0,
    devminor: int = 0,
) -> bytes:
    """Return a ustar header block; every value must fit its field."""
    header = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%bustar\00000%b%07o\0%07o\0%b" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        mtime,
        kind,
        linkname.ljust(100, b"\0"),
        bytes(64),
        devmajor,
        devminor,
        prefix.ljust(167, b"\0"),
    )
    return b"%b%06o\0 %b" % (header[:148], checksum(header), header[156:])

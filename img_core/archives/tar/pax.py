"""Extended headers of POSIX.1-2001 ("pax"): ``length keyword=value\\n`` records. Errors are ValueError with a reason."""

from __future__ import annotations

from collections.abc import Iterable

XATTR_PREFIXES = (b"SCHILY.xattr.", b"LIBARCHIVE.xattr.")

#: Repeated by design: GNU sparse format 0.0 lists its segments so.
_REPEATED = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")

_NANOSECONDS = 10**9


def parse(data: bytes) -> tuple[dict[bytes, bytes], list[tuple[int, int]]]:
    """Return the records of *data* by keyword, and the segments of a GNU sparse 0.0 map.

    A keyword that is given twice with different values is refused: readers disagree about which one counts.
    """
    records: dict[bytes, bytes] = {}
    segments: list[int] = []
    position = 0
    end = len(data)
    while position < end:
        space = data.find(b" ", position, position + 20)
        digits = data[position:space]
        if space < 0 or not digits.isdigit() or digits[0] == 0x30:
            if not data[position:].strip(b"\0"):
                break  # some writers pad with NULs
            raise ValueError("a pax record has no length")
        after = position + int(digits)
        if after > end or after <= space + 1 or data[after - 1] != 0x0A:
            raise ValueError("a pax record has a wrong length")
        keyword, equals, value = data[space + 1 : after - 1].partition(b"=")
        if not equals or not keyword:
            raise ValueError("a pax record has no keyword")
        if keyword in _REPEATED:
            segments.append(parse_decimal(value))
        elif records.setdefault(keyword, value) != value:
            raise ValueError(f"contradicting pax records for {keyword.decode('ascii', 'backslashreplace')}")
        position = after
    return records, list(zip(segments[::2], segments[1::2], strict=True))


def parse_decimal(value: bytes) -> int:
    """Read a non-negative decimal number of at most 20 digits."""
    if not value.isdigit() or len(value) > 20:
        raise ValueError("a pax record has a bad number")
    return int(value)


def parse_time(value: bytes) -> int:
    """Read seconds since 1970, with sign and fraction, as nanoseconds (rounded down)."""
    whole, _, fraction = value.partition(b".")
    negative = whole.startswith(b"-")
    seconds = parse_decimal(whole[1:] if negative else whole) * _NANOSECONDS
    nanoseconds = parse_decimal(fraction[:9].ljust(9, b"0")) if fraction else 0
    if fraction and not fraction.isdigit():
        raise ValueError("a pax record has a bad time")
    return -(seconds + nanoseconds) if negative else seconds + nanoseconds


def xattrs(records: dict[bytes, bytes]) -> dict[bytes, bytes] | None:
    """Return the extended attributes among *records*; SCHILY's spelling wins (its values are raw bytes)."""
    found: dict[bytes, bytes] | None = None
    for keyword, value in records.items():
        if keyword.startswith(b"SCHILY.xattr."):
            found = found or {}
            found[keyword[13:]] = value
    for keyword, value in records.items():
        if keyword.startswith(b"LIBARCHIVE.xattr."):
            found = found or {}
            found.setdefault(_unquote(keyword[17:]), _base64(value))
    return found


def _unquote(name: bytes) -> bytes:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(name)


def _base64(value: bytes) -> bytes:
    import binascii

    try:
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4))
    except binascii.Error as err:
        raise ValueError("an extended attribute is not base64") from err


def build(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the body of an extended header with *records*."""
    return b"".join(_record(keyword, value) for keyword, value in records)


def _record(keyword: bytes, value: bytes) -> bytes:
    """The length counts itself: adding its digits may add a digit."""
    size = len(keyword) + len(value) + 3
    length = size + len(str(size))
    if len(str(length)) > len(str(size)):
        length += 1
    return b"%d %b=%b\n" % (length, keyword, value)

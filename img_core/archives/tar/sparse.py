"""Maps of sparse files: where the stored bytes belong. Errors are ValueError with a reason.

Formats: old GNU (type ``S``), pax 0.0 (repeated records), 0.1 (one record), 1.0 (a map before the data);
see the GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Callable

from img_core.archives.tar.header import BLOCK, parse_number
from img_core.archives.tar.pax import parse_decimal

Segments = list[tuple[int, int]]


def check(segments: Segments, size: int, stored: int) -> Segments:
    """Return *segments* without empty ones if they ascend, fit into *size* and hold exactly *stored* bytes."""
    position = total = 0
    for offset, length in segments:
        if offset < position:
            raise ValueError("overlapping sparse segments")
        position = offset + length
        total += length
    if position > size:
        raise ValueError("a sparse segment lies behind the end of the file")
    if total != stored:
        raise ValueError("the sparse map does not match the stored size")
    return [segment for segment in segments if segment[1]]


def _old_entries(block: bytes, start: int, count: int) -> Segments:
    """Up to *count* pairs of 12-byte numbers; a NUL byte instead of a length ends the list."""
    found: Segments = []
    for at in range(start, start + 24 * count, 24):
        if block[at + 12] == 0:
            break
        found.append((parse_number(block[at : at + 12]), parse_number(block[at + 12 : at + 24])))
    return found


def read_old(header: bytes, read_block: Callable[[], bytes], limit: int) -> tuple[Segments, int]:
    """Return segments and real size of an old GNU sparse file, reading its extension blocks with *read_block*."""
    segments = _old_entries(header, 386, 4)
    extended = header[482]
    while extended:
        block = read_block()
        segments += _old_entries(block, 0, 21)
        if len(segments) > limit:
            raise ValueError("too many sparse segments")
        extended = block[504]
    return segments, parse_number(header[483:495])


def from_list(value: bytes, limit: int) -> Segments:
    """Read the comma-separated map of format 0.1."""
    if value.count(b",") > 2 * limit:
        raise ValueError("too many sparse segments")
    numbers = [parse_decimal(part) for part in value.split(b",")] if value else []
    if len(numbers) % 2:
        raise ValueError("odd sparse map")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def read_embedded(read_block: Callable[[], bytes], stored: int, limit: int) -> tuple[Segments, int]:
    """Read the map of format 1.0 from the start of the data; return segments and the bytes that the map took."""
    text = b""
    used = 0
    numbers: list[int] = []
    wanted = 1
    while len(numbers) < wanted:
        if used + BLOCK > stored:
            raise ValueError("the sparse map is cut")
        text += read_block()
        used += BLOCK
        *lines, text = text.split(b"\n")
        if len(text) > 32 + BLOCK:
            raise ValueError("bad sparse map")
        for line in lines:
            if len(numbers) == wanted:
                raise ValueError("bad sparse map")
            numbers.append(parse_decimal(line))
            if len(numbers) == 1:
                wanted = 1 + 2 * numbers[0]
                if numbers[0] > limit:
                    raise ValueError("too many sparse segments")
    return list(zip(numbers[1::2], numbers[2::2], strict=True)), used

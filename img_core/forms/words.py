"""How people write values, wherever img reads one: truth, sizes, lists in Go's CSV, and words that are nearly right.

Of what cannot be read there is None, or an error that another place can put into its own words.
"""

from __future__ import annotations

import re

from img_core.spec.errors import UsageError

__all__ = ["RecordError", "binary_size", "budget_bytes", "edits", "key_values", "parse_size", "split_record", "truth"]

#: What Go's strconv.ParseBool accepts, in any letter case; users of docker and buildx write all of these.
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")

_NAMES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,9}))?\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)


def truth(text: str) -> bool | None:
    """Return the truth that *text* spells, None if it spells none."""
    word = text.lower()
    return True if word in _TRUE else False if word in _FALSE else None


# ---------------------------------------------------------------------------------------------------------------- sizes


def binary_size(size: float, *, digits: int | None = None) -> str:
    """Return *size* in bytes as ``1.043MiB``, with four significant digits or with *digits* behind the point (no unit: none)."""
    unit = 0
    while size >= 1024 and unit < len(_NAMES) - 1:
        size /= 1024
        unit += 1
    return (f"{size:.4g}" if digits is None else f"{size:.{digits if unit else 0}f}") + _NAMES[unit]


def parse_size(text: str) -> int | None:
    """Return the bytes of a size such as ``512MiB``, ``512MB`` or ``2g``, whose units are powers of 1024, or None for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    fraction = match[2] or "0"
    unit = 1 << 10 * " kmgtp".index(match[3].lower() or " ")
    return int(match[1]) * unit + int(fraction) * unit // int("1" + "0" * len(fraction))


def budget_bytes(text: str, total: int) -> int | None:
    """Return the bytes of a budget: a size, a share of *total* such as ``10%``, or None for ``all``. Raises ValueError."""
    if text == "all":
        return None
    share = text.removesuffix("%")
    if share != text and share.isdecimal() and int(share) <= 100:
        return total * int(share) // 100
    size = parse_size(text)
    if size is None:
        raise ValueError(f"`{text}` is neither a size nor a share")
    return size


# -------------------------------------------------------------------------------------------------------------- records


class RecordError(UsageError):
    """A record is malformed, in Go's words. *problem* is ``bare``, ``open``, or ``after`` (what stands behind a quote)."""

    def __init__(self, problem: str, column: int, text: str) -> None:
        self.problem = problem
        reason = 'bare " in non-quoted field' if problem == "bare" else 'extraneous or missing " in quoted-field'
        hint = 'quote the whole field: "name=a,b" instead of name="a,b"' if problem != "open" and '="' in text else None
        super().__init__(f"parse error on line 1, column {column}: {reason}", hint=hint)


def split_record(text: str) -> list[str]:
    """Return the fields of one record of comma-separated values, by the rules of Go's encoding/csv. Raises RecordError.

    A field that starts with ``"`` ends with ``"``; ``""`` inside means one quote.
    """
    fields: list[str] = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted(text, position + 1)
        else:
            field, position = _bare(text, position)
        fields.append(field)
        if position >= len(text):
            return fields
        position += 1  # the comma


def key_values(text: str) -> list[tuple[str, str | None]]:
    """Return the fields of *text* as ``key=value``, keys in lower case; the value of a field without ``=`` is None. Raises RecordError."""
    pairs: list[tuple[str, str | None]] = []
    for field in split_record(text):
        key, equals, value = field.partition("=")
        pairs.append((key.lower(), value) if equals else (field, None))
    return pairs


def _bare(text: str, start: int) -> tuple[str, int]:
    end = text.find(",", start)
    end = len(text) if end < 0 else end
    field = text[start:end]
    if '"' in field:
        raise RecordError("bare", start + field.index('"') + 1, text)
    return field, end


def _quoted(text: str, start: int) -> tuple[str, int]:
    parts = []
    position = start
    while True:
        end = text.find('"', position)
        if end < 0:
            raise RecordError("open", len(text) + 1, text)
        parts.append(text[position:end])
        if text.startswith('"', end + 1):
            parts.append('"')
            position = end + 2
        elif end + 1 == len(text) or text[end + 1] == ",":
            return "".join(parts), end + 1
        else:
            raise RecordError("after", end + 2, text)


# ---------------------------------------------------------------------------------------------------------- near misses


def edits(word: str, other: str, limit: int = 1 << 30) -> int:
    """Return how many letters have to be inserted, removed, replaced or swapped with their neighbour; *limit* if as many or more.

    (Optimal string alignment.)
    """
    if abs(len(word) - len(other)) >= limit:
        return limit
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        above, before, row = before, row, [i]
        for j, target in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != target))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == target:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
        if min(row) >= limit and min(before) >= limit:
            return limit
    return min(row[-1], limit)

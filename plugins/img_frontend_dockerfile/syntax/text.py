"""Small text helpers whose output people compare with what other builders print: quoting, durations, suggestions."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from img_core.forms.words import edits

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean", "format_duration", "nearest", "parse_duration", "quote", "undefined_variable"]

_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
_ESCAPES |= {'"': r"\"", "\\": r"\\"}
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_NANOSECONDS["h"] = 3600 * 10**9
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([^\d.]+)", re.ASCII)
_LONGEST_WORD = 100  #: nobody mistypes longer ones
_MOST_CANDIDATES = 500
_MAX_DURATION = 2**63 - 1


def quote(text: str) -> str:
    """Return *text* in double quotes with escapes, as builders print words in messages."""
    return '"' + "".join(_quote_char(char) for char in text) + '"'


def _quote_char(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the *known* word that is less than three edits away from *word*, letter case ignored, if there is one.

    As many edits as the word has letters would make any word of any other. Of very many known words only the first are looked at.
    """
    best, best_distance = None, min(3, len(word)) if len(word) <= _LONGEST_WORD else 0
    for candidate in islice(known, _MOST_CANDIDATES):
        distance = edits(word.lower(), candidate.lower(), best_distance)
        if distance < best_distance:
            best, best_distance = candidate, distance
    return best if best != word else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean x?)`` or nothing, ready to be appended to a message."""
    found = nearest(word, known)
    return f" (did you mean {found}?)" if found is not None else ""


def undefined_variable(name: str, known: Iterable[str]) -> str:
    """Return the text of the lint rule ``UndefinedVar``."""
    similar = nearest(name, known)
    return f"Usage of undefined variable '${name}'" + (f" (did you mean ${similar}?)" if similar else "")


def parse_duration(text: str) -> int:
    """Parse a duration such as ``1h2m3.5s`` to nanoseconds.

    Raises `ValueError` with the message to show.
    """
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest):
        part = _DURATION_PART.match(rest, position)
        if part is None:
            number = re.match(r"\d*\.?\d*", rest[position:], re.ASCII)
            if number is not None and number.group().strip(".") and position + number.end() == len(rest):
                raise ValueError(f"time: missing unit in duration {quote(text)}")
            raise ValueError(f"time: invalid duration {quote(text)}")
        unit = _NANOSECONDS.get(part.group(2))
        if unit is None:
            raise ValueError(f"time: unknown unit {quote(part.group(2))} in duration {quote(text)}")
        whole, _, fraction = part.group(1).partition(".")
        total += int(whole[:40] or "0") * unit + int((fraction or "0")[:18]) * unit // 10 ** len((fraction or "0")[:18])
        position = part.end()
    if not rest or total > _MAX_DURATION:
        raise ValueError(f"time: invalid duration {quote(text)}")
    return sign * total


def format_duration(nanoseconds: int) -> str:
    """Format a duration the way Go does: ``0s``, ``1.5ms``, ``5m0s``, ``1h0m3s``."""
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if value == 0:
        return "0s"
    if value < 10**9:
        size, unit = (1, "ns") if value < 10**3 else (10**3, "µs") if value < 10**6 else (10**6, "ms")
        return f"{sign}{_decimal(value, size)}{unit}"
    minutes, rest = divmod(value, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(rest, 10**9)}s"


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    if not rest:
        return str(whole)
    digits = len(str(size)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0")

"""The patterns of ``${name#…}``, ``${name%…}`` and ``${name/…}``, matched in time linear in pattern and value.

``*`` is any text, ``?`` any character, a backslash makes the next character plain; all else, brackets too, is plain. Between stars lie
*pieces* of fixed length. Each but the last is put at its earliest place, which leaves the most to those behind it, so that no place is ever
tried twice; a regular expression would try all ways to share the text between the stars.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from img_frontend_dockerfile.syntax.source import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Pattern"]

_ANY = ""
_ESCAPE = "\\"  # whatever the escape character of the file is, as in BuildKit
_LONGEST_OPEN_PIECE = 256  #: characters: each of them may have to be compared with each of the value


class _Piece:
    """What stands between two stars: characters, `_ANY` for a question mark."""

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = characters
        self.length = len(characters)
        self._text = "".join(characters) if _ANY not in characters else None
        if self._text is None and self.length > _LONGEST_OPEN_PIECE:
            raise Fault(f"more than {_LONGEST_OPEN_PIECE} characters of a pattern around `?` and between stars")

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile("".join(re.escape(char) if char else "." for char in self.characters), re.DOTALL)

    def find(self, value: str, start: int) -> int:
        """Return the first place at or behind *start*, -1 if there is none."""
        if self._text is not None:
            return value.find(self._text, start)
        match = self._expression.search(value, start)
        return -1 if match is None else match.start()

    def stands_at(self, value: str, place: int) -> bool:
        """Say whether the piece is at *place*."""
        if self._text is not None:
            return value.startswith(self._text, place)
        return self._expression.match(value, place) is not None

    def replace(self, value: str, text: str, *, everywhere: bool) -> str:
        """Put *text* in its place, also where an empty piece stands: before each character and at the end."""
        if self._text is not None:
            return value.replace(self._text, text, -1 if everywhere else 1)
        return self._expression.sub(lambda _: text, value, 0 if everywhere else 1)

    def count(self, value: str) -> int:
        """Return how many times `replace` would put the text, at most."""
        return value.count(self._text) if self._text is not None else len(value) // self.length

    def reversed(self) -> _Piece:
        return _Piece(self.characters[::-1])


class Pattern:
    """One pattern. Raises `Fault` if it is too long to be matched quickly."""

    def __init__(self, text: str) -> None:
        self._pieces = [_Piece(piece) for piece in _split(text)]

    def without_prefix(self, value: str, *, longest: bool) -> str:
        """Return *value* without the shortest or *longest* start that the pattern matches."""
        end = _prefix(self._pieces, value, longest=longest)
        return value if end < 0 else value[end:]

    def without_suffix(self, value: str, *, longest: bool) -> str:
        """Return *value* without the shortest or *longest* end that the pattern matches."""
        # A suffix is the prefix of the reversed text.
        end = _prefix([piece.reversed() for piece in self._pieces[::-1]], value[::-1], longest=longest)
        return value if end < 0 else value[: len(value) - end]

    def replaced(self, value: str, text: str, *, everywhere: bool) -> str:
        """Return *value* with *text* for the first match or for every one; stars take as much as they can."""
        first, *rest = self._pieces
        if not rest:
            return first.replace(value, text, everywhere=everywhere)
        # With a star there is one match at most: it ends where its last piece does for the last time.
        start = first.find(value, 0)
        end = -1 if start < 0 else _behind(rest, value, start + first.length, longest=True)
        return value if end < 0 else value[:start] + text + value[end:]

    def growth(self, value: str, text: str, *, everywhere: bool) -> int:
        """Return how many characters `replaced` makes, at most."""
        count = self._pieces[0].count(value) if everywhere and len(self._pieces) == 1 else 1
        return len(value) + count * len(text)


def _split(text: str) -> Iterator[list[str]]:
    """Yield the characters between the stars of a pattern; two stars mean the same as one."""
    piece: list[str] = []
    position, star = 0, False
    while position < len(text):
        char = text[position]
        if char == "*":
            if not star:
                yield piece
                piece = []
        elif char == _ESCAPE and position + 1 < len(text):
            position += 1
            piece.append(text[position])
        else:
            piece.append(_ANY if char == "?" else char)
        star = char == "*"
        position += 1
    yield piece


def _prefix(pieces: Sequence[_Piece], value: str, *, longest: bool) -> int:
    """Return where the shortest or longest prefix of *value* ends that consists of *pieces* with anything between them, -1 for none."""
    first, *rest = pieces
    if not first.stands_at(value, 0):
        return -1
    return _behind(rest, value, first.length, longest=longest) if rest else first.length


def _behind(pieces: Sequence[_Piece], value: str, start: int, *, longest: bool) -> int:
    """Return where *pieces*, each after anything, end behind *start*; the last as early or as late as it can. -1: nowhere."""
    *middle, last = pieces
    for piece in middle:
        place = piece.find(value, start)
        if place < 0:
            return -1
        start = place + piece.length
    if not longest:
        place = last.find(value, start)
        return -1 if place < 0 else place + last.length
    # Looking for the last place from behind takes quadratic time in Python (str.rfind), looking in the reversed text does not.
    place = last.reversed().find(value[start:][::-1], 0)
    return -1 if place < 0 else len(value) - place

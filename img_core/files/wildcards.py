"""Wildcards in paths, as ignore files and COPY have them, matched in time linear in pattern and path.

``*`` and ``?`` stay inside one path component, ``**`` spans any number of them, ``[a-z]`` and ``[^a]`` are character classes, a backslash
quotes the next character. The form is that of moby/patternmatcher, which translates it to a regular expression of Go.

Python's regular expressions try every way to share a path between several stars, and strangers write the patterns. So what stands between
two stars takes its earliest place, which leaves the most to what follows, in a group that is never entered again (*atomic*). That is only
right if moving a piece to the right gains nothing. It may gain something behind a class that matches ``/`` among others, and around a
``**`` inside a name; there all places are followed at the same time, a bit for each in one number.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["LONGEST_PATTERN", "check_wildcards", "compile_wildcards", "has_wildcards"]

LONGEST_PATTERN = 4096  #: characters, with wildcards; a path that is opened has fewer (PATH_MAX)
_LONGEST_PIECE = 512  #: characters between wildcards and slashes; a file name has at most 255 bytes (NAME_MAX)
_MOST_CLASSES = 64  #: different ones in a pattern
_MOST_CHARACTERS = 16_384  #: that an automaton remembers
_WILDCARDS = frozenset("*?[]\\")


class _Token(NamedTuple):
    """A part of a pattern as a regular expression."""

    expression: str
    kind: str = ""  #: a character if empty; ``?`` and ``[``: one of some; ``*``: within a component; ``**/`` and ``**``: across them

    @property
    def gap(self) -> bool:
        return self.kind.startswith("*")


_STAR = _Token("[^/]*", "*")
_DEEP = _Token("(?:.*/)?", "**/")
_ALL = _Token(".*", "**")
_SLASH = _Token("/")


def has_wildcards(pattern: str) -> bool:
    """Say whether *pattern* is more than the path that it names."""
    return not _WILDCARDS.isdisjoint(pattern)


def check_wildcards(pattern: str) -> None:
    """Raise `ValueError` that says what is wrong with *pattern*."""
    _tokens(pattern)


@lru_cache(maxsize=1024)
def compile_wildcards(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a path matches *pattern*, which is clean (no empty, ``.`` or ``..`` components).

    Raises `ValueError` that says what is wrong with it.
    """
    tokens = _tokens(pattern)
    gaps = sum(token.gap for token in tokens)
    if not gaps:
        whole = _compile(token.expression for token in tokens)
        return lambda path: whole.fullmatch(path) is not None
    if gaps > 1 and not _is_aligned(tokens):
        return _Automaton(tokens).matches
    return _Ended(tokens).matches


class _Ended:
    """A pattern with gaps: behind the last one everything has a fixed place, at the end of the path."""

    def __init__(self, tokens: list[_Token]) -> None:
        last = max(index for index, token in enumerate(tokens) if token.gap)
        tail = tokens[last + 1 :]
        self._length = len(tail)
        self._tail = _compile(token.expression for token in tail)
        self._head = _compile(_atomic(tokens[:last], tokens[last]))

    def matches(self, path: str) -> bool:
        place = len(path) - self._length
        return (
            place >= 0
            and self._tail.fullmatch(path, place) is not None
            and self._head.fullmatch(path, 0, place) is not None
        )


def _compile(expressions: Iterable[str]) -> re.Pattern[str]:
    return re.compile("".join(expressions), re.DOTALL)


def _atomic(tokens: list[_Token], last: _Token) -> Iterable[str]:
    """Yield the expression of *tokens* with atomic groups, and of the *last* gap behind them, which takes all that is left."""
    blocks: list[list[_Token]] = [[]]  # what stands between ``**``
    for token in tokens:
        if token.kind.startswith("**"):
            blocks.append([])
        else:
            blocks[-1].append(token)
    crosses = last.kind != _STAR.kind
    for number, block in enumerate(blocks):
        body = "".join(_block(block))
        if number == 0:
            yield body
        elif number < len(blocks) - 1 or crosses:
            yield f"(?>(?:.*?/)??{body})"
        else:  # the block of the last star: how many components it has says where it begins, not where it fits first
            yield f"(?:.*/)?{body}"
    yield last.expression


def _block(tokens: list[_Token]) -> Iterable[str]:
    opened = False
    for token in tokens:
        if token.gap:
            yield ")" * opened + "(?>[^/]*?"
            opened = True
        else:
            yield token.expression
    yield ")" * opened


def _is_aligned(tokens: list[_Token]) -> bool:
    """Say whether the earliest place of each piece is always the best one."""
    for index, token in enumerate(tokens):
        if token.kind.startswith("**") and index and tokens[index - 1] != _SLASH:
            return False
        if token.kind == "[" and re.fullmatch(token.expression, "/"):
            return False
    return True


class _Automaton:
    """All places in a pattern where a path may be, as bits of a number: bit *n* for "before token *n*"."""

    def __init__(self, tokens: list[_Token]) -> None:
        steps: list[tuple[str, _Token]] = []  # what happens at each bit, and the token
        for token in tokens:
            if token.kind == _DEEP.kind:
                steps += [("enter", token), ("deep", token)]
            elif token.gap:
                steps.append(("star" if token.kind == _STAR.kind else "all", token))
            else:
                steps.append(("one", token))
        self._accepted = 1 << len(steps)
        self._free = _bits(steps, "enter", "star", "all")  # the next bit without any character
        self._over = _bits(steps, "enter")  # the bit after the next one, too
        self._deep = _bits(steps, "deep")
        self._across = _bits(steps, "deep", "all")
        self._within = _bits(steps, "star")
        self._ones: dict[str, int] = {}  # by expression
        for index, (action, token) in enumerate(steps):
            if action == "one":
                self._ones[token.expression] = self._ones.get(token.expression, 0) | 1 << index
        self._classes = [(re.compile(text, re.DOTALL), bits) for text, bits in self._ones.items() if len(text) > 2]
        self._by_character: dict[str, int] = {}
        self._start = self._closed(1)

    def matches(self, path: str) -> bool:
        state = self._start
        anywhere = self._across | self._within
        for char in path:
            if char == "/":
                state = self._closed((state & (self._consuming(char) | self._deep)) << 1 | state & self._across)
            else:
                state = self._closed((state & self._consuming(char)) << 1 | state & anywhere)
            if not state:
                return False
        return bool(state & self._accepted)

    def _closed(self, state: int) -> int:
        """Add the bits that need no character. At most two gaps stand side by side: nothing but ``**/`` stands before one."""
        state |= (state & self._free) << 1 | (state & self._over) << 2
        return state | (state & self._free) << 1

    def _consuming(self, char: str) -> int:
        """Return the bits at which *char* leads to the next bit."""
        known = self._by_character.get(char)
        if known is None:
            known = self._ones.get(re.escape(char), 0)
            for expression, bits in self._classes:
                if expression.fullmatch(char):
                    known |= bits
            if len(self._by_character) < _MOST_CHARACTERS:
                self._by_character[char] = known
        return known


def _bits(steps: list[tuple[str, _Token]], *actions: str) -> int:
    return sum(1 << index for index, (action, _) in enumerate(steps) if action in actions)


# --- reading


def _tokens(pattern: str) -> list[_Token]:
    if not has_wildcards(pattern):
        return [_Token(re.escape(char)) for char in pattern]
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"a pattern with wildcards has at most {LONGEST_PATTERN:,} characters")
    if pattern.startswith("**") and not has_wildcards(pattern[2:]):
        # A leading `**` before plain text is a suffix match: `**.txt` means every path that ends so.
        rest = pattern[2:]
        gap, rest = (_DEEP, rest[1:]) if rest.startswith("/") else (_ALL, rest)
        return [gap, *(_Token(re.escape(char)) for char in rest)]
    tokens: list[_Token] = []
    position = 0
    while position < len(pattern):
        token, position = _read_token(pattern, position)
        if not (token.gap and tokens[-1:] == [token]):  # twice the same gap is the gap
            tokens.append(token)
    _check_pieces(tokens)
    return tokens


def _check_pieces(tokens: list[_Token]) -> None:
    if len({token.expression for token in tokens if token.kind == "["}) > _MOST_CLASSES:
        raise ValueError(f"more than {_MOST_CLASSES} different character classes")
    length = 0
    for token in tokens:
        length = 0 if token.gap or token == _SLASH else length + 1
        if length > _LONGEST_PIECE:
            raise ValueError(f"more than {_LONGEST_PIECE} characters between wildcards or slashes")


def _read_token(pattern: str, position: int) -> tuple[_Token, int]:
    char = pattern[position]
    if pattern.startswith("**", position):
        position += 2
        if pattern.startswith("/", position):
            position += 1
        return (_ALL if position == len(pattern) else _DEEP), position
    if char == "*":
        return _STAR, position + 1
    if char == "?":
        return _Token("[^/]", "?"), position + 1
    if char == "[":
        return _read_class(pattern, position)
    if char == "\\":
        if position + 1 == len(pattern):
            raise ValueError("a backslash at the end quotes nothing")
        return _Token(re.escape(pattern[position + 1])), position + 2
    return _Token(re.escape(char)), position + 1


def _read_class(pattern: str, start: int) -> tuple[_Token, int]:
    position = start + 1
    negated = pattern.startswith("^", position)
    if negated:
        position += 1
    items: list[str] = []
    while not (items and pattern.startswith("]", position)):
        low, position = _class_char(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_char(pattern, position + 1)
        # A reversed range is legal and matches nothing; `re` would refuse it.
        items.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    body = "".join(items)
    if not body:
        return _Token("(?s:.)" if negated else "(?!)", "["), position + 1
    return _Token(f"[{'^' if negated else ''}{body}]", "["), position + 1


def _class_char(pattern: str, position: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if char in ("", "-", "]"):
        raise ValueError("a `[` needs a matching `]` with characters between")
    if char != "\\":
        return char, position + 1
    if position + 1 == len(pattern):
        raise ValueError("a backslash at the end quotes nothing")
    return pattern[position + 1], position + 2

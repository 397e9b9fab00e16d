"""The filter language of ``-f``: ``name~=alpine,target.mediatype!=x``.

Grammar (containerd's): a selector is ``field`` (it is there), ``field==value``, ``field!=value`` or ``field~=regular expression``;
fields are joined by dots and values may be quoted with ``"`` or, for expressions, ``/`` or ``|``. Commas mean *and*, several ``-f`` *or*.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from img_core.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    FieldPath = tuple[str, ...]
    Lookup = Callable[[FieldPath], str | None]

__all__ = ["parse_filters"]

_FIELD = re.compile(r'[A-Za-z][A-Za-z0-9_]*|[0-9A-Za-z_]+|"(?:[^"\\]|\\.)*"')
_OPERATOR = re.compile(r"[=!~<>]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_EXPRESSION = re.compile(r"/(?:[^/\\]|\\.)*/|\|(?:[^|\\]|\\.)*\|")
_BARE = re.compile(r"[^,]+")  # blanks too: a shell's quotes have already said that they belong to it


@dataclass(frozen=True, slots=True)
class _Selector:
    field: FieldPath
    operator: str = ""
    value: str = ""

    def matches(self, lookup: Lookup) -> bool:
        found = lookup(self.field)
        match self.operator:
            case "==":
                return found == self.value
            case "!=":
                return found != self.value
            case "~=":
                return found is not None and re.search(self.value, found) is not None
        return bool(found)


def parse_filters(texts: Sequence[str], doing: str, *, failed: str = "") -> Callable[[Lookup], bool]:
    """Return a function that tells whether the fields that a lookup gives pass one of the filters. Raises UsageError.

    *doing* (``listing images``) starts the message; *failed* replaces it and what follows it up to the filters.
    """
    try:
        parsed = [_parse(text) for text in texts]
    except _ParseError as err:
        shown = " ".join(texts)
        if failed:
            raise UsageError(f"{failed} [{shown}]: filters: parse error: {err}") from None
        raise UsageError(f"{doing} with filters ({shown}) failed: filters: parse error: {err}") from None
    return lambda lookup: not parsed or any(all(part.matches(lookup) for part in one) for one in parsed)


class _ParseError(Exception):
    """What is wrong, with the place marked as ``[before >|here|< after]``."""

    def __init__(self, text: str, start: int, end: int, problem: str) -> None:
        super().__init__(f"[{text[:start]} >|{text[start:end]}|< {text[end:]}]: {problem}")


def _parse(text: str) -> list[_Selector]:
    selectors: list[_Selector] = []
    position = 0
    while True:
        position, selector = _selector(text, position)
        selectors.append(selector)
        if position == len(text):
            return selectors
        if text[position] != ",":
            raise _ParseError(text, position, position + 1, f'expected a separator (",") and not "{text[position]}"')
        position += 1


def _selector(text: str, position: int) -> tuple[int, _Selector]:
    position, field = _field_path(text, position)
    operator = _OPERATOR.match(text, position)
    if operator is None:
        return position, _Selector(field)
    if operator[0] not in ("==", "!=", "~="):
        start, end = operator.span()
        raise _ParseError(text, start, end, f'unsupported operator "{operator[0]}"')
    position, value = _value(text, operator.end(), expression=operator[0] == "~=")
    return position, _Selector(field, operator[0], value)


def _field_path(text: str, position: int) -> tuple[int, FieldPath]:
    names = []
    while True:
        match = _FIELD.match(text, position)
        if match is None:
            raise _ParseError(text, position, position + 1, "expected a field")
        names.append(_unquote(match[0]))
        position = match.end()
        if not text.startswith(".", position):
            return position, tuple(names)
        position += 1


def _value(text: str, position: int, *, expression: bool) -> tuple[int, str]:
    match = (_EXPRESSION.match(text, position) if expression else None) or _QUOTED.match(text, position)
    if match is not None:
        value = match[0][1:-1] if match[0][0] != '"' else _unquote(match[0])
    else:
        match = _BARE.match(text, position)
        if match is None:
            raise _ParseError(text, position, position + 1, "expected a value")
        value = match[0]
    if expression:
        _check_expression(text, position, match.end(), value)
    return match.end(), value


def _check_expression(text: str, start: int, end: int, value: str) -> None:
    try:
        re.compile(value)
    except re.error as err:
        raise _ParseError(text, start, end, f"bad regular expression: {err}") from None


def _unquote(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:  # an escape that JSON does not know
        return text[1:-1]

"""What a file consists of, and what expressions are evaluated in.

Values are those of JSON: text, numbers, booleans, None, lists, dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from img_core.spec.errors import UsageError
from img_core.spec.text import show

__all__ = ["Block", "Expression", "HclError", "Names", "SourceLine", "as_boolean", "as_number", "as_text", "kind_of"]

# Any, below: values, see above.


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of a file; *line* 0: the file says none, as in JSON."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{show(self.file)}:{self.line}" if self.line else show(self.file)


class HclError(UsageError):
    """Something in a file cannot be read, is not known, or has no value; the message begins with its place."""

    def __init__(self, place: SourceLine, message: str) -> None:
        super().__init__(f"{place}: {message}")


class Names:
    """Where names have values: *variables* gives that of a name or raises KeyError, *functions* are called with evaluated arguments."""

    def __init__(
        self,
        variables: Callable[[str], Any],
        functions: Mapping[str, Callable[..., Any]],
        outer: Names | None = None,
    ) -> None:
        self._variables = variables
        self._functions = functions
        self._outer = outer

    def within(self, names: Mapping[str, Any]) -> Names:
        """Return a scope that has *names*, too, which hide others."""
        return Names(names.__getitem__, self._functions, self)

    def value(self, name: str, place: SourceLine) -> Any:
        """Return the value of a variable. Raises HclError."""
        try:
            return self._variables(name)
        except KeyError:
            if self._outer is None:
                raise HclError(place, f"there is no variable `{show(name)}`") from None
        return self._outer.value(name, place)

    def function(self, name: str, place: SourceLine) -> Callable[..., Any]:
        """Return a function. Raises HclError."""
        found = self._functions.get(name)
        if found is None:
            raise HclError(place, f"there is no function `{show(name)}`")
        return found


@dataclass(frozen=True, slots=True)
class Expression:
    """Something that has a value in a scope. *text* is how it is written where that is one line."""

    place: SourceLine
    value: Callable[[Names], Any]
    text: str = ""
    #: the names that it is if it only is a name, or parts of it (``target.x``)
    name: str = ""
    #: what it lists if it is a list
    items: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """``kind "label" { … }``."""

    kind: str
    labels: tuple[str, ...]
    place: SourceLine
    attributes: dict[str, Expression] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


def kind_of(value: Any) -> str:
    """Return what people call the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "an object"


def as_text(value: Any) -> str:
    """Return a value as it is in a text. Raises ValueError for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"{kind_of(value)} is no text")


def as_number(value: Any) -> int | float:
    """Return a number, also of its text. Raises ValueError."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"`{show(value)}` is no number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{kind_of(value)} is no number")
    return value


def as_boolean(value: Any) -> bool:
    """Return a boolean, also of its text. Raises ValueError."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false", "1", "0"):
        return value in ("true", "1")
    raise ValueError(f"{kind_of(value)} is neither true nor false")

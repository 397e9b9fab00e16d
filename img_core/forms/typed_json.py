"""Frozen values as JSON, and back, checked by the types of their fields: what processes of several machines or versions tell each other.

Objects have the names of their classes under ``$`` and leave out fields that have their defaults; bytes are ``{"$bytes": BASE64}``. Objects
of one class may be shared: ``{"$vertex": 3}`` is the fourth of the vertices, which are written by themselves, each after those it holds.
"""

from __future__ import annotations

import base64
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from img_core.spec.errors import UsageError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["TypedJson"]

_OTHER = "it comes from another version of img"

# Any, below: JSON, and values of fields.


class TypedJson:
    """Writes and reads objects whose classes, and the types of whose fields, are among *names*. *what* they are parts of is for messages
    (``a plan``). Those of the class *shared* are written as numbers."""

    def __init__(self, names: Mapping[str, Any], what: str, shared: type) -> None:
        self._names = {**vars(typing), **names, "Mapping": Mapping}
        self._what = what
        self._shared = shared
        self._mark = f"${shared.__name__.lower()}"
        self._hints: dict[type, Mapping[str, Any]] = {}

    def written(self, value: Any, number: Callable[[Any], int]) -> Any:
        """Return *value* as JSON types; equal values give equal ones. *number* is that of a shared object, but for *value* itself."""
        if is_dataclass(value) and not isinstance(value, type):
            return self._written_object(value, number)
        return self._written(value, number)

    def _written(self, value: Any, number: Callable[[Any], int]) -> Any:
        if isinstance(value, self._shared):
            return {self._mark: number(value)}
        if is_dataclass(value) and not isinstance(value, type):
            return self._written_object(value, number)
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode()}
        if isinstance(value, tuple):
            return [self._written(item, number) for item in value]
        if isinstance(value, Mapping):
            return {name: self._written(item, number) for name, item in value.items()}
        return value

    def _written_object(self, value: Any, number: Callable[[Any], int]) -> dict[str, Any]:
        kept = [(item, getattr(value, item.name)) for item in fields(value) if item.init]
        found = {item.name: self._written(content, number) for item, content in kept if not _is_default(item, content)}
        return {"$": type(value).__name__, **found}

    def read(self, cls: type, document: Any, known: Sequence[Any], where: str) -> Any:
        """Return the object of *cls* that was written as *document*; *known* are shared ones, *where* it stands is for messages.

        Raises UsageError.
        """
        return self._read(cls, document, known, where)

    def hints(self, cls: type) -> Mapping[str, Any]:
        """Return the types of the fields of *cls*."""
        if cls not in self._hints:
            self._hints[cls] = typing.get_type_hints(cls, localns=self._names)
        return self._hints[cls]

    def _read(self, hint: Any, value: Any, known: Sequence[Any], where: str) -> Any:
        """Return *value* as *hint* says, with shared objects from *known*. Raises UsageError."""
        origin = typing.get_origin(hint)
        if isinstance(hint, typing.NewType):
            return self._read(hint.__supertype__, value, known, where)
        if origin in (typing.Union, types.UnionType):
            return self._read_one_of(typing.get_args(hint), value, known, where)
        if origin is tuple:
            return self._read_tuple(typing.get_args(hint), value, known, where)
        if origin is Mapping and isinstance(value, dict):
            item = typing.get_args(hint)[1]
            return (
                value
                if item is Any
                else {key: self._read(item, each, known, f"{where}.{key}") for key, each in value.items()}
            )
        if hint is self._shared and isinstance(value, dict) and self._mark in value:
            number = value[self._mark]
            if type(number) is not int or not 0 <= number < len(known):
                raise UsageError(f"`{where}` of {self._what} names none before it")
            return known[number]
        if hint is bytes:
            return self._bytes(value, where)
        if isinstance(hint, type) and is_dataclass(hint):
            return self._read_object(hint, value, known, where)
        plain = dict if origin is not None else hint
        if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
            raise UsageError(f"`{where}` of {self._what} is not what it must be")
        return value

    def _read_one_of(self, hints: tuple[Any, ...], value: Any, known: Sequence[Any], where: str) -> Any:
        if value is None and type(None) in hints:
            return None
        hints = tuple(hint for hint in hints if hint is not type(None))
        for hint in hints if len(hints) > 1 else ():
            if isinstance(value, dict) and getattr(hint, "__name__", "") == value.get("$"):
                return self._read(hint, value, known, where)
        if len(hints) > 1:
            raise UsageError(f"`{where}` of {self._what} is of no kind that this img knows", hint=_OTHER)
        return self._read(hints[0], value, known, where)

    def _read_tuple(self, hints: tuple[Any, ...], value: Any, known: Sequence[Any], where: str) -> tuple[Any, ...]:
        items = self.read_list(value, where)
        kinds = [hints[0]] * len(items) if hints[-1] is Ellipsis else list(hints)
        if len(kinds) != len(items):
            raise UsageError(f"`{where}` of {self._what} has {len(items)} parts instead of {len(kinds)}")
        return tuple(
            self._read(kind, item, known, f"{where}[{n}]")
            for n, (kind, item) in enumerate(zip(kinds, items, strict=True))
        )

    def _read_object(self, cls: type, value: Any, known: Sequence[Any], where: str) -> Any:
        if not isinstance(value, dict) or value.get("$") != cls.__name__:
            raise UsageError(f"`{where}` of {self._what} is no {cls.__name__}")
        hints = {item.name: self.hints(cls)[item.name] for item in fields(cls) if item.init}
        unknown = value.keys() - hints.keys() - {"$"}
        if unknown:
            raise UsageError(f"`{where}` of {self._what} has `{show(min(unknown))}`, which is unknown", hint=_OTHER)
        given = {
            name: self._read(hints[name], item, known, f"{where}.{name}") for name, item in value.items() if name != "$"
        }
        try:
            return cls(**given)
        except TypeError:
            raise UsageError(f"`{where}` of {self._what} lacks a part of a {cls.__name__}") from None

    def read_list(self, value: Any, where: str) -> list[Any]:
        """Return *value*, which must be a list. Raises UsageError."""
        if not isinstance(value, list):
            raise UsageError(f"`{where}` of {self._what} is no list")
        return value

    def _bytes(self, value: Any, where: str) -> bytes:
        try:
            return base64.b64decode(value["$bytes"], validate=True)
        except (TypeError, KeyError, ValueError):
            raise UsageError(f"`{where}` of {self._what} is no bytes") from None


def _is_default(item: Any, value: Any) -> bool:
    if item.default is not MISSING:
        return type(value) is type(item.default) and bool(value == item.default)
    return item.default_factory is not MISSING and value == item.default_factory()

"""Dataclasses of the HTTP library: made in each command that asks a registry, and nobody compares or shows their values.

The standard library compiles half a dozen functions for each, 0.4 ms; here it does so when somebody needs one of them.
"""

from __future__ import annotations

import dataclasses
import sys
from contextlib import contextmanager
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["finished_later"]

_FORM = {"init": False, "frozen": True}  #: arguments of those that can wait
_LATER = ("__repr__", "__dataclass_fields__", "__dataclass_params__", "__match_args__")
_MADE_AGAIN = (*_LATER, "__setattr__", "__delattr__")

_finishing = RLock()  # guards what classes lack; of one and of what it is built on together


@contextmanager
def finished_later() -> Iterator[None]:
    """Let ``@dataclass(init=False, frozen=True)`` in modules that the block imports do most of its work when somebody needs it."""
    sys.modules["dataclasses"] = _Dataclasses(
        "dataclasses"
    )  # does for another thread that imports it now what the real one does
    try:
        yield
    finally:
        sys.modules["dataclasses"] = dataclasses


class _Dataclasses(ModuleType):
    """`dataclasses`, but for its decorator."""

    @staticmethod
    def dataclass(cls: type | None = None, /, **options: bool) -> Any:  # a class, or what makes one of it
        """Do what the decorator of the standard library does, perhaps later."""
        if cls is None and options == _FORM:
            return _begun
        return dataclasses.dataclass(**options) if cls is None else dataclasses.dataclass(cls, **options)

    def __getattr__(self, name: str) -> object:
        return getattr(dataclasses, name)


def _begun(cls: type) -> type:
    """Freeze *cls*, and let the rest wait; not where the hash or a method of its own would be another then."""
    if {*_MADE_AGAIN, "__eq__"} & vars(cls).keys() or vars(cls).get("__hash__", cls) is not None:
        return _finished(cls)

    def equal(self: object, other: object) -> Any:  # the library asks that of values of other classes
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(cls) if field.compare]
        return [getattr(self, name) for name in names] == [getattr(other, name) for name in names]

    namespace = {name: _Attribute(cls, name) for name in _LATER}
    for name, value in {**namespace, "__eq__": equal, "__setattr__": _refuse, "__delattr__": _refuse}.items():
        setattr(cls, name, value)
    return cls


def _finished(cls: type) -> type:
    made: type = dataclasses.dataclass(init=False, frozen=True)(cls)
    return made


def _refuse(_self: object, name: str, *_value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change field {name!r}")


class _Attribute:
    """Stands for what *cls* lacks until somebody asks for it."""

    def __init__(self, cls: type, name: str) -> None:
        self._cls = cls
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:  # whatever the standard library makes
        with _finishing:
            if vars(self._cls).get(self._name) is self:  # else another thread was quicker
                for name in _MADE_AGAIN:
                    delattr(self._cls, name)
                _finished(self._cls)
                setattr(self._cls, "__hash__", None)  # noqa: B010  # as it was written; types have no such attribute
        return getattr(owner if instance is None else instance, self._name)

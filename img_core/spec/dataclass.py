"""``@dataclass(frozen=True, slots=True)`` at a third of the price: a cached build pays it for a hundred classes.

Before Python 3.13 `dataclasses.dataclass` compiles six functions per class, 0.25 ms in all. Here only ``__init__`` is compiled; the other
methods are closures, which nobody calls in a loop. The standard library still finds the fields, so `dataclasses.fields`, `replace` and
friends work, and type checkers see its own decorator. Other forms than this one are left to it, and so is everything on newer versions.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import MISSING, FrozenInstanceError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["dataclass", "frozen_slotted"]

# Any, below: values of fields, and `self`, which is an object of whatever class is being made.


def frozen_slotted(cls: type, *, eq: bool = True) -> type:
    """Return what ``dataclasses.dataclass(frozen=True, slots=True, eq=eq)`` makes of *cls*, which has no keyword-only fields."""
    derived = any(
        dataclasses.is_dataclass(base) for base in cls.__bases__
    )  # from frozen ones, as it must be one itself
    if (
        cls.__doc__ is None
    ):  # else the standard library writes a signature there, with a tokenizer that takes 5 ms to get ready
        cls.__doc__ = f"{cls.__name__}({', '.join(vars(cls).get('__annotations__', ()))})"
    plain: Any = dataclasses.dataclass(init=False, repr=False, eq=False, frozen=derived)(cls)
    plain.__dataclass_params__.frozen, plain.__dataclass_params__.eq = True, eq
    fields = dataclasses.fields(plain)
    names = [field.name for field in fields]
    inherited = {name for base in cls.__mro__[1:] for name in vars(base).get("__slots__", ())}
    not_kept = {*names, "__dict__", "__weakref__"}  # a default among them would hide its slot
    namespace = {name: value for name, value in vars(plain).items() if name not in not_kept}
    namespace["__slots__"] = tuple(name for name in names if name not in inherited)
    namespace["__init__"] = _init(cls, fields)
    namespace["__setattr__"], namespace["__delattr__"] = _refuse_to_set, _refuse_to_delete
    namespace["__getstate__"], namespace["__setstate__"] = _state(names)
    namespace.setdefault("__repr__", _repr([field.name for field in fields if field.repr]))
    if eq:
        namespace.setdefault("__eq__", _eq([field.name for field in fields if field.compare]))
        if namespace.get("__hash__") is None:
            hashed = [field.name for field in fields if (field.compare if field.hash is None else field.hash)]
            namespace["__hash__"] = _hash(hashed)
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    return made


def _init(cls: type, fields: Sequence[dataclasses.Field[Any]]) -> Callable[..., None]:
    """Compile ``__init__``: arguments in the order of *fields*, each put into its slot."""
    given: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    parameters, lines = ["self"], []
    for field in fields:
        name, value = field.name, field.name
        if field.default_factory is not MISSING:
            given[f"_make_{name}"] = field.default_factory
            value = f"_make_{name}() if {name} is _missing else {name}" if field.init else f"_make_{name}()"
        elif field.default is not MISSING and not field.init:
            given[f"_default_{name}"], value = field.default, f"_default_{name}"
        elif not field.init:
            continue  # set by __post_init__
        if field.init and field.default is not MISSING:
            given[f"_default_{name}"] = field.default
            parameters.append(f"{name}=_default_{name}")
        elif field.init:
            parameters.append(name if field.default_factory is MISSING else f"{name}=_missing")
        lines.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or [" pass"]), given)  # noqa: S102  # names of fields
    init: Callable[..., None] = given["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _refuse_to_set(_self: Any, name: str, _value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _repr(names: Sequence[str]) -> Callable[[Any], str]:
    def shown(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return shown


def _values(self: Any, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in names])


def _eq(names: Sequence[str]) -> Callable[[Any, object], Any]:
    def equal(self: Any, other: object) -> Any:
        return _values(self, names) == _values(other, names) if type(other) is type(self) else NotImplemented

    return equal


def _hash(names: Sequence[str]) -> Callable[[Any], int]:
    return lambda self: hash(_values(self, names))


def _state(names: Sequence[str]) -> tuple[Callable[[Any], list[Any]], Callable[[Any, Sequence[Any]], None]]:
    """Return what pickle and copy need, which cannot assign to the fields *names*."""

    def get(self: Any) -> list[Any]:
        return [getattr(self, name) for name in names]

    def put(self: Any, state: Sequence[Any]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return get, put


if TYPE_CHECKING or sys.version_info >= (3, 13):
    from dataclasses import dataclass
else:

    def dataclass(*, eq=True, **options):
        """Do what the decorator of the same name in the standard library does."""
        if options == {"frozen": True, "slots": True}:
            return lambda cls: frozen_slotted(cls, eq=eq)
        return dataclasses.dataclass(eq=eq, **options)

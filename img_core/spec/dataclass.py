"""``@dataclass(frozen=True, slots=True)`` at a tenth of the price: a push or a cached build pays it for a hundred classes.

Before Python 3.13 `dataclasses.dataclass` compiles six functions per class, 0.25 ms in all. Here a class gets its slots at once, and
the rest when somebody asks for any of it, makes a value above all: most commands make values of a third of the classes that they import.
Then only ``__init__`` is compiled; the other methods are closures, which nobody calls in a loop. The standard library still finds the
fields, so `dataclasses.fields`, `replace` and friends work, and type checkers see its own decorator. Other forms than this one are left to
it, and so is everything on newer versions.
"""

from __future__ import annotations

import dataclasses
import sys
from _thread import RLock
from dataclasses import MISSING, FrozenInstanceError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["dataclass", "frozen_slotted"]

# Any, below: values of fields, and `self`, which is an object of whatever class is being made.

_FIELDS = "__dataclass_fields__"
_ALWAYS = ("__init__", "__getstate__", "__setstate__", "__repr__", _FIELDS, "__dataclass_params__", "__match_args__")

_completing = RLock()  # guards what `_complete` changes: a class, and before it those that it is built on


def frozen_slotted(cls: type, *, eq: bool = True) -> type:
    """Return what ``dataclasses.dataclass(frozen=True, slots=True, eq=eq)`` makes of *cls*, which has no keyword-only fields.

    What is wrong with a field is told when the first value is made.
    """
    annotations = vars(cls).get("__annotations__", {})
    if cls.__doc__ is None:
        # Else the standard library writes a signature there, with a tokenizer that takes 5 ms to get ready.
        cls.__doc__ = f"{cls.__name__}({', '.join(annotations)})"
    own = [name for name, hint in annotations.items() if not _is_of_class(hint)]
    names = list(dict.fromkeys([*(name for base in cls.__mro__[:0:-1] for name in _names(base)), *own]))
    inherited = {name for base in cls.__mro__[1:] for name in vars(base).get("__slots__", ())}
    not_kept = {*names, "__dict__", "__weakref__"}  # a default among them would hide its slot
    namespace: dict[str, Any] = {name: value for name, value in vars(cls).items() if name not in not_kept}
    namespace["__slots__"] = tuple(name for name in names if name not in inherited)
    namespace["__setattr__"], namespace["__delattr__"] = _refuse_to_set, _refuse_to_delete
    for name in (*_ALWAYS, "__eq__") if eq else _ALWAYS:
        namespace.setdefault(name, _Attribute(name, cls, names, eq=eq))
    if eq and namespace.get("__hash__") is None:
        namespace["__hash__"] = _Attribute("__hash__", cls, names, eq=eq)
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    return made


def _is_of_class(hint: object) -> bool:
    """Tell whether an annotation says that its name belongs to the class and is no field."""
    return (hint if isinstance(hint, str) else repr(hint)).removeprefix("typing.").startswith("ClassVar")


class _Attribute:
    """Stands for the attribute *name* of a class until somebody asks for it; *names* are the fields of what was *written*."""

    __slots__ = ("eq", "name", "names", "written")

    def __init__(self, name: str, written: type, names: list[str], *, eq: bool) -> None:
        self.name, self.written, self.names, self.eq = name, written, names, eq

    def __get__(self, instance: object, owner: type) -> Any:
        made = next((cls for cls in owner.__mro__ if vars(cls).get(self.name) is self), None)
        if made is not None:  # else another thread was quicker
            _complete(made, self.written, eq=self.eq)
        return getattr(owner if instance is None else instance, self.name)


def _names(cls: type) -> list[str]:
    """Return the names of the fields that *cls* is known to have, without asking it for more than that."""
    found = vars(cls).get(_FIELDS)
    if isinstance(found, _Attribute):
        return found.names
    return [field.name for field in dataclasses.fields(cls)] if found else []


def _complete(made: type, written: type, *, eq: bool) -> None:
    """Replace every `_Attribute` of *made*, which was *written*. Raises TypeError and ValueError as the standard library."""
    with _completing:
        if not isinstance(vars(made)[_FIELDS], _Attribute):
            return  # by another thread
        # Frozen is what is built on something frozen, says the standard library.
        derived = any(dataclasses.is_dataclass(base) for base in written.__bases__)
        plain: Any = dataclasses.dataclass(init=False, repr=False, eq=False, frozen=derived)(written)
        plain.__dataclass_params__.frozen, plain.__dataclass_params__.eq = True, eq
        fields = dataclasses.fields(plain)
        names = [field.name for field in fields]
        attributes = {name: value for name, value in vars(plain).items() if name in _ALWAYS}
        attributes["__init__"] = _init(written, fields)
        attributes["__getstate__"], attributes["__setstate__"] = _state(names)
        attributes["__repr__"] = _repr([field.name for field in fields if field.repr])
        attributes["__eq__"] = _eq([field.name for field in fields if field.compare])
        attributes["__hash__"] = _hash([field.name for field in fields if _is_hashed(field)])
        for name, value in attributes.items():
            if isinstance(vars(made).get(name), _Attribute):
                setattr(made, name, value)


def _is_hashed(field: dataclasses.Field[Any]) -> bool:
    return field.compare if field.hash is None else field.hash


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

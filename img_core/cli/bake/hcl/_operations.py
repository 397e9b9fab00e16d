"""What operators, loops and calls do with values. Each returns an expression; errors name its place."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from img_core.cli.bake.hcl._values import (
    Expression,
    HclError,
    Names,
    SourceLine,
    as_boolean,
    as_number,
    as_text,
    kind_of,
)
from img_core.spec.errors import ImgError
from img_core.spec.text import show

__all__ = [
    "BINARY",
    "attribute",
    "call",
    "choose",
    "element",
    "equal",
    "iterated",
    "listed",
    "mapped",
    "splat",
    "unary",
]

# Any, below: values.


def equal(left: Any, right: Any) -> bool:
    """Tell whether two values are the same; a boolean is no number."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _guarded(place: SourceLine, work: Callable[[Names], Any]) -> Expression:
    """Return an expression in which values that do not fit are errors of its place."""

    def value(scope: Names) -> Any:
        try:
            return work(scope)
        except ImgError:
            raise
        except RecursionError:
            raise HclError(place, "too many calls within each other") from None
        except (ValueError, ArithmeticError, TypeError) as err:
            raise HclError(place, str(err).split("\n")[0]) from None

    return Expression(place, value)


_Made = Callable[[SourceLine, Expression, Expression], Expression]


def _calculated(work: Callable[[Any, Any], Any]) -> _Made:
    return lambda place, left, right: _guarded(
        place, lambda scope: work(as_number(left.value(scope)), as_number(right.value(scope)))
    )


def _divided(left: float, right: float) -> float:
    found = left / right
    return int(found) if found.is_integer() else found


def _compared(wanted: bool) -> _Made:
    return lambda place, left, right: _guarded(
        place, lambda scope: equal(left.value(scope), right.value(scope)) is wanted
    )


def _either(place: SourceLine, left: Expression, right: Expression) -> Expression:
    return _guarded(place, lambda scope: as_boolean(left.value(scope)) or as_boolean(right.value(scope)))


def _both(place: SourceLine, left: Expression, right: Expression) -> Expression:
    return _guarded(place, lambda scope: as_boolean(left.value(scope)) and as_boolean(right.value(scope)))


#: Operators between two values, those that bind least first; in a row longer ones before what they begin with.
BINARY: tuple[Mapping[str, _Made], ...] = (
    {"||": _either},
    {"&&": _both},
    {"==": _compared(True), "!=": _compared(False)},
    {
        "<=": _calculated(operator.le),
        ">=": _calculated(operator.ge),
        "<": _calculated(operator.lt),
        ">": _calculated(operator.gt),
    },
    {"+": _calculated(operator.add), "-": _calculated(operator.sub)},
    {"*": _calculated(operator.mul), "/": _calculated(_divided), "%": _calculated(operator.mod)},
)


def unary(place: SourceLine, sign: str, operand: Expression) -> Expression:
    """Return ``!operand`` or ``-operand``."""
    if sign == "!":
        return _guarded(place, lambda scope: not as_boolean(operand.value(scope)))
    return _guarded(place, lambda scope: -as_number(operand.value(scope)))


def choose(place: SourceLine, condition: Expression, yes: Expression, no: Expression) -> Expression:
    """Return ``condition ? yes : no``; only what is taken is evaluated."""
    return _guarded(place, lambda scope: (yes if as_boolean(condition.value(scope)) else no).value(scope))


def listed(place: SourceLine, items: Sequence[Expression]) -> Expression:
    """Return ``[items]``."""
    return Expression(place, lambda scope: [item.value(scope) for item in items], items=tuple(items))


def mapped(place: SourceLine, items: Sequence[tuple[Expression, Expression]]) -> Expression:
    """Return ``{key = value}``."""
    return _guarded(place, lambda scope: {as_text(key.value(scope)): item.value(scope) for key, item in items})


def attribute(place: SourceLine, value: Expression, name: str) -> Expression:
    """Return ``value.name``."""
    found = element(place, value, Expression(place, lambda _scope: name))
    return Expression(place, found.value, name=f"{value.name}.{name}" if value.name else "")


def element(place: SourceLine, value: Expression, key: Expression) -> Expression:
    """Return ``value[key]``."""
    return _guarded(place, lambda scope: item_of(value.value(scope), key.value(scope)))


def item_of(value: Any, key: Any) -> Any:
    """Return what a list or an object has at *key*. Raises ValueError."""
    if isinstance(value, Mapping):
        try:
            return value[as_text(key)]
        except KeyError:
            raise ValueError(f"there is no `{show(as_text(key))}` in the object") from None
    if isinstance(value, Sequence) and not isinstance(value, str):
        number = as_number(key)
        if number != int(number) or not 0 <= number < len(value):
            raise ValueError(f"a list of {len(value)} has no element {as_text(key)}")
        return value[int(number)]
    raise ValueError(f"{kind_of(value)} has no elements")


def splat(place: SourceLine, value: Expression, names: Sequence[str]) -> Expression:
    """Return ``value[*].name``: what each element has there."""

    def work(scope: Names) -> Any:
        whole = value.value(scope)
        items = whole if isinstance(whole, list | tuple) else [] if whole is None else [whole]
        for name in names:
            items = [item_of(item, name) for item in items]
        return list(items)

    return _guarded(place, work)


def iterated(
    place: SourceLine,
    names: Sequence[str],
    over: Expression,
    key: Expression | None,
    item: Expression,
    condition: Expression | None,
) -> Expression:
    """Return the list, or with a *key* the object, that a ``for`` makes of the elements of *over*."""

    def scopes(scope: Names) -> Iterator[Names]:
        for pair in pairs_of(over.value(scope)):
            inner = scope.within(dict(zip(names, pair[-len(names) :], strict=True)))
            if condition is None or as_boolean(condition.value(inner)):
                yield inner

    def work(scope: Names) -> Any:
        if key is None:
            return [item.value(inner) for inner in scopes(scope)]
        return {as_text(key.value(inner)): item.value(inner) for inner in scopes(scope)}

    return _guarded(place, work)


def pairs_of(value: Any) -> list[tuple[Any, Any]]:
    """Return keys and values of what can be iterated. Raises ValueError."""
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    raise ValueError(f"{kind_of(value)} has no elements")


def call(place: SourceLine, name: str, arguments: Sequence[Expression], *, spread: bool) -> Expression:
    """Return ``name(arguments)``, the last one of which is *spread* (``...``) into several. ``try`` and ``can`` look at errors."""
    if name in ("try", "can"):
        return _tried(place, arguments, only_whether=name == "can")

    def work(scope: Names) -> Any:
        function, values = scope.function(name, place), [item.value(scope) for item in arguments]
        if spread:
            last = values.pop()
            if not isinstance(last, list | tuple):
                raise ValueError(f"{kind_of(last)} before `...` is no list")
            values += last
        try:
            return function(*values)
        except ImgError:
            raise
        except TypeError as err:
            if "argument" in str(err):
                raise HclError(place, f"function `{name}` is not called with {len(values)} arguments") from None
            raise HclError(place, f"function `{name}` cannot take these values") from None
        except (ValueError, ArithmeticError, LookupError) as err:
            raise HclError(
                place, f"function `{name}`: {str(err).splitlines()[0] if str(err) else 'wrong values'}"
            ) from None

    return _guarded(place, work)


def _tried(place: SourceLine, arguments: Sequence[Expression], *, only_whether: bool) -> Expression:
    def work(scope: Names) -> Any:
        for argument in arguments:
            try:
                value = argument.value(scope)
            except HclError as err:
                last = err
            else:
                return True if only_whether else value
        if only_whether:
            return False
        raise last

    if not arguments:
        raise HclError(place, "function `try` needs arguments")
    return _guarded(place, work)

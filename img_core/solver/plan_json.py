"""Plans as JSON, and back: what is sent to other machines (`plan_to_json`, `plan_from_json`).

.. code-block:: json

    {"schema": "img-plan", "version": 1, "plan": {"$": "Plan", "images": […]}, "vertices": [{"$": "Vertex", "op": {"$": "RunOp", …}}, …]}

Objects of our classes have their names under ``$`` and leave out fields that have their defaults; ``{"$vertex": 3}`` is the fourth of the
vertices, whose inputs stand before it; bytes are ``{"$bytes": BASE64}``. A vertex that is written and read has the same `Vertex.digest`.
"""

from __future__ import annotations

import base64
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

from img_core.spec import frontend, graph, values
from img_core.spec.errors import UsageError
from img_core.spec.frontend import Plan
from img_core.spec.graph import Vertex, inputs_first
from img_core.spec.text import show

__all__ = [
    "PLAN_SCHEMA",
    "PLAN_VERSION",
    "plan_digest",
    "plan_from_json",
    "plan_to_json",
    "value_from_json",
    "value_to_json",
]

PLAN_SCHEMA = "img-plan"
#: Raised by one when an older img would misunderstand what is written. A new class or field does not count: who does not know it says so.
PLAN_VERSION = 1

#: Every class that a plan is made of, by its name.
_CLASSES: Mapping[str, type] = {
    name: found
    for module in (values, graph, frontend)
    for name, found in vars(module).items()
    if isinstance(found, type) and is_dataclass(found)
}

# Any, below: JSON, and values of fields.


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return *plan* as JSON types; equal plans give equal ones. Warnings, which are of no use elsewhere, are left out."""
    roots = plan.roots()
    others = [entry.vertex for image in plan.images for entry in image.history if entry.vertex is not None]
    order = list(inputs_first([*roots, *others]))
    numbers = {vertex.digest: number for number, vertex in enumerate(order)}
    body = _written_object(plan, numbers)
    body.pop("warnings", None)
    vertices = [_written_object(vertex, numbers) for vertex in order]
    return {"schema": PLAN_SCHEMA, "version": PLAN_VERSION, "plan": body, "vertices": vertices}


def value_to_json(value: Any) -> Any:
    """Return a frozen value of any class of ours, which holds no vertices, as JSON types."""
    return _written(value, {})


def _written(value: Any, numbers: Mapping[str, int]) -> Any:
    if isinstance(value, Vertex):
        return {"$vertex": numbers[value.digest]}
    if is_dataclass(value) and not isinstance(value, type):
        return _written_object(value, numbers)
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, tuple):
        return [_written(item, numbers) for item in value]
    if isinstance(value, Mapping):
        return {name: _written(item, numbers) for name, item in value.items()}
    return value


def _written_object(value: Any, numbers: Mapping[str, int]) -> dict[str, Any]:
    kept = [(item, getattr(value, item.name)) for item in fields(value) if item.init]
    found = {item.name: _written(content, numbers) for item, content in kept if not _is_default(item, content)}
    return {"$": type(value).__name__, **found}


def _is_default(item: Any, value: Any) -> bool:
    if item.default is not MISSING:
        return type(value) is type(item.default) and bool(value == item.default)
    return item.default_factory is not MISSING and value == item.default_factory()


# --------------------------------------------------------------------------------------------------------------- reading


def plan_from_json(document: Any) -> Plan:
    """Return the plan that *document* (JSON types) describes. Raises UsageError for what is none, or of another version of img."""
    if not isinstance(document, dict) or document.get("schema") != PLAN_SCHEMA:
        raise UsageError("this is no plan of a build")
    if document.get("version") != PLAN_VERSION:
        raise UsageError(
            f"a plan of version {show(str(document.get('version')))} cannot be read, only {PLAN_VERSION}",
            hint="it comes from another version of img",
        )
    known: list[Vertex] = []
    for item in _list(document.get("vertices"), "vertices"):
        known.append(_read(Vertex, item, known, f"vertices[{len(known)}]"))
    plan: Plan = _read(Plan, document.get("plan"), known, "plan")
    return plan


def value_from_json(cls: type, document: Any, where: str) -> Any:
    """Return the object of *cls* that `value_to_json` made *document* of; *where* it stands is for messages. Raises UsageError."""
    return _read(cls, document, [], where)


@cache
def _hints(cls: type) -> Mapping[str, Any]:
    names = {**vars(typing), **_CLASSES, **vars(graph), **vars(values), "Mapping": Mapping}
    return typing.get_type_hints(cls, localns=names)


def _read(hint: Any, value: Any, known: list[Vertex], where: str) -> Any:
    """Return *value* as *hint* says, with vertices from *known*. Raises UsageError."""
    origin = typing.get_origin(hint)
    if isinstance(hint, typing.NewType):
        return _read(hint.__supertype__, value, known, where)
    if origin in (typing.Union, types.UnionType):
        return _read_one_of(typing.get_args(hint), value, known, where)
    if origin is tuple:
        return _read_tuple(typing.get_args(hint), value, known, where)
    if origin is Mapping and isinstance(value, dict):
        item = typing.get_args(hint)[1]
        return (
            value if item is Any else {key: _read(item, each, known, f"{where}.{key}") for key, each in value.items()}
        )
    if hint is Vertex and isinstance(value, dict) and "$vertex" in value:
        number = value["$vertex"]
        if type(number) is not int or not 0 <= number < len(known):
            raise UsageError(f"`{where}` of a plan names no vertex before it")
        return known[number]
    if hint is bytes:
        return _bytes(value, where)
    if isinstance(hint, type) and is_dataclass(hint):
        return _read_object(hint, value, known, where)
    plain = dict if origin is not None else hint
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise UsageError(f"`{where}` of a plan is not what it must be")
    return value


def _read_one_of(hints: tuple[Any, ...], value: Any, known: list[Vertex], where: str) -> Any:
    if value is None and type(None) in hints:
        return None
    hints = tuple(hint for hint in hints if hint is not type(None))
    for hint in hints if len(hints) > 1 else ():
        if isinstance(value, dict) and getattr(hint, "__name__", "") == value.get("$"):
            return _read(hint, value, known, where)
    if len(hints) > 1:
        raise UsageError(
            f"`{where}` of a plan is of no kind that this img knows", hint="it comes from another version of img"
        )
    return _read(hints[0], value, known, where)


def _read_tuple(hints: tuple[Any, ...], value: Any, known: list[Vertex], where: str) -> tuple[Any, ...]:
    items = _list(value, where)
    kinds = [hints[0]] * len(items) if hints[-1] is Ellipsis else list(hints)
    if len(kinds) != len(items):
        raise UsageError(f"`{where}` of a plan has {len(items)} parts instead of {len(kinds)}")
    return tuple(
        _read(kind, item, known, f"{where}[{n}]") for n, (kind, item) in enumerate(zip(kinds, items, strict=True))
    )


def _read_object(cls: type, value: Any, known: list[Vertex], where: str) -> Any:
    if not isinstance(value, dict) or value.get("$") != cls.__name__:
        raise UsageError(f"`{where}` of a plan is no {cls.__name__}")
    hints = {item.name: _hints(cls)[item.name] for item in fields(cls) if item.init}
    unknown = value.keys() - hints.keys() - {"$"}
    if unknown:
        raise UsageError(
            f"`{where}` of a plan has `{show(min(unknown))}`, which is unknown",
            hint="it comes from another version of img",
        )
    given = {name: _read(hints[name], item, known, f"{where}.{name}") for name, item in value.items() if name != "$"}
    try:
        return cls(**given)
    except TypeError:
        raise UsageError(f"`{where}` of a plan lacks a part of a {cls.__name__}") from None


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"`{where}` of a plan is no list")
    return value


def _bytes(value: Any, where: str) -> bytes:
    try:
        return base64.b64decode(value["$bytes"], validate=True)
    except (TypeError, KeyError, ValueError):
        raise UsageError(f"`{where}` of a plan is no bytes") from None


def plan_digest(document: Mapping[str, Any]) -> str:
    """Return what tells a plan from others: the sha256 of its JSON."""
    import hashlib

    text = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

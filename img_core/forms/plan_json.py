"""Plans as JSON, and back: what is sent to other machines, and kept of steps that failed.

.. code-block:: json

    {"schema": "img-plan", "version": 1, "plan": {"$": "Plan", "images": […]}, "vertices": [{"$": "Vertex", "op": {"$": "RunOp", …}}, …]}

The form is that of `img_core.forms.typed_json`. A vertex that is written and read has the same `Vertex.digest`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from img_core.forms.rewriting import every_vertex
from img_core.forms.typed_json import TypedJson
from img_core.spec import frontend, graph, values
from img_core.spec.errors import UsageError
from img_core.spec.frontend import Plan
from img_core.spec.graph import Vertex
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

_JSON = TypedJson({**vars(values), **vars(graph), **vars(frontend)}, "a plan", Vertex)

# Any, below: JSON, and values of fields.


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return *plan* as JSON types; equal plans give equal ones. Warnings, which are of no use elsewhere, are left out."""
    order = list(every_vertex(plan))
    numbers = {vertex.digest: number for number, vertex in enumerate(order)}

    def number(vertex: Vertex) -> int:
        return numbers[vertex.digest]

    body = _JSON.written(plan, number)
    body.pop("warnings", None)
    vertices = [_JSON.written(vertex, number) for vertex in order]
    return {"schema": PLAN_SCHEMA, "version": PLAN_VERSION, "plan": body, "vertices": vertices}


def value_to_json(value: Any) -> Any:
    """Return a frozen value of any class of ours as JSON types; of vertices that it holds only that there is one."""
    return _JSON.written(value, lambda _vertex: 0)


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
    for item in _JSON.read_list(document.get("vertices"), "vertices"):
        known.append(_JSON.read(Vertex, item, known, f"vertices[{len(known)}]"))
    plan: Plan = _JSON.read(Plan, document.get("plan"), known, "plan")
    return plan


def value_from_json(cls: type, document: Any, where: str, vertices: Sequence[Vertex | None] = ()) -> Any:
    """Return the object of *cls* that `value_to_json` made *document* of, with the first of *vertices*; *where* it stands is for messages.

    Raises UsageError.
    """
    return _JSON.read(cls, document, vertices, where)


def plan_digest(document: Mapping[str, Any]) -> str:
    """Return what tells a plan from others: the sha256 of its JSON."""
    import hashlib

    text = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

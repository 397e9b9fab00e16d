"""Plans whose RUN steps have more variables and mounts: what listeners add to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.forms.rewriting import moved, rewritten
from img_core.spec.errors import PluginError
from img_core.spec.graph import RunOp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from img_core.spec.frontend import Plan
    from img_core.spec.graph import RunAddition, Vertex

__all__ = ["with_additions"]


def with_additions(plan: Plan, ask: Callable[[Vertex], Iterable[RunAddition | None]]) -> Plan:
    """Return *plan* with what *ask* answers for each of its RUN steps. Raises PluginError for what cannot be added.

    A step that nothing is added to, on a base to which nothing was, is the same vertex as before.
    """

    def added(vertex: Vertex, inputs: tuple[Vertex, ...]) -> Vertex:
        op = vertex.op
        if isinstance(op, RunOp):
            op = _with(op, [item for item in ask(vertex) if item is not None], vertex.name)
        same = op is vertex.op and all(new is old for new, old in zip(inputs, vertex.inputs, strict=True))
        return vertex if same else replace(vertex, op=op, inputs=inputs)

    now = rewritten(plan.vertices(), added)
    return replace(plan, images=tuple(moved(image, now) for image in plan.images))


def _with(op: RunOp, additions: list[RunAddition], step: str) -> RunOp:
    if not any(item.env or item.mounts for item in additions):
        return op
    env: dict[str, str] = {}
    mounts = list(op.mounts)
    for item in additions:
        for name, value in item.env:
            if not name or "=" in name or "\0" in name + value:
                raise PluginError(f"a listener adds the variable `{name!r}` to `{step}`, which cannot be one")
            if env.setdefault(name, value) != value:
                raise PluginError(f"two listeners add other values of `{name}` to `{step}`")
        for mount in item.mounts:
            if mount.input is not None or mount.type == "bind" or not mount.target.startswith("/"):
                raise PluginError(
                    f"a listener adds a mount at `{mount.target}` to `{step}`, which reads an input, or has no place"
                )
            if any(mount.target == other.target for other in mounts):
                raise PluginError(f"a listener adds a second mount at `{mount.target}` to `{step}`")
            mounts.append(mount)
    own = {name for name, _ in op.env}
    added = tuple((name, value) for name, value in env.items() if name not in own)
    return replace(op, env=(*added, *op.env), mounts=tuple(mounts))

"""Plans with other vertices: each is changed after those that it reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.spec.graph import RunOp, inputs_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from img_core.spec.frontend import Plan, PlannedImage
    from img_core.spec.graph import Vertex

__all__ = ["alone", "every_vertex", "moved", "rewritten"]


def every_vertex(plan: Plan) -> Iterator[Vertex]:
    """Give each vertex of *plan* once, inputs before what reads them; also those that nothing but the history of an image names."""
    made = [entry.vertex for image in plan.images for entry in image.history if entry.vertex is not None]
    return inputs_first([*plan.roots(), *made])


def rewritten(vertices: Iterable[Vertex], change: Callable[[Vertex, tuple[Vertex, ...]], Vertex]) -> dict[str, Vertex]:
    """Return what *change* makes of each of *vertices*, by their digests; it gets what it made of their inputs, which come before them."""
    now: dict[str, Vertex] = {}
    for vertex in vertices:
        now[vertex.digest] = change(vertex, tuple(now[item.digest] for item in vertex.inputs))
    return now


def moved(image: PlannedImage, now: Mapping[str, Vertex]) -> PlannedImage:
    """Return *image* as that of the vertices that those of its plan are *now*."""
    history = tuple(
        replace(entry, vertex=now.get(entry.vertex.digest, entry.vertex)) if entry.vertex else entry
        for entry in image.history
    )
    return replace(image, root=image.root and now[image.root.digest], history=history)


def alone(vertex: Vertex) -> Vertex:
    """Return a RUN step with no inputs but those that its mounts read; what it requires may be missing, and its caches stay as they are."""
    assert isinstance(vertex.op, RunOp)
    read = sorted({mount.input for mount in vertex.op.mounts if mount.input is not None})
    numbers = {old: new for new, old in enumerate(read)}
    mounts = tuple(
        replace(mount, input=None if mount.input is None else numbers[mount.input], required=False)
        for mount in vertex.op.mounts
    )
    proxies = tuple((name, value) for name, value in vertex.op.proxy_env if "@" not in value)  # no passwords
    op = replace(vertex.op, mounts=mounts, has_base=False, proxy_env=proxies)
    return replace(vertex, op=op, inputs=tuple(vertex.inputs[number] for number in read), use_cache=True)

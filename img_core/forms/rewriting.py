"""Plans with other vertices: each is changed after those that it reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from img_core.spec.graph import inputs_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from img_core.spec.frontend import Plan, PlannedImage
    from img_core.spec.graph import Vertex

__all__ = ["every_vertex", "moved", "rewritten"]


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

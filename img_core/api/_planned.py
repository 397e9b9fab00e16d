"""Builds as they are planned: one alone, or several whose steps are done together."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from img_core.api._definition import Definition
from img_core.api._listening import amended
from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.api._preparation import Preparation
    from img_core.api._request import BuildRequest
    from img_core.solver.images import BuildResolver
    from img_core.spec.frontend import Plan
    from img_core.spec.graph import Location, Vertex

__all__ = ["Planned", "planned"]

#: Fields of a request that say what is built. In all others builds are alike whose steps are done together.
_OWN = frozenset(
    ("context", "context_subdirectory", "dockerfile", "definition", "tags", "outputs", "build_args", "target", "labels",
     "platforms", "no_cache", "no_cache_filter", "add_hosts", "shm_size", "ulimits", "contexts")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """One *plan* of the builds with these *numbers*, whose own *plans* are in the same order, with the digests of their *steps* in it.

    *origins* is as in `Together`, with the numbers of builds; a single build has none.
    """

    plan: Plan
    sources: Callable[[str], Any]  # Any: an image or a tree source
    resolver: BuildResolver
    excerpt: Callable[[Location], str]
    numbers: Sequence[int]
    plans: Sequence[Plan]
    steps: Sequence[frozenset[str]]
    origins: Mapping[str, tuple[int, Vertex]]


def planned(builds: Sequence[Preparation]) -> Planned:
    """Plan the first of *builds*, and with it all that can be done together with it. Raises ImgError."""
    first = builds[0]
    if len(builds) == 1:
        context, sources, resolver = first.prepare()
        plan, excerpt = first.plan(context.definition, resolver)
        plan = amended(first, plan)
        steps = frozenset(vertex.digest for vertex in plan.vertices())
        return Planned(plan, sources, resolver, excerpt, (0,), (plan,), (steps,), {})
    from img_core.forms.together import PlannedBuild, together

    numbers, found, named, like = list[int](), list[PlannedBuild](), list[str](), None
    excerpts: dict[str, Callable[[Location], str]] = {}
    for number, build in enumerate(builds):
        if number and not _are_alike(first, build):
            continue
        context, _, resolver = build.prepare(like)
        definition = _shown(context.definition, number)
        plan, excerpt = build.plan(definition, resolver)
        plan, ignored = amended(build, plan), build.ignore_names(context)
        here = (plan.source_date_epoch, plan.multi_platform, ignored)
        if not found:
            like, common = resolver, here
        elif here != common:
            continue
        numbers.append(number)
        found.append(PlannedBuild(plan, build.request.title, build.trees(context)))
        excerpts[definition.name] = excerpt
        named += build.named()
    one = together(found)
    assert like is not None
    return Planned(
        one.plan, first.sources(one.trees, common[2], tuple(dict.fromkeys(named))), like,
        lambda place: excerpts[place.file](place) if place.file in excerpts else "",
        numbers, [build.plan for build in found], one.steps,
        {digest: (numbers[number], vertex) for digest, (number, vertex) in one.origins.items()},
    )  # fmt: skip


def _are_alike(one: Preparation, other: Preparation) -> bool:
    """Tell whether the steps of two builds may use the same cache, network, secrets…; a lock file is for one definition."""
    if one.request.locked is not None or _around(one.request) != _around(other.request):
        return False
    return _cache_exports(one) == _cache_exports(other)


def _around(request: BuildRequest) -> list[object]:
    return [getattr(request, item.name) for item in fields(request) if item.name not in _OWN]


def _cache_exports(build: Preparation) -> tuple[str, ...]:
    return build.frontends.first.cache_exports(build.build_args())


def _shown(definition: Definition, number: int) -> Definition:
    """Return *definition* with a name that tells it from others: its path, as it is shortest."""
    path = definition.path
    name = min(path, os.path.relpath(path), key=len) if path else f"{definition.name}#{number + 1}"
    return Definition(definition.text, name, path)

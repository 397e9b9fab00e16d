"""Plans of several builds as one: steps that are equal in several of them are one step, which is done once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING

from img_core.forms.rewriting import every_vertex, moved, rewritten
from img_core.spec.dataclass import dataclass
from img_core.spec.frontend import Plan
from img_core.spec.graph import CONTEXT_SCHEME, SourceOp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.spec.frontend import PlannedImage
    from img_core.spec.graph import Vertex

__all__ = ["PlannedBuild", "Together", "Trees", "named_among", "together"]

#: Of each build context on this machine its directory, and the file that says what is hidden in it (empty: none, or the usual one).
Trees = Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class PlannedBuild:
    """The *plan* of one build, whose steps are shown with its *name*; *trees* are its build contexts."""

    plan: Plan
    name: str
    trees: Trees


@dataclass(frozen=True, slots=True)
class Together:
    """One *plan* with the images of all builds, in their order, and the *trees* that it reads.

    *origins* tells of each step (its digest) the number of the first build that has it, and what it is there; *steps* has the digests of
    all steps of each build.
    """

    plan: Plan
    trees: Trees
    origins: Mapping[str, tuple[int, Vertex]] = field(default_factory=dict)
    steps: Sequence[frozenset[str]] = ()


def together(builds: Sequence[PlannedBuild]) -> Together:
    """Return *builds* as one; the plan says of all other things what the first one says.

    Build contexts of several builds that are the same files are one; others that are called alike get other names.
    """
    names = _names(builds)
    origins: dict[str, tuple[int, Vertex]] = {}
    images: list[PlannedImage] = []
    steps = []
    for number, build in enumerate(builds):
        now = _renamed(build, names)
        for vertex in every_vertex(build.plan):
            origins.setdefault(now[vertex.digest].digest, (number, vertex))
        steps.append(frozenset(vertex.digest for vertex in now.values()))
        images += [moved(image, now) for image in build.plan.images]
    warnings = tuple(warning for build in builds for warning in build.plan.warnings)
    plan = replace(builds[0].plan, images=tuple(images), warnings=warnings)
    return Together(plan, {name: tree for tree, name in names.items()}, origins, steps)


def _names(builds: Sequence[PlannedBuild]) -> dict[tuple[str, str], str]:
    """Return what each tree is called."""
    names: dict[str, tuple[str, str]] = {}
    known: dict[tuple[str, str], str] = {}
    for usual, tree in (item for build in builds for item in build.trees.items()):
        if tree not in known:
            name, number = usual, len(names)
            while name in names:
                name, number = f"{usual}#{number}", number + 1
            names[name], known[tree] = tree, name
    return known


def named_among(build: str, step: str) -> str:
    """Return the name of a *step* where there are other builds than *build*: ``[build 1/2] RUN x``, ``[build] exporting to image``."""
    return f"[{build} {step[1:]}" if step.startswith("[") else f"[{build}] {step}"


def _renamed(build: PlannedBuild, names: Mapping[tuple[str, str], str]) -> dict[str, Vertex]:
    """Return what each step of *build* is among others, by its digest."""

    def renamed(vertex: Vertex, inputs: tuple[Vertex, ...]) -> Vertex:
        op, shown = vertex.op, vertex.name
        if isinstance(op, SourceOp) and op.scheme == CONTEXT_SCHEME and op.reference in build.trees:
            op = replace(op, reference=names[build.trees[op.reference]])
        if shown.startswith("[") and not shown.startswith("[internal]"):
            shown = named_among(build.name, shown)
        return replace(vertex, op=op, inputs=inputs, name=shown)

    return rewritten(every_vertex(build.plan), renamed)

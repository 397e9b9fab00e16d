"""Plans of several builds as one: steps that are equal in several of them are one step, which is done once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass
from img_core.spec.frontend import Plan
from img_core.spec.graph import CONTEXT_SCHEME, SourceOp, inputs_first

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
        for old, new in now.values():
            origins.setdefault(new.digest, (number, old))
        steps.append(frozenset(new.digest for _, new in now.values()))
        images += [_moved(image, now) for image in build.plan.images]
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


def _renamed(build: PlannedBuild, names: Mapping[tuple[str, str], str]) -> dict[str, tuple[Vertex, Vertex]]:
    """Return each step of *build*, and what it is among others, by its digest."""
    made = [entry.vertex for image in build.plan.images for entry in image.history if entry.vertex is not None]
    now: dict[str, tuple[Vertex, Vertex]] = {}
    for vertex in inputs_first([*build.plan.roots(), *made]):
        op, shown = vertex.op, vertex.name
        if isinstance(op, SourceOp) and op.scheme == CONTEXT_SCHEME and op.reference in build.trees:
            op = replace(op, reference=names[build.trees[op.reference]])
        if shown.startswith("[") and not shown.startswith("[internal]"):
            shown = named_among(build.name, shown)
        inputs = tuple(now[item.digest][1] for item in vertex.inputs)
        now[vertex.digest] = (vertex, replace(vertex, op=op, inputs=inputs, name=shown))
    return now


def _moved(image: PlannedImage, now: Mapping[str, tuple[Vertex, Vertex]]) -> PlannedImage:
    history = tuple(
        replace(entry, vertex=now[entry.vertex.digest][1]) if entry.vertex is not None else entry
        for entry in image.history
    )
    return replace(image, root=now[image.root.digest][1] if image.root is not None else None, history=history)

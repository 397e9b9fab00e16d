"""Which parts of a build can be done elsewhere: only computes, on a graph and on what is known of its steps.

A *part* is what has to run for one vertex, its *target*, less what other parts do; *needs* names those. Parts without needs may be done at
the same time. What no part does is left for the build itself, which then finds the results of all parts.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from img_core.spec.dataclass import dataclass
from img_core.spec.graph import FileOp, MergeOp, RunOp, SourceOp, inputs_first

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from img_core.spec.graph import Vertex

__all__ = ["OVERHEAD", "Cut", "CutFacts", "CutPart", "cut"]

#: Seconds that it takes to hand a part over, beside the transfer of its result.
OVERHEAD = 0.7


@dataclass(frozen=True, slots=True)
class CutPart:
    """The *steps* (digests) that one worker does for *target*, on *platform* (empty: the host's), after the parts *needs* (targets).

    *seconds* is how long they took the last time; None: nobody knows. *home* says why they cannot be done elsewhere; *secrets* are wanted.
    """

    target: Vertex
    steps: tuple[Vertex, ...]
    needs: tuple[str, ...] = ()
    platform: str = ""
    seconds: float | None = None
    home: str = ""
    secrets: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """That of the target."""
        return self.target.digest


@dataclass(frozen=True, slots=True)
class Cut:
    """All *parts*, each after those that it needs, and how many steps are *left*."""

    parts: tuple[CutPart, ...] = ()
    left: int = 0
    by_target: Mapping[str, CutPart] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CutFacts:
    """What is known before the cut: digests of the *missing* steps, the *seconds* of a step's work (None: unknown) and those that the
    *transfer* of its result takes. The *platform* of a step is empty if it is the host's, or nobody's, and None if any will do. A source
    that *stays* on this machine has a reason.
    """

    missing: Collection[str]
    seconds: Callable[[Vertex], float | None] = lambda _vertex: None
    transfer: Callable[[Vertex], float] = lambda _vertex: 0.0
    platform: Callable[[Vertex], str | None] = lambda _vertex: ""
    stays: Callable[[Vertex], str] = lambda _source: ""


def cut(roots: Sequence[Vertex], facts: CutFacts) -> Cut:
    """Return the parts of the graph below *roots*, which are the images of one build or of several."""
    order = [vertex for vertex in inputs_first(roots) if vertex.digest in facts.missing]
    fixed = _boundaries(order, facts)
    fixed |= {root.digest for root in roots if root.digest in facts.missing and facts.platform(root)}
    targets = _candidates(roots, order) | fixed
    while True:
        parts = _parts(order, targets, facts)
        kept = fixed | _shared(order, parts)
        small = {part.digest for part in parts if part.digest not in kept and not _is_worth_it(part, facts)}
        if not small:
            break
        targets -= small
    if not _gains(parts):
        parts = []
    done = {step.digest for part in parts for step in part.steps}
    left = sum(vertex.digest not in done for vertex in order)
    return Cut(tuple(parts), left, {part.digest: part for part in parts})


def _candidates(roots: Sequence[Vertex], order: Sequence[Vertex]) -> set[str]:
    """Return the vertices that something else reads than the next step of their stage, and the images of several builds."""
    missing = {vertex.digest for vertex in order}
    found: set[str] = set()
    users: dict[str, int] = {}
    for vertex in order:
        chain = vertex.inputs[0] if vertex.inputs and _has_base(vertex) else None
        sides = [item for item in vertex.inputs if item is not chain]
        for item in vertex.inputs:
            users[item.digest] = users.get(item.digest, 0) + 1
        found.update(item.digest for item in sides)
        # What is below a step that waits for other stages need not wait for them.
        if chain is not None and any(item.digest in missing for item in sides):
            found.add(chain.digest)
    found.update(digest for digest, count in users.items() if count > 1)
    found.update(root.digest for root in roots if len(roots) > 1)
    return found & missing


def _boundaries(order: Sequence[Vertex], facts: CutFacts) -> set[str]:
    """Return the vertices that a step of another platform reads: no worker does steps of two platforms."""
    missing = {vertex.digest for vertex in order}
    return {
        item.digest
        for vertex in order
        for item in vertex.inputs
        if item.digest in missing and facts.platform(item) not in (None, facts.platform(vertex))
    }


def _shared(order: Sequence[Vertex], parts: Sequence[CutPart]) -> set[str]:
    """Return the targets that several parts read, or a part and what is left: they would be done several times."""
    part_of = {step.digest: part.digest for part in parts for step in part.steps}
    readers: dict[str, set[str]] = {}
    for vertex in order:
        for item in vertex.inputs:
            readers.setdefault(item.digest, set()).add(part_of.get(vertex.digest, ""))
    return {part.digest for part in parts if len(readers.get(part.digest, ())) > 1}


def _has_base(vertex: Vertex) -> bool:
    return isinstance(vertex.op, MergeOp) or (not isinstance(vertex.op, SourceOp) and vertex.op.has_base)


def _parts(order: Sequence[Vertex], targets: Collection[str], facts: CutFacts) -> list[CutPart]:
    missing = {vertex.digest for vertex in order}
    parts = []
    for target in order:
        if target.digest not in targets:
            continue
        steps: dict[str, Vertex] = {}
        needs: dict[str, None] = {}
        pending = [target]
        while pending:
            vertex = pending.pop()
            if vertex.digest not in missing or vertex.digest in steps:
                continue
            if vertex.digest in targets and vertex is not target:
                needs[vertex.digest] = None
                continue
            steps[vertex.digest] = vertex
            pending.extend(vertex.inputs)
        parts.append(_part(target, [vertex for vertex in order if vertex.digest in steps], tuple(needs), facts))
    return parts


def _part(target: Vertex, steps: list[Vertex], needs: tuple[str, ...], facts: CutFacts) -> CutPart:
    times = [facts.seconds(step) for step in steps if isinstance(step.op, RunOp | FileOp)]
    known = [seconds for seconds in times if seconds is not None]
    mounts = [mount for step in steps if isinstance(step.op, RunOp) for mount in step.op.mounts]
    home = ""
    if any(mount.type == "ssh" for mount in mounts):
        home = "it uses an ssh agent"
    elif any(isinstance(step.op, RunOp) and step.op.security != "sandbox" for step in steps):
        home = "it wants more rights"
    elif any(not step.use_cache for step in steps):
        home = "it must not use a cache"
    for source in (item for step in steps for item in step.inputs if isinstance(item.op, SourceOp)):
        home = home or facts.stays(source)
    return CutPart(
        target,
        tuple(steps),
        needs,
        facts.platform(target) or "",
        sum(known) if len(known) == len(times) else None,
        home,
        tuple(sorted({mount.id for mount in mounts if mount.type == "secret"})),
    )


def _is_worth_it(part: CutPart, facts: CutFacts) -> bool:
    """Tell whether a part is to be handed over: it runs something, and that takes longer than to move its result."""
    if part.home:
        return False
    if not any(isinstance(step.op, RunOp) for step in part.steps):
        return False
    return part.seconds is None or part.seconds > OVERHEAD + facts.transfer(part.target)


def _gains(parts: Sequence[CutPart]) -> bool:
    """Tell whether two parts can be done at the same time, or one belongs to another platform: else all is as quick at home."""
    if any(part.platform for part in parts):
        return True
    behind: dict[str, set[str]] = {}
    for part in parts:
        behind[part.digest] = {digest for need in part.needs for digest in (need, *behind.get(need, ()))}
    return any(
        len(behind[part.digest]) < number for number, part in enumerate(parts)
    )  # some part before it is not needed by it

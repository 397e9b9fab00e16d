"""How stages depend on each other: what FROM means, which stages a target needs, and which orders are impossible."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from img_frontend_dockerfile.planning.names import StageTarget, parse_platform
from img_frontend_dockerfile.syntax import instructions as ins
from img_frontend_dockerfile.syntax.expansion import expand_word
from img_frontend_dockerfile.syntax.mounts import mount_source_stage
from img_frontend_dockerfile.syntax.source import Fault
from img_frontend_dockerfile.syntax.text import did_you_mean, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.spec.values import Platform
    from img_frontend_dockerfile.planning.names import Target
    from img_frontend_dockerfile.planning.stage import Shared
    from img_frontend_dockerfile.syntax.program import Stage

__all__ = ["StageGraph"]

_Result = TypeVar("_Result")


class StageGraph:
    """The stages of one file for one platform. Only what is asked for is looked at."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._stages = shared.program.stages
        self._bases: dict[int, Target] = {}

    def needed(self, target: int) -> set[int]:
        """Return *target* and all stages below it. Raises for references to later stages and for circles."""
        edges: dict[int, list[tuple[int, ins.Instruction]]] = {}
        pending = [target]
        while pending:
            index = pending.pop()
            if index not in edges:
                edges[index] = list(self._references(self._stages[index]))
                pending += [used for used, _ in edges[index]]
        self._refuse_circles(edges)
        for index in sorted(edges):
            for used, instruction in edges[index]:
                if used > index:
                    raise self._shared.program.source.error(self.forward(used, index), instruction.span)
        return set(edges)

    def forward(self, used: int, index: int) -> Fault:
        """Return the fault of stage *index*, which reads the later stage *used*."""
        names = quote(self._stages[used].name), quote(self._stages[index].name)
        return Fault(f"cannot copy from stage {names[0]}, it needs to be defined before current stage {names[1]}")

    def _references(self, stage: Stage) -> Iterator[tuple[int, ins.Instruction]]:
        """Yield the stages that *stage* names, each with the instruction that does."""
        base = self.base(stage)
        if isinstance(base, StageTarget):
            yield base.index, stage.start
        for instruction in stage.instructions:
            for name in _from_names(instruction):
                try:
                    target = self._shared.names.source(name, stage.index)
                except Fault as fault:
                    raise self._shared.program.source.error(fault, instruction.span) from None
                if isinstance(target, StageTarget):
                    yield target.index, instruction

    def _refuse_circles(self, edges: dict[int, list[tuple[int, ins.Instruction]]]) -> None:
        finished: set[int] = set()
        for start in sorted(edges):
            path: list[tuple[int, ins.Instruction]] = []
            iterators = [iter(edges[start])]
            trail = {start: 0}  # where each stage of the way stands
            while iterators and start not in finished:
                step = next(iterators[-1], None)
                if step is None:
                    finished.add(trail.popitem()[0])
                    iterators.pop()
                    if path:
                        path.pop()
                elif step[0] in trail:
                    spans = [item.span for _, item in path[trail[step[0]] :]] + [step[1].span]
                    fault = Fault(f"circular dependency detected on stage: {self._stages[step[0]].name}")
                    raise self._shared.program.source.error(fault, *spans)
                elif step[0] not in finished:
                    path.append(step)
                    trail[step[0]] = len(trail)
                    iterators.append(iter(edges[step[0]]))

    def base(self, stage: Stage) -> Target:
        """Return what FROM of *stage* means. Raises `DockerfileError`."""
        if stage.index not in self._bases:
            try:
                self._bases[stage.index] = self._find_base(stage)
            except Fault as fault:
                raise self._shared.program.source.error(fault, stage.start.span) from None
        return self._bases[stage.index]

    def _find_base(self, stage: Stage) -> Target:
        name, suggestion = self._expand_global(stage, stage.start.base)
        if not name:
            text = f"base name ({stage.start.base}) should not be blank{suggestion}"
            raise Fault(text, hint="give the argument a value")
        return _suggesting(suggestion, lambda: self._shared.names.base(name, stage.index))

    def _expand_global(self, stage: Stage, text: str) -> tuple[str, str]:
        """Return *text* expanded, and what an error about the result should add about undeclared arguments."""
        unset: set[str] = set()
        scope = self._shared.scope
        value = expand_word(text, scope.values, escape=self._shared.program.escape, unset=unset, budget=scope.budget)
        hint = ""
        for name in sorted(unset - scope.declared):
            suggestion = did_you_mean(name, scope.values)
            message = f"FROM argument '{name}' is not declared{suggestion}"
            self._shared.warnings.add("UndefinedArgInFrom", message, stage.start.node)
            hint = hint or suggestion
        return value, hint

    def platform(self, stage: Stage) -> Platform:
        """Return the platform that FROM of *stage* asks for. Raises `Fault`."""
        text = stage.start.platform
        if not text:
            return self._shared.platform
        value, suggestion = self._expand_global(stage, text)
        if not value:
            raise Fault(f"empty platform value from expression {text}{suggestion}")
        prefix = f"failed to parse platform {value}: "
        return _suggesting(suggestion, lambda: parse_platform(value, prefix=prefix))


def _from_names(instruction: ins.Instruction) -> Iterator[str]:
    """Yield what ``--from`` and mounts of *instruction* name; texts with variables are refused later."""
    if isinstance(instruction, ins.CopyOrAdd) and instruction.source_stage and "$" not in instruction.source_stage:
        yield instruction.source_stage
    if isinstance(instruction, ins.Run):
        yield from filter(None, map(mount_source_stage, instruction.mounts))


def _suggesting(suggestion: str, work: Callable[[], _Result]) -> _Result:
    """Do *work*; its faults end in *suggestion*, because they come from an argument that nobody declared."""
    try:
        return work()
    except Fault as fault:
        raise Fault(fault.message + suggestion, hint=fault.hint) from None

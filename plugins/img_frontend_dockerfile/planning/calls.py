"""Questions about a Dockerfile that need no build: its targets, and what one target takes (``--call``).

Answers are JSON values with the member names that BuildKit uses, so that scripts can read both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.spec.graph import RunOp
from img_frontend_dockerfile.syntax.expansion import expand_word
from img_frontend_dockerfile.syntax.instructions import Arg
from img_frontend_dockerfile.syntax.source import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from img_core.spec.graph import RunMount, Vertex
    from img_frontend_dockerfile.planning.stage import StageState
    from img_frontend_dockerfile.syntax.instructions import Instruction
    from img_frontend_dockerfile.syntax.program import Program, Stage
    from img_frontend_dockerfile.syntax.scope import GlobalScope

__all__ = ["describe_targets", "outline"]


def describe_targets(program: Program, default: int) -> dict[str, Any]:
    """Return ``{"targets": […]}``: every stage with name, base, description and line; *default* is marked."""
    return {"targets": [_target(stage, default=stage.index == default) for stage in program.stages]}


def _target(stage: Stage, *, default: bool) -> dict[str, Any]:
    start = stage.start
    facts = {
        "name": start.name,
        "default": default,
        "description": _description(start, start.written_name),
        "base": start.base,
        "platform": start.platform,
        "line": start.span.first,
    }
    return {key: value for key, value in facts.items() if value or key == "name"}


def _description(instruction: Instruction, name: str) -> str:
    """Return the text of a comment ``# name text`` directly above *instruction*."""
    for comment in reversed(instruction.node.comments):
        first, _, rest = comment.partition(" ")
        if name and first == name:
            return rest.strip()
    return ""


def outline(
    program: Program, target: Stage, states: Mapping[int, StageState], scope: GlobalScope, root: Vertex | None
) -> dict[str, Any]:
    """Return what building *target* takes: arguments with their values, secrets and ssh sockets.

    *states* are the stages that the target needs, as they are at their ends.
    """
    used = _used_globals(program, [program.stages[index] for index in states])
    arguments = {item["name"]: item for item in _global_arguments(program, scope) if item["name"] in used}
    for index in sorted(states):
        arguments |= {item["name"]: item for item in _stage_arguments(program.stages[index], states[index], scope)}
    mounts = [
        (mount, vertex) for vertex in _vertices(root) if isinstance(vertex.op, RunOp) for mount in vertex.op.mounts
    ]
    facts = {
        "name": target.start.name,
        "description": _description(target.start, target.start.written_name),
        "args": list(arguments.values()),
        "secrets": _needs(mounts, "secret"),
        "ssh": _needs(mounts, "ssh"),
    }
    return {key: value for key, value in facts.items() if value or key == "name"}


class _Recorder(dict[str, str]):
    """A set of variables in which every name is set; remembers which ones were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: object = None) -> str:
        """Return something for every *name*."""
        self.names.add(name)
        return ""


def _names_in(word: str, escape: str) -> set[str]:
    recorder = _Recorder()
    try:
        expand_word(word, recorder, escape=escape)
    except Fault:
        pass  # such as ${name:?}, by which time the name is known
    return recorder.names


def _used_globals(program: Program, stages: Iterable[Stage]) -> set[str]:
    """Return the names of global arguments that *stages* need: in FROM, by a bare ARG, or in defaults of these."""
    used: set[str] = set()
    for stage in stages:
        for text in (stage.start.base, stage.start.platform or ""):
            used |= _names_in(text, program.escape)
        bare = (item for item in stage.instructions if isinstance(item, Arg))
        used |= {name for item in bare for name, default in item.pairs if default is None}
    for instruction in reversed(program.arguments):  # a default uses earlier arguments only
        for name, default in reversed(instruction.pairs):
            if name in used and default is not None:
                used |= _names_in(default, program.escape)
    return used


def _global_arguments(program: Program, scope: GlobalScope) -> Iterator[dict[str, Any]]:
    for instruction in program.arguments:
        for name, _ in instruction.pairs:
            yield _argument(instruction, name, scope.values.get(name))


def _stage_arguments(stage: Stage, state: StageState, scope: GlobalScope) -> Iterator[dict[str, Any]]:
    """Yield what *stage* declares; a bare ARG says nothing new about what has its value from the global *scope*."""
    for instruction in stage.instructions:
        if not isinstance(instruction, Arg):
            continue
        for name, default in instruction.pairs:
            if default is not None or name not in scope.values:
                yield _argument(instruction, name, state.arguments.get(name))


def _argument(instruction: Arg, name: str, value: str | None) -> dict[str, Any]:
    facts = {
        "name": name,
        "description": _description(instruction, name),
        "value": value,
        "line": instruction.span.first,
    }
    return {key: item for key, item in facts.items() if item is not None and item != ""}


def _needs(mounts: Iterable[tuple[RunMount, Vertex]], kind: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for mount, vertex in mounts:
        if mount.type == kind:
            known = found.setdefault(mount.id, {"name": mount.id, "required": False})
            known["required"] = known["required"] or mount.required
            known.setdefault("line", vertex.location.first_line if vertex.location else 0)
    return list(found.values())


def _vertices(root: Vertex | None) -> Iterator[Vertex]:
    """Yield everything below *root* in file order."""
    seen: dict[str, Vertex] = {}
    pending = [root] if root is not None else []
    while pending:
        vertex = pending.pop()
        if vertex.digest not in seen:
            seen[vertex.digest] = vertex
            pending.extend(vertex.inputs)
    yield from sorted(seen.values(), key=lambda vertex: vertex.location.first_line if vertex.location else 0)

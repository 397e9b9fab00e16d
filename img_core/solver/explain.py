"""What went into the key of a step, by name, to say why it ran. Only loaded when a step runs.

The files of a context are told by themselves, as long as they are few.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

from img_core.files import copy, fs
from img_core.solver.trees import is_context
from img_core.spec.graph import Copy, FileOp, MakeDirectory, RunOp, SourceOp, canonical_value
from img_core.spec.source import PinnedTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.forms.comparison import Named
    from img_core.solver.work import StepWork, Task

__all__ = ["named_inputs"]

_FILES = 256  # more are told together
_SMALL = 1 << 20  # bytes of a file that is read again to be told by itself


def named_inputs(work: StepWork[RunOp] | StepWork[FileOp]) -> Named:
    """Return all that went into the key of a step by name, what it is built on last."""
    task, vertex, op = work.task, work.task.vertex, work.task.op
    named = list(_run(work, op) if isinstance(op, RunOp) else _files(work, op))
    if isinstance(op, RunOp):
        named.append(("the platform", str(vertex.platform or "")))
    if op.has_base:
        named.append((_name_of(task, 0), work.base.identity))
    return named


def _name_of(task: Task[RunOp] | Task[FileOp], number: int) -> str:
    """Return what to call an input: an image by its reference, a step by its instruction."""
    vertex = task.vertex.inputs[number]
    if isinstance(vertex.op, SourceOp):
        return f"image {vertex.op.reference.partition('@')[0]}"
    return f"step `{vertex.name}`"


def _run(work: StepWork[RunOp] | StepWork[FileOp], op: RunOp) -> Iterator[tuple[str, str]]:
    yield "the command", json.dumps(op.args)
    for name, value in op.env:
        yield f"variable {name}", value
    yield "the order of variables", json.dumps([name for name, _ in op.env])
    for name, told in (("cwd", "WORKDIR"), ("user", "USER"), ("network", "--network"), ("security", "--security")):
        yield told, str(getattr(op, name))
    for name, told in (
        ("hostname", "the host name"),
        ("extra_hosts", "--add-host"),
        ("shm_size", "--shm-size"),
        ("ulimits", "--ulimit"),
    ):
        yield told, json.dumps(canonical_value(getattr(op, name)))
    yield from ((f"--{name}", value) for name, value in op.options)
    contents = iter(work.key_parts)
    for mount in op.mounts:
        yield (
            f"mount {mount.type} {mount.id if mount.type in ('secret', 'ssh') else mount.target}",
            json.dumps(canonical_value(mount, key=True)),
        )
        if mount.input is not None:
            action = Copy(mount.input, (mount.source or "/",), "/")
            yield from _content(work, action, next(contents))


def _files(work: StepWork[RunOp] | StepWork[FileOp], op: FileOp) -> Iterator[tuple[str, str]]:
    contents = iter(work.key_parts)
    for action in op.actions:
        yield "the instruction", json.dumps(canonical_value(action, key=True))
    for action in op.actions:
        if isinstance(action, Copy):
            yield from _content(work, action, next(contents))
    if any(isinstance(action, MakeDirectory) for action in op.actions):
        yield "SOURCE_DATE_EPOCH", next(contents)


def _content(work: StepWork[RunOp] | StepWork[FileOp], action: Copy, digest: str) -> Iterator[tuple[str, str]]:
    task, trees = work.task, work.trees
    source = task.input(action.input)
    if is_context(source):
        with ExitStack() as opened:
            selection = work.selections.get(action) or trees.select(
                source, opened.enter_context(trees.open(source)), action
            )
            for path, single in copy.file_digests(selection, most=_FILES, largest=_SMALL) or ():
                yield f"file {fs.show(path)}", single
    place = (
        f" of {_name_of(task, action.input)}" if action.input is not None and not isinstance(source, PinnedTree) else ""
    )
    yield f"files {' '.join(action.sources)}{place}", digest

"""Why a step ran: the first thing that is not as it was when the most similar step was recorded, by its name.

Only loaded when a step runs. A record keeps hashes of what went into its key by name, salted with that key, so that nobody who sees the
record can tell whether two steps share a value; the files of a context by themselves, as long as they are few.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias

from img_core.files import copy, fs
from img_core.solver.trees import is_context
from img_core.spec.graph import Copy, FileOp, MakeDirectory, RunOp, SourceOp, canonical_value
from img_core.spec.source import PinnedTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from img_core.solver.work import StepWork, Task
    from img_core.store.records import KnownStep

__all__ = ["first_difference", "hashed", "named_inputs"]

#: name → text, in the order in which people want to hear of them
Named: TypeAlias = "list[tuple[str, str]]"

_FILES = 256  # more are told together
_SMALL = 1 << 20  # bytes of a file that is read again to be told by itself
_NEVER = "nothing like it was built before"


def hashed(key: str, inputs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return *inputs* as the record of *key* keeps them."""
    return tuple((name, _hash(key, name, text)) for name, text in inputs)


def _hash(key: str, name: str, text: str) -> str:
    return hashlib.sha256(f"{key}\0{name}\0{text}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------------- comparing


def first_difference(description: str, inputs: Named, known: Iterable[KnownStep]) -> str:
    """Return the name of the first of *inputs* that the most similar of the *known* steps does not have, or has otherwise.

    Similar is what is called alike or shares half of the inputs; the most similar has the fewest others.
    """
    best: tuple[tuple[int, bool, bool], str] | None = None
    names = {name for name, _ in inputs}
    for key, called, recorded in known:  # the newest first
        before = dict(recorded)
        differing = [name for name, text in inputs if before.get(name) != _hash(key, name, text)]
        alike = _text(called) == _text(description)
        if not recorded or (not alike and 2 * len(differing) > len(inputs)):
            continue
        gone = [name for name in before if name not in names]
        # All files together differ as well where one of them is gone.
        first = next(iter([*(gone if differing and differing[0].startswith("files ") else ()), *differing, *gone]), "")
        differing += gone
        # Of two with as many differences the one at the same place of a build is nearer: what is built on comes last.
        rank = (-len(differing), bool(inputs) and inputs[-1][0] not in differing, alike)
        if best is None or rank > best[0]:
            best = rank, first
    if best is None:
        return _NEVER
    return best[1] or "its result is gone"


def _text(description: str) -> str:
    """Return an instruction without the number of its step and the name of its stage."""
    return description.partition("] ")[2] or description


# ---------------------------------------------------------------------------------------------------------------- naming


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

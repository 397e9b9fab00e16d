"""COPY, ADD, WORKDIR and heredocs: `img_core.files.copy` does the work."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from img_core.files import copy, fs
from img_core.files.ownership import Owners
from img_core.solver.handler import StepHandler
from img_core.solver.stacks import Stack
from img_core.spec.errors import ImgError
from img_core.spec.graph import Copy, FileOp, MakeDirectory
from img_core.spec.source import PinnedTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.solver.handler import StepPlace, Task

__all__ = ["FileHandler"]


class FileHandler(StepHandler[FileOp]):
    """Copies files and makes directories."""

    def key_parts(self, task: Task[FileOp]) -> list[str]:
        """Return digests of what is copied, and the time that new directories get."""
        first = task.inputs[0] if task.op.has_base else None
        base = first if isinstance(first, Stack) else None
        parts = [self.trees.digest(task.input(action.input), action, base) for action in _copies(task.op)]
        if any(isinstance(action, MakeDirectory) for action in task.op.actions):
            parts.append(str(self.scope.plan.source_date_epoch))
        return parts

    def work(self, task: Task[FileOp], key_parts: Sequence[str], place: StepPlace) -> None:
        """Apply the actions; refuse the result if what they read changed meanwhile."""
        owners = Owners(self.scope.host.mapping)
        self._apply(
            task, place, owners
        )  # apart: what it knows of a hundred thousand files goes before they are looked at again
        if owners.recorded:
            self.scope.drivers.snapshotter.record_owners(place.directory, owners.recorded)
        self._check_unchanged(task, key_parts)

    def _apply(self, task: Task[FileOp], place: StepPlace, owners: Owners) -> None:
        from img_core.archives import unpacking  # a cached build unpacks nothing

        scope, epoch = self.scope, self.scope.plan.source_date_epoch
        with ExitStack() as opened:
            selections = [
                copy.select(opened.enter_context(self.trees.open(task.input(action.input))), action)
                if isinstance(action, Copy)
                else None
                for action in task.op.actions
            ]
            warnings = copy.apply(
                task.op.actions,
                selections,
                place.rootfs.fd,
                owners=owners,
                now_ns=None if epoch is None else epoch * 10**9,
                check=scope.cancellation.check,
                archives=unpacking,
            )
            for warning in warnings:
                scope.events.status(task.vertex.digest, f"warning: {warning}")

    def _check_unchanged(self, task: Task[FileOp], key_parts: Sequence[str]) -> None:
        """Refuse a copy of files that are not those the key was made of: it would be found under the wrong key ever after."""
        for action, planned in zip(_copies(task.op), key_parts, strict=False):
            source = task.input(action.input)
            if (
                isinstance(source, PinnedTree)
                and source.directory is not None
                and self.trees.digest(source, action) != planned
            ):
                raise ImgError(
                    f"files of the build context changed while they were copied to `{fs.show(action.destination)}`",
                    hint="run the build again when nothing writes there",
                )


def _copies(op: FileOp) -> list[Copy]:
    return [action for action in op.actions if isinstance(action, Copy)]

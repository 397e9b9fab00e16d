"""One handler for each kind of operation of the graph: what its result depends on, and how it is made."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from img_core.files import copy, fs
from img_core.files.ownership import Owners
from img_core.linux.parallel import once
from img_core.solver.handler import Done, Handler, StepHandler
from img_core.solver.keys import digest_of
from img_core.solver.stacks import Stack, image_stack
from img_core.solver.trees import Trees
from img_core.spec.errors import ImgError
from img_core.spec.graph import IMAGE_SCHEME, Copy, FileOp, MakeDirectory, MergeOp, RunOp, SourceOp
from img_core.spec.source import PinnedTree, Source, TreeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.solver.failure import StepFailure
    from img_core.solver.handler import StepPlace, Task
    from img_core.solver.run import Runner
    from img_core.solver.scope import BuildScope
    from img_core.spec.graph import Op
    from img_core.spec.snapshotter import Rootfs

__all__ = ["FileHandler", "RunHandler", "handlers"]


def handlers(
    scope: BuildScope,
) -> Mapping[type[Op], Handler[Any]]:  # Any: each handles the operation that it stands for
    """Return the handlers of one build."""
    trees = Trees(scope)
    return {
        SourceOp: SourceHandler(scope),
        RunOp: RunHandler(scope, trees),
        FileOp: FileHandler(scope, trees),
        MergeOp: MergeHandler(scope),
    }


class SourceHandler(Handler[SourceOp]):
    """Images and trees from outside: finds out what exactly each means; its bytes come when a step or an exporter needs them."""

    def run(self, task: Task[SourceOp]) -> Done:
        """Pin the source. An image is known by the chain of its layers, a tree by the identity that its source gives it."""
        op, platform = task.op, task.vertex.platform
        reference = op.reference
        if op.scheme != IMAGE_SCHEME:
            source: Source = self.scope.drivers.tree_source(op.scheme)
            if isinstance(source, TreeSource):
                taken = self.scope.resolver.wanted(op)
                return Done(self.scope.drivers.tree_source(taken.scheme).pin(taken, platform))
            reference = f"{op.scheme}://{reference}"
        image = self.scope.resolver.resolve(reference, platform or self.scope.host_platform)
        return Done(image_stack(image.content, fetch=image.fetch, step=task.vertex.digest, remote=image.remote))


class RunHandler(StepHandler[RunOp]):
    """RUN: processes in a container; what that takes is loaded with the first one that is not cached."""

    mount_points = True

    def __init__(self, scope: BuildScope, trees: Trees) -> None:
        super().__init__(scope, trees)
        self._runners: list[Runner] = []
        self._runner = once(self._new_runner)

    def key_parts(self, task: Task[RunOp]) -> list[str]:
        """Return digests of what mounts bring from other inputs."""
        first = task.inputs[0] if task.op.has_base else None
        base = first if isinstance(first, Stack) else None
        return [
            self.trees.mount_digest(mount, task.inputs, base) for mount in task.op.mounts if mount.input is not None
        ]

    def work(self, task: Task[RunOp], key_parts: Sequence[str], place: StepPlace) -> None:
        """Run the process. Raises StepError if it fails."""
        self._runner().run(task, place)

    def enter(self, task: Task[RunOp], rootfs: Rootfs, message: str, use: Callable[[StepFailure], None]) -> None:
        """Let *use* enter *rootfs*, which the process of *task* left when it failed for the reason *message*."""
        self._runner().enter(task, rootfs, message, use)

    def _new_runner(self) -> Runner:
        from img_core.solver.run import Runner  # importing it takes longer than a cached build should

        self._runners.append(Runner(self.scope, self.trees))
        return self._runners[0]

    @property
    def cache_mounts(self) -> Mapping[str, str]:
        """The cache mounts that steps of this build may have changed: ids by the names of directories."""
        return self._runners[0].cache_mounts if self._runners else {}

    def close(self) -> None:
        """Forget the secrets."""
        for runner in self._runners:
            runner.close()


class FileHandler(StepHandler[FileOp]):
    """COPY, ADD, WORKDIR and heredocs: `img_core.files.copy` does the work."""

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


class MergeHandler(Handler[MergeOp]):
    """``COPY --link``: layers that were made on an empty root, on others. Nothing is done, so it is as new as what it puts together."""

    def run(self, task: Task[MergeOp]) -> Done:
        """Return the layers of both inputs, known by the identities of both."""
        base, upper = task.stack(0), task.stack(1)
        identity = digest_of("merge", base.identity, upper.identity)
        return Done(base.with_linked(upper, identity), found=not task.inputs_made)

"""One handler for each kind of operation of the graph: what its result depends on, and how it is made."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

from img_core.files import copy
from img_core.files.ownership import Owners
from img_core.linux.parallel import once
from img_core.solver.handler import Handler, StepHandler
from img_core.solver.keys import digest_of
from img_core.solver.stacks import image_stack
from img_core.solver.trees import Trees, is_context
from img_core.solver.work import Done, StepWork
from img_core.spec.graph import IMAGE_SCHEME, Copy, FileOp, MakeDirectory, MergeOp, RunOp, SourceOp
from img_core.spec.source import Source, TreeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from img_core.solver.failure import StepFailure
    from img_core.solver.run import Runner
    from img_core.solver.scope import BuildScope
    from img_core.solver.stacks import Evaluated
    from img_core.solver.work import StepPlace, Task
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

    def work(self, task: Task[RunOp]) -> RunWork:
        """Return *task* at work."""
        return RunWork(task, self.trees, self._runner)

    def _alone(self, kind: str, name: str, work: StepWork[RunOp]) -> AbstractContextManager[None]:
        """Do not wait where steps run alone, for the other process's step waits for us to end. Equal work may be done twice then."""
        return nullcontext() if self.scope.drivers.executor().alone else super()._alone(kind, name, work)

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


class RunWork(StepWork[RunOp]):
    """One RUN."""

    def __init__(self, task: Task[RunOp], trees: Trees, runner: Callable[[], Runner]) -> None:
        super().__init__(task, trees)
        self._runner = runner

    def read(self) -> list[str]:
        """Return digests of what mounts bring from other inputs."""
        op, inputs = self.task.op, self.task.inputs
        base = self.base if op.has_base else None
        return [self.trees.mount_digest(mount, inputs, base) for mount in op.mounts if mount.input is not None]

    def do(self, place: StepPlace) -> None:
        """Run the process. Raises StepError if it fails."""
        self._runner().run(self.task, place)


class FileHandler(StepHandler[FileOp]):
    """Copies files and makes directories."""

    def work(self, task: Task[FileOp]) -> FileWork:
        """Return *task* at work."""
        return FileWork(task, self.trees, self.scope)


class FileWork(StepWork[FileOp]):
    """One COPY, or whatever changes files.

    What is copied is read once. Where its content is known, by what stat(2) says of each file, that is for the copy. Else it is for the
    key, which may be recorded, and kept for the copy; and where nothing can be recorded, copying gives the digest for the key on the way.
    Of what is too much to be kept, nothing counts as recorded that had another outline.
    """

    exact = True

    def __init__(self, task: Task[FileOp], trees: Trees, scope: BuildScope) -> None:
        super().__init__(task, trees)
        self.selections: dict[Copy, copy.Selection] = {}
        self._copies = [action for action in task.op.actions if isinstance(action, Copy)]
        self._known: set[Copy] = set()  # what needs no digest any more
        self._opened = ExitStack()
        self._scope = scope

    @cached_property
    def _marks(self) -> set[str]:
        """What `recorded` notes; to be asked for before anything is read."""
        contexts = [action for action in self._copies if is_context(self._source(action))]
        outlines = [copy.outline(self._selection(action)) for action in contexts]
        return {digest_of("recorded", self.definition), digest_of("recorded", self.definition, *filter(None, outlines))}

    def _unmarked(self) -> list[str]:
        known = self._scope.store.records.tree_digest
        return [mark for mark in self._marks if known(self.base.identity, mark) is None]

    def is_new(self, *, use_cache: bool) -> bool:
        """Tell whether some content is not known, and nothing was recorded of this instruction on this base."""
        if not self._copies or (use_cache and self._scope.imports is not None):
            return False
        if not self._unmarked() and use_cache:
            return False
        return not all(map(self._is_known, self._copies))

    def _is_known(self, action: Copy) -> bool:
        """Tell whether the content of what *action* copies is known, or has to be read before: archives are no files that are copied."""
        source = self._source(action)
        if not is_context(source):
            return self.trees.known(source, action) is not None
        selection = self._selection(action)
        return copy.known_digest(selection) is not None or (
            action.unpack and copy.holds_archives(selection, _unpacking())
        )

    def _source(self, action: Copy) -> Evaluated:
        return self.task.input(action.input)

    def _selection(self, action: Copy) -> copy.Selection:
        if action not in self.selections:
            source = self._source(action)
            tree = self._opened.enter_context(self.trees.open(source))
            is_known = action in self._known
            self.selections[action] = copy.select(tree, action) if is_known else self.trees.select(source, tree, action)
        return self.selections[action]

    def fetch(self) -> None:
        """Bring here what is copied from elsewhere than a context, while the base arrives."""
        fetched = [action for action in self._copies if not is_context(self._source(action))]
        if fetched and self.task.op.has_base:
            self._scope.layers.unpack_soon(self.base)
        for action in fetched:
            self._selection(action)

    def read(self) -> list[str]:
        """Return digests of what is copied, and the time that new directories get."""
        parts = list(map(self._digest, self._copies))
        if any(isinstance(action, MakeDirectory) for action in self.task.op.actions):
            parts.append(str(self._scope.plan.source_date_epoch))
        return parts

    def _digest(self, action: Copy) -> str:
        source = self._source(action)
        if not is_context(source) and action not in self.selections:
            known = self.trees.known(source, action)
            if known is not None:
                self._known.add(action)
                return known
            if self.task.op.has_base:  # no step is recorded for what nobody asked for before: the base will be needed
                self._scope.layers.unpack_soon(self.base)
        return self.trees.selected(source, action, self._selection(action))

    def do(self, place: StepPlace) -> None:
        """Apply the actions. Raises ImgError, also where what they read changes meanwhile."""
        scope, epoch = self._scope, self._scope.plan.source_date_epoch
        owners = Owners(scope.host.mapping)
        warnings = copy.apply(
            self.task.op.actions,
            [self._selection(action) if isinstance(action, Copy) else None for action in self.task.op.actions],
            place.rootfs.fd,
            owners=owners,
            now_ns=None if epoch is None else epoch * 10**9,
            check=scope.cancellation.check,
            archives=_unpacking(),
        )
        for warning in warnings:
            scope.events.status(self.task.vertex.digest, f"warning: {warning}")
        if owners.recorded:
            scope.drivers.snapshotter.record_owners(place.directory, owners.recorded)

    def recorded(self) -> None:
        """Note for `is_new` that there is a record."""
        for mark in self._unmarked() if self._copies else ():
            self._scope.store.records.set_tree_digest(self.base.identity, mark, "")

    def close(self) -> None:
        """Close what is copied from."""
        self._opened.close()


def _unpacking() -> copy.Unpacker:
    from img_core.archives import unpacking  # a cached build unpacks nothing

    return unpacking


class MergeHandler(Handler[MergeOp]):
    """``COPY --link``: layers that were made on an empty root, on others. Nothing is done, so it is as new as what it puts together."""

    def run(self, task: Task[MergeOp]) -> Done:
        """Return the layers of both inputs, known by the identities of both."""
        base, upper = task.stack(0), task.stack(1)
        identity = digest_of("merge", base.identity, upper.identity)
        return Done(base.with_linked(upper, identity), found=not task.inputs_made)

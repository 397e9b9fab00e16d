"""What a handler of operations is, and the kind whose results are kept as snapshots and found again by their records."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from img_core.files import fs, space
from img_core.linux.spans import span
from img_core.solver.keys import definition_of, digest_of, step_key
from img_core.solver.recorded import made_again, recorded, recorded_layer
from img_core.solver.stacks import EMPTY, Layer, Stack
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import ImgError, StepError
from img_core.spec.graph import FileOp, MergeOp, RunOp, SourceOp
from img_core.store.records import StepRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from img_core.solver.cache_import import Imports
    from img_core.solver.scope import BuildScope
    from img_core.solver.stacks import Evaluated
    from img_core.solver.trees import Trees
    from img_core.spec.graph import Vertex
    from img_core.spec.snapshotter import Rootfs
    from img_core.store.snapshots import Snapshot

__all__ = ["Done", "Handler", "StepHandler", "StepPlace", "Task"]

O = TypeVar("O", SourceOp, RunOp, FileOp, MergeOp)  # noqa: E741
S = TypeVar("S", RunOp, FileOp)


@dataclass(frozen=True, slots=True)
class Task(Generic[O]):
    """One vertex with its operation and the results of its inputs; *inputs_made* tells that one of them is new."""

    vertex: Vertex
    op: O
    inputs: Sequence[Evaluated]
    inputs_made: bool = False

    def stack(self, index: int) -> Stack:
        """Return the root file system that is input *index*. Raises ImgError for a tree of files."""
        value = self.inputs[index]
        if not isinstance(value, Stack):
            raise ImgError("a build context cannot be a base image yet", hint="copy from it into `FROM scratch`")
        return value

    def input(self, index: int | None) -> Evaluated:
        """Return input *index*, or an empty root for None."""
        return EMPTY if index is None else self.inputs[index]


@dataclass(frozen=True, slots=True)
class Done:
    """The *result* of a task; *found* tells that nothing was done for it."""

    result: Evaluated
    found: bool = False


@dataclass(frozen=True, slots=True)
class StepPlace:
    """Where a step works: the writable *rootfs* of the new snapshot in *directory*, on the snapshots *parents*."""

    rootfs: Rootfs
    directory: str
    parents: tuple[str, ...]


class Handler(ABC, Generic[O]):
    """Handles one kind of operation in one build; called from several threads at once."""

    def __init__(self, scope: BuildScope) -> None:
        self.scope = scope

    @abstractmethod
    def run(self, task: Task[O]) -> Done:
        """Return the result of *task*."""

    def find(self, task: Task[O]) -> Evaluated | None:
        """Return the result of *task* if nothing has to be done for it, else None."""
        return self.run(task).result

    def close(self) -> None:
        """End what was begun for the tasks of this build."""


class StepHandler(Handler[S]):
    """Operations that change a root file system: each makes one layer, in a new snapshot, unless a record of it is found.

    What tells two of them apart, and what makes one run again, stands with the fields of the operations (`img_core.spec.graph`); a handler
    adds what a step reads elsewhere.
    """

    mount_points = False  #: see `Snapshotter.prepare`

    def __init__(self, scope: BuildScope, trees: Trees) -> None:
        super().__init__(scope)
        self.trees = trees
        self.results: dict[str, tuple[StepRecord, Stack]] = {}  #: by the digests of vertices
        self._done: set[str] = set()  # vertices that were worked on

    @abstractmethod
    def key_parts(self, task: Task[S]) -> Sequence[str]:
        """Return what goes into the cache key beside the operation and its base: digests of what it reads elsewhere."""

    @abstractmethod
    def work(self, task: Task[S], key_parts: Sequence[str], place: StepPlace) -> None:
        """Do the work in *place*. Raises ImgError."""

    def run(self, task: Task[S]) -> Done:
        """Return the recorded result, or do the work, commit it and record it."""
        scope, vertex = self.scope, task.vertex
        base = task.stack(0) if task.op.has_base else EMPTY
        parts = self.key_parts(task)
        key, definition = step_key(vertex, base.identity, parts), definition_of(vertex)
        use_cache = vertex.use_cache or vertex.digest in self._done  # of a build that was restarted
        if use_cache and (found := self._recorded(key, definition, base, vertex)):
            return Done(found, found=True)
        # Equal work of two processes is done once: the second waits here and then finds the first one's record.
        with scope.store.lock(f"step:{key}:{definition}", scope.cancellation.check):
            if use_cache and (found := self._recorded(key, definition, base, vertex)):
                return Done(found, found=True)
            with scope.events.again(vertex.digest):
                record = StepRecord(key, definition, digest_of("result", key, definition), (), base.base)
                return Done(self._made(task, parts, base, self._explained(task, parts, base, record)))

    def find(self, task: Task[S]) -> Stack | None:
        """Return the recorded result."""
        vertex, base = task.vertex, task.stack(0) if task.op.has_base else EMPTY
        key = step_key(vertex, base.identity, self.key_parts(task))
        return self._recorded(key, definition_of(vertex), base, vertex) if vertex.use_cache else None

    def _explained(self, task: Task[S], key_parts: Sequence[str], base: Stack, record: StepRecord) -> StepRecord:
        """Tell why the step has to run; return *record* with what went into its key."""
        from img_core.solver.explain import first_difference, hashed, named_inputs

        scope, vertex = self.scope, task.vertex
        named = named_inputs(task, base.identity, key_parts, self.trees)
        reason = (
            first_difference(vertex.name, named, scope.known_steps()) if vertex.use_cache else "no cache was wanted"
        )
        scope.events.explain(reason=reason)
        return replace(record, inputs=hashed(record.key, named))

    def _recorded(self, key: str, definition: str, base: Stack, vertex: Vertex) -> Stack | None:
        """Return the recorded result of *vertex*, if there is one.

        Another definition of the key (another cache mount, say) will do as well, as long as it is not one of this build: two steps of a
        build that differ in anything each have a result of their own, in this build and in the next.
        """
        imports = self.scope.imports
        if imports is not None and vertex.digest in imports.preferred:
            found = self._imported(imports, key, definition, base, vertex)
            return found or self._recorded_here(key, definition, base, vertex)
        found = self._recorded_here(key, definition, base, vertex)
        return found if found or imports is None else self._imported(imports, key, definition, base, vertex)

    def _recorded_here(self, key: str, definition: str, base: Stack, vertex: Vertex) -> Stack | None:
        for record in self.scope.store.records.steps(key):
            if self._may_take(record.definition, definition) and (found := self._result(record, base, vertex)):
                self.scope.events.explain(source="here")
                return found
        return None

    def _imported(self, imports: Imports, key: str, definition: str, base: Stack, vertex: Vertex) -> Stack | None:
        from img_core.solver.cache_import import step_record

        for imported in imports.find(key):
            if self._may_take(imported.record.definition, definition):
                layer = imports.layer(imported, base, vertex)
                if layer is not None:
                    self.scope.events.explain(source=imported.source)
                    return self._stacked(base, layer, step_record(imported.record), vertex)
        return None

    def _may_take(self, recorded: str, definition: str) -> bool:
        return recorded == definition or recorded not in self.scope.definitions

    def _result(self, record: StepRecord, base: Stack, vertex: Vertex) -> Stack | None:
        """Return the result of *record* if it is here and was made on the layers of *base*: those of two runs are never mixed."""
        layer = recorded_layer(self.scope.store, record, base, vertex.digest)
        return self._stacked(base, layer, record, vertex) if layer else None

    def _stacked(self, base: Stack, layer: Layer, record: StepRecord, vertex: Vertex) -> Stack:
        if vertex.digest in self.scope.blobs_wanted and layer.imported is None:  # those are fetched when all are known
            self.scope.layers.write_soon(layer)
        stack = base.with_layer(layer, record.identity)
        self.results[vertex.digest] = (record, stack)
        return stack

    def _made(self, task: Task[S], key_parts: Sequence[str], base: Stack, record: StepRecord) -> Stack:
        """Do the work on *base* in a new snapshot; keep it and the completed *record*, unless it gave what an older record has."""
        scope, vertex = self.scope, task.vertex
        snapshotter, directory = scope.drivers.snapshotter, scope.new_path("snapshot")
        parent = scope.layers.snapshots.top(base)
        if scope.imports is not None:
            scope.imports.made = True
        parents, began = parent.directories if parent else (), time.monotonic()
        try:
            with fs.disk_errors(directory):
                with span("step", "prepare"):
                    rootfs = snapshotter.prepare(directory, parents, mount_points=self.mount_points)
                try:
                    self.work(task, key_parts, StepPlace(rootfs, directory, parents))
                finally:
                    rootfs.close()
                seconds = time.monotonic() - began
                if before := [
                    old for old in scope.store.records.steps(record.key) if old.definition == record.definition
                ]:
                    record, same = made_again(scope, record, before, (directory, parents))
                    # Where everything runs, nothing is gained by the old layer, and who asked for it expects new times.
                    if same and scope.looks_up and (found := self._result(same, base, vertex)):
                        self._done.add(vertex.digest)
                        snapshotter.remove(directory)
                        return found
                with span("step", "commit"):
                    snapshot = scope.store.snapshots.commit(directory, parent, description=vertex.name)
        except BaseException as err:
            if os.path.lexists(directory) and not self._kept(err, vertex, directory, parent):
                snapshotter.remove(directory)
            raise
        layer = Layer(snapshot=snapshot, created=snapshot.created, step=vertex.digest, name=snapshot.id)
        record = replace(
            record,
            layers=tuple(map(recorded, (*base.own, layer))),
            platform=str(vertex.platform or ""),
            description=vertex.name,
            seconds=seconds,
            made=snapshot.created,
        )
        scope.store.records.add_step(record)
        self._done.add(vertex.digest)
        return self._stacked(base, layer, record, vertex)

    def _kept(self, error: BaseException, vertex: Vertex, directory: str, parent: Snapshot | None) -> bool:
        """Keep what a program left in *directory* that failed, if somebody wants to; tell whether. It is no result of any step."""
        keep = self.scope.drivers.keep_failed
        if keep is None or not isinstance(error, StepError) or error.status is None:
            return False
        if space.is_nearly_full(self.scope.store.state):  # perhaps because of it
            return False
        try:
            left = self.scope.store.snapshots.commit(directory, parent, description=f"failed: {vertex.name}")
            keep(vertex, left.id, error.message)
        except (ImgError, OSError):  # for want of space, perhaps: what matters is the error of the step
            return not os.path.lexists(directory)
        return True

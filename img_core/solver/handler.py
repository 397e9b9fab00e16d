"""What a handler of operations is, and the kind whose results are kept as snapshots and found again by their records."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from img_core.files import fs, space
from img_core.linux.spans import span
from img_core.solver.keys import digest_of
from img_core.solver.recorded import certainly_same, changes_digest, made_again, recorded, recorded_layer
from img_core.solver.stacks import Layer
from img_core.solver.work import Done, StepPlace
from img_core.spec.errors import ImgError, StepError
from img_core.spec.graph import FileOp, MergeOp, RunOp, SourceOp
from img_core.store.records import StepRecord

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from img_core.solver.cache_import import Imports
    from img_core.solver.scope import BuildScope
    from img_core.solver.stacks import Evaluated, Stack
    from img_core.solver.trees import Trees
    from img_core.solver.work import StepWork, Task
    from img_core.spec.graph import Vertex
    from img_core.store.snapshots import Snapshot

__all__ = ["Handler", "StepHandler"]

O = TypeVar("O", SourceOp, RunOp, FileOp, MergeOp)  # noqa: E741
S = TypeVar("S", RunOp, FileOp)


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
    def work(self, task: Task[S]) -> StepWork[S]:
        """Return *task* at work."""

    def run(self, task: Task[S]) -> Done:
        """Return the recorded result, or do the work, commit it and record it."""
        with closing(self.work(task)) as work:
            done = self._new(work) or self._found_or_made(work)
            work.recorded()
            return done

    def _new(self, work: StepWork[S]) -> Done | None:
        """Do the work before its key is known, if nothing can be recorded of it."""
        use_cache = self._uses_cache(work.task.vertex)
        if not work.is_new(use_cache=use_cache):
            return None
        with self._alone("new", work.base.identity, work):
            if not work.is_new(use_cache=use_cache):
                return None
            work.fetch()
            return self._made(work)

    def _found_or_made(self, work: StepWork[S]) -> Done:
        if found := self._found(work):
            return Done(found, found=True)
        with self._alone("step", work.key, work):
            if found := self._found(work):
                return Done(found, found=True)
            return self._made(work, self._explained(work))

    def _alone(self, kind: str, name: str, work: StepWork[S]) -> AbstractContextManager[None]:
        """Let equal work of two processes be done once: the second waits here and then finds the first one's record."""
        return self.scope.store.lock(f"{kind}:{name}:{work.definition}", self.scope.cancellation.check)

    def _uses_cache(self, vertex: Vertex) -> bool:
        return vertex.use_cache or vertex.digest in self._done  # of a build that was restarted

    def find(self, task: Task[S]) -> Stack | None:
        """Return the recorded result."""
        with closing(self.work(task)) as work:
            return self._found(work)

    def _found(self, work: StepWork[S]) -> Stack | None:
        vertex, key = work.task.vertex, work.key
        return self._recorded(key, work.definition, work.base, vertex) if self._uses_cache(vertex) else None

    def _explained(self, work: StepWork[S]) -> StepRecord:
        """Tell why the step has to run; return the record that it will have, with what went into its key, and without a result."""
        from img_core.forms.comparison import first_difference, hashed
        from img_core.solver.explain import named_inputs

        scope, vertex, named = self.scope, work.task.vertex, named_inputs(work)
        reason = (
            first_difference(vertex.name, named, scope.known_steps()) if vertex.use_cache else "no cache was wanted"
        )
        scope.events.explain(reason=reason)
        identity = digest_of("result", work.key, work.definition)
        return StepRecord(work.key, work.definition, identity, (), work.base.base, inputs=hashed(work.key, named))

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

    def _made(self, work: StepWork[S], record: StepRecord | None = None) -> Done:
        """Do the work in a new snapshot; keep it and the completed *record*, unless it gave what an older record has.

        Without *record* it is only made now, when the work tells the key, and may turn out to be there already.
        """
        base: Stack = work.base
        scope, vertex = self.scope, work.task.vertex
        snapshotter, directory = scope.drivers.snapshotter, scope.new_path("snapshot")
        parent = scope.layers.snapshots.top(base)
        if scope.imports is not None:
            scope.imports.made = True
        parents, began = parent.directories if parent else (), time.monotonic()
        with scope.events.again(vertex.digest), ExitStack() as alone:
            try:
                with fs.disk_errors(directory):
                    with span("step", "prepare"):
                        rootfs = snapshotter.prepare(directory, parents, mount_points=self.mount_points)
                    try:
                        work.do(StepPlace(rootfs, directory, parents))
                    finally:
                        rootfs.close()
                    seconds = time.monotonic() - began
                    if record is None:
                        alone.enter_context(self._alone("step", work.key, work))
                        if found := self._found(work):
                            snapshotter.remove(directory)
                            return Done(found, found=True)
                        record = self._explained(work)
                    steps = scope.store.records.steps(record.key)
                    before = [old for old in steps if old.definition == record.definition]
                    if work.exact and not scope.looks_up and (old := certainly_same(scope.store, before)):
                        record = replace(record, identity=old.identity, changes=old.changes)
                    elif before:
                        changes_in = partial(changes_digest, snapshotter, scope.cancellation.check)
                        record, same = made_again(scope.store, changes_in, record, before, (directory, parents))
                        # Where everything runs, nothing is gained by the old layer, and who asked for it expects new times.
                        if same and scope.looks_up and (found := self._result(same, base, vertex)):
                            self._done.add(vertex.digest)
                            snapshotter.remove(directory)
                            return Done(found)
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
        return Done(self._stacked(base, layer, record, vertex))

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

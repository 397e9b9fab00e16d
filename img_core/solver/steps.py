"""Evaluates vertices: looks for the record of a step, else does its work in a new snapshot."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.files import fs
from img_core.solver.keys import definition_of, digest_of, step_key
from img_core.solver.layers import EMPTY, Layer, Stack, image_stack
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.graph import MergeOp, RunOp, SourceOp
from img_core.spec.source import PinnedTree, Source, TreeSource
from img_core.store.records import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from img_core.solver.cancellation import Cancellation
    from img_core.solver.events import Events, StepReport
    from img_core.solver.files import FileSteps
    from img_core.solver.images import Resolver
    from img_core.solver.layers import Layers
    from img_core.solver.run import RunSteps
    from img_core.spec.graph import Vertex
    from img_core.spec.snapshotter import Rootfs, Snapshotter
    from img_core.spec.values import Platform
    from img_core.store import Store
    from img_core.store.snapshots import Snapshot

__all__ = ["Evaluated", "Evaluator", "Place"]

#: What a vertex evaluates to: a root file system, or a tree of files from outside.
Evaluated = Stack | PinnedTree


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step works: the writable *rootfs* of the new snapshot in *directory*, on the snapshots *parents*."""

    rootfs: Rootfs
    directory: str
    parents: tuple[str, ...]


class Evaluator:
    """Evaluates the vertices of one build; called from several threads."""

    def __init__(
        self,
        *,
        store: Store,
        snapshotter: Snapshotter,
        layers: Layers,
        resolver: Resolver,
        tree_source: Callable[[str], TreeSource],
        runs: Callable[[], RunSteps],
        files: FileSteps,
        events: Events,
        cancellation: Cancellation,
        host_platform: Platform,
        finished: Callable[[Vertex, bool, float], None],
    ) -> None:
        self._store = store
        self._snapshotter = snapshotter
        self._layers = layers
        self._resolver = resolver
        self._tree_source = tree_source
        self._runs = runs
        self._files = files
        self._events = events
        self._cancellation = cancellation
        self._host_platform = host_platform
        self._finished = finished
        self.blobs_wanted: frozenset[str] = frozenset()  #: digests of vertices whose layers an exporter will want
        self.definitions: frozenset[str] = frozenset()  #: of all steps of the build, see `keys.definition_of`
        self._cached: set[str] = set()  # digests of vertices that were found
        self._made: set[str] = set()  # digests of steps that were not

    @property
    def cached_steps(self) -> int:
        """How many steps were found in the cache."""
        return len(self._cached)

    @property
    def made_steps(self) -> int:
        """How many steps were not."""
        return len(self._made)

    def evaluate(self, vertex: Vertex, inputs: Sequence[Evaluated]) -> Evaluated:
        """Return the result of *vertex*."""
        with self._reported(vertex) as report:
            op = vertex.op
            if isinstance(op, SourceOp):
                return self._source(vertex, op)
            if isinstance(op, MergeOp):
                # Nothing is done either way; it is as new as what it puts together.
                report.cached = not any(item.digest in self._made for item in vertex.inputs)
                base, upper = _stack(inputs[0]), _stack(inputs[1])
                return base.with_linked(upper, digest_of("merge", base.identity, upper.identity))
            base = _stack(inputs[0]) if op.has_base else EMPTY
            if isinstance(op, RunOp):
                return self._step(
                    vertex,
                    base,
                    self._files.mount_contents(op, inputs),
                    report,
                    lambda place: self._runs().run(vertex, op, inputs, place),
                    mount_points=True,
                )
            files = self._files.plan(op, inputs, vertex.digest)
            return self._step(vertex, base, files.contents, report, files.apply)

    # ------------------------------------------------------------------------------------------------------ sources

    def _source(self, vertex: Vertex, op: SourceOp) -> Evaluated:
        platform = vertex.platform or self._host_platform
        reference = op.reference
        if op.scheme != "docker-image":
            source: Source = self._tree_source(op.scheme)
            if isinstance(source, TreeSource):
                return source.pin(op, vertex.platform)
            reference = f"{op.scheme}://{reference}"
        image = self._resolver.resolve(reference, platform)
        return image_stack(image.content, fetch=image.fetch, step=vertex.digest, remote=image.remote)

    # -------------------------------------------------------------------------------------------------------- steps

    def _step(
        self,
        vertex: Vertex,
        base: Stack,
        contents: Sequence[str],
        report: StepReport,
        work: Callable[[Place], None],
        *,
        mount_points: bool = False,
    ) -> Stack:
        key, definition = step_key(vertex, base.identity, contents), definition_of(vertex)
        if vertex.use_cache and (found := self._recorded(key, definition, base, vertex)):
            report.cached = True
            return found
        # Equal work of two processes is done once: the second waits here and then finds the first one's record.
        with self._store.lock(f"step:{key}:{definition}", self._cancellation.check):
            if vertex.use_cache and (found := self._recorded(key, definition, base, vertex)):
                report.cached = True
                return found
            snapshot = self._do(vertex, self._layers.top(base), work, mount_points=mount_points)
            identity = digest_of("result", key, definition)
            if any(step.definition == definition for step in self._store.records.steps(key)):
                # A step that ran again may have given something else: what was built on its old result must not be found.
                identity = digest_of("again", os.urandom(16).hex())
            self._store.records.add_step(Step(key, definition, identity, snapshot.id))
        return self._stacked(base, snapshot, identity, vertex)

    def _recorded(self, key: str, definition: str, base: Stack, vertex: Vertex) -> Stack | None:
        """Return the recorded result of *vertex*, if there is one.

        Another definition of the key (another cache mount, say) will do as well, as long as it is not one of this build: two steps of a
        build that differ in anything each have a result of their own, in this build and in the next.
        """
        for record in self._store.records.steps(key):
            if record.definition != definition and record.definition in self.definitions:
                continue
            if snapshot := self._store.snapshots.get(record.snapshot):
                return self._stacked(base, snapshot, record.identity, vertex)
        return None

    def _stacked(self, base: Stack, snapshot: Snapshot, identity: str, vertex: Vertex) -> Stack:
        layer = Layer(snapshot=snapshot, diff_id=snapshot.diff_id, created=snapshot.created, step=vertex.digest)
        if vertex.digest in self.blobs_wanted and not snapshot.diff_id:
            self._layers.write_blob_soon(layer)
        return base.with_layer(layer, identity)

    def _do(
        self, vertex: Vertex, parent: Snapshot | None, work: Callable[[Place], None], *, mount_points: bool
    ) -> Snapshot:
        assert self._store.run is not None
        directory = self._store.run.new_path("snapshot")
        parents = parent.directories if parent else ()
        try:
            with fs.disk_errors(directory):
                rootfs = self._snapshotter.prepare(directory, parents, mount_points=mount_points)
                try:
                    work(Place(rootfs, directory, parents))
                finally:
                    rootfs.close()
                return self._store.snapshots.commit(directory, parent, description=vertex.name)
        except BaseException:
            if os.path.lexists(directory):
                self._snapshotter.remove(directory)
            raise

    # ------------------------------------------------------------------------------------------------------- events

    @contextmanager
    def _reported(self, vertex: Vertex) -> Iterator[StepReport]:
        import time

        started = time.monotonic()
        inputs = tuple(item.digest for item in vertex.inputs)
        try:
            with self._events.step(vertex.digest, vertex.name, inputs) as report:
                yield report
        except Canceled:
            self._cancellation.check()  # which knows the signal
            raise
        if not isinstance(vertex.op, SourceOp):
            (self._cached if report.cached else self._made).add(vertex.digest)
        self._finished(vertex, report.cached, time.monotonic() - started - report.waited)


def _stack(value: Evaluated) -> Stack:
    if not isinstance(value, Stack):
        raise ImgError("a build context cannot be a base image yet", hint="copy from it into `FROM scratch`")
    return value

"""Builds a plan: evaluates its graph and puts the results together."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from img_core.linux.scheduler import Scheduler
from img_core.solver.operations import FileHandler, RunHandler, handlers
from img_core.solver.result import BuildOutcome, ImageOutcome, workers
from img_core.solver.stacks import EMPTY, Layer, RestartError, Stack
from img_core.solver.work import Done, Task
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.graph import FileOp, MergeOp, RunOp, SourceOp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from img_core.solver.events import StepReport
    from img_core.solver.failure import StepFailure
    from img_core.solver.scope import BuildScope
    from img_core.solver.stacks import Evaluated
    from img_core.spec.frontend import PlannedImage
    from img_core.spec.graph import Location, Vertex
    from img_core.spec.snapshotter import Rootfs
    from img_core.store.records import StepRecord

__all__ = ["Solver"]

Result = TypeVar("Result")


class Solver:
    """Runs one plan. Use as a context manager: background work ends with the block.

    *finished* hears of each vertex that ended or failed: whether it was found, the seconds it took, and why it failed, or nothing.
    """

    def __init__(
        self,
        scope: BuildScope,
        *,
        finished: Callable[[Vertex, bool, float, str], None] = lambda *_: None,
        max_workers: int = 0,
    ) -> None:
        self._scope = scope
        self._finished = finished
        self._max_workers = max_workers or workers()
        self._handlers = handlers(scope)
        self.cached: set[str] = set()  #: digests of steps that were found
        self._made: set[str] = set()  # digests of steps that were not

    @property
    def made_steps(self) -> int:
        """How many steps were not, so that the cache grew."""
        return len(self._made)

    def solve(
        self,
        names: Sequence[str] = (),
        *,
        excerpt: Callable[[Location], str] = lambda _location: "",
        ready: Callable[[BuildOutcome], None] = lambda _outcome: None,
    ) -> BuildOutcome:
        """Build the plan; its images are called *names*. A failed step's error gets the *excerpt* of its instruction.

        *ready* gets the outcome and brings here what is needed of it. Where that, or a step, meets an imported result that cannot be used,
        the graph is evaluated once more without it.
        """
        imports = self._scope.imports
        while True:
            try:
                outcome = self._solved(names, excerpt)
                ready(outcome)
                return outcome
            except RestartError as err:
                if imports is None or not imports.reject(err):
                    raise

    def _solved(self, names: Sequence[str], excerpt: Callable[[Location], str]) -> BuildOutcome:
        plan = self._scope.plan
        results = self._evaluated(plan.roots(), _with_excerpt(self.evaluate, excerpt))
        images = [self._outcome(image, results) for image in plan.images]
        return BuildOutcome(images, names, self._scope)

    def missing(self) -> frozenset[str]:
        """Return the digests of the steps that would run: nothing is done for them, nor for what is built on them."""
        while True:
            try:
                found = self._evaluated(self._scope.plan.roots(), self._looked_up)
                return frozenset(digest for digest, result in found.items() if result is None)
            except RestartError as err:
                if self._scope.imports is None or not self._scope.imports.reject(err):
                    raise

    def _looked_up(self, vertex: Vertex, inputs: Sequence[Evaluated | None]) -> Evaluated | None:
        complete = [item for item in inputs if item is not None]
        if len(complete) < len(inputs):
            return None
        return self._handlers[type(vertex.op)].find(Task(vertex, vertex.op, complete))

    def results(self) -> Mapping[str, tuple[StepRecord, Stack]]:
        """Return what is recorded of each step of the plan, and its result, by the digests of vertices."""
        found: dict[str, tuple[StepRecord, Stack]] = {}
        for handler in self._handlers.values():
            found |= getattr(handler, "results", {})
        return found

    def tree_digests(self) -> Mapping[str, Mapping[str, str]]:
        """Return the digests of what was copied from exactly known trees, by the identities of these and by what was chosen."""
        handler = self._handlers[FileOp]
        assert isinstance(handler, FileHandler)
        return handler.trees.digests

    def cache_mounts(self) -> Mapping[str, str]:
        """Return the cache mounts that steps may have changed: ids by the names of directories."""
        handler = self._handlers[RunOp]
        assert isinstance(handler, RunHandler)
        return handler.cache_mounts

    def enter(self, vertex: Vertex, rootfs: Rootfs, message: str, use: Callable[[StepFailure], None]) -> None:
        """Let *use* enter *rootfs*, which the RUN step *vertex* left when it failed for the reason *message*. Its inputs are evaluated."""
        results = self._evaluated(vertex.inputs, self.evaluate)
        assert isinstance(vertex.op, RunOp)
        task = Task(vertex, vertex.op, [results[item.digest] for item in vertex.inputs])
        self._handlers[RunOp].enter(task, rootfs, message, use)  # type: ignore[attr-defined]  # that of RUN steps

    def _evaluated(
        self, roots: Iterable[Vertex], evaluate: Callable[[Vertex, Sequence[Result]], Result]
    ) -> dict[str, Result]:
        scheduler: Scheduler[Vertex, Result] = Scheduler(
            evaluate, self._scope.cancellation, workers=self._max_workers, gentle=(RestartError,)
        )
        return scheduler.run(roots)

    def evaluate(self, vertex: Vertex, inputs: Sequence[Evaluated]) -> Evaluated:
        """Return the result of *vertex*; called from several threads."""
        made = any(item.digest in self._made for item in vertex.inputs)

        def run() -> Done:
            with self._scope.company.together(self._scope.cancellation.check):
                return self._handlers[type(vertex.op)].run(Task(vertex, vertex.op, inputs, made))

        if self._scope.events.has_ended(vertex.digest):  # the build was restarted
            started = time.monotonic()
            done = run()
            if not done.found and not isinstance(vertex.op, SourceOp | MergeOp):
                self.cached.discard(vertex.digest)
                self._made.add(vertex.digest)
                self._finished(vertex, False, time.monotonic() - started, "")
            return done.result
        with self._reported(vertex) as report:
            done = run()
            report.cached = done.found
            return done.result

    @contextmanager
    def _reported(self, vertex: Vertex) -> Iterator[StepReport]:
        started = time.monotonic()
        inputs = tuple(item.digest for item in vertex.inputs)
        try:
            with self._scope.events.step(vertex.digest, vertex.name, inputs) as report:
                yield report
        except Canceled:
            self._scope.cancellation.check()  # which knows the signal
            raise
        except ImgError as err:
            self._finished(vertex, False, time.monotonic() - started, err.message)
            raise
        if not isinstance(vertex.op, SourceOp):
            (self.cached if report.cached else self._made).add(vertex.digest)
        self._finished(vertex, report.cached, time.monotonic() - started - report.waited, "")

    def _outcome(self, image: PlannedImage, results: dict[str, Evaluated]) -> ImageOutcome:
        stack = results[image.root.digest] if image.root is not None else EMPTY
        if not isinstance(stack, Stack):
            raise ImgError("a build context cannot be an image", hint="copy from it into `FROM scratch`")
        layer_of: dict[str, Layer] = {}
        for entry in image.history:
            if entry.vertex is not None:
                made = results[entry.vertex.digest]
                if isinstance(made, Stack):
                    layer_of[entry.vertex.digest] = made.layers[-1]
        return ImageOutcome(image, stack, layer_of, self._scope)

    def __enter__(self) -> Solver:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._scope.layers.close()
        for handler in self._handlers.values():
            handler.close()


def _with_excerpt(
    evaluate: Callable[[Vertex, Sequence[Evaluated]], Evaluated], excerpt: Callable[[Location], str]
) -> Callable[[Vertex, Sequence[Evaluated]], Evaluated]:
    """Let errors of a step show where it stands in the build definition."""

    def wrapped(vertex: Vertex, inputs: Sequence[Evaluated]) -> Evaluated:
        try:
            return evaluate(vertex, inputs)
        except Canceled:
            raise
        except ImgError as err:
            if vertex.location is not None and not err.excerpt:
                err.excerpt = excerpt(vertex.location)
            err.hint = vertex.hint or err.hint
            raise

    return wrapped

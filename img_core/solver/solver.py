"""Builds a plan: wires the parts of the solver together for one build."""

from __future__ import annotations

import threading
from dataclasses import field
from typing import TYPE_CHECKING, TypeVar

from img_core.linux.cgroups import Limits
from img_core.linux.network.choice import NetworkChoice
from img_core.solver.files import FileSteps
from img_core.solver.keys import definition_of
from img_core.solver.layers import EMPTY, Layer, Layers, Stack
from img_core.solver.result import BuildOutcome, ImageOutcome, workers
from img_core.solver.scheduler import Scheduler
from img_core.solver.steps import Evaluated, Evaluator
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.graph import MergeOp, SourceOp, inputs_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from img_core.solver.cancellation import Cancellation
    from img_core.solver.events import Events
    from img_core.solver.images import Resolver
    from img_core.solver.run import RunSteps
    from img_core.solver.secret_sources import SecretSource, SshAgent
    from img_core.solver.secrets import Secrets
    from img_core.spec.executor import Executor
    from img_core.spec.frontend import Plan, PlannedImage
    from img_core.spec.graph import Location, Vertex
    from img_core.spec.host import Host
    from img_core.spec.snapshotter import Snapshotter
    from img_core.spec.source import TreeSource
    from img_core.spec.values import Platform
    from img_core.store import Store

__all__ = ["Drivers", "Solver", "once"]

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Drivers:
    """The drivers of one build; those that may not be needed are functions. *cache_namespace* separates sets of cache mounts;

    *network* tells how a private network of steps is made, *limits* what each may use of the machine.
    """

    snapshotter: Snapshotter
    executor: Callable[[], Executor]
    tree_source: Callable[[str], TreeSource]
    secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    agents: Mapping[str, SshAgent] = field(default_factory=dict)
    cache_namespace: str = ""
    network: NetworkChoice = field(default_factory=NetworkChoice)
    limits: Limits = field(default_factory=Limits)


class Solver:
    """Runs one plan. Use as a context manager: background work ends with the block."""

    def __init__(
        self,
        *,
        host: Host,
        host_platform: Platform,
        store: Store,
        drivers: Drivers,
        resolver: Resolver,
        events: Events,
        cancellation: Cancellation,
        finished: Callable[[Vertex, bool, float], None] = lambda _vertex, _cached, _seconds: None,
        max_workers: int = 0,
    ) -> None:
        self._host = host
        self._store = store
        self._snapshotter = drivers.snapshotter
        self._cancellation = cancellation
        self._max_workers = max_workers or workers()
        self.steps = 0  #: how many steps the last plan had
        self._layers = Layers(store, drivers.snapshotter, events, cancellation)
        self._files = files = FileSteps(
            host=host,
            store=store,
            layers=self._layers,
            snapshotter=drivers.snapshotter,
            tree_source=drivers.tree_source,
            events=events,
            cancellation=cancellation,
        )
        self._secrets: list[Secrets] = []

        def make_runs() -> RunSteps:
            return self._make_runs(host, drivers, events)

        self._evaluator = Evaluator(
            store=store,
            snapshotter=drivers.snapshotter,
            layers=self._layers,
            resolver=resolver,
            tree_source=drivers.tree_source,
            runs=once(make_runs),
            files=files,
            events=events,
            cancellation=cancellation,
            host_platform=host_platform,
            finished=finished,
        )

    def _make_runs(self, host: Host, drivers: Drivers, events: Events) -> RunSteps:
        """Make what runs processes, when the first one is not cached: importing it takes longer than a cached build should."""
        from img_core.solver.mounts import RunMounts
        from img_core.solver.run import RunSteps
        from img_core.solver.secrets import Secrets

        secrets = Secrets(host.run_directory, host.environment, drivers.secrets, drivers.agents)
        self._secrets.append(secrets)
        mounts = RunMounts(
            store=self._store,
            layers=self._layers,
            snapshotter=self._snapshotter,
            files=self._files,
            secrets=secrets,
            cancellation=self._cancellation,
            cache_namespace=drivers.cache_namespace,
        )
        return RunSteps(
            host=host,
            executor=drivers.executor,
            snapshotter=self._snapshotter,
            mounts=mounts,
            events=events,
            cancellation=self._cancellation,
            network=drivers.network,
            limits=drivers.limits,
        )

    @property
    def cached_steps(self) -> int:
        """How many steps were found in the cache."""
        return self._evaluator.cached_steps

    @property
    def made_steps(self) -> int:
        """How many steps were not, so that the cache grew."""
        return self._evaluator.made_steps

    def solve(
        self,
        plan: Plan,
        names: Sequence[str],
        *,
        layers_wanted: bool,
        excerpt: Callable[[Location], str] = lambda _location: "",
    ) -> BuildOutcome:
        """Build *plan*. *layers_wanted* tells that an exporter will ask for layer blobs, so they are written beside the steps.

        A failed step's error gets the *excerpt* of its instruction.
        """
        roots = [image.root for image in plan.images if image.root is not None]
        if layers_wanted:
            self._evaluator.blobs_wanted = frozenset(_layer_digests(roots))
        self._evaluator.definitions = frozenset(
            definition_of(vertex) for vertex in inputs_first(roots) if not isinstance(vertex.op, SourceOp)
        )
        self._files.source_date_epoch = plan.source_date_epoch
        scheduler: Scheduler[Evaluated] = Scheduler(
            _with_excerpt(self._evaluator.evaluate, excerpt), self._cancellation, workers=self._max_workers
        )
        results = scheduler.run(roots)
        self.steps = len(results)
        images = [self._outcome(image, results, plan.source_date_epoch) for image in plan.images]
        return BuildOutcome(images, names, self._store, plan.source_date_epoch, multi_platform=plan.multi_platform)

    def _outcome(self, image: PlannedImage, results: dict[str, Evaluated], epoch: int | None) -> ImageOutcome:
        stack = results[image.root.digest] if image.root is not None else EMPTY
        if not isinstance(stack, Stack):
            raise ImgError("a build context cannot be an image", hint="copy from it into `FROM scratch`")
        layer_of: dict[str, Layer] = {}
        for entry in image.history:
            if entry.vertex is not None:
                made = results[entry.vertex.digest]
                if isinstance(made, Stack):
                    layer_of[entry.vertex.digest] = made.layers[-1]
        return ImageOutcome(
            image,
            stack,
            layer_of,
            self._layers,
            self._snapshotter,
            recorded=self._host.mapping == "single",
            source_date_epoch=epoch,
        )

    def __enter__(self) -> Solver:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._layers.close()
        for secrets in self._secrets:
            secrets.close()


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """Return a function that calls *make* the first time only; several threads may ask at once."""
    made: list[Made] = []
    making = threading.Lock()

    def get() -> Made:
        with making:
            if not made:
                made.append(make())
        return made[0]

    return get


def _layer_digests(roots: Iterable[Vertex]) -> Iterable[str]:
    """Give the vertices whose layers are in the resulting images: the chain of first inputs, and both sides of merges."""
    pending = list(roots)
    while pending:
        vertex = pending.pop()
        if isinstance(vertex.op, SourceOp):
            continue
        yield vertex.digest
        if isinstance(vertex.op, MergeOp):
            pending.extend(vertex.inputs)
        elif vertex.op.has_base:
            pending.append(vertex.inputs[0])


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

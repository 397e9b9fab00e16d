"""What all parts of one build share: one frozen value, complete when it is made."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from img_core.linux.cgroups import Limits
from img_core.linux.network.choice import NetworkChoice
from img_core.linux.parallel import Company, once
from img_core.solver.keys import definition_of
from img_core.solver.layers import Layers
from img_core.spec.dataclass import dataclass
from img_core.spec.graph import MergeOp, SourceOp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from img_core.forms.comparison import KnownStep
    from img_core.linux.cancellation import Cancellation
    from img_core.solver.cache_import import Imports
    from img_core.solver.events import Events
    from img_core.solver.failure import StepFailure
    from img_core.solver.images import BuildResolver
    from img_core.solver.stacks import Layer
    from img_core.spec.executor import Executor
    from img_core.spec.exporter import LayerForm
    from img_core.spec.frontend import Plan
    from img_core.spec.graph import Vertex
    from img_core.spec.host import Host
    from img_core.spec.snapshotter import Snapshotter
    from img_core.spec.source import TreeSource
    from img_core.spec.values import Descriptor, Platform
    from img_core.store import Store

__all__ = ["BuildScope", "Drivers", "in_images"]


@dataclass(frozen=True, slots=True)
class Drivers:
    """The drivers of one build; those that may not be needed are functions.

    *secrets* read a secret each, by its id, *agents* are the sockets of ssh agents. *network* tells how a private network of steps is
    made, *limits* what each may use of the machine. *on_failure* is called, in the thread of the step, with a RUN step that failed, before
    the build fails. *keep_failed* hears the id of the snapshot that such a step left, and the reason.
    """

    snapshotter: Snapshotter
    executor: Callable[[], Executor]
    tree_source: Callable[[str], TreeSource]
    secrets: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    network: NetworkChoice = field(default_factory=NetworkChoice)
    limits: Limits = field(default_factory=Limits)
    on_failure: Callable[[StepFailure], None] | None = None
    keep_failed: Callable[[Vertex, str, str], None] | None = None


@dataclass(frozen=True, slots=True)
class BuildScope:
    """One build: what it works on, with what, and what is known of its whole *plan* before anything runs.

    *layer_forms* are those in which exporters and caches will ask for layer blobs, so they are written beside the steps; none: nobody will.
    With *all_layers* blobs of all steps are wanted, not only those in the results. *imports* are results that others recorded.
    *packed* hears of each blob that is made of a step's layer, from any thread.
    """

    host: Host
    host_platform: Platform
    store: Store
    drivers: Drivers
    resolver: BuildResolver
    events: Events
    cancellation: Cancellation
    plan: Plan
    layer_forms: tuple[LayerForm, ...] = ()
    all_layers: bool = False
    imports: Imports | None = None
    packed: Callable[[Layer, Descriptor], None] = lambda _layer, _blob: None
    company: Company = field(default_factory=Company, init=False)  #: of the evaluations of vertices
    layers: Layers = field(init=False)
    known_steps: Callable[[], Sequence[KnownStep]] = field(init=False)  #: before this build, to explain why a step runs
    definitions: frozenset[str] = field(init=False)  #: of all steps of the build, see `keys.definition_of`
    blobs_wanted: frozenset[str] = field(init=False)  #: digests of the vertices whose layers an exporter will want
    looks_up: bool = field(
        init=False
    )  #: whether the result of any step may be an older one; not so with ``--no-cache``

    def __post_init__(self) -> None:
        steps = [vertex for vertex in self.plan.vertices() if not isinstance(vertex.op, SourceOp)]
        layers = Layers(
            self.store, self.drivers.snapshotter, self.events, self.cancellation, self.layer_forms, self.packed
        )
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "known_steps", once(self._known_steps))
        object.__setattr__(self, "definitions", frozenset(map(definition_of, steps)))
        looks_up = any(vertex.use_cache for vertex in steps if not isinstance(vertex.op, MergeOp))
        object.__setattr__(self, "looks_up", looks_up)
        wanted = [vertex.digest for vertex in steps] if self.all_layers else in_images(self.plan.roots())
        object.__setattr__(self, "blobs_wanted", frozenset(wanted if self.layer_forms else ()))

    def _known_steps(self) -> Sequence[KnownStep]:
        return [*self.store.records.known_steps(), *(self.imports.known_steps() if self.imports else ())]

    @property
    def records_owners(self) -> bool:
        """Whether owners of files are recorded instead of set: there is a single id."""
        return self.host.mapping in ("single", "fake")

    def new_path(self, kind: str) -> str:
        """Return a path that does not exist yet in the directory of this process, which ends with it."""
        assert self.store.run is not None
        return self.store.run.new_path(kind)


def in_images(roots: Iterable[Vertex]) -> Iterator[str]:
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

"""``--cache-from`` and ``--cache-to`` of one build. Only loaded where one of them is given."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from img_core.images.layer_types import layer_codec
from img_core.images.names import all_names
from img_core.images.reference import Reference
from img_core.linux.parallel import Background, run_together
from img_core.plugins import Choice
from img_core.solver.cache_export import Exports
from img_core.solver.cache_import import CacheSource, Imports, load_all
from img_core.spec.cache import CacheContext
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.exporter import LayerForm
from img_core.spec.frontend import BuildWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from img_core.api._request import BuildRequest, CachePlace
    from img_core.api.session import Session
    from img_core.solver.events import Events
    from img_core.solver.mount_content import MountRecords
    from img_core.solver.result import BuildOutcome
    from img_core.solver.scope import BuildScope
    from img_core.solver.solver import Solver
    from img_core.solver.stacks import Layer
    from img_core.spec.cache import CacheBackend, CacheRecord
    from img_core.spec.exporter import BuiltImage, Exporter, ExportProgress
    from img_core.spec.values import Descriptor
    from img_core.store import Store

__all__ = ["Caches"]

_WORKERS = 4  # caches that are written at the same time


class _Pushed:
    """Where *exporters* push an image that has *names*."""

    def __init__(self, names: Sequence[str], exporters: Sequence[Exporter]) -> None:
        self._exporters = exporters
        every = [all_names(names, item.options) for item in exporters if item.mounts_layers]
        self._domains = {Reference.parse(name).domain for some in every for name in some}
        if (
            len(every) < len(exporters) or len(self._domains) != 1
        ):  # not all of them only push, or to several registries
            self._domains = set()

    def mounts(self, layer: Layer, store: Store) -> bool:
        """Tell whether *layer*, which is imported and not in the *store*, is where the image is pushed to, in the form that is wanted."""
        assert layer.imported is not None
        domain = layer.imported.backend.repository.partition("/")[0]
        if domain not in self._domains or layer.descriptor is None or store.blobs.has(layer.descriptor.digest):
            return False
        form = LayerForm(layer_codec(layer.descriptor))
        return all(item.layer_form == form for item in self._exporters)


class Caches:
    """The caches that *request* names, of which *new* may not be there yet; making it checks their options and does no I/O.

    Raises UsageError.
    """

    def __init__(
        self,
        session: Session,
        request: BuildRequest,
        events: Events,
        shown: Callable[[str], AbstractContextManager[str]],
        new: CachePlace | None = None,
    ) -> None:
        self._session = session
        self._events = events
        self._shown = shown
        self._now = time.time()
        self._host = session.host_for(offline=request.offline)
        insecure = frozenset(request.insecure_registries)
        self._context = CacheContext(self._host, session.store, self._host.registry, insecure, self._now)
        self._sources = [replace(self._made(place, export=False), new=place == new) for place in request.cache_from]
        self._targets = [self._made(place, export=True) for place in request.cache_to]
        self._records: list[list[CacheRecord]] = []
        self._mounts: MountRecords | None = None
        self._early, self._sending = self._take_early(), Background()

    def _made(self, place: CachePlace, *, export: bool) -> CacheSource:
        backend: CacheBackend = self._session.plugins.make(
            "cache", Choice(place.type, place.options), self._context, host=self._host
        )
        backend.check(export=export)
        return CacheSource(backend.location or place.type, backend)

    @property
    def first(self) -> CacheBackend:
        """The first of the sources."""
        return self._sources[0].backend

    def _take_early(self) -> list[CacheBackend]:
        """Return the targets that want all blobs of steps that are made: none if they differ in that."""
        backends = [target.backend for target in self._targets]
        alike = len({item.all_layers for item in backends}) == 1
        return [item for item in backends if alike and not item.in_image]

    def packed(self, _layer: Layer, blob: Descriptor) -> None:
        """Hear of a blob that was made of a step's layer, in the form that all targets want; send it while the build goes on.

        One at a time: the steps are what matters. A target that fails gets no more; saving tries again, tells it, and brings the rest.
        """
        for target in tuple(self._early):
            self._sending.add(partial(self._send, target, blob))

    def _send(self, target: CacheBackend, blob: Descriptor) -> None:
        if target in self._early:
            try:
                target.send(blob)
            except (ImgError, OSError):
                self._early.remove(target)

    @property
    def layer_forms(self) -> list[LayerForm]:
        """How layers have to be packed for the targets."""
        return [target.backend.layer_form for target in self._targets]

    @property
    def all_layers(self) -> bool:
        """Whether a target wants the layers of all steps."""
        return any(target.backend.all_layers for target in self._targets)

    def load(self, stop: Callable[[], None]) -> Imports | None:
        """Load what the sources have; those that cannot be read are warnings."""
        if not self._sources:
            return None
        loaded = load_all(self._sources, self._warn, stop, lambda name: self._shown(f"importing cache from {name}"))
        for source, load in loaded:
            for text in load.warnings:
                self._warn(f"cache {source.name}: {text}")
        return Imports(loaded, self._warn)

    def _warn(self, text: str) -> None:
        self._events.warn(BuildWarning(text))

    def ready(self, outcome: BuildOutcome, scope: BuildScope, solver: Solver, exporters: Sequence[Exporter]) -> None:
        """Bring here what *exporters* want of imported results, layers or files, and what the targets are to keep.

        Raises RestartError for what cannot be had.
        """
        exports = Exports(scope, solver, self._now)
        layers = any(item.needs_layers for item in exporters)
        files = not all(item.needs_layers for item in exporters)
        if scope.imports is not None:
            wanted: list[Layer] = [layer for image in outcome.images if layers for layer in image.stack.layers]
            needed = {
                layer.origin or layer for item in self._targets for layer in exports.layers_from_elsewhere(item.backend)
            }
            pushed = _Pushed(outcome.names, [item for item in exporters if item.needs_layers])

            def stays(layer: Layer) -> bool:
                return layer not in needed and pushed.mounts(layer, scope.store)

            scope.imports.fetch([*wanted, *needed], scope.layers, scope.store, scope.cancellation.cancel, stays)
            for image in outcome.images if files else ():
                scope.layers.snapshots.top(image.stack)
            scope.imports.keep(solver.results().values(), scope.store)
        self._records = [exports.records(target.backend) for target in self._targets]
        if self._targets and (mounts := solver.cache_mounts()):
            from img_core.solver.mount_content import MountRecords  # not for who runs no step

            self._mounts = MountRecords(scope, mounts, self._now)
        self._sending.end()

    def amended(self, outcome: BuildOutcome) -> BuildOutcome:
        """Return *outcome* with records in the configs of its images, for targets that keep them there."""
        amending = [
            partial(target.backend.image_config, records=records)
            for target, records in zip(self._targets, self._records, strict=True)
            if target.backend.in_image
        ]
        if not amending:
            return outcome

        def amend(image: BuiltImage) -> Mapping[str, Any]:  # Any: JSON
            return {name: value for function in amending for name, value in function(image).items()}

        return replace(outcome, images=[replace(image, amend=amend) for image in outcome.images])

    def save(self, progress: Callable[[str], ExportProgress]) -> dict[str, Any]:  # Any: JSON
        """Save the records, in all places at the same time; return what to tell of it. Raises ImgError if one failed that may not."""
        answers: dict[int, dict[str, Any]] = {}
        failures: list[ImgError] = []

        def save(number: int, target: CacheSource) -> None:
            def told(text: str) -> None:
                self._warn(f"cache {target.name}: {text}")

            try:
                with self._shown(f"exporting cache to {target.name}") as step:
                    mounts = self._mounts.of(target.backend, told) if self._mounts else []
                    report = target.backend.save([*self._records[number], *mounts], progress(step))
            except Canceled:
                raise
            except ImgError as err:
                if not target.backend.ignores_errors:
                    failures.append(err)
                    return
                self._warn(f"cache {target.name} was not written: {err.message}")
            else:
                for text in report.warnings:
                    told(text)
                answers[number] = {
                    "type": target.backend.name,
                    "location": target.backend.location,
                    "new": report.new,
                    "kept": report.kept,
                }
                if report.digest:
                    answers[number]["digest"] = report.digest

        saving = [(number, target) for number, target in enumerate(self._targets) if not target.backend.in_image]
        run_together([partial(save, *item) for item in saving], workers=_WORKERS, stop=lambda: None)
        if failures:
            raise failures[0]
        return {"cache.exports": [answers[number] for number in sorted(answers)]} if answers else {}

    @contextmanager
    def opened(self, cancel_fd: int) -> Iterator[Caches]:
        """Use the caches for a block; what they wait for ends when *cancel_fd* becomes readable, and connections with the block."""
        from img_core.linux.cancellation import CloseOnCancel

        with ExitStack() as ends:
            ends.callback(self._sending.end)  # when the connections are closed
            for place in (*self._sources, *self._targets):
                ends.callback(place.backend.close)
                ends.callback(CloseOnCancel(cancel_fd, place.backend).stop)
            yield self

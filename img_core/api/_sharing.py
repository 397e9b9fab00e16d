"""``--engine``: what a build offers to the engine that does parts of it before the build itself, which then finds their results in a cache.

Nothing depends on it: what no worker did, for whatever reason, the build does.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from img_core.api._cache_places import directory_or_place
from img_core.api._caches import Caches
from img_core.forms.rewriting import rewritten
from img_core.forms.tasks import PackedContext, SentTask
from img_core.images import platforms
from img_core.images.reference import full_id
from img_core.linux.cancellation import CancelHandle, CloseOnCancel
from img_core.solver.keys import KEY_VERSION, definition_of
from img_core.solver.solver import Solver
from img_core.spec.errors import UsageError
from img_core.spec.frontend import Plan, PlannedImage
from img_core.spec.graph import CONTEXT_SCHEME, Copy, FileOp, SourceOp, Vertex, inputs_first
from img_core.spec.text import show
from img_core.spec.values import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from img_core.api._planned import Planned
    from img_core.api._preparation import Preparation
    from img_core.api._request import CachePlace
    from img_core.api.session import Session
    from img_core.solver.scope import BuildScope, Drivers
    from img_core.spec.engine import Engine
    from img_core.spec.graph import Location
    from img_core.spec.progress import Event
    from img_core.spec.source import TreeSource

__all__ = ["Sharing", "engine_place"]

_PACK = "[internal] pack build context"


def engine_place(session: Session, engine: Engine, *, export: bool) -> CachePlace:
    """Return the cache through which the layers of *engine* move. Raises UsageError if there is none."""
    named = str(engine.options.get("cache", ""))
    if not named and engine.is_here:
        named = os.path.join(session.store.state, "engine-cache")
    if not named:
        raise UsageError(
            f"engine `{engine.name}` needs a cache that all machines reach",
            hint=f"e.g. `--engine {engine.name},cache=/shared/cache` or `cache=registry.example/app:cache`",
        )
    place = directory_or_place(named, export=export)
    if place.type and export:
        place = replace(place, options={"mode": "max", **place.options})
    return place


class Sharing:
    """The build that was *prepared* and *planned*, as *engine* sees it (a `SharedBuild`). It has *drivers*, *finished* hears of its steps
    (see `Solver`). To be closed; what it needs for its answers is made when it is first asked."""

    def __init__(
        self,
        prepared: Preparation,
        engine: Engine,
        drivers: Drivers,
        planned: Planned,
        finished: Callable[..., None] = lambda *_step: None,
    ) -> None:
        self._prepared = prepared
        self._drivers = drivers
        self._resolver = planned.resolver
        self._plan = planned.plan
        self._options = engine.options
        self._finished = finished
        self._source = engine_place(prepared.session, engine, export=False)
        self._target = engine_place(prepared.session, engine, export=True)
        self._opened = ExitStack()
        self._there: Mapping[str, Vertex] = {}
        self._contexts: Mapping[str, PackedContext] = {}
        self.roots: Sequence[Vertex] = planned.plan.roots()
        self.cancel_fd = prepared.cancellation.fd
        self.excerpt: Callable[[Location], str] = planned.excerpt
        self.check = prepared.cancellation.check
        self.tell: Callable[[Event], None] = prepared.events.emit

    def close(self) -> None:
        """Close the caches."""
        self._opened.close()

    def step(self, name: str) -> AbstractContextManager[str]:
        """See `SharedBuild.step`."""
        return self._prepared.step(name)

    def ended(self, step: Vertex, seconds: float, *, cached: bool = False, error: str = "") -> None:
        """See `SharedBuild.ended`."""
        if error:
            self._finished(step, cached, seconds, error)
            return
        inputs = tuple(item.digest for item in step.inputs)
        self._prepared.events.done_elsewhere(step.digest, step.name, inputs)
        self._finished(step, cached, seconds)

    # ------------------------------------------------------------------------------------------------------- what is known

    @cached_property
    def _caches(self) -> Caches:
        prepared = self._prepared
        request = replace(
            prepared.request, cache_from=(*prepared.request.cache_from, self._source), cache_to=(self._target,)
        )
        caches = Caches(prepared.session, request, prepared.events, prepared.step, self._source)
        return self._opened.enter_context(caches.opened(self.cancel_fd))

    @cached_property
    def _scope(self) -> BuildScope:
        return self._scoped(self._plan, imports=self._caches.load(self._prepared.cancellation.cancel))

    def _scoped(self, plan: Plan, **more: Any) -> BuildScope:  # Any: fields
        return self._prepared.scope(self._drivers, self._resolver, plan, **more)

    def missing(self) -> Collection[str]:
        """See `SharedBuild.missing`."""
        with Solver(self._scope) as solver:
            return solver.missing()

    @cached_property
    def _recorded(self) -> tuple[Mapping[str, float], Mapping[str, int]]:
        """Seconds and sizes of steps by their definitions."""
        seconds, sizes = dict[str, float](), dict[str, int]()
        for record in self._scope.imports.records() if self._scope.imports else ():
            seconds[record.definition] = record.seconds
            sizes[record.definition] = record.layers[-1].descriptor.size if record.layers else 0
        return seconds | self._scope.store.records.durations(), sizes

    def seconds(self, step: Vertex) -> float | None:
        """See `SharedBuild.seconds`."""
        return self._recorded[0].get(definition_of(step))

    def size(self, step: Vertex) -> int:
        """See `SharedBuild.size`."""
        return self._recorded[1].get(definition_of(step), 0)

    def stays(self, source: Vertex) -> str:
        """Say why no other machine can have an image: it is in the store here, or in a directory, and in no registry that we know."""
        op = source.op
        assert isinstance(op, SourceOp)
        driver = self._prepared.source_driver(op.scheme)
        if not driver.makes_image:
            return ""
        told = f"image {show(op.reference)} is only here"
        if not driver.is_remote or full_id(op.reference):
            return told
        top = self._resolver.resolve(op.reference, source.platform or platforms.host_platform()).top
        return "" if top and self._prepared.session.store.blobs.origins(Digest(top)) else told

    # ------------------------------------------------------------------------------------------- what workers have to find

    def provide(self, steps: Sequence[Vertex]) -> None:
        """See `SharedBuild.provide`."""
        made = {step.digest for step in steps}
        inputs = {item.digest: item for step in steps for item in step.inputs if item.digest not in made}
        known = [item for item in inputs.values() if not isinstance(item.op, SourceOp)]
        packed = {name: _packing(name) for name in sorted(_sources(steps, CONTEXT_SCHEME))}
        if known or packed:
            plan = replace(self._plan, images=tuple(map(_image, [*known, *packed.values()])))
            caches, imports = self._caches, self._scope.imports
            scope = self._scoped(plan, imports=imports, layer_forms=tuple(caches.layer_forms), all_layers=True)
            with Solver(scope) as solver:
                solver.solve(ready=lambda outcome: caches.ready(outcome, scope, solver, ()))
                caches.save(self._prepared.progress)
                self._contexts = {name: _packed(vertex, solver, scope, caches) for name, vertex in packed.items()}
        self._there = rewritten(inputs_first(steps), self._exact)

    def _exact(self, vertex: Vertex, inputs: tuple[Vertex, ...]) -> Vertex:
        """Return what stands for *vertex* on other machines: what it takes from outside means what it means here.

        What cannot be told exactly stays as it is: another machine may then not find it, or make something that nobody will find.
        """
        op = self._exact_source(vertex) if isinstance(vertex.op, SourceOp) else vertex.op
        platform = vertex.platform or (platforms.host_platform() if isinstance(op, SourceOp) else None)
        return replace(vertex, op=op, inputs=inputs, platform=platform)

    def _exact_source(self, vertex: Vertex) -> SourceOp:
        op = vertex.op
        assert isinstance(op, SourceOp)
        taken = self._resolver.wanted(op)
        driver = self._prepared.source_driver(taken.scheme)
        if not driver.is_remote or full_id(taken.reference):
            return taken
        if driver.makes_image:
            image = self._resolver.resolve(op.reference, vertex.platform or platforms.host_platform())
            return driver.pinned_to(taken, image.top) if image.top else taken
        source: TreeSource = self._drivers.tree_source(taken.scheme)
        return driver.pinned_to(taken, source.pin_of(source.pin(taken, vertex.platform)))

    def digest_there(self, step: Vertex) -> str:
        """See `SharedBuild.digest_there`."""
        return self._there[step.digest].digest

    # -------------------------------------------------------------------------------------------------------------- doing

    def task(self, targets: Sequence[Vertex], secrets: Collection[str] = (), *, saved: bool, sharing: int = 1) -> str:
        """See `SharedBuild.task`."""
        request, source, target = self._prepared.request, self._source, self._target
        values = {name: self._prepared.secret(name) for name in secrets}
        roots = [self._there[vertex.digest] for vertex in targets]
        read = set(_sources(roots))
        return SentTask(
            Plan(tuple(map(_image, roots)), source_date_epoch=self._plan.source_date_epoch),
            (source.type, source.options),
            (target.type, target.options) if saved else None,
            {name: item for name, item in self._contexts.items() if name in read},
            request.network,
            request.insecure_registries,
            request.offline,
            {name: value for name, value in values.items() if value is not None},
            int(self._options.get("max-parallelism", request.max_parallelism)),
            sharing,
        ).text(KEY_VERSION)

    def do_here(self, document: str, tell: Callable[[str], None], cancel_fd: int) -> None:
        """See `SharedBuild.do_here`."""
        from img_core.api._workplace import in_worker

        config, request = self._prepared.session.config, self._prepared.request
        configuration = {
            "state": config.state_directory,
            "no_plugins": config.no_plugins,
            "plugin_files": config.plugin_files,
            "environment": config.environment,
        }
        arguments = {"task": document, "backend": request.backend, "executor": request.executor}
        handle, stopping = CancelHandle(), ExitStack()
        stopping.callback(handle.cancel)
        watch = CloseOnCancel(cancel_fd, stopping)
        try:
            in_worker(
                configuration, "work", arguments, {"notice": self._prepared.session.notice, "on_line": tell}, handle
            )
        finally:
            watch.stop()


def _sources(roots: Sequence[Vertex], scheme: str = "") -> Iterator[str]:
    """Give the references of the sources below *roots*; those of *scheme* if one is named."""
    for vertex in inputs_first(roots):
        if isinstance(vertex.op, SourceOp) and scheme in ("", vertex.op.scheme):
            yield vertex.op.reference


def _image(root: Vertex) -> PlannedImage:
    return PlannedImage(root.platform or platforms.host_platform(), root, {}, ())


def _packing(name: str) -> Vertex:
    """Return the step that makes a layer of the build context *name*."""
    tree = Vertex(SourceOp(CONTEXT_SCHEME, name), name=f"[internal] look at build context {name}")
    return Vertex(FileOp((Copy(0, ("/",), "/context"),), has_base=False), (tree,), name=f"{_PACK} {name}")


def _packed(vertex: Vertex, solver: Solver, scope: BuildScope, caches: Caches) -> PackedContext:
    layer = solver.results()[vertex.digest][1].layers[-1]
    descriptor = scope.layers.blobs.write(layer, caches.layer_forms[0])
    assert layer.diff_id is not None
    return PackedContext(descriptor, layer.diff_id)

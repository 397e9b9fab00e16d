"""``--engine``: hands parts of a build to workers before the build itself, which then finds their results in a cache.

Nothing depends on it: what no worker did, for whatever reason, the build does.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from img_core.api._cache_places import directory_or_place
from img_core.api._caches import Caches
from img_core.images import platforms
from img_core.images.reference import full_id
from img_lib_engines.cut import Cut, CutFacts, cut
from img_lib_engines.pool import Pool, PoolScope
from img_core.solver.tasks import PackedContext, SentTask
from img_core.solver.keys import KEY_VERSION, definition_of
from img_core.spec.errors import Canceled, ImgError, PluginError, Unsupported, UsageError
from img_core.spec.frontend import BuildWarning, Plan, PlannedImage
from img_core.spec.graph import CONTEXT_SCHEME, Copy, FileOp, SourceOp, Vertex, inputs_first
from img_core.spec.text import show
from img_core.spec.values import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.api._preparation import Preparation
    from img_core.api._request import CachePlace
    from img_core.api.session import Session
    from img_core.linux.cancellation import CancelHandle
    from img_lib_engines.cut import CutPart
    from img_core.solver.images import BuildResolver
    from img_core.solver.scope import BuildScope, Drivers
    from img_core.solver.solver import Solver
    from img_core.spec.engine import Engine, EngineWorker
    from img_core.spec.graph import Location
    from img_core.spec.source import TreeSource

__all__ = ["Handing", "engine_place"]

_SPEED = 50e6  #: bytes a second that a layer is moved with, for an estimate
_STEP = "[internal] hand out parts of the build"
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


class Handing:
    """Hands out parts of the build that was *prepared*, which has *drivers* and *resolver*, to *engine*."""

    def __init__(self, prepared: Preparation, engine: Engine, drivers: Drivers, resolver: BuildResolver) -> None:
        self._prepared = prepared
        self._engine = engine
        self._drivers = drivers
        self._resolver = resolver
        self._source = engine_place(prepared.session, engine, export=False)
        self._target = engine_place(prepared.session, engine, export=True)
        self._host = str(platforms.host_platform())

    def run(self, plan: Plan, finished: Callable[..., None], excerpt: Callable[[Location], str]) -> None:
        """Let workers do what is worth it, and wait for them. Raises StepError for a step that failed, Canceled.

        *finished* hears of each step (see `Solver`; for one that ended well there is no reason), *excerpt* shows where one comes from.
        """
        with ExitStack() as opened:
            workers = self._workers()
            if not workers:
                return
            found, caches, scope = self._cut(plan, workers, opened)
            for line in self.lines(found):
                self._prepared.events.status(_STEP, line)
            if not found.parts:
                return
            with self._prepared.step(_STEP):
                contexts, exact = self._provide(found, caches, scope), self._exact(found)
                task = partial(self._task, exact, contexts, plan.source_date_epoch)
                prepared = self._prepared
                around = PoolScope(prepared.events, prepared.cancellation, finished, excerpt, self._at_home, finished)
                Pool(found, self._engine, workers, around, exact, task).run()

    def shown(self, plan: Plan) -> list[str]:
        """Return in lines what would be handed out; nothing is."""
        with ExitStack() as opened:
            return list(self.lines(self._cut(plan, self._engine.capacity(), opened)[0]))

    def _workers(self) -> tuple[EngineWorker, ...]:
        try:
            return self._engine.capacity()
        except (Canceled, UsageError, PluginError, Unsupported):
            raise
        except ImgError as err:
            self._warn(f"engine `{self._engine.name}` is not used: {err.message}")
            return ()

    def _warn(self, text: str) -> None:
        self._prepared.events.warn(BuildWarning(text))

    # ---------------------------------------------------------------------------------------------------- what to hand out

    def _cut(self, plan: Plan, workers: Sequence[EngineWorker], opened: ExitStack) -> tuple[Cut, Caches, BuildScope]:
        from img_core.solver.solver import Solver

        prepared = self._prepared
        request = replace(
            prepared.request, cache_from=(*prepared.request.cache_from, self._source), cache_to=(self._target,)
        )
        caches = Caches(prepared.session, request, prepared.events, prepared.step, self._source)
        opened.enter_context(caches.opened(prepared.cancellation.fd))
        imports = caches.load(prepared.cancellation.cancel)
        scope = self._scope(plan, imports=imports)
        with Solver(scope) as solver:
            missing = solver.missing()
        return cut(plan.roots(), self._facts(missing, scope, workers)), caches, scope

    def _scope(self, plan: Plan, **more: Any) -> BuildScope:  # Any: fields
        return self._prepared.scope(self._drivers, self._resolver, plan, **more)

    def _facts(self, missing: frozenset[str], scope: BuildScope, workers: Sequence[EngineWorker]) -> CutFacts:
        served = {_normal(platform) for worker in workers for platform in worker.platforms} - {self._host}
        seconds, sizes = dict[str, float](), dict[str, int]()
        for record in scope.imports.records() if scope.imports else ():
            seconds[record.definition] = record.seconds
            sizes[record.definition] = record.layers[-1].descriptor.size if record.layers else 0
        seconds |= scope.store.records.durations()

        def platform(vertex: Vertex) -> str | None:
            name = str(vertex.platform or "")
            return name if name in served else "" if name else None

        return CutFacts(
            missing,
            lambda vertex: seconds.get(definition_of(vertex)),
            lambda vertex: 2 * sizes.get(definition_of(vertex), 0) / _SPEED,
            platform,
            self._stays,
        )

    def _stays(self, vertex: Vertex) -> str:
        """Say why no other machine can have an image: it is in the store here, or in a directory, and in no registry that we know."""
        op = vertex.op
        assert isinstance(op, SourceOp)
        driver = self._prepared.source_driver(op.scheme)
        if not driver.makes_image:
            return ""
        told = f"image {show(op.reference)} is only here"
        if not driver.is_remote or full_id(op.reference):
            return told
        top = self._resolver.resolve(op.reference, vertex.platform or platforms.host_platform()).top
        return "" if top and self._prepared.session.store.blobs.origins(Digest(top)) else told

    def lines(self, found: Cut) -> Iterator[str]:
        """Say what is handed out, a line for each part."""
        for part in found.parts:
            took = "nobody knows how long" if part.seconds is None else f"about {part.seconds:.1f} s"
            after = [found.by_target[need].target.name for need in part.needs]
            yield (
                f"{part.target.name}: {len(part.steps)} steps, {took}, {part.platform or self._host}"
                + (f", after {', '.join(after)}" if after else "")
                + (f", here: {part.home}" if part.home else "")
            )
        yield f"here: {found.left} steps" if found.parts or found.left else "nothing has to run"

    # ------------------------------------------------------------------------------------------- what workers have to find

    def _provide(self, found: Cut, caches: Caches, scope: BuildScope) -> Mapping[str, PackedContext]:
        """Put into the cache what the parts read and nobody has to make: results that are known here, and build contexts."""
        from img_core.solver.solver import Solver

        steps = {step.digest: step for part in found.parts for step in part.steps}
        inputs = {item.digest: item for step in steps.values() for item in step.inputs if item.digest not in steps}
        missing = {need for part in found.parts for need in part.needs} | steps.keys()
        known = [item for item in inputs.values() if not isinstance(item.op, SourceOp) and item.digest not in missing]
        names = sorted(
            {item.op.reference for item in inputs_first(steps.values())
             if isinstance(item.op, SourceOp) and item.op.scheme == CONTEXT_SCHEME}
        )  # fmt: skip
        packed = {name: _packing(name) for name in names}
        if not known and not packed:
            return {}
        plan = replace(scope.plan, images=tuple(map(_image, [*known, *packed.values()])))
        part = self._scope(plan, imports=scope.imports, layer_forms=tuple(caches.layer_forms), all_layers=True)
        with Solver(part) as solver:
            solver.solve(ready=lambda outcome: caches.ready(outcome, part, solver, ()))
            caches.save(self._prepared.progress)
            return {name: _packed(vertex, solver, part, caches) for name, vertex in packed.items()}

    # -------------------------------------------------------------------------------------------------------------- doing

    def _at_home(self, text: str, hear: Callable[[str], None], cancel: CancelHandle) -> None:
        from img_core.api._client import Client

        config, request = self._prepared.session.config, self._prepared.request
        client = Client(
            state=config.state_directory,
            no_plugins=config.no_plugins,
            plugin_files=config.plugin_files,
            environment=config.environment,
            notice=self._prepared.session.notice,
        )
        client.work(text, on_line=hear, backend=request.backend, executor=request.executor, cancel=cancel)

    def _task(
        self, exact: Mapping[str, Vertex], contexts: Mapping[str, PackedContext], epoch: int | None,
        parts: Sequence[CutPart], *, saved: bool, sharing: int,
    ) -> str:  # fmt: skip
        request, source, target = self._prepared.request, self._source, self._target
        secrets = {name: self._prepared.secret(name) for part in parts for name in part.secrets}
        roots = [exact[part.digest] for part in parts]
        read = {item.op.reference for item in inputs_first(roots) if isinstance(item.op, SourceOp)}
        return SentTask(
            Plan(tuple(map(_image, roots)), source_date_epoch=epoch),
            (source.type, source.options),
            (target.type, target.options) if saved else None,
            {name: item for name, item in contexts.items() if name in read},
            request.network,
            request.insecure_registries,
            request.offline,
            {name: value for name, value in secrets.items() if value is not None},
            int(self._engine.options.get("max-parallelism", request.max_parallelism)),
            sharing,
        ).text(KEY_VERSION)

    def _exact(self, found: Cut) -> dict[str, Vertex]:
        """Return what stands for each vertex on other machines: what it takes from outside means what it means here.

        What cannot be told exactly stays as it is: another machine may then not find it, or make something that nobody will find.
        """
        now: dict[str, Vertex] = {}
        for vertex in inputs_first(part.target for part in found.parts):
            inputs = tuple(now[item.digest] for item in vertex.inputs)
            op = self._exact_source(vertex) if isinstance(vertex.op, SourceOp) else vertex.op
            platform = vertex.platform or (platforms.host_platform() if isinstance(op, SourceOp) else None)
            now[vertex.digest] = replace(vertex, op=op, inputs=inputs, platform=platform)
        return now

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


def _normal(platform: str) -> str:
    return str(platforms.parse(platform))


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

"""One build, or several together, from request to result, in this process."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from img_core.api._entitlements import check_entitlements
from img_core.api._journal import described
from img_core.api._listening import announced, attested, committed
from img_core.api._planned import planned
from img_core.api._preparation import Preparation
from img_core.api._request import BuildResult, CachePlace, Output
from img_core.config import DEFAULT_EXPORTER
from img_core.files import fs
from img_core.files.build_log import BuildLog
from img_core.images.names import new_name
from img_core.linux.network.choice import NetworkChoice
from img_core.plugins import Choice
from img_core.solver.events import Events
from img_core.spec.errors import ImgError, NotFoundError, StepError
from img_core.spec.graph import SourceOp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from img_core.api._caches import Caches
    from img_core.api._failed import FailedStep
    from img_core.api._request import BuildRequest
    from img_core.api.session import Session
    from img_core.linux.cancellation import Cancellation
    from img_core.plugins import Telling
    from img_core.solver.failure import StepFailure
    from img_core.solver.result import BuildOutcome
    from img_core.spec.engine import Engine
    from img_core.spec.exporter import Exporter
    from img_core.spec.frontend import Plan
    from img_core.spec.graph import Vertex
    from img_core.spec.progress import Event

__all__ = ["Build"]

# How long a build may look for what to remove from the cache.
_COLLECT_SECONDS = 0.3
_COLLECT_SHARE = 0.05  #: of the time that it took


class Build:
    """The builds of *requests* in one session, as many of them as can be done together with the first."""

    def __init__(
        self,
        session: Session,
        requests: Sequence[BuildRequest],
        cancellation: Cancellation,
        listeners: Sequence[Callable[[Event], None]] = (),
        on_failure: Callable[[StepFailure], None] | None = None,
    ) -> None:
        self._session = session
        self._request = requests[0]
        self._on_failure = on_failure
        self._failed: list[str] = []  #: names of the notes of steps that failed
        self._build_id = ""
        self._events = Events(session.notice)
        for listener in listeners:
            self._events.listen(listener)
        names = [request.title for request in requests] if len(requests) > 1 else [""]
        self._builds = [
            Preparation(session, request, self._events, cancellation, name)
            for request, name in zip(requests, names, strict=True)
        ]
        self._prepared = self._builds[0]
        self._names = [[new_name(tag) for tag in request.tags] for request in requests]
        self._origins: Mapping[str, tuple[int, Vertex]] = {}

    def run(self) -> dict[int, BuildResult]:
        """Build and export, and keep a log of it; then see to it that the cache does not grow without bound. Raises ImgError.

        Returns the results by the numbers of the requests; that of the first is among them.
        """
        started = time.monotonic()
        tags = tuple(dict.fromkeys(tag for build in self._builds for tag in build.request.tags))
        host, notice = self._session.host, self._session.notice
        journal = BuildLog(host.state_directory, described(replace(self._request, tags=tags), host), notice)
        self._build_id = journal.id
        self._events.listen(journal.take)
        try:
            results, cache_grew = self._run(journal)
        except BaseException as err:
            journal.end(None, err)
            if self._failed:
                self._forget_failed()
                if isinstance(err, StepError):
                    err.hint = err.hint or "`img debug last` opens a shell in what the step left"
            raise
        first = next(iter(results.values()))
        journal.end(first.digest or first.config_digest)
        self._forget_failed()
        if cache_grew:
            self._collect(time.monotonic() - started)
        return results

    def _run(self, journal: BuildLog) -> tuple[dict[int, BuildResult], bool]:
        from img_core.solver.solver import Solver

        session, request, prepared = self._session, self._request, self._prepared
        every = [self._exporters(build.request) for build in self._builds]
        session.plugins.check("executor", request.executor)  # a wrong name is told even if no step runs
        with ExitStack() as opened:
            opened.enter_context(fs.disk_errors(session.store.state))  # whatever was not told in other words below
            network = NetworkChoice.parse(request.network)
            request.limits.check()
            engine = prepared.engine(opened)
            caches = self._caches(opened, engine)
            found = planned(self._builds)
            plan, resolver, self._origins = found.plan, found.resolver, found.origins
            drivers = prepared.drivers(found.sources, request.network, self._on_failure, self._keep_failed)
            check_entitlements(plan, request.allow, isolated=lambda: self._isolates(network))
            journal.counted = _steps_of(plan)
            listeners = opened.enter_context(announced(prepared, plan))
            if engine is not None:
                from img_core.api._sharing import Sharing

                with closing(Sharing(prepared, engine, drivers, found, listeners.step_finished)) as shared:
                    engine.share(shared)
            exporters = [item for number in found.numbers for item in every[number]]
            forms = [item.layer_form for item in exporters if item.needs_layers]
            forms = list(dict.fromkeys([*forms, *(caches.layer_forms if caches else ())]))
            hears = [caches.packed] if caches and len(forms) == 1 else []
            scope = prepared.scope(
                drivers,
                resolver,
                plan,
                layer_forms=tuple(forms),
                all_layers=caches.all_layers if caches else False,
                imports=caches.load(prepared.cancellation.cancel) if caches else None,
                **committed(plan, listeners, hears),
            )
            solver = opened.enter_context(
                Solver(scope, finished=listeners.step_finished, max_workers=request.max_parallelism)
            )

            def ready(outcome: BuildOutcome) -> None:
                if caches:
                    caches.ready(outcome, scope, solver, exporters)

            names = [name for number in found.numbers for name in self._names[number]]
            outcome = solver.solve(names, excerpt=found.excerpt, ready=ready)
            outcome = caches.amended(outcome) if caches else outcome
            told, images = list[dict[str, Any]](), list(outcome.images)
            for number, own in zip(found.numbers, found.plans, strict=True):
                part = replace(outcome, images=images[: len(own.images)], names=self._names[number])
                del images[: len(own.images)]
                part = attested(prepared, part, every[number])
                told.append(self._export(self._builds[number], part, every[number], listeners))
            saved = caches.save(prepared.progress) if caches else {}
            results = {
                number: self._result(number, {**metadata, **saved}, plan, len(steps), len(steps & solver.cached))
                for number, metadata, plan, steps in zip(found.numbers, told, found.plans, found.steps, strict=True)
            }
            return results, solver.made_steps > 0

    def _caches(self, opened: ExitStack, engine: Engine | None = None) -> Caches | None:
        """Return the caches of the request, if it names any, and that of *engine*, until *opened* ends."""
        types = {place.type for place in self._request.cache_to}
        wanted = self._prepared.frontends.first.cache_exports(self._prepared.build_args())
        more = [CachePlace(name) for name in wanted if name not in types]
        request = replace(self._request, cache_to=(*self._request.cache_to, *more)) if more else self._request
        place = None
        if engine is not None:
            from img_core.api._sharing import engine_place

            place = engine_place(self._session, engine, export=False)
            request = replace(request, cache_from=(*request.cache_from, place))
        if not request.cache_from and not request.cache_to:
            return None
        from img_core.api._caches import Caches

        prepared = self._prepared
        caches = Caches(self._session, request, self._events, prepared.step, place)
        opened.enter_context(caches.opened(prepared.cancellation.fd))
        return caches

    def enter(self, failed: FailedStep, use: Callable[[StepFailure], None]) -> None:
        """Let *use* look at what the step *failed* left, in a copy. The request is that of *failed*. Raises NotFoundError, ImgError."""
        from img_core.solver.solver import Solver
        from img_core.spec.frontend import Plan

        session, prepared = self._session, self._prepared
        with ExitStack() as opened:
            opened.enter_context(fs.disk_errors(session.store.state))
            sources, resolver = prepared.prepare()[1:] if failed.vertex.inputs else prepared.sourceless()
            drivers = prepared.drivers(sources, self._request.network, self._on_failure, self._keep_failed)
            left = session.store.snapshots.get(failed.snapshot)
            if left is None:
                raise NotFoundError(
                    f"what `{fs.show(failed.vertex.name)}` left is not kept any more",
                    hint="`img prune` took it, or it was made with another backend or mapping of ids: build it again",
                )
            assert session.store.run is not None
            directory = session.store.run.new_path("snapshot")
            solver = opened.enter_context(Solver(prepared.scope(drivers, resolver, Plan(()))))
            opened.callback(drivers.snapshotter.remove, directory)
            rootfs = drivers.snapshotter.prepare(directory, left.directories, mount_points=True)
            opened.callback(rootfs.close)
            solver.enter(failed.vertex, rootfs, failed.message, use)

    def _keep_failed(self, vertex: Vertex, snapshot: str, message: str) -> None:
        from img_core.api._failed import remember

        number, vertex = self._origins.get(vertex.digest, (0, vertex))
        request, state = self._builds[number].request, self._session.store.state
        self._failed.append(remember(state, self._build_id, request, vertex, snapshot, message))

    def _forget_failed(self) -> None:
        """Remove what earlier builds of this kind left when they failed; failing at it fails no build."""
        store = self._session.store
        if not os.path.isdir(os.path.join(store.state, "failed")):
            return
        from img_core.api._failed import forget, kind_of

        try:
            for kind in {kind_of(build.request) for build in self._builds}:
                forget(store, kind, besides=self._failed)
        except (ImgError, OSError) as err:
            self._session.notice(f"what an earlier build left could not be removed: {err}")

    def _collect(self, seconds: float) -> None:
        """Remove what exceeds the configured budget, after a build that took *seconds*; failing at it fails no build."""
        from img_core.store.automatic import collect_excess  # loads what a cached build does not need

        session = self._session
        try:
            collect_excess(
                session.store, session.config.keep_storage, seconds=_COLLECT_SECONDS + seconds * _COLLECT_SHARE
            )
        except (ImgError, OSError) as err:
            session.notice(f"old cache could not be removed: {err}")

    def _isolates(self, network: NetworkChoice) -> bool:
        """Tell whether steps of this build that name no network are kept from the host's."""
        if network.mode != "default":
            return network.mode != "host"
        from img_core.linux.network.private import shields_default

        return shields_default(self._session.config.environment)

    # ------------------------------------------------------------------------------------------------------- export

    def _exporters(self, request: BuildRequest) -> list[Exporter]:
        outputs = list(request.outputs)
        # ``-t`` names an image that people expect to find with `img ls`; with neither name nor output it is kept under its id.
        named = request.tags and not any(self._names_image(output) for output in outputs)
        if named or not outputs:
            outputs.append(Output(DEFAULT_EXPORTER))
        made = []
        for output in outputs:
            choice = Choice(output.type, output.options)
            host = self._prepared.host
            exporter: Exporter = self._session.plugins.make("exporter", choice, host, host=host)
            exporter.check()
            made.append(exporter)
        return made

    def _names_image(self, output: Output) -> bool:
        driver: type[Exporter] = self._session.plugins.driver("exporter", output.type)
        return driver.names_image

    @staticmethod
    def _export(
        build: Preparation, outcome: BuildOutcome, exporters: Sequence[Exporter], listeners: Telling
    ) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for exporter in exporters:
            with build.step(f"exporting to {exporter.name}") as step:
                told = exporter.export(outcome.wanted_by(exporter), build.progress(step))
            metadata.update(told)
            listeners.tell("img_exported", exporter=exporter.name, names=tuple(outcome.names), metadata=dict(told))
        return metadata

    def _result(self, number: int, metadata: dict[str, Any], plan: Plan, steps: int, cached: int) -> BuildResult:
        return BuildResult(
            digest=str(metadata.get("containerimage.digest", "")),
            config_digest=str(metadata.get("containerimage.config.digest", "")),
            names=tuple(self._names[number]),
            metadata=metadata,
            steps=steps,
            cached_steps=cached,
            warnings=tuple(warning.message for warning in plan.warnings),
            build=self._build_id,
        )


def _steps_of(plan: Plan) -> frozenset[str]:
    """Return the digests of what is looked up in the cache: everything but sources."""
    return frozenset(vertex.digest for vertex in plan.vertices() if not isinstance(vertex.op, SourceOp))

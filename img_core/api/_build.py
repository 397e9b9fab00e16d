"""One build, from request to result, in this process."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from img_core.api._contexts import Addresses, parse_contexts
from img_core.api._entitlements import check_entitlements
from img_core.api._frontends import Frontends
from img_core.api._journal import Journal
from img_core.api._known_contexts import KnownContexts
from img_core.api._main_context import prepare_context
from img_core.api._request import BuildResult, CachePlace, Output
from img_core.config import DEFAULT_EXPORTER
from img_core.files import fs
from img_core.images import platforms
from img_core.images.names import new_name
from img_core.linux.network.choice import NetworkChoice
from img_core.linux.spans import span
from img_core.plugins import Choice
from img_core.solver.events import Events
from img_core.spec.errors import Canceled, ImgError, NotFoundError, StepError, UsageError
from img_core.spec.graph import CONTEXT_SCHEME, SourceOp, inputs_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from img_core.api._caches import Caches
    from img_core.api._definition import Definition
    from img_core.api._failed import FailedStep
    from img_core.api._handing import Handing
    from img_core.api._lock import Lock
    from img_core.api._main_context import MainContext
    from img_core.api._request import BuildRequest
    from img_core.api.session import Session
    from img_core.linux.cancellation import Cancellation
    from img_core.plugins import ListenerFailure, Telling
    from img_core.solver.failure import StepFailure
    from img_core.solver.images import BuildResolver
    from img_core.solver.result import BuildOutcome
    from img_core.solver.scope import BuildScope, Drivers
    from img_core.solver.stacks import Layer
    from img_core.spec.engine import Engine
    from img_core.spec.exporter import Exporter, ExportProgress
    from img_core.spec.frontend import BuildWarning, Frontend, Plan, PlanRequest
    from img_core.spec.graph import Location, Vertex
    from img_core.spec.host import Host
    from img_core.spec.progress import Event
    from img_core.spec.source import ImageSource, Source, TreeSource
    from img_core.spec.values import Descriptor

__all__ = ["Build"]

# How long a build may look for what to remove from the cache.
_COLLECT_SECONDS = 0.3
_COLLECT_SHARE = 0.05  #: of the time that it took


class Build:
    """One build in one session."""

    def __init__(
        self,
        session: Session,
        request: BuildRequest,
        cancellation: Cancellation,
        listeners: Sequence[Callable[[Event], None]] = (),
        on_failure: Callable[[StepFailure], None] | None = None,
    ) -> None:
        self._session = session
        self._request = request
        self._cancellation = cancellation
        self._on_failure = on_failure
        self._failed: list[str] = []  #: names of the notes of steps that failed
        self._build_id = ""
        self._events = Events(session.notice)
        for listener in listeners:
            self._events.listen(listener)
        self._failed_listeners: set[str] = set()
        self._names = [new_name(tag) for tag in request.tags]

    def run(self) -> BuildResult:
        """Build and export, and keep a log of it; then see to it that the cache does not grow without bound. Raises ImgError."""
        started = time.monotonic()
        journal = Journal(self._session.host, self._request, self._session.notice)
        self._build_id = journal.id
        self._events.listen(journal.take)
        try:
            result, cache_grew = self._run(journal)
        except BaseException as err:
            journal.end(None, err)
            if self._failed:
                self._forget_failed()
                if isinstance(err, StepError):
                    err.hint = err.hint or "`img debug last` opens a shell in what the step left"
            raise
        journal.end(result)
        self._forget_failed()
        if cache_grew:
            self._collect(time.monotonic() - started)
        return result

    def _run(self, journal: Journal) -> tuple[BuildResult, bool]:
        from img_core.solver.solver import Solver

        session, request = self._session, self._request
        exporters = self._exporters()
        session.plugins.check("executor", request.executor)  # a wrong name is told even if no step runs
        with ExitStack() as opened:
            opened.enter_context(fs.disk_errors(session.store.state))  # whatever was not told in other words below
            network = NetworkChoice.parse(request.network)
            request.limits.check()
            engine = self._engine(opened)
            caches = self._caches(opened, engine)
            definition, sources, resolver = self._prepare()
            drivers = self._drivers(sources, network)
            planned = self._plan_request(definition)
            with self._planning(planned) as frontend, span("plan"):
                plan = frontend.plan(planned, self._cancellation.undisturbed(resolver))
            plan = self._amended(plan)
            check_entitlements(plan, request.allow, isolated=lambda: self._isolates(network))
            journal.counted = _steps_of(plan)
            listeners = opened.enter_context(self._announce(plan))
            excerpt = partial(frontend.excerpt, planned)
            if engine is not None:
                self._handing(engine, drivers, sources, resolver, listeners.step_finished, excerpt).run(plan)
            forms = [item.layer_form for item in exporters if item.needs_layers]
            forms = list(dict.fromkeys([*forms, *(caches.layer_forms if caches else ())]))
            hears = [caches.packed] if caches and len(forms) == 1 else []
            scope = self._scope(
                drivers,
                resolver,
                plan,
                layer_forms=tuple(forms),
                all_layers=caches.all_layers if caches else False,
                imports=caches.load(self._cancellation.cancel) if caches else None,
                **self._packed(plan, listeners, hears),
            )
            solver = opened.enter_context(
                Solver(scope, finished=listeners.step_finished, max_workers=request.max_parallelism)
            )

            def ready(outcome: BuildOutcome) -> None:
                if caches:
                    caches.ready(outcome, scope, solver, exporters)

            outcome = solver.solve(self._names, excerpt=excerpt, ready=ready)
            outcome = caches.amended(outcome) if caches else outcome
            metadata = self._export(self._attested(outcome, exporters), exporters, listeners)
            if caches:
                metadata |= caches.save(self._export_progress)
            return self._result(metadata, plan, solver), solver.made_steps > 0

    def _engine(self, opened: ExitStack) -> Engine | None:
        """Return the engine of the request, if it names one, until *opened* ends."""
        if not self._request.engine:
            return None
        engine: Engine = self._session.plugins.make("engine", self._request.engine, self._host, host=self._host)
        opened.callback(engine.close)
        return engine

    def _handing(
        self,
        engine: Engine,
        drivers: Drivers,
        sources: Callable[[str], Any],  # Any: an image or a tree source
        resolver: BuildResolver,
        finished: Callable[[Vertex, bool, float], None],
        excerpt: Callable[[Location], str],
    ) -> Handing:
        """Return what hands parts of this build to *engine*."""
        from img_core.api._handing import Handing, HandingScope

        around = HandingScope(
            self._session, self._request, self._events, self._cancellation, resolver, sources,
            partial(self._scope, drivers, resolver), self._step, self._export_progress, self._secret, finished, excerpt,
        )  # fmt: skip
        return Handing(around, engine)

    def handed_out(self) -> list[str]:
        """Return in lines what the engine would be given now; build nothing. Raises ImgError."""
        with ExitStack() as opened:
            engine = self._engine(opened)
            if engine is None:
                raise UsageError("no engine was named")
            definition, sources, resolver = self._prepare()
            drivers = self._drivers(sources, NetworkChoice.parse(self._request.network))
            planned = self._plan_request(definition)
            with self._planning(planned) as frontend:
                plan = self._amended(frontend.plan(planned, self._cancellation.undisturbed(resolver)))
            handing = self._handing(engine, drivers, sources, resolver, lambda *_step: None, lambda _place: "")
            return handing.shown(plan)

    def _caches(self, opened: ExitStack, engine: Engine | None = None) -> Caches | None:
        """Return the caches of the request, if it names any, and that of *engine*, until *opened* ends."""
        types = {place.type for place in self._request.cache_to}
        wanted = self._frontends.first.cache_exports(self._build_args())
        more = [CachePlace(name) for name in wanted if name not in types]
        request = replace(self._request, cache_to=(*self._request.cache_to, *more)) if more else self._request
        place = None
        if engine is not None:
            from img_core.api._handing import engine_place

            place = engine_place(self._session, engine, export=False)
            request = replace(request, cache_from=(*request.cache_from, place))
        if not request.cache_from and not request.cache_to:
            return None
        from img_core.api._caches import Caches

        caches = Caches(self._session, request, self._events, self._step, place)
        opened.enter_context(caches.opened(self._cancellation.fd))
        return caches

    def _drivers(self, sources: Callable[[str], Any], network: NetworkChoice) -> Drivers:  # Any: a source
        from img_core.linux.parallel import once
        from img_core.solver.scope import Drivers

        session, request = self._session, self._request
        return Drivers(
            session.snapshotter(request.backend),
            once(lambda: session.executor(request.executor)),
            sources,
            self._secrets,
            self._agents,
            network,
            request.limits,
            self._on_failure,
            self._keep_failed,
        )

    def _scope(self, drivers: Drivers, resolver: BuildResolver, plan: Plan, **more: Any) -> BuildScope:  # Any: fields
        from img_core.solver.scope import BuildScope

        return BuildScope(
            host=self._host,
            host_platform=platforms.host_platform(),
            store=self._session.store,
            drivers=drivers,
            resolver=resolver,
            events=self._events,
            cancellation=self._cancellation,
            plan=plan,
            **more,
        )

    def enter(self, failed: FailedStep, use: Callable[[StepFailure], None]) -> None:
        """Let *use* look at what the step *failed* left, in a copy. The request is that of *failed*. Raises NotFoundError, ImgError."""
        from img_core.solver.solver import Solver
        from img_core.spec.frontend import Plan

        session = self._session
        with ExitStack() as opened:
            opened.enter_context(fs.disk_errors(session.store.state))
            sources, resolver = self._prepare()[1:] if failed.vertex.inputs else self._sourceless()
            drivers = self._drivers(sources, NetworkChoice.parse(self._request.network))
            left = session.store.snapshots.get(failed.snapshot)
            if left is None:
                raise NotFoundError(
                    f"what `{fs.show(failed.vertex.name)}` left is not kept any more",
                    hint="`img prune` took it, or it was made with another backend or mapping of ids: build it again",
                )
            assert session.store.run is not None
            directory = session.store.run.new_path("snapshot")
            solver = opened.enter_context(Solver(self._scope(drivers, resolver, Plan(()))))
            opened.callback(drivers.snapshotter.remove, directory)
            rootfs = drivers.snapshotter.prepare(directory, left.directories, mount_points=True)
            opened.callback(rootfs.close)
            solver.enter(failed.vertex, rootfs, failed.message, use)

    def _keep_failed(self, vertex: Vertex, snapshot: str, message: str) -> None:
        from img_core.api._failed import remember

        state = self._session.store.state
        self._failed.append(remember(state, self._build_id, self._request, vertex, snapshot, message))

    def _forget_failed(self) -> None:
        """Remove what earlier builds of this kind left when they failed; failing at it fails no build."""
        store = self._session.store
        if not os.path.isdir(os.path.join(store.state, "failed")):
            return
        from img_core.api._failed import forget, kind_of

        try:
            forget(store, kind_of(self._request), besides=self._failed)
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

    def check(self) -> tuple[BuildWarning, ...]:
        """Return all findings about the build definition; build nothing. Raises ImgError."""
        definition, _, resolver = self._prepare()
        planned = self._plan_request(definition)
        with self._planning(planned) as frontend:
            return frontend.check(planned, self._cancellation.undisturbed(resolver))

    def outline(self) -> Mapping[str, Any]:  # Any: JSON
        """Return what the target takes from outside (`Frontend.outline`). Raises ImgError."""
        definition, _, resolver = self._prepare()
        planned = self._plan_request(definition)
        with self._planning(planned) as frontend:
            return frontend.outline(planned, self._cancellation.undisturbed(resolver))

    def targets(self) -> Mapping[str, Any]:  # Any: JSON
        """Return what can be built (`Frontend.targets`). Raises ImgError."""
        planned = self._plan_request(self._context().definition)
        with self._planning(planned) as frontend:
            return frontend.targets(planned)

    def lock(self) -> Lock:
        """Return which exact images, files and repositories the target takes from outside. Raises ImgError."""
        from img_core.api._lock import Lock, identifier, lock_path
        from img_core.images.reference import full_id

        definition, sources, resolver = self._prepare()
        planned = self._plan_request(definition)
        with self._planning(planned) as frontend:
            plan = frontend.plan(planned, self._cancellation.undisturbed(resolver))
        found: dict[str, str] = {}
        for vertex in inputs_first(image.root for image in plan.images if image.root is not None):
            if not isinstance(vertex.op, SourceOp) or full_id(vertex.op.reference):  # an id is as exact as a digest
                continue
            self._cancellation.check()
            op, driver = resolver.wanted(vertex.op), self._source_driver(vertex.op.scheme)
            if not driver.is_remote:
                continue
            if driver.makes_image:
                image = resolver.resolve(vertex.op.reference, vertex.platform or platforms.host_platform())
                found[identifier(op)] = image.top
            else:
                source: TreeSource = sources(op.scheme)
                found[identifier(op)] = source.pin_of(source.pin(op, vertex.platform))
        return Lock(found, lock_path(definition.path))

    # --------------------------------------------------------------------------------------------------- preparation

    def _prepare(self) -> tuple[Definition, Callable[[str], Any], BuildResolver]:  # Any: an image or a tree source
        """Read the definition and make what answers questions about images and contexts."""
        from img_core.solver.images import BuildResolver
        from img_core.solver.wanted import WantedSources

        request = self._request
        if request.offline and request.pull:
            raise UsageError("`--pull` and `--offline` exclude each other")
        context = self._context()
        contexts = parse_contexts(request.contexts, self._addresses)
        local = {name: named.reference for name, named in contexts.items() if named.kind == CONTEXT_SCHEME}
        sources = self._sources(
            {"context": context.directory, **local},
            {"context": context.ignore_file} if context.ignore_file else {},
            self._frontends.of(context.definition.name).ignore_names("").within,
        )
        resolver = BuildResolver(
            self._session.store,
            _image_source(sources),
            self._events,
            pull=request.pull,
            trust_seconds=self._session.config.trust_tags,
            offline=request.offline,
            verified=not request.insecure_registries,
            contexts={name: (named.kind, named.reference) for name, named in contexts.items()},
            facts=KnownContexts(context, sources),
            wanted=WantedSources(self._source_rules(context.definition)),
        )
        return context.definition, sources, resolver

    def _source_rules(self, definition: Definition) -> list[Callable[[SourceOp], SourceOp | None]]:
        """Return what decides about sources: listeners, and then the lock file."""
        rules: list[Callable[[SourceOp], SourceOp | None]] = []
        hook = self._session.plugins.listeners().img_source_wanted
        if hook.get_hookimpls():
            rules.append(lambda op: hook(source=op))
        if self._request.locked is not None:
            from img_core.api._lock import LockRule, lock_path, read_lock

            path = self._request.locked or lock_path(definition.path)
            if not path:
                raise UsageError("`--locked` needs the name of a lock file: the build definition is in no file here")
            rules.append(LockRule(read_lock(path), self._source_driver))
        return rules

    def _source_driver(self, scheme: str) -> type[Source]:
        driver: type[Source] = self._session.plugins.driver("source", scheme)
        return driver

    def _sourceless(
        self, contexts: Mapping[str, str] | None = None
    ) -> tuple[Callable[[str], Any], BuildResolver]:  # Any: an image or a tree source
        """Return what `_prepare` does, for steps without a definition, which may be gone by now; they read only images and *contexts*."""
        from img_core.api._definition import Definition
        from img_core.api._main_context import MainContext
        from img_core.solver.images import BuildResolver

        request, sources = self._request, self._sources(contexts)
        facts = KnownContexts(MainContext("", Definition(b"", "", None)), sources)
        return sources, BuildResolver(
            self._session.store,
            _image_source(sources),
            self._events,
            offline=request.offline,
            verified=not request.insecure_registries,
            facts=facts,
        )

    def _context(self) -> MainContext:
        with self._step(f"[internal] load build definition from {self._definition_name()}"):
            return prepare_context(
                self._request,
                self._frontends,
                self._addresses,
                lambda scheme: self._sources(trusted=True)(scheme),
                self._session.host.run_directory,
            )

    def _definition_name(self) -> str:
        """Return what to call the build definition before it was looked for. A URL may contain what nobody should read."""
        given = self._request.dockerfile
        return (
            fs.show(os.path.basename(given))
            if given and not self._addresses.tree(given)
            else self._frontends.names.usual
        )

    @cached_property
    def _addresses(self) -> Addresses:
        return Addresses(self._session.plugins)

    @cached_property
    def _frontends(self) -> Frontends:
        return Frontends(self._session.plugins, self._request.frontend, self._request.frontend_options)

    @cached_property
    def _host(self) -> Host:
        """What drivers of this build know of the host."""
        return self._session.host_for(offline=self._request.offline)

    def _sources(
        self,
        contexts: Mapping[str, str] | None = None,
        ignore_files: Mapping[str, str] | None = None,
        ignore_names: tuple[str, ...] = (),
        *,
        trusted: bool = False,
    ) -> Callable[[str], Any]:  # Any: an image or a tree source
        """Return the sources of this build. What the user named himself is *trusted* with his ssh; a definition is not."""
        request = self._request
        return self._session.sources(
            contexts=contexts,
            ignore_files=ignore_files,
            ignore_names=ignore_names,
            insecure=request.insecure_registries,
            secrets=self._secret,
            named=self._named(),
            agents=self._agents,
            own_ssh=trusted,
            reproducible="SOURCE_DATE_EPOCH" in self._build_args(),
            cancel_fd=self._cancellation.fd,
            status=self._events.transfer,
            offline=request.offline,
        )

    def _named(self) -> tuple[str, ...]:
        """Return the addresses of other machines that the user gave himself."""
        given = (self._request.context, *self._request.contexts.values())
        remote = [address for address in given if self._addresses.tree(address)]
        return tuple(address if "://" in address else f"https://{address}" for address in remote)

    def _secret(self, name: str) -> bytes | None:
        """Return a secret of this build, for a source that logs in."""
        if name not in self._request.secrets:
            return None
        from img_core.solver.secrets import Secrets

        return Secrets(self._session.host.run_directory, self._secrets).read(name)

    @cached_property
    def _secrets(self) -> Mapping[str, Callable[[], bytes]]:
        """What reads the secrets of this build."""
        if not self._request.secrets:
            return {}
        from img_core.api._secrets import SecretPlaces

        return SecretPlaces(self._session.plugins, self._session.config.environment).readers(self._request.secrets)

    @property
    def _agents(self) -> Mapping[str, str]:
        """The sockets of the ssh agents of this build."""
        return {name: agent.path for name, agent in self._request.ssh.items()}

    @contextmanager
    def _planning(self, planned: PlanRequest) -> Iterator[Frontend]:
        """Give the frontend for *planned*. In the block, which only computes, a signal raises Canceled at once."""
        frontend = self._frontends.make(planned)
        with self._cancellation.interrupting():
            yield frontend

    def _plan_request(self, definition: Definition) -> PlanRequest:
        from img_core.spec.frontend import PlanRequest

        request = self._request
        wanted = [
            platforms.parse(text, prefix=f"failed to parse target platform {text}: ") for text in request.platforms
        ]
        return PlanRequest(
            definition=definition.text,
            filename=definition.name,
            platforms=tuple(wanted) or (platforms.host_platform(),),
            build_platform=platforms.host_platform(),
            build_args=self._build_args(),
            labels=_checked("label", request.labels),
            target=request.target,
            no_cache=request.no_cache,
            no_cache_stages=request.no_cache_filter,
            network=NetworkChoice.parse(request.network).mode,
            extra_hosts=request.add_hosts,
            shm_size=request.shm_size,
            ulimits=request.ulimits,
        )

    def _isolates(self, network: NetworkChoice) -> bool:
        """Tell whether steps of this build that name no network are kept from the host's."""
        if network.mode != "default":
            return network.mode != "host"
        from img_core.linux.network.private import shields_default

        return shields_default(self._session.config.environment)

    def _build_args(self) -> dict[str, str]:
        environment = self._session.config.environment
        given = {"SOURCE_DATE_EPOCH": environment.get("SOURCE_DATE_EPOCH"), **self._request.build_args}
        values = {name: environment.get(name) if value is None else value for name, value in given.items()}
        return _checked("build argument", {name: value for name, value in values.items() if value is not None})

    def _amended(self, plan: Plan) -> Plan:
        """Return the plan with what listeners add to its steps."""
        hook = self._session.plugins.listeners().img_run_planned
        if not hook.get_hookimpls():
            return plan
        from img_core.api._amending import amended

        return amended(plan, lambda vertex: hook(vertex=vertex))

    def _packed(
        self, plan: Plan, listeners: Telling, hears: Sequence[Callable[[Layer, Descriptor], None]]
    ) -> dict[str, Callable[[Layer, Descriptor], None]]:
        """Return what tells of layers, as fields of a scope: to those in *hears*, and to listeners; nothing if none wants to hear."""
        steps = {vertex.digest: vertex for vertex in inputs_first(image.root for image in plan.images if image.root)}

        def tell(layer: Layer, blob: Descriptor) -> None:
            vertex = steps[layer.step]
            listeners.tell("img_layer_committed", vertex=vertex, descriptor=blob, diff_id=layer.diff_id)

        every = [*hears, tell] if listeners.hears("img_layer_committed") else hears

        def packed(layer: Layer, blob: Descriptor) -> None:
            for hear in every:
                hear(layer, blob)

        return {"packed": packed} if every else {}

    def _attested(self, outcome: BuildOutcome, exporters: Sequence[Exporter]) -> BuildOutcome:
        """Return *outcome* with what listeners state about its images."""
        hook = self._session.plugins.listeners().img_image_built
        if not hook.get_hookimpls():
            return outcome
        shown = outcome.wanted_by(exporters[0]).images
        told = [hook(image=image, names=tuple(map(str, self._names))) for image in shown]
        images = [
            replace(image, attestations=tuple(item for answer in answers for item in answer))
            for image, answers in zip(outcome.images, told, strict=True)
        ]
        return replace(outcome, images=images)

    def _announce(self, plan: Plan) -> Telling:
        """Let listeners see the plan; return what tells them of all that follows."""
        from img_core.plugins import Telling

        for warning in plan.warnings:
            self._events.warn(warning)
        hooks = self._session.plugins.listeners()
        hooks.img_build_planned(plan=plan)
        telling = Telling(hooks, self._report, self._session.notice)
        if telling.hears("img_event"):
            self._events.listen(lambda event: telling.tell("img_event", event=event))
        for vertex in inputs_first(image.root for image in plan.images if image.root is not None):
            self._events.planned(vertex.digest, vertex.name, tuple(item.digest for item in vertex.inputs))
        return telling

    def _report(self, failure: ListenerFailure) -> None:
        """Warn of a listener that fails, once: it is told of every event and every step."""
        if failure.listener not in self._failed_listeners:
            self._failed_listeners.add(failure.listener)
            self._session.notice(failure.message)

    # ------------------------------------------------------------------------------------------------------- export

    def _exporters(self) -> list[Exporter]:
        outputs = list(self._request.outputs)
        # ``-t`` names an image that people expect to find with `img ls`; with neither name nor output it is kept under its id.
        named = self._names and not any(self._names_image(output) for output in outputs)
        if named or not outputs:
            outputs.append(Output(DEFAULT_EXPORTER))
        made = []
        for output in outputs:
            choice = Choice(output.type, output.options)
            host = self._host
            exporter: Exporter = self._session.plugins.make("exporter", choice, host, host=host)
            exporter.check()
            made.append(exporter)
        return made

    def _names_image(self, output: Output) -> bool:
        driver: type[Exporter] = self._session.plugins.driver("exporter", output.type)
        return driver.names_image

    def _export_progress(self, step: str) -> ExportProgress:
        return _ExportProgress(step, self._events, self._cancellation)

    def _export(self, outcome: BuildOutcome, exporters: Sequence[Exporter], listeners: Telling) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for exporter in exporters:
            with self._step(f"exporting to {exporter.name}") as step:
                told = exporter.export(outcome.wanted_by(exporter), self._export_progress(step))
            metadata.update(told)
            listeners.tell(
                "img_exported", exporter=exporter.name, names=tuple(map(str, self._names)), metadata=dict(told)
            )
        return metadata

    def _result(self, metadata: dict[str, Any], plan: Plan, solver: Any) -> BuildResult:  # Any: a Solver
        return BuildResult(
            digest=str(metadata.get("containerimage.digest", "")),
            config_digest=str(metadata.get("containerimage.config.digest", "")),
            names=tuple(self._names),
            metadata=metadata,
            steps=solver.steps,
            cached_steps=solver.cached_steps,
            warnings=tuple(warning.message for warning in plan.warnings),
            build=self._build_id,
        )

    @contextmanager
    def _step(self, name: str) -> Iterator[str]:
        """Show a step that is not a vertex."""
        try:
            with self._events.step(name):
                yield name  # which is its identity, too
        except Canceled:
            self._cancellation.check()  # which knows the signal
            raise


class _ExportProgress:
    """Shows what an exporter does (spec.exporter.ExportProgress)."""

    def __init__(self, step: str, events: Events, cancellation: Cancellation) -> None:
        self._step = step
        self._events = events
        self._cancellation = cancellation

    def status(
        self, text: str, *, current: int = 0, total: int = 0, finished: bool | None = None, outcome: str = ""
    ) -> None:
        """Show *text*. Raises Canceled when the build must stop."""
        self._cancellation.check()
        if finished is None:
            finished = not total or current >= total
        self._events.status(self._step, text, current, total, finished=finished, outcome=outcome)

    def check(self) -> None:
        """Raise Canceled when the build must stop."""
        self._cancellation.check()


def _checked(kind: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return *values*. Raises UsageError for what an image cannot hold: its documents are UTF-8, its variables have no NUL."""
    for name, value in values.items():
        try:
            wrong = "contains a NUL byte" if b"\0" in f"{name}{value}".encode() else ""
        except UnicodeEncodeError:
            wrong = "is not valid UTF-8"
        if wrong:
            raise UsageError(f"{kind} `{fs.show(name)}` {wrong}")
    return dict(values)


def _steps_of(plan: Plan) -> frozenset[str]:
    """Return the digests of what is looked up in the cache: everything but sources."""
    vertices = inputs_first(image.root for image in plan.images if image.root is not None)
    return frozenset(vertex.digest for vertex in vertices if not isinstance(vertex.op, SourceOp))


def _image_source(sources: Callable[[str], ImageSource | TreeSource]) -> Callable[[str], ImageSource]:
    return sources  # type: ignore[return-value]  # of `IMAGE_SCHEME`, which is a source of images by contract

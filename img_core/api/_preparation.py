"""What a build is made with: its definition, its sources and secrets, and the scope that a solver works in."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from img_core.api._contexts import Addresses, parse_contexts
from img_core.api._frontends import Frontends
from img_core.api._main_context import KnownContexts, MainContext, prepare_context
from img_core.files import fs
from img_core.images import platforms
from img_core.linux.network.choice import NetworkChoice
from img_core.linux.spans import span
from img_core.spec.errors import Canceled, UsageError
from img_core.spec.graph import CONTEXT_SCHEME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from img_core.api._contexts import NamedContext
    from img_core.api._definition import Definition
    from img_core.api._request import BuildRequest
    from img_core.api.session import Session
    from img_core.forms.together import Trees
    from img_core.images.resolving import ImageResolver
    from img_core.linux.cancellation import Cancellation
    from img_core.solver.events import Events
    from img_core.solver.failure import StepFailure
    from img_core.solver.images import BuildResolver
    from img_core.solver.scope import BuildScope, Drivers
    from img_core.spec.engine import Engine
    from img_core.spec.exporter import ExportProgress
    from img_core.spec.frontend import Frontend, Plan, PlanRequest
    from img_core.spec.graph import Location, SourceOp, Vertex
    from img_core.spec.host import Host
    from img_core.spec.source import ImageSource, Source, TreeSource

__all__ = ["Preparation"]


class Preparation:
    """What is made for one *request* in one *session*: the pieces of a build, of a question about its definition, of the work for another
    machine. What they do is shown by *events*, as that of the build *among* others if it is named, and stops with *cancellation*."""

    def __init__(
        self, session: Session, request: BuildRequest, events: Events, cancellation: Cancellation, among: str = ""
    ) -> None:
        self.session = session
        self.request = request
        self.events = events
        self.cancellation = cancellation
        self._among = among

    def prepare(
        self, like: BuildResolver | None = None
    ) -> tuple[MainContext, Callable[[str], Any], BuildResolver]:  # Any: an image or a tree source
        """Read the definition and make what answers questions about images and contexts. *like* is that of a build beside this one, whose
        images are not looked for again."""
        from img_core.solver.images import BuildResolver
        from img_core.solver.wanted import WantedSources

        request = self.request
        if request.offline and request.pull:
            raise UsageError("`--pull` and `--offline` exclude each other")
        context = self.context()
        sources = self.sources(self.trees(context), self.ignore_names(context))
        resolver = BuildResolver(
            self._images(
                _image_source(sources),
                pull=request.pull,
                trust_seconds=self.session.config.trust_tags,
                like=like and like.images,
            ),
            _image_source(sources),
            contexts={name: (named.kind, named.reference) for name, named in self._contexts.items()},
            facts=KnownContexts(context, sources),
            wanted=WantedSources(self._source_rules(context.definition)),
        )
        return context, sources, resolver

    def _images(self, source: Callable[[str], ImageSource], **more: Any) -> ImageResolver:  # Any: its other arguments
        from img_core.images.resolving import ImageResolver

        offline, verified = self.request.offline, not self.request.insecure_registries
        return ImageResolver(self.session.store, source, self.events, offline=offline, verified=verified, **more)

    @cached_property
    def _contexts(self) -> Mapping[str, NamedContext]:
        return parse_contexts(self.request.contexts, self._addresses)

    def trees(self, context: MainContext) -> Trees:
        """Return the build contexts that are on this machine now."""
        local = {name: (named.reference, "") for name, named in self._contexts.items() if named.kind == CONTEXT_SCHEME}
        return {"context": (context.directory, context.ignore_file or ""), **local}

    def ignore_names(self, context: MainContext) -> tuple[str, ...]:
        """Return what files are called that hide things in build contexts."""
        return self.frontends.of(context.definition.name).ignore_names("").within

    def _source_rules(self, definition: Definition) -> list[Callable[[SourceOp], SourceOp | None]]:
        """Return what decides about sources: listeners, and then the lock file."""
        rules: list[Callable[[SourceOp], SourceOp | None]] = []
        hook = self.session.plugins.listeners().img_source_wanted
        if hook.get_hookimpls():
            rules.append(lambda op: hook(source=op))
        if self.request.locked is not None:
            from img_core.forms.lock import LockRule, lock_path, read_lock

            path = self.request.locked or lock_path(definition.path)
            if not path:
                raise UsageError("`--locked` needs the name of a lock file: the build definition is in no file here")
            rules.append(LockRule(read_lock(path), self.source_driver))
        return rules

    def source_driver(self, scheme: str) -> type[Source]:
        """Return the driver class of a scheme. Raises UsageError, PluginError."""
        driver: type[Source] = self.session.plugins.driver("source", scheme)
        return driver

    def sourceless(
        self, contexts: Mapping[str, str] | None = None
    ) -> tuple[Callable[[str], Any], BuildResolver]:  # Any: an image or a tree source
        """Return what `prepare` does, for steps without a definition, which may be gone by now; they read only images and *contexts*."""
        from img_core.api._definition import Definition
        from img_core.solver.images import BuildResolver

        sources = self.sources({name: (path, "") for name, path in (contexts or {}).items()})
        facts = KnownContexts(MainContext("", Definition(b"", "", None)), sources)
        return sources, BuildResolver(self._images(_image_source(sources)), _image_source(sources), facts=facts)

    def context(self) -> MainContext:
        """Return the main context, with the definition in it. Raises ImgError."""
        with self.step(f"[internal] load build definition from {self._definition_name()}"):
            return prepare_context(
                self.request,
                self.frontends,
                self._addresses,
                lambda scheme: self.sources(trusted=True)(scheme),
                self.session.host.run_directory,
                self.session.fetched,
            )

    def _definition_name(self) -> str:
        """Return what to call the build definition before it was looked for. A URL may contain what nobody should read."""
        given = self.request.dockerfile
        return (
            fs.show(os.path.basename(given))
            if given and not self._addresses.tree(given)
            else self.frontends.names.usual
        )

    @cached_property
    def _addresses(self) -> Addresses:
        return Addresses(self.session.plugins)

    @cached_property
    def frontends(self) -> Frontends:
        """The frontends that may read the definition."""
        return Frontends(self.session.plugins, self.request.frontend, self.request.frontend_options)

    @cached_property
    def host(self) -> Host:
        """What drivers of this build know of the host."""
        return self.session.host_for(offline=self.request.offline)

    def sources(
        self,
        trees: Trees | None = None,
        ignore_names: tuple[str, ...] = (),
        named: tuple[str, ...] | None = None,
        *,
        trusted: bool = False,
    ) -> Callable[[str], Any]:  # Any: an image or a tree source
        """Return the sources of this build, which reads *trees*. What the user *named* himself (None: in this request) is *trusted* with
        his ssh; a definition is not."""
        request, trees = self.request, trees or {}
        return self.session.sources(
            contexts={name: directory for name, (directory, _) in trees.items()},
            ignore_files={name: file for name, (_, file) in trees.items() if file},
            ignore_names=ignore_names,
            insecure=request.insecure_registries,
            secrets=self.secret,
            named=self.named() if named is None else named,
            agents=self._agents,
            own_ssh=trusted,
            reproducible="SOURCE_DATE_EPOCH" in self.build_args(),
            cancel_fd=self.cancellation.fd,
            status=self.events.transfer,
            offline=request.offline,
        )

    def named(self) -> tuple[str, ...]:
        """Return the addresses of other machines that the user gave himself."""
        given = (self.request.context, *self.request.contexts.values())
        remote = [address for address in given if self._addresses.tree(address)]
        return tuple(address if "://" in address else f"https://{address}" for address in remote)

    def secret(self, name: str) -> bytes | None:
        """Return a secret of this build, for a source that logs in."""
        if name not in self.request.secrets:
            return None
        from img_core.solver.secrets import Secrets

        return Secrets(self.session.host.run_directory, self._secrets).read(name)

    @cached_property
    def _secrets(self) -> Mapping[str, Callable[[], bytes]]:
        """What reads the secrets of this build."""
        if not self.request.secrets:
            return {}
        from img_core.api._secrets import SecretPlaces

        return SecretPlaces(self.session.plugins, self.session.config.environment).readers(self.request.secrets)

    @property
    def _agents(self) -> Mapping[str, str]:
        """The sockets of the ssh agents of this build."""
        return {name: agent.path for name, agent in self.request.ssh.items()}

    @contextmanager
    def planning(self, planned: PlanRequest) -> Iterator[Frontend]:
        """Give the frontend for *planned*. In the block, which only computes, a signal raises Canceled at once."""
        frontend = self.frontends.make(planned)
        with self.cancellation.interrupting():
            yield frontend

    def plan(self, definition: Definition, resolver: BuildResolver) -> tuple[Plan, Callable[[Location], str]]:
        """Return what the frontend makes of *definition*, and what shows places in it. Raises ImgError."""
        planned = self.plan_request(definition)
        with self.planning(planned) as frontend, span("plan"):
            return frontend.plan(planned, self.cancellation.undisturbed(resolver)), partial(frontend.excerpt, planned)

    def plan_request(self, definition: Definition) -> PlanRequest:
        """Return what a frontend is asked about *definition*. Raises UsageError."""
        from img_core.spec.frontend import PlanRequest

        request = self.request
        wanted = [
            platforms.parse(text, prefix=f"failed to parse target platform {text}: ") for text in request.platforms
        ]
        return PlanRequest(
            definition=definition.text,
            filename=definition.name,
            platforms=tuple(wanted) or (platforms.host_platform(),),
            fixed_platform=bool(wanted),
            build_platform=platforms.host_platform(),
            build_args=self.build_args(),
            labels=_checked("label", request.labels),
            target=request.target,
            no_cache=request.no_cache,
            no_cache_stages=request.no_cache_filter,
            network=NetworkChoice.parse(request.network).mode,
            extra_hosts=request.add_hosts,
            shm_size=request.shm_size,
            ulimits=request.ulimits,
        )

    def build_args(self) -> dict[str, str]:
        """Return the build arguments, those among them that the environment gives. Raises UsageError."""
        environment = self.session.config.environment
        given = {"SOURCE_DATE_EPOCH": environment.get("SOURCE_DATE_EPOCH"), **self.request.build_args}
        values = {name: environment.get(name) if value is None else value for name, value in given.items()}
        return _checked("build argument", {name: value for name, value in values.items() if value is not None})

    def drivers(
        self,
        sources: Callable[[str], Any],  # Any: an image or a tree source
        network: str,
        on_failure: Callable[[StepFailure], None] | None = None,
        keep_failed: Callable[[Vertex, str, str], None] | None = None,
    ) -> Drivers:
        """Return the drivers that steps use; *network* is the default of steps. The last two are as in `Drivers`."""
        from img_core.linux.parallel import once
        from img_core.solver.scope import Drivers

        session, request = self.session, self.request
        return Drivers(
            session.snapshotter(request.backend),
            once(lambda: session.executor(request.executor)),
            sources,
            self._secrets,
            self._agents,
            NetworkChoice.parse(network),
            request.limits,
            on_failure,
            keep_failed,
        )

    def scope(self, drivers: Drivers, resolver: BuildResolver, plan: Plan, **more: Any) -> BuildScope:  # Any: fields
        """Return what a solver of *plan* works in; *more* are further fields of it."""
        from img_core.solver.scope import BuildScope

        return BuildScope(
            host=self.host,
            host_platform=platforms.host_platform(),
            store=self.session.store,
            drivers=drivers,
            resolver=resolver,
            events=self.events,
            cancellation=self.cancellation,
            plan=plan,
            **more,
        )

    def engine(self, opened: ExitStack) -> Engine | None:
        """Return the engine of the request, if it names one, until *opened* ends."""
        if not self.request.engine:
            return None
        engine: Engine = self.session.plugins.make("engine", self.request.engine, self.host, host=self.host)
        opened.callback(engine.close)
        return engine

    def progress(self, step: str) -> ExportProgress:
        """Return what an exporter tells how far it is, shown at *step* (see `step`)."""
        return _ExportProgress(step, self.events, self.cancellation)

    @contextmanager
    def step(self, name: str) -> Iterator[str]:
        """Show a step that is not a vertex."""
        if self._among:
            from img_core.forms.together import named_among

            name = named_among(self._among, name)
        try:
            with self.events.step(name):
                yield name  # which is its identity, too
        except Canceled:
            self.cancellation.check()  # which knows the signal
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


def _image_source(sources: Callable[[str], ImageSource | TreeSource]) -> Callable[[str], ImageSource]:
    return sources  # type: ignore[return-value]  # of `IMAGE_SCHEME`, which is a source of images by contract

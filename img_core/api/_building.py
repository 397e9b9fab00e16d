"""Building, and asking what would be built."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

from img_core.api._workplace import Workplace, apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Unpack

    from img_core.api._build import Build
    from img_core.api._given import BuildOptions, QuestionOptions, StrPath, Words
    from img_core.api._request import BuildRequest, BuildResult, Output
    from img_core.api._secrets import SecretPlaces
    from img_core.api._workplace import Listener
    from img_core.api.session import Session
    from img_core.files.build_log import RecordedBuild
    from img_core.forms.lock import Lock
    from img_core.linux.cancellation import CancelHandle, Cancellation
    from img_core.solver.failure import StepFailure
    from img_core.spec.engine import Engine, EngineWorker
    from img_core.spec.frontend import BuildWarning
    from img_core.spec.progress import Event

__all__ = ["Building"]


class Building(Workplace):
    """The calls of a client that build."""

    def build(
        self,
        context: StrPath | BuildRequest = ".",
        *,
        tags: Words = (),
        outputs: Output | Mapping[str, Any] | Iterable[Output | Mapping[str, Any]] = (),
        build_args: Mapping[str, str | None] | None = None,
        on_event: Listener | None = None,
        cancel: CancelHandle | None = None,
        on_failure: Callable[[StepFailure], None] | None = None,
        **options: Unpack[BuildOptions],
    ) -> BuildResult:
        """Build an image from a Dockerfile.

        *context* is a directory, or a URL such as ``https://host/repository.git#branch``. One of several *tags* or *outputs* may be
        given alone. *outputs* are `Output` objects or mappings with the key ``type``, e.g. ``{"type": "oci", "dest": "app.tar"}``.
        *build_args* with the value None are taken from the environment. *options* are further fields of `BuildRequest`;
        a whole one may stand for the context, and what is given beside it counts more.

        *on_failure* is called, in a thread of the build, with a RUN step that failed, and may look at what it left before the build fails;
        only a client that works in this process takes it. What a step left is kept until the next build with the same context, definition
        and target, see `debug`.

        Raises UsageError for a value of a wrong form, DockerfileError, StepError, RegistryError, CredentialsError, NotFoundError.
        """
        from img_core.api._given import request_of

        request = self.located(request_of(context, tags=tags, outputs=outputs, build_args=build_args or {}, **options))
        if on_failure is None:
            return self._built((request,), on_event=on_event, cancel=cancel)[0]
        self._refuse_elsewhere("on_failure of build()")
        with self._build((request,), cancel, on_event, on_failure) as build:
            return build.run()[0]

    def build_many(
        self,
        builds: Iterable[BuildRequest | Mapping[str, Any] | StrPath],
        *,
        on_event: Listener | None = None,
        cancel: CancelHandle | None = None,
        **options: Unpack[BuildOptions],
    ) -> tuple[BuildResult, ...]:
        """Build several images together, from one definition or many: what they share is done once, all else at the same time.

        Each of *builds* is a `BuildRequest`, a mapping of arguments of `build`, or a context; *options* are those of all that do not
        say otherwise. Outputs are written when all steps are done. The first that fails stops the others, whose finished steps are kept.
        Builds that differ in something that concerns their steps as a whole, such as secrets, network or caches, are done one after
        the other. Returns the results in the order of *builds*; those done together have one log. Raises as `build`.
        """
        from img_core.api._given import request_of

        given = [
            request_of(**{**options, **item}) if isinstance(item, Mapping) else request_of(item, **options)
            for item in builds
        ]
        return self._built(tuple(map(self.located, given)), on_event=on_event, cancel=cancel)

    def check(
        self,
        context: StrPath | BuildRequest = ".",
        *,
        cancel: CancelHandle | None = None,
        **options: Unpack[QuestionOptions],
    ) -> tuple[BuildWarning, ...]:
        """Return all findings about a build definition; build nothing. Arguments and errors as `build`."""
        found: tuple[BuildWarning, ...] = self._asked("check", [self._requested(context, options)], cancel=cancel)
        return found

    def outline(
        self,
        context: StrPath | BuildRequest = ".",
        *,
        cancel: CancelHandle | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Mapping[str, Any]:  # Any: JSON
        """Return what a target takes from outside: build arguments, secrets, ssh sockets. Arguments and errors as `build`."""
        found: Mapping[str, Any] = self._asked("outline", [self._requested(context, options)], cancel=cancel)
        return found

    def targets(
        self,
        context: StrPath | BuildRequest = ".",
        *,
        cancel: CancelHandle | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Mapping[str, Any]:  # Any: JSON
        """Return the stages that can be built. Arguments and errors as `build`."""
        found: Mapping[str, Any] = self._asked("targets", [self._requested(context, options)], cancel=cancel)
        return found

    def lock(
        self,
        context: StrPath | BuildRequest = ".",
        *,
        cancel: CancelHandle | None = None,
        **options: Unpack[QuestionOptions],
    ) -> Lock:
        """Return which exact images, files and repositories a target takes from outside, for ``build(locked=…)``; write and build nothing.

        The text of the lock file is its `Lock.text`, `Lock.path` where it belongs. Arguments and errors as `build`.
        """
        found: Lock = self._asked("lock", [self._requested(context, options)], cancel=cancel)
        return found

    @apart
    def work(
        self,
        task: str,
        *,
        on_line: Callable[[str], None],
        backend: str = "auto",
        executor: str = "auto",
        max_parallelism: int = 0,
        cancel: CancelHandle | None = None,
    ) -> int:
        """Do the steps of *task*, a document that a build with an engine made, and save their results in the cache that it names.

        At most *max_parallelism* run at the same time, or as many as the task says, and without that as there are processors for it.
        *on_line* gets JSON objects, one a call: events, and at the end ``result`` or ``error``. Returns the status of the command.
        Raises UsageError for what is no task.
        """
        from img_core.api._work import Work
        from img_core.forms.tasks import SentTask
        from img_core.solver.keys import KEY_VERSION

        read = SentTask.read(task, KEY_VERSION)
        with self._working(cancel) as (session, cancellation):
            steps = read.steps_at_once(len(os.sched_getaffinity(0)), max_parallelism)
            return Work(session, read, cancellation, on_line, backend=backend, executor=executor, steps=steps).do()

    def expect_work(self) -> None:
        """Load what `work` will need, while nobody waits for it; only of use to a client that works in this process."""
        import img_core.api._work
        import img_core.archives.tar.extraction  # noqa: F401  # for later

    def handed_out(
        self,
        context: StrPath | BuildRequest | Sequence[BuildRequest] = ".",
        *,
        cancel: CancelHandle | None = None,
        **options: Unpack[QuestionOptions],
    ) -> tuple[str, ...]:
        """Return in lines what the engine of a build, or of several, would be given now; build nothing. Arguments and errors as `build`."""
        every = context if isinstance(context, Sequence) and not isinstance(context, str) else (context,)
        requests = [self._requested(item, options) for item in every]
        return tuple(self._asked("handed_out", requests, cancel=cancel))

    def workers(self, engine: str, *, cancel: CancelHandle | None = None) -> tuple[EngineWorker, ...]:
        """Return who could do tasks of *engine* now (its name, perhaps with options: ``dask,address=…``). Raises ImgError."""
        return self._asked_engine(engine, cancel=cancel)

    @apart
    def _asked_engine(self, engine: str, *, cancel: CancelHandle | None) -> tuple[EngineWorker, ...]:
        with self._session(namespace=True) as session:
            made: Engine = session.plugins.make("engine", engine, session.host, host=session.host)
            with closing(made):
                return made.capacity()

    def builds(self, *, limit: int = 0) -> tuple[RecordedBuild, ...]:
        """Return the builds of this state directory that have a log, newest first; at most *limit*, unless that is 0."""
        from img_core.files.build_log import recorded_builds

        return tuple(recorded_builds(self._trusted(), limit=limit))

    def logs(self, build: str = "last", *, step: int = 0) -> Iterator[Event]:
        """Give every event of a build in order, as `build` told them while it ran: also of one that failed, was killed or still runs.

        *build* is an id of `builds`, perhaps cut, or ``last``. With *step* only what belongs to the step of that number, counted from 1 in
        the order in which steps appear. What did not last is not in there: plans, and how parts of steps got on. Raises NotFoundError,
        for a number that no step has at the end.
        """
        from img_core.files.event_log import events_of
        from img_core.files.logs import find_log

        state = self._trusted()
        return events_of(state, find_log(state, build), step=step)

    def debug(
        self, use: Callable[[StepFailure], None], *, build: str = "last", cancel: CancelHandle | None = None
    ) -> None:
        """Call *use* with the RUN step that failed last, or in *build*, to look at a copy of what it left; only in this process.

        *build* is an id of `builds`, perhaps cut. Secrets and agents are there if their files, variables and sockets are. Raises
        NotFoundError if nothing is kept.
        """
        from img_core.api._failed import available, failed_step

        self._refuse_elsewhere("debug()")
        failed = failed_step(self._trusted(), build)
        request = available(failed.request, self._secret_places().locate, self._notice)
        with self._build((request,), cancel) as entrance:
            entrance.enter(failed, use)

    def _refuse_elsewhere(self, what: str) -> None:
        """Raise UsageError unless this client works in this process: a terminal cannot be sent to another one."""
        from img_core.spec.errors import UsageError

        if not self._in_process:
            raise UsageError(f"{what} needs a client that works in this process", hint="`Client(in_process=True)`")

    def located(self, request: BuildRequest) -> BuildRequest:
        """Return *request* with secrets that say which provider has them; each was looked for, none was read.

        All calls that build do that first. Raises UsageError for what is not there, PluginError.
        """
        if not request.secrets:
            return request
        from dataclasses import replace

        return replace(request, secrets=self._secret_places().located(request.secrets))

    def _secret_places(self) -> SecretPlaces:
        from img_core.api._secrets import SecretPlaces

        return SecretPlaces(self.plugins, self.config.environment)

    def definition_name(self, request: BuildRequest) -> str:
        """Return what the frontend of *request* calls a build definition, e.g. for one that comes without a name."""
        from img_core.api._frontends import Frontends

        return Frontends(self.plugins, request.frontend, request.frontend_options).names.usual

    def _requested(self, context: StrPath | BuildRequest, options: QuestionOptions) -> BuildRequest:
        from img_core.api._given import request_of

        return self.located(request_of(context, **{**options, "build_args": options.get("build_args") or {}}))

    @apart
    def _built(
        self, requests: Sequence[BuildRequest], *, on_event: Listener | None, cancel: CancelHandle | None
    ) -> tuple[BuildResult, ...]:
        found: dict[int, BuildResult] = {}
        while left := [number for number in range(len(requests)) if number not in found]:
            with self._build([requests[number] for number in left], cancel, on_event) as build:
                found |= {left[number]: result for number, result in build.run().items()}
        return tuple(found[number] for number in range(len(requests)))

    @apart
    def _asked(self, question: str, requests: Sequence[BuildRequest], *, cancel: CancelHandle | None) -> Any:
        """Return the answer of the function *question* of `img_core.api._questions`. Any: depends on it."""
        from img_core.api import _questions
        from img_core.api._preparation import Preparation
        from img_core.solver.events import Events

        with self._working(cancel) as (session, cancellation):
            events = Events(session.notice)
            prepared = [Preparation(session, request, events, cancellation) for request in requests]
            return getattr(_questions, question)(*prepared)

    @contextmanager
    def _build(
        self,
        requests: Sequence[BuildRequest],
        cancel: CancelHandle | None,
        on_event: Listener | None = None,
        on_failure: Callable[[StepFailure], None] | None = None,
    ) -> Iterator[Build]:
        from img_core.api._build import Build

        with self._working(cancel) as (session, cancellation):
            yield Build(session, requests, cancellation, [on_event] if on_event else [], on_failure)

    @contextmanager
    def _working(self, cancel: CancelHandle | None) -> Iterator[tuple[Session, Cancellation]]:
        """Give a session in the namespace, and what stops in it because of *cancel* or a signal."""
        from img_core.linux.cancellation import Cancellation

        with ExitStack() as last, ExitStack() as opened:
            session = opened.enter_context(self._session(namespace=True))
            cancellation = Cancellation()
            last.callback(cancellation.close)  # what the session closes looks at its descriptor
            if cancel is not None:
                opened.enter_context(cancel.stopping(cancellation.cancel))
            yield session, cancellation

"""The parts of a build, the workers of an engine and this machine: who does what, and what comes of it."""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from img_core.forms.event_lines import event_of
from img_core.linux import waiting
from img_core.linux.cancellation import Cancellation, CloseOnCancel
from img_core.spec.dataclass import dataclass
from img_core.spec.engine import EngineTask
from img_core.spec.errors import Canceled, ImgError, StepError
from img_core.spec.progress import StepFinished, StepLog, StepStarted, StepStatus, WarningRaised
from img_core.spec.text import redacted, show
from img_lib_engines.cut import OVERHEAD

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from img_core.spec.engine import EngineHandle, EngineWorker, SharedBuild
    from img_core.spec.graph import Vertex
    from img_core.spec.progress import Event
    from img_lib_engines.cut import Cut, CutPart
    from img_lib_engines.sharing import TaskEngine

__all__ = ["Pool", "share", "slots"]

_MOST = 64  #: tasks at the same time, of one platform
_SHARE = 4  #: a task takes so small a share of what is ready for each who may take some
_WORTH = 3  #: a task of short parts takes so many times as long as it takes to hand one over
_HOME = "here"
_KILLED = 137  #: the status of what was killed: perhaps for want of memory, of which others have more


@dataclass(frozen=True, slots=True)
class _Place:
    """Who does one task after the other: a slot of the *worker*, or of this machine (None)."""

    worker: EngineWorker | None

    @property
    def name(self) -> str:
        return self.worker.name if self.worker else _HOME


class Pool:
    """Does the parts of *found* and provides for them: first those without needs, several at the same time, each once, and again
    elsewhere if a worker was lost."""

    def __init__(
        self,
        found: Cut,
        engine: TaskEngine,
        workers: Sequence[EngineWorker],
        build: SharedBuild,
    ) -> None:
        self._engine = engine
        self._build = build
        self._stop = Cancellation()  #: of what this machine does
        self._users = {need for part in found.parts for need in part.needs}
        self._tries = int(engine.options.get("tries", 2))
        trusted = str(engine.options.get("trusted", ""))
        self._trusted = tuple(name.strip() for name in trusted.split(";") if name.strip())
        home = [_Place(None)] * int(engine.options.get("home", 1))
        self._places = [*home, *map(_Place, slots(workers, found.parts, self._host, self._trusted))]
        # Guarded by this:
        self._changed = threading.Condition()
        self._waiting = {part.digest: part for part in found.parts}
        self._running = 0
        self._done: set[str] = set()
        self._given_up: set[str] = set()
        self._lost: dict[str, list[str]] = {}  #: of each part the workers that lost it
        self._seconds = 0.0  #: from the first to the last step of the tasks that are done, in all
        self._overheads: list[float] = []  #: seconds that each of these took beside
        self._error: BaseException | None = None
        self._handles: set[EngineHandle] = set()

    def run(self) -> None:
        """Do them all. Raises StepError for the first step that failed, Canceled; nothing runs any more then."""
        watch = CloseOnCancel(self._build.cancel_fd, self)
        threads = [
            threading.Thread(target=self._serve, args=(place,), name=f"engine-{n}")
            for n, place in enumerate(self._places)
        ]
        try:
            # Workers get ready while this machine still packs what they need.
            self._engine.expect(list(dict.fromkeys(place.name for place in self._places if place.worker)))
            self._build.provide([step for part in self._waiting.values() for step in part.steps])
            for thread in threads:
                thread.start()
            for thread in threads:
                waiting.join(thread)
        finally:
            watch.stop()
            self._stop.close()
        self._build.check()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop everything; from any thread."""
        with self._changed:
            self._error = self._error or Canceled()
            handles = list(self._handles)
            self._changed.notify_all()
        self._stop.cancel()
        for handle in handles:
            self._engine.cancel(handle)

    # ------------------------------------------------------------------------------------------------------------- choosing

    def _serve(self, place: _Place) -> None:
        while parts := self._next(place):
            try:
                failure = self._do(place, parts)
            except BaseException as err:  # carried to the caller
                with self._changed:
                    self._error = self._error or err
                    self._running -= 1
                self.close()
                return
            self._settle(parts, failure)

    def _next(self, place: _Place) -> list[CutPart]:
        """Wait for parts that *place* may do, and take some; none: there will be no more."""
        with self._changed:
            while self._error is None:
                self._give_up()
                ready = [part for part in self._waiting.values() if self._done.issuperset(part.needs)]
                mine = [part for part in ready if self._may_do(place, part)]
                if mine:
                    chosen = [
                        part for part in mine if (part.platform, part.secrets) == (mine[0].platform, mine[0].secrets)
                    ]
                    idle = len(self._places) - self._running
                    count = share(chosen, len(self._places), *self._usual(), idle=idle)
                    for part in chosen[:count]:
                        del self._waiting[part.digest]
                    self._running += 1
                    return chosen[:count]
                if not self._running and not ready:  # what runs may come back, for whoever is left
                    break
                self._changed.wait()
            self._changed.notify_all()
            return []

    def _usual(self) -> tuple[float | None, float]:
        """Return how long a part took until now, None if none is done, and what it takes to hand over a task."""
        if not self._done:
            return None, OVERHEAD
        return self._seconds / len(self._done), max(OVERHEAD, sum(self._overheads) / len(self._overheads))

    def _may_do(self, place: _Place, part: CutPart) -> bool:
        lost = self._lost.get(part.digest, [])
        if place.worker is None:
            return not part.platform
        if part.home or place.name in lost or len(lost) >= self._tries:
            return False
        if part.secrets and place.name not in self._trusted:
            return False
        return (part.platform or self._host) in place.worker.platforms

    @property
    def _host(self) -> str:
        from img_core.images.platforms import host_platform

        return str(host_platform())

    def _has_more(self, place: _Place) -> bool:
        with self._changed:
            return any(self._may_do(place, part) for part in self._waiting.values())

    def _give_up(self) -> None:
        """Leave to the build what nobody here may do, and what needs such a part."""
        for part in list(self._waiting.values()):
            if not self._given_up.isdisjoint(part.needs) or not any(
                self._may_do(place, part) for place in self._places
            ):
                del self._waiting[part.digest]
                self._given_up.add(part.digest)

    def _settle(self, parts: Sequence[CutPart], failure: str) -> None:
        """Note that *parts* are done, or that a worker, whose name is *failure*, did not do them."""
        with self._changed:
            self._running -= 1
            for part in parts:
                if failure:
                    self._lost.setdefault(part.digest, []).append(failure)
                    self._waiting[part.digest] = part
                else:
                    self._done.add(part.digest)
            self._changed.notify_all()

    # --------------------------------------------------------------------------------------------------------------- doing

    def _do(self, place: _Place, parts: Sequence[CutPart]) -> str:
        """Do *parts*; return the name of the worker that could not, or nothing. Raises StepError, Canceled."""
        saved = place.worker is not None or any(part.digest in self._users for part in parts)
        secrets = {name for part in parts for name in part.secrets}
        targets = [part.target for part in parts]
        text = self._build.task(targets, secrets, saved=saved, sharing=self._sharing(place))
        step_of = {self._build.digest_there(step): step for part in parts for step in part.steps}
        hearing = _Hearing(step_of, self._build, place.name)
        reason, worker, began = "", place.name, time.monotonic()
        try:
            if place.worker is None:
                self._build.do_here(text, hearing, self._stop.fd)
            else:
                worker = self._elsewhere(place, parts, text, hearing)
        except Canceled:
            raise
        except ImgError as err:
            reason = err.message
        if hearing.is_done:
            with self._changed:
                self._seconds += hearing.seconds
                self._overheads.append(time.monotonic() - began - hearing.seconds)
            return ""
        failure = hearing.failure
        hearing.end()
        if failure is not None and failure.kind == "StepError" and failure.status not in (None, _KILLED):
            step = step_of.get(failure.step)
            if step is not None:
                self._build.ended(step, hearing.failed_after, error=failure.message)
            raise self._step_error(failure, step, worker)
        with self._changed:
            if self._error is not None:
                return ""
        reason = failure.message if failure else reason or "it was lost"
        what = parts[0].target.name + (f" and {len(parts) - 1} more" if len(parts) > 1 else "")
        text = f"{worker} did not do `{show(what)}`, which is done elsewhere: {show(reason)}"
        self._build.tell(WarningRaised(redacted(text), time.time()))
        return place.name

    def _sharing(self, place: _Place) -> int:
        """Return how many tasks the machine of *place* does at the same time."""
        return sum(self._engine.is_here or other.name == place.name for other in self._places)

    def _elsewhere(self, place: _Place, parts: Sequence[CutPart], text: str, hearing: _Hearing) -> str:
        assert place.worker is not None
        platform = parts[0].platform or self._host
        workers = (place.name,)
        task = EngineTask(uuid.uuid4().hex, text, parts[0].target.name, platform, workers)
        handle = self._engine.submit(task, hearing)
        with self._changed:
            self._handles.add(handle)
            stopped = self._error is not None
        if stopped:
            self._engine.cancel(handle)
        elif self._has_more(place):
            self._engine.expect([place.name])
        try:
            handle.wait()
        finally:
            with self._changed:
                self._handles.discard(handle)
        return handle.worker or place.name

    def _step_error(self, failure: _Failure, step: Vertex | None, worker: str) -> StepError:
        hint = failure.hint or None
        if worker != _HOME:
            hint = f"it ran on {worker}; without `--engine` it runs here, and `img debug` can look at what it left"
        excerpt = self._build.excerpt(step.location) if step is not None and step.location is not None else None
        return StepError(failure.message, hint=hint, status=failure.status, excerpt=excerpt)


def share(
    parts: Sequence[CutPart], places: int, usual: float | None, overhead: float = OVERHEAD, *, idle: int = 0
) -> int:
    """Return how many of *parts*, the first ones, are one task where they are shared among *places*: at least one, more if they are short.

    *usual* are the seconds of a part of which nobody knows any, by those that are done; None: none is. A task takes *overhead* beside.
    *idle* are the places that have nothing to do now (0: all). Of parts of which nobody knows the time none of these takes more than its
    share, however short others were.
    """
    fair, few = -(-len(parts) // (idle or places)), max(1, len(parts) // (_SHARE * places))
    work = 0.0
    for count, part in enumerate(parts):
        seconds = usual if part.seconds is None else part.seconds
        if seconds is None or work + seconds > _WORTH * overhead:
            return max(few, count)
        if count >= fair and (part.seconds is None or work + seconds > overhead):
            return max(few, count)
        work += seconds
    return len(parts)


def slots(
    workers: Sequence[EngineWorker], parts: Sequence[CutPart], host: str, trusted: Collection[str]
) -> list[EngineWorker]:
    """Return who may get a task at the same time, a worker as often as it can do one: for each platform no more than there are parts.

    *host* is the platform of parts that name none. Those that are *trusted* come first, and every worker before any has two.
    """
    ordered = sorted(workers, key=lambda worker: worker.name not in trusted)
    most = max((worker.slots for worker in workers), default=0)
    every = [worker for depth in range(min(most, _MOST)) for worker in ordered if depth < worker.slots]
    chosen: list[EngineWorker] = []
    for platform in sorted({part.platform or host for part in parts}):
        count = sum((part.platform or host) == platform for part in parts)
        chosen += [worker for worker in every if platform in worker.platforms][: min(count, _MOST)]
    return chosen


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a worker said of its failure: the *kind* of error, and the *step* if one failed, which ended with *status*."""

    kind: str = ""
    message: str = ""
    hint: str = ""
    step: str = ""
    status: int | None = None


def _failure_of(told: Mapping[str, Any]) -> _Failure:
    """Return the failure in a worker's last line; what is not in there is empty."""
    return _Failure(**{name: told[name] for name in _Failure.__match_args__ if name in told})


class _Hearing:
    """Takes the lines of one task: shows the events of its steps as ours, on the worker *place*, and keeps how it ended."""

    def __init__(self, step_of: Mapping[str, Vertex], build: SharedBuild, place: str) -> None:
        self._step_of = step_of
        self._build = build
        self._place = place
        self._began: dict[str, float] = {}  #: steps that run now
        self.is_done = False
        self.seconds = 0.0  #: from the beginning of the first step to the end of the last one
        self._first = 0.0
        self.failure: _Failure | None = None
        self.failed_after = 0.0  #: seconds that the step took which failed

    def __call__(self, text: str) -> None:
        """Take a line; what is none of ours (a program that prints) is passed over."""
        try:
            line: Any = json.loads(text)  # Any: JSON
        except ValueError:
            return
        if not isinstance(line, dict):
            return
        if "result" in line:
            self.is_done = True
        elif isinstance(line.get("error"), dict):
            self.failure = _failure_of(line["error"])
        elif (event := event_of(line)) is not None:
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, WarningRaised):
            self._build.tell(WarningRaised(redacted(f"{self._place}: {event.text}"), time.time()))
            return
        step = self._step_of.get(event.step)
        if step is None:
            return
        event = replace(event, step=step.digest, time=time.time())  # clocks of machines differ
        match event:
            case StepStarted():
                self._begin(step)
            case StepFinished():
                self._finish(step, event)
            case StepLog() | StepStatus():
                self._build.tell(event)

    def _begin(self, step: Vertex) -> None:
        now = self._began[step.digest] = time.monotonic()
        self._first = self._first or now
        inputs = tuple(item.digest for item in step.inputs)
        self._build.tell(StepStarted(step.digest, redacted(step.name), time.time(), inputs))

    def _finish(self, step: Vertex, event: StepFinished) -> None:
        if event.reason and self._place != _HOME:
            event = replace(event, reason=f"on {self._place}: {event.reason}")
        seconds = time.monotonic() - self._began.pop(step.digest, time.monotonic())
        self._build.tell(event)
        if event.error:
            self.failed_after = seconds
        elif not event.canceled:
            self.seconds = time.monotonic() - self._first
            self._build.ended(step, seconds, cached=event.cached)

    def end(self) -> None:
        """Show that what was shown as running does not run any more."""
        for digest in list(self._began):
            del self._began[digest]
            self._build.tell(StepFinished(digest, time.time(), canceled=True))

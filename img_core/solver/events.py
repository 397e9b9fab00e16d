"""Hands progress events to those who show or record them, one at a time. Passwords of addresses are not in them."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from img_core.linux.spans import span
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.progress import StepFinished, StepLog, StepPlanned, StepStarted, StepStatus, WarningRaised
from img_core.spec.text import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.spec.frontend import BuildWarning
    from img_core.spec.progress import Event

__all__ = ["Events", "StepReport"]

_PACE = 0.1  #: seconds between two events about one unfinished part of a step


class StepReport:
    """A step that runs: what is told of it, whether it was found and in which *source*, or the *reason* why it was not, and the seconds in
    which it only waited for other steps."""

    def __init__(self, step: str, name: str, inputs: tuple[str, ...]) -> None:
        self.step = step
        self.name = name
        self.inputs = inputs
        self.began = time.time()
        self.cached = False
        self.source = ""
        self.reason = ""
        self.waited = 0.0


class Events:
    """Calls every listener with every event, under one lock: listeners see one order and need no lock of their own.

    A listener that raises is dropped after its first failure, which *report* gets to hear: showing progress never fails a build.
    """

    def __init__(self, report: Callable[[str], None] = lambda _text: None) -> None:
        self._listeners: list[Callable[[Event], None]] = []
        self._listening_lock = threading.Lock()
        self._report = report
        self._here = threading.local()  #: ``report``: of the step that this thread works for
        self._ended: dict[str, tuple[str, tuple[str, ...]]] = {}  #: name and inputs of steps that ended well
        self._due: dict[tuple[str, str], float] = {}  #: by step and text: from when on a part may be told of again

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Hand *event* out."""
        if not self._listeners:
            return
        with self._listening_lock:
            for listener in list(self._listeners):
                try:
                    listener(event)
                except Exception as err:  # a plugin boundary
                    self._listeners.remove(listener)
                    self._report(f"progress listener {listener!r} failed and is dropped: {err}")

    def planned(self, step: str, name: str, inputs: tuple[str, ...] = ()) -> None:
        """Announce that *step* will have its turn."""
        self.emit(StepPlanned(step, redacted(name), time.time(), inputs))

    def started(self, step: str, name: str, inputs: tuple[str, ...] = ()) -> None:
        """Announce that *step* begins."""
        self.emit(StepStarted(step, redacted(name), time.time(), inputs))

    def log(self, step: str, stream: int, data: bytes) -> None:
        """Pass output of *step* on."""
        self.emit(StepLog(step, stream, data, time.time()))

    def status(
        self, step: str, text: str, current: int = 0, total: int = 0, *, finished: bool = True, outcome: str = ""
    ) -> None:
        """Tell how a part of *step* gets on. Cheap: may be called for every chunk of bytes, what comes too soon is dropped."""
        if not self._listeners:
            return
        key = (step, text)
        if finished:
            self._due.pop(key, None)
        else:
            now = time.monotonic()
            if now < self._due.get(key, 0.0):
                return
            self._due[key] = now + _PACE
        self.emit(StepStatus(step, redacted(text), time.time(), current, total, finished, outcome))

    def finished(
        self,
        step: str,
        *,
        cached: bool = False,
        canceled: bool = False,
        error: str = "",
        source: str = "",
        reason: str = "",
    ) -> None:
        """Announce that *step* ended."""
        self.emit(
            StepFinished(step, time.time(), cached, canceled, redacted(error), redacted(source), redacted(reason))
        )

    def explain(self, *, source: str = "", reason: str = "") -> None:
        """Note in which *source* the step of this thread was found, or the *reason* why it was not."""
        report = self._current()
        if report is not None:
            report.source, report.reason = source, reason

    def transfer(self, text: str, current: int, total: int, outcome: str = "", /) -> None:
        """Tell how a transfer gets on that belongs to the step of this thread (a `TransferStatus`)."""
        report = self._current()
        if report is not None:
            self.status(report.step, text, current, total, finished=bool(outcome), outcome=outcome)

    @contextmanager
    def step(self, step: str, name: str = "", inputs: tuple[str, ...] = ()) -> Iterator[StepReport]:
        """Show the block as *step*, which ends as the block does; one that is no vertex has its *name* as identity."""
        report = StepReport(step, name or step, inputs)
        self.started(step, report.name, inputs)
        outer = self._current()
        self._here.report = report
        try:
            with span("step", report.name):
                yield report
        except (Canceled, KeyboardInterrupt):
            self.finished(step, canceled=True)
            raise
        except ImgError as err:
            self.finished(step, error=err.message, reason=report.reason)
            raise
        except BaseException as err:
            self.finished(step, error=repr(err))
            raise
        finally:
            self._here.report = outer
        self._ended[step] = (name or step, inputs)
        self.finished(step, cached=report.cached, source=report.source if report.cached else "", reason=report.reason)

    def _current(self) -> StepReport | None:
        report: StepReport | None = getattr(self._here, "report", None)
        return report

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Do not count the block as time of this thread's step: it waits for what is the work of another step, its base for example."""
        report, began = self._current(), time.monotonic()
        try:
            yield
        finally:
            if report is not None:
                report.waited += time.monotonic() - began
                self.emit(StepStarted(report.step, report.name, report.began + report.waited, report.inputs))

    def done_elsewhere(self, step: str, name: str, inputs: tuple[str, ...]) -> None:
        """Note that *step* was shown, and ended well: what is shown of it comes from another machine."""
        self._ended[step] = (name, inputs)

    def has_ended(self, step: str) -> bool:
        """Tell whether *step* was shown, and ended well."""
        return step in self._ended

    @contextmanager
    def again(self, step: str) -> Iterator[None]:
        """Show the block as more work on *step* if that has ended: its result is needed after all."""
        known = self._ended.pop(step, None)
        if known is None:
            yield
            return
        with self.step(step, *known):
            yield

    def warn(self, warning: BuildWarning) -> None:
        """Pass a warning on."""
        place = warning.location
        self.emit(
            WarningRaised(
                redacted(warning.message),
                time.time(),
                warning.rule,
                place.file if place else "",
                place.first_line if place else 0,
                warning.excerpt,
            )
        )

"""Hands progress events to those who show or record them, one at a time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from img_core.spec.progress import StepFinished, StepLog, StepStarted, StepStatus, WarningRaised

if TYPE_CHECKING:
    from collections.abc import Callable

    from img_core.spec.frontend import BuildWarning
    from img_core.spec.progress import Event

__all__ = ["Events"]


class Events:
    """Calls every listener with every event, under one lock: listeners see one order and need no lock of their own.

    A listener that raises is dropped after its first failure, which *report* gets to hear: showing progress never fails a build.
    """

    def __init__(self, report: Callable[[str], None] = lambda _text: None) -> None:
        self._listeners: list[Callable[[Event], None]] = []
        self._listening_lock = threading.Lock()
        self._report = report

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Hand *event* out."""
        with self._listening_lock:
            for listener in list(self._listeners):
                try:
                    listener(event)
                except Exception as err:  # a plugin boundary
                    self._listeners.remove(listener)
                    self._report(f"progress listener {listener!r} failed and is dropped: {err}")

    def started(self, step: str, name: str, inputs: tuple[str, ...] = ()) -> None:
        """Announce that *step* begins."""
        self.emit(StepStarted(step, name, time.time(), inputs))

    def log(self, step: str, stream: int, data: bytes) -> None:
        """Pass output of *step* on."""
        self.emit(StepLog(step, stream, data, time.time()))

    def status(self, step: str, text: str, current: int = 0, total: int = 0, *, finished: bool = True) -> None:
        """Tell how a part of *step* gets on."""
        self.emit(StepStatus(step, text, time.time(), current, total, finished))

    def finished(self, step: str, *, cached: bool = False, canceled: bool = False, error: str = "") -> None:
        """Announce that *step* ended."""
        self.emit(StepFinished(step, time.time(), cached, canceled, error))

    def warn(self, warning: BuildWarning) -> None:
        """Pass a warning on."""
        place = warning.location
        self.emit(
            WarningRaised(
                warning.message,
                time.time(),
                warning.rule,
                place.file if place else "",
                place.first_line if place else 0,
                warning.excerpt,
            )
        )

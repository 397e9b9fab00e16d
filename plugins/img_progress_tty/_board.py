"""What is known of each step, put together from events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from img_core.spec.progress import StepFinished, StepLog, StepPlanned, StepStarted, StepStatus, WarningRaised
from img_core.spec.text import show
from img_progress_tty._log import Log

if TYPE_CHECKING:
    from img_core.spec.progress import Event

__all__ = ["Board", "Part", "RunningStep"]

_TEXT_LIMIT = 1000


@dataclass(slots=True)
class Part:
    """A part of a step's work, e.g. one transfer. Times are in seconds since 1970, sizes in bytes (0: unknown)."""

    text: str
    started: float
    first: int  #: bytes that were done when it began
    current: int = 0
    total: int = 0
    ended: float | None = None
    outcome: str = ""


@dataclass(slots=True)
class RunningStep:
    """A step that has begun."""

    name: str
    started: float
    ended: float | None = None
    cached: bool = False
    canceled: bool = False
    error: str = ""
    parts: dict[str, Part] = field(default_factory=dict)
    log: Log = field(default_factory=Log)

    @property
    def active(self) -> bool:
        """Whether something goes on: layers of an image may be fetched after its step had ended, when another one needs them."""
        return self.ended is None or any(part.ended is None for part in self.parts.values())

    def seconds(self, now: float) -> float:
        """Return how long it has worked."""
        end = now if self.active or self.ended is None else self.ended
        return max(end - self.started, 0.0)


class Board:
    """The steps of a build in the order in which they began."""

    def __init__(self) -> None:
        self.steps: dict[str, RunningStep] = {}
        self.warnings: list[WarningRaised] = []
        self.started: float | None = None
        self._known: set[str] = set()  #: steps that were planned or have begun

    @property
    def total(self) -> int:
        """How many steps there are, as far as is known."""
        return len(self._known)

    @property
    def done(self) -> int:
        """How many steps have ended well."""
        return sum(1 for step in self.steps.values() if not step.active and not step.error and not step.canceled)

    def take(self, event: Event) -> None:
        """Learn from *event*."""
        match event:
            case StepPlanned():
                self._known.add(event.step)
            case StepStarted():
                step = self._step(event.step, event.time, event.name)
                step.started, step.ended = event.time, None
            case StepLog():
                self._step(event.step, event.time).log.add(event.time, event.data)
            case StepStatus():
                self._status(self._step(event.step, event.time), event)
            case StepFinished():
                self._finish(self._step(event.step, event.time), event)
            case WarningRaised():
                self.warnings.append(event)

    def _step(self, digest: str, time: float, name: str = "") -> RunningStep:
        if digest not in self.steps:
            self._known.add(digest)
            self.started = time if self.started is None else self.started
            self.steps[digest] = RunningStep(show(name or digest, limit=_TEXT_LIMIT), time)
        return self.steps[digest]

    def _status(self, step: RunningStep, event: StepStatus) -> None:
        if step.ended is not None and not step.active:
            step.started = event.time - step.seconds(event.time)  # its clock goes on
        part = step.parts.get(event.text)
        if part is None or part.ended is not None:
            part = step.parts[event.text] = Part(show(event.text, limit=_TEXT_LIMIT), event.time, event.current)
        part.current, part.total = event.current, event.total or part.total
        if event.finished:
            part.ended, part.outcome = event.time, event.outcome
            if step.ended is not None:
                step.ended = event.time

    def _finish(self, step: RunningStep, event: StepFinished) -> None:
        step.ended = event.time
        step.cached, step.canceled, step.error = event.cached, event.canceled, event.error
        for part in step.parts.values():
            part.ended = part.ended if part.ended is not None else event.time
        if not step.error:
            step.log = Log()  # nobody will read it

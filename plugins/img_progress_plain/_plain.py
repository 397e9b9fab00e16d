"""``--progress=plain``: lines such as ``#5 [2/4] RUN make``, ``#5 0.123 text`` and ``#5 DONE 0.3s``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TextIO

from img_core.spec.progress import Event, Progress, StepFinished, StepLog, StepStarted, StepStatus, WarningRaised
from img_core.spec.text import LINE_LIMIT, one_line, show
from img_lib_progress.steps import NumberedStep, Steps, failure_block, warning_block
from img_lib_progress.text import rate_text, size_text
from img_lib_progress.writer import TextWriter

__all__ = ["PlainProgress"]

_PATIENCE = 1.0  #: seconds that a silent step keeps the screen while others wait with their lines
_HELD_LIMIT = 200  #: lines that may wait
_FIRST_STATUS = (
    2.0  #: seconds after which an unfinished transfer gets its first line; each further one takes twice as long…
)
_STATUS_INTERVAL = 30.0  #: …up to this many seconds: the logs of CI jobs are kept
_SHORTEST = 0.01  #: seconds worth telling
_TEXT_LIMIT = 1000


@dataclass(slots=True)
class _Waiting:
    """Lines of a step that were not shown yet."""

    step: NumberedStep
    lines: list[str] = field(default_factory=list)
    ended: bool = False


@dataclass(slots=True)
class _Part:
    """An unfinished part of a step: since when, how many bytes there were then, and when its next line is due."""

    started: float
    first: int
    wait: float = _FIRST_STATUS
    due: float = field(init=False)

    def __post_init__(self) -> None:
        self.due = self.started + self.wait


class PlainProgress(Progress):
    """One line per event, grouped by step.

    Steps run at the same time, but lines of one step belong together: others wait until it ends or stays silent for a second. A step that
    is interrupted by another one is marked ``#5 ...`` and named again when it goes on.
    """

    name = "plain"

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._writer = TextWriter(stream)
        self._steps = Steps()
        self._shown: NumberedStep | None = None  #: whose lines the last ones were
        self._shown_at = 0.0
        self._waiting: dict[int, _Waiting] = {}  #: by number of the step
        self._parts: dict[tuple[int, str], _Part] = {}
        self._warnings: list[WarningRaised] = []

    def handle(self, event: Event) -> None:
        """Show *event*."""
        match event:
            case StepStarted():
                self._add(self._steps.start(event), [], event.time)
            case StepLog():
                step = self._steps.of(event.step, event.time)
                self._add(step, step.log(event), event.time)
            case StepStatus():
                self._status(event)
            case StepFinished():
                self._finish(event)
            case WarningRaised():
                self._warnings.append(event)

    def close(self) -> None:
        """Show what is held back, the failed steps again, and the warnings."""
        while self._waiting:
            self._show(self._next(), self._shown_at)
        for step in self._steps.failed():
            self._writer.write(failure_block(step.name, step.tail))
        self._writer.write(warning_block(self._warnings))

    def _status(self, event: StepStatus) -> None:
        step = self._steps.of(event.step, event.time)
        key = (step.number, event.text)
        part = self._parts.get(key) or _Part(event.time, event.current)
        if event.finished:
            self._parts.pop(key, None)
        else:
            self._parts[key] = part
            if event.time < part.due:
                return
            part.wait = min(2 * part.wait, _STATUS_INTERVAL)
            part.due = event.time + part.wait
        self._add(step, [_status_line(event, part)], event.time)

    def _finish(self, event: StepFinished) -> None:
        step = self._steps.of(event.step, event.time)
        lines = step.rest_of_log()
        if event.canceled:
            lines.append("CANCELED")
        elif event.error:
            step.error = event.error
            lines.append(f"ERROR: {one_line(event.error, limit=LINE_LIMIT - 40)}")
        else:
            lines.append("CACHED" if event.cached else f"DONE {max(event.time - step.started, 0.0):.1f}s")
        self._add(step, lines, event.time, ended=True)

    def _add(self, step: NumberedStep, lines: list[str], time: float, *, ended: bool = False) -> None:
        """Show *lines* of *step*, now or when its turn comes."""
        waiting = self._waiting.setdefault(step.number, _Waiting(step))
        waiting.lines += lines
        waiting.ended |= ended
        if self._shown is not None and self._shown.number in self._waiting:
            self._show(self._shown.number, time)
        while self._waiting and self._is_free(time):
            self._show(self._next(), time)

    def _is_free(self, time: float) -> bool:
        """Tell whether the screen may go to another step."""
        return (
            self._shown is None
            or time - self._shown_at >= _PATIENCE
            or sum(len(waiting.lines) for waiting in self._waiting.values()) >= _HELD_LIMIT
        )

    def _next(self) -> int:
        """Return the number of the step that is shown next: those that ended come first."""
        return next((number for number, waiting in self._waiting.items() if waiting.ended), next(iter(self._waiting)))

    def _show(self, number: int, time: float) -> None:
        waiting = self._waiting.pop(number)
        text = ""
        if self._shown is not waiting.step:
            text += "" if self._shown is None else f"#{self._shown.number} ...\n\n"
            text += f"#{number} {waiting.step.name}\n"
        text += "".join(f"#{number} {line}\n" for line in waiting.lines)
        self._shown, self._shown_at = (None if waiting.ended else waiting.step), time
        self._writer.write(text + ("\n" if waiting.ended else ""))


def _status_line(event: StepStatus, part: _Part) -> str:
    """Return ``sha256:… 12.00MiB / 43.01MiB 2.1s``, at the end with ``done`` and the rate."""
    parts = [show(event.text, limit=_TEXT_LIMIT)]
    moved = event.outcome in ("", "done")
    if event.total and moved:
        parts.append(f"{size_text(event.current)} / {size_text(event.total)}")
    elif event.total or event.current:
        parts.append(size_text(event.total or event.current))
    seconds = event.time - part.started
    if seconds > _SHORTEST:
        parts.append(f"{seconds:.1f}s")
    if event.finished:
        parts.append("done" if moved else event.outcome)
        rate = rate_text(event.current - part.first, seconds) if moved and event.total else ""
        parts += [f"({rate})"] if rate else []
    return " ".join(parts)

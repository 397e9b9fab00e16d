"""What is remembered about each step while events arrive."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from img_core.spec.text import LINE_LIMIT, one_line, show
from img_lib_progress.text import clean_line, log_time, split_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from img_core.spec.progress import StepLog, StepStarted, WarningRaised

__all__ = ["NumberedStep", "Steps", "failure_block", "warning_block"]

_TAIL_LINES = 20  #: of the log of a failed step, shown again at the end
_LINE_LIMIT = 16 * 1024  #: bytes after which output without a line end is shown anyway
_NAME_LIMIT = LINE_LIMIT - 10


@dataclass(slots=True)
class NumberedStep:
    """One step: its number, counted from 1 in the order of appearance, and the end of its log."""

    number: int
    name: str
    started: float
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))
    error: str = ""
    #: the beginnings of lines and when they came, by stream: each has lines of its own
    _partial: dict[int, tuple[bytes, float]] = field(default_factory=dict)

    def log(self, event: StepLog) -> list[str]:
        """Take output; return the complete lines, each with its time."""
        pending, _ = self._partial.get(event.stream, (b"", 0.0))
        lines, rest = split_lines(pending, event.data, limit=_LINE_LIMIT)
        self._partial[event.stream] = (rest, event.time)
        return self._stamped(lines, event.time)

    def rest_of_log(self) -> list[str]:
        """Return the last line of each stream if it had no end."""
        found = [line for rest, time in self._partial.values() if rest for line in self._stamped([rest], time)]
        self._partial.clear()
        return found

    def _stamped(self, lines: list[bytes], time: float) -> list[str]:
        stamped = [f"{log_time(time - self.started)} {clean_line(line)}" for line in lines]
        self.tail.extend(stamped)
        return stamped


class Steps:
    """All steps seen so far, by their digest."""

    def __init__(self) -> None:
        self._steps: dict[str, NumberedStep] = {}

    def start(self, event: StepStarted) -> NumberedStep:
        """Remember a step; one that is announced again (it runs after all) keeps its number."""
        known = self._steps.get(event.step)
        if known is None:
            known = self.of(event.step, event.time, event.name)
        known.started = event.time
        return known

    def of(self, step: str, time: float, name: str = "") -> NumberedStep:
        """Return the step with that digest; an unannounced one is made up rather than lost."""
        if step not in self._steps:
            self._steps[step] = NumberedStep(len(self._steps) + 1, show(name or step, limit=_NAME_LIMIT), time)
        return self._steps[step]

    def failed(self) -> list[NumberedStep]:
        """Return the steps that ended with an error, in order; not the only step there is if it printed nothing that could be repeated."""
        several = len(self._steps) > 1
        return [step for step in self._steps.values() if step.error and (several or step.tail)]


def failure_block(name: str, lines: Iterable[str]) -> str:
    """Return the block that repeats a failed step with *lines* of its log."""
    return "\n".join(["------", f" > {name}:", *lines, "------"]) + "\n"


def warning_block(warnings: Sequence[WarningRaised]) -> str:
    """Return the block that counts and repeats all warnings; empty if there are none."""
    if not warnings:
        return ""
    count = "1 warning found:" if len(warnings) == 1 else f"{len(warnings)} warnings found:"
    return "\n".join(["", f" {count}", *(f" - {_warning_text(item)}" for item in warnings)]) + "\n"


def _warning_text(warning: WarningRaised) -> str:
    rule = f"{warning.rule}: " if warning.rule else ""
    place = f" (line {warning.line})" if warning.line else ""
    return one_line(f"{rule}{warning.text}{place}", limit=LINE_LIMIT - len(" - "))

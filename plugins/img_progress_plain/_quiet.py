"""``--progress=quiet``: silence, and at the end what failed."""

from __future__ import annotations

from typing import TextIO

from img_core.spec.progress import Event, Progress, StepFinished, StepLog, StepStarted
from img_lib_progress.steps import Steps, failure_block
from img_lib_progress.writer import TextWriter

__all__ = ["QuietProgress"]


class QuietProgress(Progress):
    """Shows nothing of a build that goes well, and the end of the log of a step that fails."""

    name = "quiet"

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._writer = TextWriter(stream)
        self._steps = Steps()

    def handle(self, event: Event) -> None:
        """Remember *event*."""
        match event:
            case StepStarted():
                self._steps.start(event)
            case StepLog():
                self._steps.of(event.step, event.time).log(event)
            case StepFinished():
                step = self._steps.of(event.step, event.time)
                step.rest_of_log()
                step.error = "" if event.canceled else event.error

    def close(self) -> None:
        """Show what the steps that failed had said; the error itself is shown by the command."""
        for step in self._steps.failed():
            if step.tail:
                self._writer.write(failure_block(step.name, step.tail))

"""``--explain``: for each step where it was found, or why it had to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from img_core.spec.progress import StepFinished, StepStarted
from img_core.spec.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from img_core.cli._progress import Display
    from img_core.spec.progress import Event

__all__ = ["Explained"]


class Explained:
    """Listens to the events of a build, which *show* gets, too."""

    def __init__(self) -> None:
        self.show: Display | None = None
        self._names: dict[str, str] = {}
        self._ends: dict[str, StepFinished] = {}

    def __call__(self, event: Event) -> None:
        """Take *event*."""
        if isinstance(event, StepStarted):
            self._names[event.step] = event.name
        elif isinstance(event, StepFinished) and (event.source or event.reason):
            self._ends[event.step] = event
        if self.show is not None:
            self.show(event)

    def end(self) -> None:
        """Show nothing after this."""
        if self.show is not None:
            self.show.end()

    def lines(self) -> Iterator[str]:
        """Give a line for each step, in the order in which they ended."""
        for step, end in self._ends.items():
            name = one_line(self._names.get(step, step))
            yield f"found {name}: {end.source}" if end.cached else f"ran   {name}: {end.reason}"

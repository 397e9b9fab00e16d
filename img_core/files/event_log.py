"""Progress events in a log, one JSON object a line: written as long as there is room for them, and read back.

Other lines may stand between them. What does not last is not kept: plans, and how parts of steps get on.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from img_core.files.logs import DIRECTORY, LogFile, lines_of
from img_core.forms.event_lines import event_of, line_of
from img_core.spec.errors import NotFoundError
from img_core.spec.progress import StepLog, StepPlanned, StepStatus, WarningRaised
from img_core.spec.text import why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from img_core.files.logs import LogName
    from img_core.spec.progress import Event

__all__ = ["CUT", "EventLog", "events_of"]

#: Bytes of a log; what steps print beyond that is not kept.
_LIMIT = 32 << 20
#: The line that says so.
CUT = {"event": "cut"}


class EventLog:
    """A new log in the directory *state*. If it cannot be written, *notice* hears of it once, and nothing more is written."""

    def __init__(self, state: str, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._file: LogFile | None = None
        self._numbers: dict[str, int] = {}  #: of steps, in the order in which they appear, as whoever shows them counts
        self._parts: set[tuple[str, str]] = set()  #: of steps, by step and text, that began and did not end
        self._is_cut = False
        try:
            self._file = LogFile(state)
        except OSError as err:
            self._complain(err)

    @property
    def id(self) -> str:
        """What people call it; empty if there is none."""
        return self._file.id if self._file else ""

    def take(self, event: Event) -> None:
        """Write *event* down, unless it tells nothing that lasts."""
        if isinstance(event, StepPlanned) or (isinstance(event, StepStatus) and not self._lasts(event)):
            return
        if self._file is None:
            return
        if isinstance(event, StepLog) and self._file.size + len(event.data) > _LIMIT:
            if not self._is_cut:
                self._is_cut = True
                self.write(CUT)
            return
        line = line_of(event)
        if not isinstance(event, WarningRaised):
            line["number"] = self._numbers.setdefault(event.step, len(self._numbers) + 1)
        self.write(line)

    def _lasts(self, event: StepStatus) -> bool:
        """Tell whether *event* is the beginning or the end of a part; how it gets on between does not last."""
        part = (event.step, event.text)
        if event.finished:
            self._parts.discard(part)
            return True
        is_new = part not in self._parts
        self._parts.add(part)
        return is_new

    def write(self, line: dict[str, Any]) -> None:  # Any: JSON
        """Write another line."""
        if self._file is None:
            return
        try:
            self._file.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        except OSError as err:
            self.close()
            self._complain(err)

    def close(self) -> None:
        """End the log."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _complain(self, err: OSError) -> None:
        self._notice(f"the log of this build is not complete: {why(err)}")


def events_of(state: str, log: LogName, *, step: int = 0) -> Iterator[Event]:
    """Give the events of a build in order; those of the step with the number *step*, unless that is 0. Raises NotFoundError."""
    known, most = not step, 0
    try:
        with open(os.path.join(state, DIRECTORY, log.name), "rb") as file:
            for line in lines_of(file):
                number = line.get("number", 0)
                most = max(most, number)
                if (not step or number == step) and (event := _event(line)) is not None:
                    known = True
                    yield event
    except FileNotFoundError:
        raise NotFoundError(f'build "{log.id}": not found', hint="its log was removed just now") from None
    if not known:
        raise NotFoundError(f"build {log.id} has no step {step}", hint=f"it has {most}" if most else "it has none")


def _event(line: dict[str, Any]) -> Event | None:  # Any: JSON
    """Return the event of a line; None for another kind of line, also one that a later version wrote."""
    if line == CUT:
        return WarningRaised("the rest of what the steps printed was too much to be kept", 0.0)
    return event_of(line)

"""Reads what builds left in their logs: how they went, and every event."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from img_core.api._journal import CUT
from img_core.api._values import RecordedBuild
from img_core.files import partial
from img_core.files.logs import DIRECTORY, list_logs
from img_core.machines.event_lines import event_of
from img_core.spec import progress
from img_core.spec.errors import NotFoundError
from img_core.spec.text import show

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from img_core.files.logs import LogName
    from img_core.spec.progress import Event

__all__ = ["events_of", "find_build", "recorded_builds"]

_TAIL = 64 << 10  #: bytes at the end of a log that the last line is looked for in
_LAST = "last"


def recorded_builds(state: str, *, limit: int = 0) -> Iterator[RecordedBuild]:
    """Give the builds of the directory *state* that have a log, newest first; at most *limit*, unless that is 0."""
    given = 0
    for log in list_logs(state):
        if limit and given == limit:
            return
        try:
            found = _build(os.path.join(state, DIRECTORY, log.name), log)
        except FileNotFoundError:  # removed meanwhile
            continue
        given += 1
        yield found


def find_build(state: str, name: str) -> LogName:
    """Return the log of the build that *name* means: an id, perhaps cut, or ``last``. Raises NotFoundError."""
    logs = list_logs(state)
    if not logs:
        raise NotFoundError("no build has a log here", hint="logs are kept for a while, and go with `img prune`")
    if name in ("", _LAST):
        return logs[0]
    found = [log for log in logs if log.id.startswith(name)]
    if not found:
        raise NotFoundError(f'build "{show(name)}": not found', hint="`img builds ls` lists them")
    if len(found) > 1:
        raise NotFoundError(f'"{show(name)}" is the beginning of several builds', hint="`img builds ls` lists them")
    return found[0]


def events_of(state: str, log: LogName, *, step: int = 0) -> Iterator[Event]:
    """Give the events of a build in order; those of the step with the number *step*, unless that is 0. Raises NotFoundError."""
    known, most = not step, 0
    try:
        with open(os.path.join(state, DIRECTORY, log.name), "rb") as file:
            for line in _lines(file):
                number = line.get("number", 0)
                most = max(most, number)
                if (not step or number == step) and (event := _event(line)) is not None:
                    known = True
                    yield event
    except FileNotFoundError:
        raise NotFoundError(f'build "{log.id}": not found', hint="its log was removed just now") from None
    if not known:
        raise NotFoundError(f"build {log.id} has no step {step}", hint=f"it has {most}" if most else "it has none")


def _lines(file: BinaryIO) -> Iterator[dict[str, Any]]:  # Any: JSON
    """Give the lines of a log; what a full disk or a killed command left of one is passed over."""
    for line in file:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def _event(line: dict[str, Any]) -> Event | None:  # Any: JSON
    """Return the event of a line; None for another kind of line, also one that a later version wrote."""
    if line == CUT:
        return progress.WarningRaised("the rest of what the steps printed was too much to be kept", 0.0)
    return event_of(line)


def _build(path: str, log: LogName) -> RecordedBuild:
    with open(path, "rb") as file:
        head = next(_lines(file), {})
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL, 0))
        tail = list(_lines(file))
    end = tail[-1] if tail and tail[-1].get("event") == "end" else {}
    result = end.get("result") or ("running" if partial.held(path) else "killed")
    last = end.get("time") or (tail[-1].get("time") if tail else None) or log.created
    return RecordedBuild(
        id=log.id,
        started=head.get("time", log.created),
        seconds=max(last - head.get("time", log.created), 0.0),
        result=result,
        context=head.get("context", ""),
        definition=head.get("definition", ""),
        target=head.get("target", ""),
        tags=tuple(head.get("tags", ())),
        cached_steps=end.get("cached", 0),
        steps=end.get("cached", 0) + end.get("ran", 0),
        error=end.get("error", ""),
        digest=end.get("digest", ""),
    )

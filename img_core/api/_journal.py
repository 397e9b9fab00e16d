"""The logs of builds: each is written by a listener of its events, one JSON object a line, and read by whoever asks how the build went.

The first line says what is built, the last one how it ended; each of those between is an event.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from img_core.files import fs, partial
from img_core.files.logs import DIRECTORY, LogFile, ends_of, lines_of, list_logs
from img_core.spec.event_lines import event_of, line_of
from img_core.spec.errors import Canceled, ImgError, NotFoundError
from img_core.spec.progress import StepFinished, StepLog, StepPlanned, StepStatus, WarningRaised
from img_core.spec.text import redacted, why

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from img_core.api._request import BuildRequest, BuildResult
    from img_core.api._values import RecordedBuild
    from img_core.files.logs import LogName
    from img_core.spec.host import Host
    from img_core.spec.progress import Event

__all__ = ["CUT", "LOG_VERSION", "Journal", "events_of", "recorded_builds"]

LOG_VERSION = 1
#: Bytes of a log; what steps print beyond that is not kept.
_LIMIT = 32 << 20
#: The line that says so.
CUT = {"event": "cut"}


class Journal:
    """The log of one build of *request*, in the state directory of *host*.

    If it cannot be written, *notice* hears of it once, and the build goes on.
    """

    def __init__(self, host: Host, request: BuildRequest, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._file: LogFile | None = None
        self._began = time.time()
        self._numbers: dict[str, int] = {}  #: of steps, in the order in which they appear, as whoever shows them counts
        self._parts: set[tuple[str, str]] = set()  #: of steps, by step and text, that began and did not end
        self._is_cut = False
        self._cached: set[str] = set()
        self._ran: set[str] = set()
        self.counted: Collection[str] = ()  #: digests of the steps that are looked up in the cache, once they are known
        try:
            self._file = LogFile(host.state_directory)
        except OSError as err:
            self._complain(err)
        else:
            self._write({"event": "build", "version": LOG_VERSION, "time": self._began, **_described(request, host)})

    @property
    def id(self) -> str:
        """What people call the build; empty if there is no log."""
        return self._file.id if self._file else ""

    def take(self, event: Event) -> None:
        """Write *event* down, unless it tells nothing that lasts."""
        if isinstance(event, StepPlanned) or (isinstance(event, StepStatus) and not self._lasts(event)):
            return
        if isinstance(event, StepFinished) and event.step in self.counted and not event.canceled:
            (self._cached if event.cached else self._ran).add(event.step)
        if self._file is None:
            return
        if isinstance(event, StepLog) and self._file.size + len(event.data) > _LIMIT:
            if not self._is_cut:
                self._is_cut = True
                self._write(CUT)
            return
        line = line_of(event)
        if not isinstance(event, WarningRaised):
            line["number"] = self._numbers.setdefault(event.step, len(self._numbers) + 1)
        self._write(line)

    def _lasts(self, event: StepStatus) -> bool:
        """Tell whether *event* is the beginning or the end of a part; how it gets on between does not last."""
        part = (event.step, event.text)
        if event.finished:
            self._parts.discard(part)
            return True
        is_new = part not in self._parts
        self._parts.add(part)
        return is_new

    def end(self, result: BuildResult | None, error: BaseException | None = None) -> None:
        """Write down how the build ended, and close the log."""
        outcome = "failed"
        if isinstance(error, Canceled | KeyboardInterrupt):
            outcome = "canceled"
        elif result is not None:
            outcome = "ok"
        message = error.message if isinstance(error, ImgError) else repr(error) if error is not None else ""
        self._write(
            {
                "event": "end",
                "time": time.time(),
                "result": outcome,
                "error": redacted(message) if outcome == "failed" else "",
                "digest": (result.digest or result.config_digest) if result else "",
                "cached": len(self._cached - self._ran),
                "ran": len(self._ran),
            }
        )
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: dict[str, Any]) -> None:  # Any: JSON
        if self._file is None:
            return
        try:
            self._file.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        except OSError as err:
            self._file.close()
            self._file = None
            self._complain(err)

    def _complain(self, err: OSError) -> None:
        self._notice(f"the log of this build is not complete: {why(err)}")


def _described(request: BuildRequest, host: Host) -> dict[str, Any]:  # Any: JSON
    """Return what a listing tells of a build: no values of build arguments, no passwords of addresses; ``-`` for standard input."""
    context = request.context if "://" in request.context else os.path.abspath(request.context)
    given = request.definition is not None
    return {
        "context": "-" if _is_within(context, host.run_directory) else fs.show(redacted(context)),
        "definition": "-" if given else fs.show(redacted(request.dockerfile or "")),
        "target": request.target,
        "tags": list(request.tags),
    }


def _is_within(path: str, directory: str) -> bool:
    return bool(directory) and path.startswith(f"{directory}/")


# --------------------------------------------------------------------------------------------------------------- reading


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


def _build(path: str, log: LogName) -> RecordedBuild:
    from img_core.api._values import RecordedBuild  # not for who writes one

    head, tail = ends_of(path)
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

"""The logs of builds: each is written by a listener of its events, one JSON object a line, and read by whoever asks how the build went.

The first line says what is built, the last one how it ended; each of those between is an event.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from img_core.files import fs, partial
from img_core.files.event_log import EventLog
from img_core.files.logs import DIRECTORY, ends_of, list_logs
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.progress import StepFinished
from img_core.spec.text import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from img_core.api._request import BuildRequest, BuildResult
    from img_core.api._values import RecordedBuild
    from img_core.files.logs import LogName
    from img_core.spec.host import Host
    from img_core.spec.progress import Event

__all__ = ["LOG_VERSION", "Journal", "recorded_builds"]

LOG_VERSION = 1


class Journal:
    """The log of one build of *request*, in the state directory of *host*.

    If it cannot be written, *notice* hears of it once, and the build goes on.
    """

    def __init__(self, host: Host, request: BuildRequest, notice: Callable[[str], None]) -> None:
        self._cached: set[str] = set()
        self._ran: set[str] = set()
        self.counted: Collection[str] = ()  #: digests of the steps that are looked up in the cache, once they are known
        self._log = EventLog(host.state_directory, notice)
        self._log.write({"event": "build", "version": LOG_VERSION, "time": time.time(), **_described(request, host)})

    @property
    def id(self) -> str:
        """What people call the build; empty if there is no log."""
        return self._log.id

    def take(self, event: Event) -> None:
        """Write *event* down."""
        if isinstance(event, StepFinished) and event.step in self.counted and not event.canceled:
            (self._cached if event.cached else self._ran).add(event.step)
        self._log.take(event)

    def end(self, result: BuildResult | None, error: BaseException | None = None) -> None:
        """Write down how the build ended, and close the log."""
        outcome = "failed"
        if isinstance(error, Canceled | KeyboardInterrupt):
            outcome = "canceled"
        elif result is not None:
            outcome = "ok"
        message = error.message if isinstance(error, ImgError) else repr(error) if error is not None else ""
        self._log.write(
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
        self._log.close()


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

"""The logs of builds: each is written by a listener of its events, one JSON object a line, and read by whoever asks how the build went.

The first line says what is built, the last one how it ended; each of those between is an event.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from img_core.files import partial
from img_core.files.event_log import EventLog
from img_core.files.logs import DIRECTORY, ends_of, list_logs
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import Canceled, ImgError
from img_core.spec.progress import StepFinished
from img_core.spec.text import redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from img_core.files.logs import LogName
    from img_core.spec.progress import Event

__all__ = ["LOG_VERSION", "BuildLog", "RecordedBuild", "recorded_builds"]

LOG_VERSION = 1


@dataclass(frozen=True, slots=True)
class RecordedBuild:
    """A build that has a log. *started* is in seconds since 1970 UTC, *seconds* how long it took, so far if it runs or was killed.

    *result* is ``ok``, ``failed`` (with *error*), ``canceled``, ``running`` or ``killed``. *context* is a directory or an address, or
    ``-`` for standard input; *definition* is as it was given, empty for the usual one. Of *steps* that were looked up in the cache
    *cached_steps* were found; known at the end.
    """

    id: str
    started: float
    seconds: float
    result: str
    context: str = ""
    definition: str = ""
    target: str = ""
    tags: tuple[str, ...] = ()
    cached_steps: int = 0
    steps: int = 0
    error: str = ""
    digest: str = ""


class BuildLog:
    """The log of one build, in the directory *state*; *about* tells what is built, see `RecordedBuild`.

    If it cannot be written, *notice* hears of it once, and the build goes on.
    """

    def __init__(self, state: str, about: Mapping[str, Any], notice: Callable[[str], None]) -> None:  # Any: JSON
        self._cached: set[str] = set()
        self._ran: set[str] = set()
        self.counted: Collection[str] = ()  #: digests of the steps that are looked up in the cache, once they are known
        self._log = EventLog(state, notice)
        self._log.write({"event": "build", "version": LOG_VERSION, "time": time.time(), **about})

    @property
    def id(self) -> str:
        """What people call the build; empty if there is no log."""
        return self._log.id

    def take(self, event: Event) -> None:
        """Write *event* down."""
        if isinstance(event, StepFinished) and event.step in self.counted and not event.canceled:
            (self._cached if event.cached else self._ran).add(event.step)
        self._log.take(event)

    def end(self, digest: str | None, error: BaseException | None = None) -> None:
        """Write down how the build ended, with a result that has this *digest* or none, and close the log."""
        outcome = "failed"
        if isinstance(error, Canceled | KeyboardInterrupt):
            outcome = "canceled"
        elif digest is not None:
            outcome = "ok"
        message = error.message if isinstance(error, ImgError) else repr(error) if error is not None else ""
        self._log.write(
            {
                "event": "end",
                "time": time.time(),
                "result": outcome,
                "error": redacted(message) if outcome == "failed" else "",
                "digest": digest or "",
                "cached": len(self._cached - self._ran),
                "ran": len(self._ran),
            }
        )
        self._log.close()


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

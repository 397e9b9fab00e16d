"""``--progress=rawjson``: one JSON object per line, in the form that BuildKit's client calls ``SolveStatus``.

Programs that read ``docker buildx build --progress=rawjson`` can read it. The names of the fields are those of BuildKit's
``client/graph.go``; what they hold is described in ``docs/reference/progress.md``.
"""

from __future__ import annotations

import hashlib
import json
import time
from binascii import b2a_base64
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from img_core.spec.progress import (
    Event,
    Progress,
    StepFinished,
    StepLog,
    StepPlanned,
    StepStarted,
    StepStatus,
    WarningRaised,
)
from img_lib_progress.writer import TextWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RawJsonProgress"]

_CANCELED = "context canceled"  #: by these words readers tell a canceled step from a failed one
_WARNING_LEVEL = 1


class RawJsonProgress(Progress):
    """Writes each event at once as a line of its own. Fields that are empty or unknown are left out, as BuildKit does."""

    name = "rawjson"
    machine_readable: ClassVar[bool] = True

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._writer = TextWriter(stream)
        self._vertexes: dict[str, dict[str, Any]] = {}  # by step; Any: JSON
        self._parts: dict[tuple[str, str], float] = {}  #: since when an unfinished part of a step is known

    def handle(self, event: Event) -> None:
        """Write *event*."""
        match event:
            case StepPlanned() | StepStarted():
                self._begin(event)
            case StepFinished():
                self._finish(event)
            case StepStatus():
                self._status(event)
            case StepLog():
                self._write(
                    "logs",
                    {
                        "vertex": _digest(event.step),
                        "stream": event.stream,
                        "data": _base64(event.data),
                        "timestamp": _timestamp(event.time),
                    },
                )
            case WarningRaised():
                self._warn(event)

    def note(self, text: str) -> None:
        """Write *text* as a warning that belongs to no step."""
        self._write("warnings", {"level": _WARNING_LEVEL, "short": _base64(text.encode("utf-8", "backslashreplace"))})

    def _begin(self, event: StepPlanned | StepStarted) -> None:
        vertex = self._vertex(event.step)
        vertex["name"] = event.name
        if event.inputs:
            vertex["inputs"] = [_digest(step) for step in event.inputs]
        for stale in ("completed", "cached", "error", "source", "reason"):
            vertex.pop(stale, None)
        if isinstance(event, StepStarted):
            vertex["started"] = _timestamp(event.time)
        self._write("vertexes", vertex)

    def _finish(self, event: StepFinished) -> None:
        vertex = self._vertex(event.step)
        vertex["completed"] = _timestamp(event.time)
        if event.cached:
            vertex["cached"] = True
        for name, text in (("source", event.source), ("reason", event.reason)):
            if text:
                vertex[name] = text
        if error := _CANCELED if event.canceled else event.error:
            vertex["error"] = error
        self._write("vertexes", vertex)

    def _vertex(self, step: str) -> dict[str, Any]:  # Any: JSON
        return self._vertexes.setdefault(step, {"digest": _digest(step)})

    def _status(self, event: StepStatus) -> None:
        key = (event.step, event.text)
        started = self._parts.setdefault(key, event.time)
        status: dict[str, Any] = {  # Any: JSON
            "id": event.text,
            "vertex": _digest(event.step),
            "current": event.current,
            "timestamp": _timestamp(event.time),
            "started": _timestamp(started),
        }
        if event.total:
            status["total"] = event.total
        if event.finished:
            del self._parts[key]
            status["completed"] = status["timestamp"]
        if event.outcome:
            status["name"] = event.outcome
        self._write("statuses", status)

    def _warn(self, event: WarningRaised) -> None:
        rule = f"{event.rule}: " if event.rule else ""
        place = f" (line {event.line})" if event.line else ""
        warning: dict[str, Any] = {  # Any: JSON
            "level": _WARNING_LEVEL,
            "short": _base64(f"{rule}{event.text}{place}".encode("utf-8", "backslashreplace")),
        }
        if event.file:
            warning["sourceInfo"] = {"filename": event.file}
        if event.line:
            warning["range"] = [{"start": {"line": event.line}, "end": {"line": event.line}}]
        self._write("warnings", warning)

    def _write(self, kind: str, value: Mapping[str, Any]) -> None:  # Any: JSON
        self._writer.write(json.dumps({kind: [value]}, separators=(",", ":")) + "\n")


def _digest(step: str) -> str:
    """Return the digest of a step; one that is no vertex is known by its name only."""
    if step.startswith("sha256:"):
        return step
    return "sha256:" + hashlib.sha256(step.encode("utf-8", "backslashreplace")).hexdigest()


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


def _timestamp(seconds: float) -> str:
    """Return *seconds* since 1970 UTC as RFC 3339 with microseconds."""
    whole, rest = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{rest:06d}Z"

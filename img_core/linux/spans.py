"""Spans: which part of a command took how long, in the trace event format of Chrome (chrome://tracing, ui.perfetto.dev).

Nothing is recorded, and a `span` costs a look at one variable, until `begin` is called. Events are kept in memory; `document` gives them
as JSON. Only the process that began records: those forked from it do not.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import get_native_id  # `threading` costs as much as all the rest

TYPE_CHECKING = False  # `typing` too, and the imports that come after this one are what is to be measured
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

__all__ = ["begin", "document", "span"]

_MICRO = 1_000_000


class _Nothing:
    """What `span` gives while nothing is recorded."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class _Recorder:
    """The events of this process; times are seconds of `time.perf_counter`. Appending to a list needs no lock."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.start = time.perf_counter()
        self.events: list[tuple[str, str, float, float, int, dict[str, Any]]] = []
        self.threads: dict[int, str] = {}

    def add(self, category: str, name: str, start: float, details: dict[str, Any]) -> None:
        """Note what ends now, in this thread."""
        thread = get_native_id()
        if thread not in self.threads:
            self.threads[thread] = _thread_name()
        self.events.append((category, name, start, time.perf_counter(), thread, details))


_nothing = _Nothing()
_recorder: _Recorder | None = None


class _Span:
    def __init__(self, recorder: _Recorder, category: str, name: str, details: dict[str, Any]) -> None:
        self._recorder = recorder
        self._category = category
        self._name = name
        self._details = details

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.add(self._category, self._name, self._start, self._details)


def span(category: str, name: str = "", /, **details: str | int) -> _Span | _Nothing:
    """Return a context manager whose block is recorded as *name* (default: the *category*) of this thread, if anything is recorded.

    Categories are words of the reader: ``import``, ``step``, ``http``, ``sync``, ``lock``, ``database`` and so on. Names and *details* are
    read by people: `document` takes passwords of addresses out, nothing else.
    """
    recorder = _recorder
    if recorder is None:
        return _nothing
    return _Span(recorder, category, name or category, details)


def begin() -> None:
    """Record from now on, the imports of modules among it. What the interpreter took until now is the first span."""
    global _recorder  # there is one process
    if _recorder is not None:
        return
    _recorder = recorder = _Recorder()
    recorder.add("start", "interpreter", recorder.start - time.process_time(), {})
    _watch_imports()


def document() -> bytes:
    """Return what was recorded, as a JSON document of the trace event format; the oldest span has the time 0."""
    import json

    from img_core.spec.text import redacted

    recorder = _recorder
    if recorder is None or recorder.pid != os.getpid():
        return b'{"traceEvents":[]}'
    pid, origin = recorder.pid, min((start for _, _, start, *_ in recorder.events), default=0.0)
    events: list[dict[str, Any]] = [_metadata("process_name", pid, pid, "img")]
    events += [_metadata("thread_name", pid, thread, name) for thread, name in sorted(recorder.threads.items())]
    for category, name, start, end, thread, details in sorted(recorder.events, key=lambda event: event[2]):
        shown = {key: redacted(value) if isinstance(value, str) else value for key, value in details.items()}
        events.append(
            {
                "name": redacted(name), "cat": category, "ph": "X", "pid": pid, "tid": thread,
                "ts": round((start - origin) * _MICRO), "dur": round((end - start) * _MICRO),
                **({"args": shown} if shown else {}),
            }
        )  # fmt: skip
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, separators=(",", ":")).encode()


def _metadata(kind: str, pid: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": thread, "args": {"name": name}}


def _thread_name() -> str:
    threading = sys.modules.get("threading")
    return str(threading.current_thread().name) if threading else "MainThread"


def _watch_imports() -> None:
    """Record the execution of modules: of each with all that it imports."""
    import _frozen_importlib_external as loaders  # what `importlib.machinery` gives, without the package

    def watched(execute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def exec_module(loader: Any, module: Any) -> Any:
            with span("import", module.__name__):
                return execute(loader, module)

        return exec_module

    for loader in (loaders.SourceFileLoader, loaders.ExtensionFileLoader):
        setattr(loader, "exec_module", watched(loader.exec_module))  # noqa: B010 - no attribute of ours

"""Registers the listener ``otel``.

All of its hooks only observe: they are called by a thread that delays no step, one thread for each build.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from img_core.spec import hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from img_core.spec import Descriptor, DiffId, Event, Vertex
    from img_notify_otel._trace import Trace

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_here = threading.local()  #: ``trace``: of the build that this thread hears of


def wanted() -> bool:
    """Tell whether traces are to be sent."""
    environment = os.environ
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return environment.get("OTEL_TRACES_EXPORTER", "otlp") != "none" and any(map(environment.get, ENDPOINTS))


def _trace() -> Trace | None:
    """Return the trace of the build that is going on, begun if this is its first news; None if nobody wants one."""
    if not wanted():
        return None
    if getattr(_here, "trace", None) is None:
        from img_notify_otel._trace import Trace  # 0.1 s

        _here.trace = Trace(os.environ)
    trace: Trace = _here.trace
    return trace


@hookimpl
def img_event(event: Event) -> None:
    """Note beginnings and ends of steps."""
    if (trace := _trace()) is not None:
        trace.event(event)


@hookimpl
def img_layer_committed(vertex: Vertex, descriptor: Descriptor, diff_id: DiffId) -> None:
    """Note a layer."""
    if (trace := _trace()) is not None:
        trace.layer(vertex.name, descriptor, diff_id)


@hookimpl
def img_exported(exporter: str, names: Sequence[str], metadata: Mapping[str, Any]) -> None:  # Any: JSON
    """Note an output."""
    if (trace := _trace()) is not None:
        trace.exported(exporter, names, str(metadata.get("containerimage.digest", "")))


@hookimpl
def img_build_finished(error: str, seconds: float) -> None:
    """Send the trace. Raises HostError if that does not work, which is a warning."""
    if (trace := _trace()) is not None:
        _here.trace = None
        trace.send(error, seconds)

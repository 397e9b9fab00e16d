"""The trace of one build: what is noted while it runs becomes spans when it has ended."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from img_core.spec import StepFinished, StepStarted
from img_notify_otel._sending import deliver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

    from img_core.spec import Descriptor, DiffId, Event

__all__ = ["Trace"]

#: So many steps and notes are kept of one build; more than any has, and a bound for a program that tells of builds without end.
_MOST = 50_000

# What the SDK has to say is told by us, once: without any handler Python would write it to standard error.
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())

Attributes = dict[str, "str | bool | int | Sequence[str]"]


@dataclass(frozen=True, slots=True)
class _Note:
    """Something that happened at *time*, in nanoseconds since 1970."""

    name: str
    time: int
    attributes: Attributes


@dataclass(slots=True)
class _Collected(SpanProcessor):
    """Keeps the spans that are sampled."""

    spans: list[ReadableSpan] = field(default_factory=list)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self.spans.append(span)


class Trace:
    """Notes of one build. Not for several threads. *environment* says what it belongs to, as W3C Trace Context has it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._began: dict[str, StepStarted] = {}
        self._ended: list[tuple[StepStarted, StepFinished]] = []
        self._notes: list[_Note] = []
        self._names: dict[str, None] = {}
        self._digest = ""

    def event(self, event: Event) -> None:
        """Note the beginning or the end of a step; the last beginning is the one of its own work (see `StepStarted`)."""
        if isinstance(event, StepStarted):
            if len(self._began) < _MOST:
                self._began[event.step] = event
        elif isinstance(event, StepFinished) and (began := self._began.get(event.step)) and len(self._ended) < _MOST:
            self._ended.append((began, event))

    def layer(self, step: str, layer: Descriptor, diff_id: DiffId) -> None:
        """Note a layer that *step* made."""
        self._note(
            "layer",
            {
                "img.step.name": _text(step),
                "img.layer.digest": layer.digest,
                "img.layer.diff_id": diff_id,
                "img.layer.size": layer.size,
            },
        )

    def exported(self, exporter: str, names: Sequence[str], digest: str) -> None:
        """Note a complete output."""
        self._names |= dict.fromkeys(map(_text, names))
        self._digest = digest or self._digest
        self._note("exported", {"img.exporter": exporter, **({"img.digest": digest} if digest else {})})

    def _note(self, name: str, attributes: Attributes) -> None:
        if len(self._notes) < _MOST:
            self._notes.append(_Note(name, time.time_ns(), attributes))

    def send(self, error: str, seconds: float) -> None:
        """Send the spans of a build that took *seconds* until now, with *error* as its end if there was one. Raises HostError."""
        spans = self._spans(error, seconds)
        if spans:
            deliver(spans)

    def _spans(self, error: str, seconds: float) -> list[ReadableSpan]:
        collected, now = _Collected(), time.time_ns()
        provider = TracerProvider(resource=_resource(self._environment), shutdown_on_exit=False)
        provider.add_span_processor(collected)
        tracer = provider.get_tracer("img_notify_otel")
        starts = [_nanoseconds(began.time) for began, _ in self._ended]
        build = tracer.start_span(
            "img build",
            context=_parent(self._environment),
            start_time=min([now - int(seconds * 1e9), *starts]),
            attributes=self._about(error),
        )
        below = set_span_in_context(build)
        for began, ended in self._ended:
            _step(tracer, below, began, ended)
        for note in self._notes:
            build.add_event(note.name, note.attributes, note.time)
        if error:
            build.set_status(Status(StatusCode.ERROR, _text(error)))
        build.end(max([now, *(_nanoseconds(ended.time) for _, ended in self._ended)]))
        return collected.spans

    def _about(self, error: str) -> Attributes:
        about: Attributes = {
            "img.steps": len(self._ended),
            "img.steps.cached": sum(ended.cached for _, ended in self._ended),
            "img.canceled": error == "canceled",
        }
        if self._names:
            about["img.names"] = list(self._names)
        if self._digest:
            about["img.digest"] = self._digest
        return about


def _step(tracer: Tracer, below: Context, began: StepStarted, ended: StepFinished) -> None:
    attributes: Attributes = {"img.step.digest": began.step, "img.step.cached": ended.cached}
    attributes |= {
        f"img.step.{name}": _text(value)
        for name, value in (("source", ended.source), ("reason", ended.reason))
        if value
    }
    if ended.canceled:
        attributes["img.step.canceled"] = True
    start = _nanoseconds(began.time)
    span = tracer.start_span(_text(began.name), context=below, start_time=start, attributes=attributes)
    if ended.error:
        span.set_status(Status(StatusCode.ERROR, _text(ended.error)))
    span.end(max(start, _nanoseconds(ended.time)))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _text(text: str) -> str:
    """Return *text* as it can be sent: protobuf holds no lone surrogates, which stand for bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _parent(environment: Mapping[str, str]) -> Context:
    carrier = {name: environment[name.upper()] for name in ("traceparent", "tracestate") if name.upper() in environment}
    return TraceContextTextMapPropagator().extract(carrier)


def _resource(environment: Mapping[str, str]) -> Resource:
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {SERVICE_NAME: "img"})

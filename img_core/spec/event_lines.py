"""Progress events as JSON objects, and back: in logs of builds, and in what workers tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from img_core.spec import progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from img_core.spec.progress import Event

__all__ = ["event_of", "line_of"]

_EVENTS = {
    name: getattr(progress, name)
    for name in ("StepPlanned", "StepStarted", "StepLog", "StepStatus", "StepFinished", "WarningRaised")
}


def line_of(event: Event) -> dict[str, Any]:  # Any: JSON
    """Return *event* as a JSON object; what is not text in what a step printed is kept, escaped."""
    line: dict[str, Any] = {"event": type(event).__name__}
    line.update((name, getattr(event, name)) for name in event.__match_args__)
    if "data" in line:
        line["data"] = line["data"].decode("utf-8", "surrogateescape")
    return line


def event_of(line: Mapping[str, Any]) -> Event | None:  # Any: JSON
    """Return the event that an object describes; None for another kind of object, also one that a later version wrote."""
    made = _EVENTS.get(line.get("event", ""))
    if made is None:
        return None
    fields = {name: line[name] for name in made.__match_args__ if name in line}
    if "data" in fields:
        fields["data"] = fields["data"].encode("utf-8", "surrogateescape")
    if "inputs" in fields:
        fields["inputs"] = tuple(fields["inputs"])
    event: Event = made(**fields)
    return event

"""The history of an image (OCI image-spec, config.md): one entry per step, of which those with layers are as many as the layers."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["EPOCH", "even_history", "layered_history", "rfc3339", "timed_history"]

#: The time of an image that does not tell its own.
EPOCH = "1970-01-01T00:00:00Z"

Layer = TypeVar("Layer")


def rfc3339(seconds: float) -> str:
    """Return *seconds* since 1970 UTC as image configs write times."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


def even_history(entries: Iterable[Mapping[str, Any]], layers: int, created: str) -> list[dict[str, Any]]:  # Any: JSON
    """Return the *entries* of an image with as many of them that have a layer as it has *layers*; *created* is when it was made.

    Others refuse an image where the two differ, but there are images without any history; BuildKit evens it out in the same way.
    """
    even = [dict(entry) for entry in entries]
    for entry in even:
        if not entry.get("empty_layer"):
            entry.update({} if layers else {"empty_layer": True})
            layers -= bool(layers)
    told = {"created": created, "comment": "not in the history of the base"}
    return even + [dict(told) for _ in range(layers)]


def timed_history(
    entries: Iterable[tuple[Mapping[str, Any], str | None]], moment: str
) -> list[dict[str, Any]]:  # Any: JSON
    """Return *entries*, each with the time at which its layer was made; one without a layer has that of the next, else of the last one.

    *moment* is the time of what stands before the first.
    """
    timed: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    for document, made in entries:
        moment = made or moment
        entry = {"created": moment, **document, **({} if made else {"empty_layer": True})}
        if made:
            for earlier in waiting:
                earlier["created"] = made
            waiting.clear()
        else:
            waiting.append(entry)
        timed.append(entry)
    return timed


def layered_history(
    entries: Iterable[Mapping[str, Any]], layers: Sequence[Layer]
) -> Iterator[tuple[Mapping[str, Any], Layer | None]]:  # Any: JSON
    """Give each of the *entries* of an image, oldest first, with the one of its *layers* that it made, None if it made none.

    Layers that no entry speaks of come last, each with an empty one.
    """
    left = iter(layers)
    for entry in entries:
        yield entry, None if entry.get("empty_layer") else next(left, None)
    for layer in left:
        yield {}, layer

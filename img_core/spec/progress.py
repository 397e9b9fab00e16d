"""Progress: one versioned schema of events, and those who show them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TextIO

__all__ = [
    "EVENT_VERSION",
    "Event",
    "Progress",
    "StepFinished",
    "StepLog",
    "StepStarted",
    "StepStatus",
    "WarningRaised",
]

#: Raised by one when an event changes in a way that old readers misunderstand; new events and fields do not count.
EVENT_VERSION = 1


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins (or turned out to be cached). *step* is its digest, *time* in seconds since 1970 UTC."""

    step: str
    name: str
    time: float
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepLog:
    """Output of a step: raw bytes as they came, from *stream* 1 (stdout) or 2 (stderr)."""

    step: str
    stream: int
    data: bytes
    time: float


@dataclass(frozen=True, slots=True)
class StepStatus:
    """Part of a step's work, e.g. one layer's transfer; *current* and *total* are bytes, 0 if unknown."""

    step: str
    text: str
    time: float
    current: int = 0
    total: int = 0
    finished: bool = True


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step ended: from cache, canceled, with *error*, or well."""

    step: str
    time: float
    cached: bool = False
    canceled: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class WarningRaised:
    """Something people should know; *rule* is a lint rule's name or empty."""

    text: str
    time: float
    rule: str = ""
    file: str = ""
    line: int = 0
    excerpt: str = ""


Event = StepStarted | StepLog | StepStatus | StepFinished | WarningRaised


class Progress(ABC):
    """Shows events. `handle` is called from one thread at a time, in order of time; `close` once, also after errors."""

    name: ClassVar[str]  #: the word after ``--progress``
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @abstractmethod
    def handle(self, event: Event) -> None:
        """Show *event*. Must be quick, and must not raise for a closed or full stream more than once."""

    def close(self) -> None:
        """Write what is still held back."""

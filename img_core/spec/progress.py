"""Progress: one versioned schema of events, and those who show them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TextIO

from img_core.spec.dataclass import dataclass

__all__ = [
    "EVENT_VERSION",
    "Event",
    "Progress",
    "StepFinished",
    "StepLog",
    "StepPlanned",
    "StepStarted",
    "StepStatus",
    "TransferStatus",
    "WarningRaised",
]

#: Raised by one when an event changes in a way that old readers misunderstand; new events and fields do not count.
EVENT_VERSION = 1


@dataclass(frozen=True, slots=True)
class StepPlanned:
    """A step that will be looked at later in this build; told before the first of them begins. Not every step is planned."""

    step: str
    name: str
    time: float
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins (or turned out to be cached). *step* is its digest, *time* in seconds since 1970 UTC.

    Told again when it begins again; also, with a later time, when it only waited for the work of another step, such as the arrival of its
    base image: from that time to the end is what it took itself.
    """

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
    """Part of a step's work, e.g. one layer's transfer; *current* and *total* are bytes, 0 if unknown.

    *text* names the part within its step: later events with the same text tell how it gets on, at most ten times a second, and the last one
    is *finished*. A transfer is named by the digest of its blob, perhaps after a word: ``sha256:…`` (it arrives), ``pushing sha256:…``,
    ``extracting sha256:…``, ``compressing sha256:…``. *outcome* of a finished transfer is ``done`` (the bytes were moved), ``exists`` (the
    registry had the blob), ``mounted`` (from another repository of the registry) or ``reused`` (it was here); other work has none.
    """

    step: str
    text: str
    time: float
    current: int = 0
    total: int = 0
    finished: bool = True
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step ended: from cache, canceled, with *error*, or well.

    *source* is where a cached one was found: ``here``, or the name of a cache. *reason* names the first thing because of which another one
    had to run, e.g. ``file a.txt``, ``variable V`` or ``step `[2/4] RUN make```.
    """

    step: str
    time: float
    cached: bool = False
    canceled: bool = False
    error: str = ""
    source: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WarningRaised:
    """Something people should know; *rule* is a lint rule's name or empty."""

    text: str
    time: float
    rule: str = ""
    file: str = ""
    line: int = 0
    excerpt: str = ""


Event = StepPlanned | StepStarted | StepLog | StepStatus | StepFinished | WarningRaised


class TransferStatus(Protocol):
    """Hears how the transfers of blobs get on, from several threads and for each chunk of bytes: it must be quick."""

    def __call__(self, digest: str, current: int, total: int, outcome: str = "", /) -> None:
        """Take the bytes done so far and to do (0 if unknown); with an *outcome* (see `StepStatus`) the transfer has ended.

        What it raises ends the transfer.
        """


class Progress(ABC):
    """Shows events. `handle` is called from one thread at a time, in order of time; `close` once, also after errors, from any
    thread.
    """

    name: ClassVar[str]  #: the word after ``--progress``
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = None  #: JSON Schema of its options; Any: JSON
    #: programs read what it writes: the command writes nothing else for people there, except an error at the end
    machine_readable: ClassVar[bool] = False
    title: str = "Building"  #: what the command does, in one word; set before the first event

    def __init__(self, stream: TextIO, options: Mapping[str, Any] | None = None) -> None:
        self.stream = stream
        self.options = dict(options or {})

    @abstractmethod
    def handle(self, event: Event) -> None:
        """Show *event*. Must be quick, and must not raise for a closed or full stream more than once."""

    def note(self, text: str) -> None:
        """Write the line *text* of somebody else between what is shown; from any thread, perhaps within `handle`."""
        self.stream.write(text + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Write what is still held back."""

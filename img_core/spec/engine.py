"""Engines: where parts of a build run when one machine is not enough (``--engine NAME``).

A build gives itself to its engine before its first step (`Engine.share`) and goes on when that is done: it finds the results of others in a
cache that all machines reach. How the steps are divided is the engine's business; ours do it with the library ``img_lib_engines``.

An engine moves a task to a worker and what the worker prints back; it moves no layers, no contexts and no code. Those who do the work are
``img worker`` (see `img_core.api`), which reads the task from standard input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from img_core.spec.graph import Location, Vertex
    from img_core.spec.host import Host
    from img_core.spec.progress import Event

__all__ = ["Engine", "EngineHandle", "EngineTask", "EngineWorker", "SharedBuild", "engine_schema"]

#: Options that the core heeds, or that every engine has; `engine_schema` puts those of a driver beside them.
_COMMON: Mapping[str, Any] = {  # Any: JSON
    "cache": {
        "type": "string",
        "description": "what moves layers: a directory that all machines see, or an image name of a registry",
    },
    "command": {
        "type": "string",
        "description": "what starts a worker, instead of `img worker -`; words as in a shell",
    },
    "dry-run": {"type": "boolean", "description": "show what would be handed out, and build nothing"},
    "max-parallelism": {
        "type": "integer",
        "minimum": 1,
        "description": "how many steps of a task run at the same time (as many as the worker has processors for a task)",
    },
}


def engine_schema(**properties: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the `Engine.schema` of an engine with options of its own beside those that all engines have (``_`` is written ``-``)."""
    own = {name.replace("_", "-"): described for name, described in properties.items()}
    return {"type": "object", "additionalProperties": False, "properties": {**_COMMON, **own}}


@dataclass(frozen=True, slots=True)
class EngineWorker:
    """One place that does tasks: its *name*, the *platforms* whose steps it runs natively (``linux/arm64``; empty: nobody said), and how
    many tasks it does at the same time."""

    name: str
    platforms: tuple[str, ...] = ()
    slots: int = 1


@dataclass(frozen=True, slots=True)
class EngineTask:
    """One piece of work. *document* is the text that ``img worker`` reads from standard input; it may hold secrets.

    It runs on a worker that declares *platform* (empty: on any), whose name is one of *workers* (empty: any) and none of *avoid*. *name* is
    for people and logs, *id* is unlike that of any other task.
    """

    id: str
    document: str = field(repr=False)
    name: str = ""
    platform: str = ""
    workers: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()


class EngineHandle(ABC):
    """A task that was handed over."""

    #: the worker that has it, or had it last; empty as long as nobody knows
    worker: str = ""

    @abstractmethod
    def wait(self) -> None:
        """Return when nothing of the task is told any more: it ended, was canceled, or its worker was lost.

        How it went is in the lines that it printed: whoever handed it over misses the last one of a lost worker. Raises ImgError, in one
        line, if the engine knows more: nobody could take the task, the worker died, what was printed got lost.
        """


class SharedBuild(Protocol):
    """A build, or several that are done together, as its engine sees it: steps are vertices of the graph below *roots*.

    Methods may be called from several threads, `provide` before `task`. When *cancel_fd* becomes readable, the build has to end.
    """

    roots: Sequence[Vertex]
    cancel_fd: int

    def missing(self) -> Collection[str]:
        """Return the digests of the steps that have to run or to be fetched: no result of them is known here or in the cache."""

    def seconds(self, step: Vertex) -> float | None:
        """Return how long *step* took the last time; None: nobody knows."""

    def size(self, step: Vertex) -> int:
        """Return how many bytes its result had then, which may have to be moved; 0: nobody knows."""

    def stays(self, source: Vertex) -> str:
        """Say why no other machine can have what *source* names; empty: any can."""

    def provide(self, steps: Sequence[Vertex]) -> None:
        """Put into the cache what *steps* read and none of them makes: results that are known here, and build contexts. Raises ImgError."""

    def digest_there(self, step: Vertex) -> str:
        """Return the digest of one of the steps that were provided for on workers, which name their sources by what these mean here."""

    def task(self, targets: Sequence[Vertex], secrets: Collection[str] = (), *, saved: bool, sharing: int = 1) -> str:
        """Return the document by which a worker makes what it does not find of *targets*; it may see *secrets*. With *saved* the results go
        into the cache, as they must where anybody else needs them. So many tasks are *sharing* its machine. Raises ImgError."""

    def do_here(self, document: str, tell: Callable[[str], None], cancel_fd: int) -> None:
        """Do a task on this machine, until *cancel_fd* becomes readable; *tell* gets the lines of a worker. Raises ImgError."""

    def step(self, name: str) -> AbstractContextManager[str]:
        """Show the block as a step, which has its name as digest."""

    def tell(self, event: Event) -> None:
        """Show an event of a step of this build. Addresses in it must hold no passwords (`img_core.spec.text.redacted`)."""

    def ended(self, step: Vertex, seconds: float, *, cached: bool = False, error: str = "") -> None:
        """Note that *step* ended on a worker, after the event that shows it: listeners hear of it, and it is not shown again."""

    def excerpt(self, place: Location) -> str:
        """Return the lines of the definition around *place*."""

    def check(self) -> None:
        """Raise Canceled if the build has to end."""


class Engine(ABC):
    """Hands tasks to workers, e.g. for ``--engine dask,address=…``.

    One object serves one build. Its methods may be called from several threads. Making it does no I/O; what it connects to or starts lasts
    until `close`, which leaves nothing running.
    """

    name: ClassVar[str]  #: the word after ``--engine``
    #: who says nothing is written for version 1, which had neither `share` nor `preview`; with both it is ``(2, 2)``
    api: ClassVar[tuple[int, int]] = (1, 1)
    schema: ClassVar[Mapping[str, Any] | None] = engine_schema()  #: JSON Schema of its options; Any: JSON
    #: workers run on this machine as this user, so that a directory of ours is a cache that they reach
    is_here: ClassVar[bool] = False

    def __init__(self, host: Host, options: Mapping[str, Any] | None = None) -> None:
        self.host = host
        self.options = dict(options or {})

    def command(self, *usual: str) -> list[str]:
        """Return the words of what reads a task from standard input: the option ``command``, or *usual*, or ``img worker -``."""
        given = str(self.options.get("command", ""))
        if not given:
            return list(usual) or ["img", "worker", "-"]
        import shlex

        return shlex.split(given)

    @abstractmethod
    def share(self, build: SharedBuild) -> None:
        """Do what is worth it of *build* on other machines, and return when that is done; what is not done, the build does.

        Raises StepError for a step that failed, Canceled, UsageError; an engine that cannot be reached is a warning.
        """

    @abstractmethod
    def preview(self, build: SharedBuild) -> Sequence[str]:
        """Return in lines what `share` would hand out now; nothing is. Raises ImgError if the engine cannot be reached."""

    @abstractmethod
    def capacity(self) -> tuple[EngineWorker, ...]:
        """Return who could do tasks now, or could be started for them. Raises ImgError if the engine cannot be reached."""

    @abstractmethod
    def submit(self, task: EngineTask, tell: Callable[[str], None]) -> EngineHandle:
        """Hand *task* over; return at once. *tell* gets each line that it prints, in order and without its end, from any thread.

        A task runs once: an engine does not start it again elsewhere, for its caller knows better what was lost. Raises ImgError.
        """

    @abstractmethod
    def cancel(self, handle: EngineHandle) -> None:
        """End the task, wherever it is, with all its processes; its `EngineHandle.wait` returns soon. Harmless when it has ended."""

    def close(self) -> None:
        """Cancel what still runs, and end what was started. Called once, also after errors."""

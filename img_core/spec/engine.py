"""Engines: where parts of a build run when one machine is not enough (``--engine NAME``).

An engine moves a task to a worker and what the worker prints back; it moves no layers, no contexts and no code. Those who do the work are
``img worker`` (see `img_core.api`), which reads the task from standard input; layers go through a cache that all machines reach.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from img_core.spec.dataclass import dataclass

if TYPE_CHECKING:
    from img_core.spec.host import Host

__all__ = ["Engine", "EngineHandle", "EngineTask", "EngineWorker", "engine_schema"]

#: Options of every engine, which the core heeds; `engine_schema` puts those of a driver beside them.
_COMMON: Mapping[str, Any] = {  # Any: JSON
    "cache": {
        "type": "string",
        "description": "what moves layers: a directory that all machines see, or an image name of a registry",
    },
    "home": {
        "type": "integer",
        "minimum": 0,
        "maximum": 64,
        "description": "how many tasks this machine does at the same time beside the workers (1)",
    },
    "trusted": {
        "type": "string",
        "description": "workers that may get secrets, their names separated by `;`; others get none",
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
    "tries": {
        "type": "integer",
        "minimum": 1,
        "maximum": 10,
        "description": "on how many workers a task is tried before this machine does it (2)",
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


class Engine(ABC):
    """Hands tasks to workers, e.g. for ``--engine dask,address=…``.

    One object serves one build. Its methods may be called from several threads. Making it does no I/O; what it connects to or starts lasts
    until `close`, which leaves nothing running.
    """

    name: ClassVar[str]  #: the word after ``--engine``
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
